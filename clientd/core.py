"""The agent's brain: events in, actions out.  No I/O, no clock, no randomness of its own.

What it keeps:
* all tasks, as the keeper tells them; the keeper's journal is the truth, this is its copy;
* the master's two links, and when to call again;
* which streams follow which task;
* the moves from and to this node: clientd.moves.

The relation to the master, a table (``Relation``):

    apart --call--> calling --answer--> greeting --welcome--> joined
      ^                |                   |                     |
      +---- failed ----+-- refused, late --+---- lost, silent ---+

A node that listens skips the calling: the master calls, and greets first.  It belongs to the
master that welcomed it, not to the one that merely called.

Streams are the master's to remember: with either link gone all are dropped here, and the
master asks for each anew, from the byte it wants next.
"""

from collections.abc import Callable, Iterator
from enum import Enum

from msgspec import Struct, field
from msgspec.structs import replace

from clientd import actions as do
from clientd import events as on
from clientd.keeper import orders
from clientd.keeper.news import batches
from clientd.moves import Moves, Step
from clientd.parcels import Parcels
from clientd.parcels import Step as ParcelStep
from godwit.names import split_address
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task, Usage
from godwit.wire import messages as wire

#: A master that says nothing for this long, seconds, is called anew.
SILENCE_S = 10.0
#: Seconds the master has to answer our Hello.
GREETING_S = 5.0
#: Shortest time, seconds, between two beats, whatever the master wants.
BEAT_LEAST_S = 0.1
#: First and longest pause, seconds, between two calls to the master.
BACKOFF_FIRST_S = 0.2
BACKOFF_MOST_S = 15.0
#: Callers that have not said who they are; one more is turned away.
STRANGERS_MOST = 64
#: Code of the refusal that a second master gets.
TAKEN = "taken"


#: What the node answers.
_NUMBERED = (
    wire.Signal, wire.Pause, wire.Forget, wire.Measure, wire.Erase, wire.Transfer, wire.Dismiss,
    wire.Upgrade, wire.Describe, wire.Survey, wire.Checkpoint, wire.ListSnapshots,
    wire.Lodge, wire.Give, wire.Unlodge,
)


class Relation(Enum):
    """Where this agent stands with its master, on one channel."""

    APART = "apart"
    CALLING = "calling"
    GREETING = "greeting"
    JOINED = "joined"


class Cause(Enum):
    CALLED = "called"
    ANSWERED = "answered"
    WELCOMED = "welcomed"
    LOST = "lost"


TABLE: dict[Relation, dict[Cause, Relation]] = {
    Relation.APART: {Cause.CALLED: Relation.CALLING, Cause.ANSWERED: Relation.GREETING},
    Relation.CALLING: {Cause.ANSWERED: Relation.GREETING, Cause.LOST: Relation.APART},
    Relation.GREETING: {Cause.WELCOMED: Relation.JOINED, Cause.LOST: Relation.APART},
    Relation.JOINED: {Cause.LOST: Relation.APART},
}


class Channel(Struct):
    """One of the two connections to the master."""

    name: on.Channel
    relation: Relation = Relation.APART
    link: int | None = None
    #: Monotonic seconds; when to call again.
    call_at: float = 0.0
    #: Monotonic seconds; when a greeting that is not answered has failed.
    greeted_by: float = float("inf")
    failures: int = 0
    #: The last reason that was said, so that a hundred failed calls make one line.
    said: str = ""

    def advance(self, cause: Cause) -> None:
        self.relation = TABLE[self.relation][cause]


class Followed(Struct):
    """One stream somebody reads."""

    request: wire.Follow
    started: bool = False


class Identity(Struct, frozen=True):
    """Who this agent is; made by the shell, which has the randomness and the disk."""

    node: str
    agent: str
    master: str
    system: str
    release: str = ""


class Agent(Struct):
    """The core.  ``handle`` is its only way in, ``deadline`` says when it wants a Tick."""

    identity: Identity
    #: Uniform in [0, 1): jitter, so that a hundred nodes do not call in step.
    jitter: Callable[[], float]
    facts: orders.Facts | None = None
    complete: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    control: Channel = field(default_factory=lambda: Channel("control"))
    stream: Channel = field(default_factory=lambda: Channel("stream"))
    #: Links that called us and have not said who they are.
    strangers: dict[int, str] = field(default_factory=dict)
    follows: dict[int, Followed] = field(default_factory=dict)
    #: task id -> its streams.
    readers: dict[str, set[int]] = field(default_factory=dict)
    master: str = ""
    #: A master that called and has not welcomed us yet.
    suitor: str = ""
    beat_s: float = 2.0
    beat_at: float = float("inf")
    heard_at: float = 0.0
    #: When the master was last there; the orphan policy counts from it.
    orphan_since: float = 0.0
    children: Usage = Usage()
    measuring: list[wire.Measure] = field(default_factory=list)
    #: Orders of the master's present connection that are not answered yet: numbers begin anew
    #: with each master, so an answer goes to nobody but who asked.
    asked: set[int] = field(default_factory=set)
    #: Launches that the keeper was told of and has not told of: a Report names them, or the
    #: master would take them for lost.
    starting: dict[str, Spec] = field(default_factory=dict)
    moves: Moves = field(default_factory=Moves)
    parcels: Parcels = field(default_factory=Parcels)
    #: Tasks of other nodes of which snapshots are here.
    lodging: tuple[str, ...] | None = None
    #: task id -> the signal that its shadow caught, till the master has done with it.
    caught: dict[str, wire.Caught] = field(default_factory=dict)
    #: task id -> the log here of a task that is elsewhere.
    homelogs: dict[str, str] = field(default_factory=dict)
    dismissed: bool = False

    def __post_init__(self) -> None:
        self.master = self.identity.master

    # ---- the way in ------------------------------------------------------------------------

    def handle(self, event: on.Event, now: float) -> list[do.Action]:
        """What is to be done now that ``event`` happened at monotonic second ``now``."""
        return list(self._handle(event, now))

    def deadline(self) -> float:
        """Monotonic second at which a Tick is wanted; infinity: none."""
        if self.facts is None or not self.complete:
            return float("inf")
        times = [self.beat_at, self.control.greeted_by, self.stream.greeted_by]
        if self.control.relation is Relation.JOINED:
            times.append(self.heard_at + SILENCE_S)
        elif self.facts.orphans_kill_s and not self.dismissed:
            times.append(self.orphan_since + self.facts.orphans_kill_s)
        if self.facts.master:
            times += [c.call_at for c in (self.control, self.stream) if self._may_call(c)]
        return min(times)

    def _handle(self, event: on.Event, now: float) -> Iterator[do.Action]:
        match event:
            case on.KeeperTold(word):
                yield from self._told(word, now)
            case on.Received(link, message):
                yield from self._received(link, message, now)
            case on.Tick():
                yield from self._tick(now)
            case on.LinkOpened(link, name):
                yield from self._opened(link, self._channel(name), now)
            case on.LinkAccepted(link, peer):
                if len(self.strangers) < STRANGERS_MOST:
                    self.strangers[link] = peer
                else:
                    yield do.Close(link, "too many callers")
            case on.DialFailed(name, reason):
                yield from self._lost(self._channel(name), reason, now)
            case on.LinkClosed(link, reason):
                self.strangers.pop(link, None)
                for channel in (self.control, self.stream):
                    if channel.link == link:
                        yield from self._lost(channel, reason, now)
            case on.LoadTaken(load):
                yield from self._to_master(wire.Beat(load, self.children))
            case on.UsageTaken(order, children, usage):
                yield from self._answer(order, wire.Measured(order, children, usage))
            case on.FollowEnded(stream):
                self._unfollow(stream)
            case on.WorkProgressed(order, done, total):
                if order in self.asked:
                    yield from self._to_master(wire.Moved(order, done, total))
            case on.PortOpened(order, port):
                if order in self.asked:
                    yield from self._to_master(wire.Listening(order, port))
            case on.Copied(order, size, files, path, warnings):
                yield from self._answer(order, wire.Copied(order, size, files, path, warnings))
            case on.RequestMade(request):
                yield from self._to_master(wire.Renew(request))
            case on.HomeLogAt(task, offset):
                if self.stream.relation is Relation.JOINED and self.stream.link is not None:
                    yield do.Send(self.stream.link, wire.Kept(task, offset))
            case on.HomeLogFailed(task, text):
                yield do.Say("warning", f"the log of {task} at home cannot be written: {text}")
            case on.WorkEnded(order, code, text):
                yield from self._answer(order, wire.Done(order, code, text))
            case (
                on.ShipAwaited() | on.ShipProgressed() | on.CaughtUp() | on.Landed() | on.Shipped()
                | on.ShipFailed()
            ) if event.move in self.parcels.under_way:
                yield from self._passing(self.parcels.happened(event))
            case on.Shipped():
                pass  # a move's source hears it from the master
            case on.ShipAwaited() | on.ShipProgressed() | on.CaughtUp() | on.Landed():
                yield from self._moving(self.moves.happened(event))
            case on.LogSynced(move, trouble):
                if trouble:
                    yield do.Say("severe", f"the log that came with move {move}: {trouble}")
                yield from self._moving(self.moves.synced(move))
            case on.ShipFailed(text=text):
                yield do.Say("warning", f"the ship of move {event.move} failed: {text}")
                yield from self._moving(self.moves.happened(event))

    # ---- the keeper ------------------------------------------------------------------------

    def _told(self, word: orders.Word, now: float) -> Iterator[do.Action]:
        match word:
            case orders.Facts():
                self.facts = word
                self.moves.boot = word.boot
                self.orphan_since = now
            case orders.Able(can, lacks):
                assert self.facts is not None
                self.facts = replace(self.facts, can=can, lacks=lacks)
                yield from self._to_master(wire.Able(can, lacks))
            case orders.Known(tasks, last):
                self.tasks.update((task.id, task) for task in tasks)
                if last:
                    self.complete = True
                    yield from self._call(now)
            case orders.Changed(tasks):
                yield from self._changed(tasks)
            case orders.Rejected(task, code, text):
                self.starting.pop(task, None)
                yield from self._to_master(wire.Rejected((task,), code, text))
                yield from self._drop_readers(task)
            case orders.Forgotten(tasks):
                for task in tasks:
                    self.starting.pop(task, None)
                    self.tasks.pop(task, None)
                    yield from self._drop_readers(task)
                yield do.DropLogTimes(tasks)
                self.moves.forgotten(tasks)
                yield from self._to_master(wire.Forgotten(tasks))
            case orders.Acted(order, code, text):
                self.parcels.answered(order)
                yield from self._answer(order, wire.Done(order, code, text))
            case orders.Snapshots(order, found):
                self.parcels.answered(order)
                yield from self._answer(order, wire.Snapshots(order, found))
            case orders.Berth() | orders.Packed():
                yield from self._passing(self.parcels.told(word))
            case orders.Lodging(tasks):
                self.lodging = tasks
                yield from self._to_master(wire.Lodging(tasks))
            case orders.Described(order, traits):
                yield from self._answer(order, wire.Described(order, traits))
            case orders.Surveyed(order, place):
                yield from self._answer(order, wire.Surveyed(order, place))
            case orders.Caught(task, number, sent):
                self.caught[task] = wire.Caught(task, number, sent)
                yield from self._to_master(self.caught[task])
            case orders.HomeLog(task, path):
                yield from self._home_log(task, path)
            case orders.Measured(children):
                self.children = children
                waiting, self.measuring = self.measuring, []
                for request in waiting:
                    yield do.TakeUsage(request.order, self._running(request.tasks))
            case orders.Stopping(reason, tasks_left):
                yield from self._to_master(wire.Leaving(reason, tasks_left))
                yield do.Exit("stopping")
            case orders.Standing() | orders.Landing() | orders.Growing() | orders.Shipping():
                yield from self._moving(self.moves.told(word, self.tasks))

    def _changed(self, tasks: tuple[Task, ...]) -> Iterator[do.Action]:
        for task in tasks:
            self.starting.pop(task.id, None)
            self.tasks[task.id] = task
        yield from self._to_master(wire.Changed(tasks))
        for task in tasks:
            for stream in tuple(self.readers.get(task.id, ())):
                if not self.follows[stream].started:
                    yield from self._start_follow(stream)
                elif not self._writes(task):
                    yield do.FinishFollow(stream)

    def _home_log(self, task: str, path: str) -> Iterator[do.Action]:
        """What the task writes elsewhere goes in there, too, or no more."""
        if not path:
            self.homelogs.pop(task, None)
            yield do.CloseHomeLog(task)
            return
        self.homelogs[task] = path
        if self.stream.relation is Relation.JOINED:
            yield do.OpenHomeLog(task, path)

    def _running(self, wanted: tuple[str, ...]) -> dict[str, int]:
        ids = wanted or tuple(self.tasks)
        found = (self.tasks[i] for i in ids if i in self.tasks)
        return {t.id: t.pid for t in found if t.status.alive and t.pid is not None}

    # ---- the master: opening and closing ---------------------------------------------------

    def _channel(self, name: on.Channel) -> Channel:
        return self.control if name == "control" else self.stream

    def _may_call(self, channel: Channel) -> bool:
        if channel.relation is not Relation.APART or self.dismissed:
            return False
        return channel is self.control or self.control.relation is Relation.JOINED

    def _call(self, now: float) -> Iterator[do.Action]:
        """Calls the master on each channel whose time has come."""
        if self.facts is None or not self.facts.master or not self.complete:
            return
        host, port = split_address(self.facts.master)
        for channel in (self.control, self.stream):
            if self._may_call(channel) and channel.call_at <= now:
                channel.advance(Cause.CALLED)
                yield do.Dial(channel.name, host, port)

    def _hello(self, channel: on.Channel) -> wire.Hello:
        assert self.facts is not None
        return wire.Hello(
            version=wire.VERSION,
            name=self.facts.name,
            node=self.identity.node,
            agent=self.identity.agent,
            channel=channel,
            master=self.master,
            boot=self.facts.boot,
            can=self.facts.can,
            lacks=self.facts.lacks,
            programs=self.facts.programs,
            system=self.identity.system,
            release=self.identity.release,
        )

    def _opened(self, link: int, channel: Channel, now: float) -> Iterator[do.Action]:
        if channel is self.stream and self.control.relation is not Relation.JOINED:
            yield do.Close(link, "the control connection is gone")
            yield from self._lost(channel, "the control connection is gone", now)
            return
        yield from self._greet(link, channel, now)

    def _greet(self, link: int, channel: Channel, now: float) -> Iterator[do.Action]:
        channel.link = link
        channel.greeted_by = now + GREETING_S
        channel.advance(Cause.ANSWERED)
        yield do.Send(link, self._hello(channel.name))

    def _drop(self, channel: Channel, reason: str, now: float) -> Iterator[do.Action]:
        """Ends the connection.  Its LinkClosed may come much later, and is then nobody's."""
        if channel.link is not None:
            yield do.Close(channel.link, reason)
            yield from self._lost(channel, reason, now)

    def _lost(self, channel: Channel, reason: str, now: float) -> Iterator[do.Action]:
        """The connection is gone, or never came: call again, later each time."""
        was_joined = channel.relation is Relation.JOINED
        if channel.relation is not Relation.APART:
            channel.advance(Cause.LOST)
        channel.link = None
        channel.greeted_by = float("inf")
        channel.failures = 0 if was_joined else channel.failures + 1
        pause = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(channel.failures, 10))
        channel.call_at = now + pause * (0.5 + self.jitter() / 2)
        for stream in tuple(self.follows):
            self._unfollow(stream)
            yield do.DropFollow(stream)
        if channel is self.control:
            yield from self._apart(was_joined, reason, now)
        elif was_joined and self.control.relation is Relation.JOINED:
            yield do.Say("info", f"lost the stream to the master ({reason})")

    def _apart(self, was_joined: bool, reason: str, now: float) -> Iterator[do.Action]:
        self.beat_at = float("inf")
        self.asked.clear()
        self.measuring.clear()
        self.parcels.apart()
        self.suitor = ""
        if was_joined:
            self.orphan_since = now
        yield from self._drop(self.stream, "the control connection is gone", now)
        text = f"the master is away ({reason})"
        if text != self.control.said and not self.dismissed:
            self.control.said = text
            listens = self.facts is not None and not self.facts.master
            yield do.Say("warning", text + ("" if listens else "; calling again"))

    def _greeted(self, link: int, adopt: wire.Adopt, now: float) -> Iterator[do.Action]:
        """A master called us.  We belong to the first that did, until it lets us go."""
        peer = self.strangers.pop(link, "")
        problem = self._objection(adopt)
        if problem:
            yield do.Say("warning", f"refused the master at {peer}: {problem.text}")
            yield do.Send(link, problem)
            yield do.Close(link, problem.text)
            return
        channel = self._channel(adopt.channel)
        # The master may call again before we see the old link end.
        yield from self._drop(channel, "replaced by a newer connection", now)
        self.suitor = adopt.master
        yield from self._greet(link, channel, now)

    def _objection(self, adopt: wire.Adopt) -> wire.Refuse | None:
        assert self.facts is not None
        if adopt.version != wire.VERSION:
            return wire.Refuse("version", f"protocol {adopt.version}, this node has {wire.VERSION}")
        if (self.master or self.suitor) not in ("", adopt.master):
            return wire.Refuse(TAKEN, "this node belongs to another master already")
        if adopt.name != self.facts.name:
            return wire.Refuse("name", f"this node is called {self.facts.name}")
        if adopt.channel == "stream" and self.control.relation is Relation.APART:
            return wire.Refuse("order", "the control connection comes first")
        return None

    def _welcomed(self, channel: Channel, welcome: wire.Welcome, now: float) -> Iterator[do.Action]:
        assert channel.link is not None and self.facts is not None
        channel.advance(Cause.WELCOMED)
        channel.failures = 0
        channel.greeted_by = float("inf")
        yield do.Open(channel.link, channel.name)
        if channel is self.stream:
            # The other connection may have been faster: some are asked for already.
            for stream in [s for s, followed in self.follows.items() if not followed.started]:
                yield from self._start_follow(stream)
            for task, path in self.homelogs.items():
                yield do.OpenHomeLog(task, path)
            return
        if self.master != welcome.master:
            self.master = welcome.master
            yield do.Remember(welcome.master)
        channel.said = ""
        self.heard_at = now
        self.beat_s = max(BEAT_LEAST_S, welcome.beat_s)
        self.beat_at = now
        yield do.Say("info", "joined the master")
        yield from self._report()
        self.stream.call_at = now
        yield from self._call(now)

    def _report(self) -> Iterator[do.Action]:
        begun = [Task(spec) for task, spec in self.starting.items() if task not in self.tasks]
        *most, final = [*batches([*self.tasks.values(), *begun])] or [()]
        for batch in most:
            yield from self._to_master(wire.Report(batch, last=False))
        yield from self._to_master(wire.Report(final))
        yield from self._moving(iter(tuple(self.moves.standings.values())))
        for caught in tuple(self.caught.values()):
            yield from self._to_master(caught)
        if self.lodging is not None:
            yield from self._to_master(wire.Lodging(self.lodging))

    def _to_master(self, message: wire.Message) -> Iterator[do.Action]:
        """Sends on the control link, if we are joined; the next Report makes up for it if not."""
        if self.control.relation is Relation.JOINED and self.control.link is not None:
            yield do.Send(self.control.link, message)

    def _moving(self, steps: Iterator[Step]) -> Iterator[do.Action]:
        """Steps of moves as actions."""
        for step in steps:
            if not isinstance(step, wire.Standing):
                yield step
            elif self.control.relation is Relation.JOINED:
                yield from self._to_master(step)
                self.moves.sent(step)

    def _passing(self, steps: Iterator[ParcelStep]) -> Iterator[do.Action]:
        """Steps of parcels as actions."""
        for step in steps:
            if isinstance(step, wire.Listening):
                if step.order in self.asked:
                    yield from self._to_master(step)
            elif isinstance(step, wire.Done):
                yield from self._answer(step.order, step)
            else:
                yield step

    def _answer(self, order: int, message: wire.Message) -> Iterator[do.Action]:
        """Answers an order, once, on the connection on which it came."""
        if order in self.asked:
            self.asked.remove(order)
            yield from self._to_master(message)

    # ---- the master: what it asks ----------------------------------------------------------

    def _received(self, link: int, message: wire.Message, now: float) -> Iterator[do.Action]:
        if link in self.strangers:
            yield from self._from_stranger(link, message, now)
            return
        channel = next((c for c in (self.control, self.stream) if c.link == link), None)
        if channel is None:
            return  # what was still in a connection that we closed
        if channel is self.control:
            self.heard_at = now
        match message:
            case wire.Welcome() if channel.relation is Relation.GREETING:
                yield from self._welcomed(channel, message, now)
            case wire.Refuse(text=text):
                channel.failures = max(channel.failures, 4)
                yield do.Close(link, f"the master refuses this node: {text}")
            case _ if channel.relation is not Relation.JOINED:
                yield do.Close(link, f"{type(message).__name__} before the welcome")
            case _:
                yield from self._asked(message)

    def _from_stranger(self, link: int, message: wire.Message, now: float) -> Iterator[do.Action]:
        if isinstance(message, wire.Adopt) and self.facts is not None and self.complete:
            yield from self._greeted(link, message, now)
        else:
            del self.strangers[link]
            yield do.Close(link, f"{type(message).__name__} is not how a master greets")

    def _asked(self, message: wire.Message) -> Iterator[do.Action]:
        if isinstance(message, _NUMBERED):
            self.asked.add(message.order)
        match message:
            case wire.Heard():
                pass
            case wire.Launch():
                yield from self._launch(message)
            case wire.Signal(order, tasks, number, whole, relay):
                yield do.Tell(orders.Signal(order, tasks, number, whole, relay))
            case wire.Guests(guests, sync):
                yield do.Tell(orders.Guests(guests, sync))
            case wire.Took(task, number):
                if (caught := self.caught.get(task)) and caught.id <= number:
                    del self.caught[task]
                yield do.Tell(orders.Took(task, number))
            case wire.Pause(order, tasks, resume):
                yield do.Tell(orders.Pause(order, tasks, resume))
            case wire.Forget(order, tasks):
                yield do.Tell(orders.Forget(order, tasks))
            case wire.Measure():
                self.measuring.append(message)
                yield do.Tell(orders.Measure())
            case wire.Erase(order, path, recursive):
                yield do.EraseFile(order, path, recursive)
            case wire.Transfer():
                yield do.StartTransfer(message, self.facts.master if self.facts else "")
            case wire.Abandon(order):
                yield from self._passing(self.parcels.abandoned(order))
                yield do.DropTransfer(order)
            case wire.Follow(stream):
                self._unfollow(stream)
                yield do.DropFollow(stream)
                self._follow(message)
                yield from self._start_follow(stream)
            case wire.Unfollow(stream):
                self._unfollow(stream)
                yield do.DropFollow(stream)
            case wire.Credit(stream, count):
                yield do.GrantFollow(stream, count)
            case wire.Log(task, offset, data):
                yield do.WriteHomeLog(task, offset, data)
            case wire.Renewed(certificate):
                yield do.Install(certificate)
            case wire.Reserve() | wire.Freeze() | wire.Verdict():
                yield from self._moving(self.moves.asked(message, self.tasks))
            case wire.Describe(order, task):
                yield do.Tell(orders.Describe(order, task))
            case wire.Survey(order, spec, paths):
                yield do.Tell(orders.Survey(order, spec, paths))
            case wire.Checkpoint(order, task, snapshot, keep):
                yield do.Tell(orders.Checkpoint(order, task, snapshot, keep))
            case wire.ListSnapshots(order, task):
                yield do.Tell(orders.ListSnapshots(order, task))
            case wire.Lodge() | wire.Give():
                yield from self._passing(self.parcels.asked(message))
            case wire.Unlodge(order, tasks, snapshots):
                yield do.Tell(orders.Unlodge(order, tasks, snapshots))
            case wire.Upgrade(order):
                yield do.Say("info", "the master wants a new agent here: starting anew")
                yield from self._answer(order, wire.Done(order))
                yield do.Tell(orders.Restart())
            case wire.Dismiss(order):
                self.dismissed = True
                yield do.Remember("")
                yield do.Say("info", "deregistered by the master: ending all tasks and stopping")
                yield do.Tell(orders.Stop(end_tasks=True, reason="deregistered"))

    def _launch(self, launch: wire.Launch) -> Iterator[do.Action]:
        specs = tuple(
            replace(launch.spec, task=task, index=launch.spec.index + index)
            for index, task in enumerate(launch.tasks)
        )
        for stream, task in zip(launch.streams, launch.tasks, strict=False):
            self._follow(wire.Follow(stream, task, live=True))
        self.starting.update((s.task, s) for s in specs if s.task not in self.tasks)
        yield do.Tell(orders.Start(specs, launch.source))

    # ---- following logs --------------------------------------------------------------------

    def _follow(self, request: wire.Follow) -> None:
        self.follows[request.stream] = Followed(request)
        self.readers.setdefault(request.task, set()).add(request.stream)

    def _unfollow(self, stream: int) -> None:
        followed = self.follows.pop(stream, None)
        if followed is not None:
            readers = self.readers[followed.request.task]
            readers.discard(stream)
            if not readers:
                del self.readers[followed.request.task]

    def _drop_readers(self, task: str) -> Iterator[do.Action]:
        """There is no such task, or no more: the master knows it from us."""
        for stream in tuple(self.readers.get(task, ())):
            self._unfollow(stream)
            yield do.DropFollow(stream)

    @staticmethod
    def _writes(task: Task) -> bool:
        """More output may come."""
        return task.status is Status.STARTING or task.status.alive

    def _start_follow(self, stream: int) -> Iterator[do.Action]:
        """Starts a follower as soon as both the stream link and the log are there."""
        followed = self.follows[stream]
        task = self.tasks.get(followed.request.task)
        link = self.stream.link
        if link is None or self.stream.relation is not Relation.JOINED:
            return
        if task is None:
            # A launch under way: its Changed or Rejected decides.  Else it was forgotten just now.
            if followed.request.task not in self.starting:
                self._unfollow(stream)
                yield do.Send(link, wire.Ended(
                    stream, followed.request.offset, "forgotten", "the task was removed"
                ))
            return
        followed.started = True
        request = followed.request
        live = request.live and self._writes(task)
        yield do.StartFollow(
            link, stream, task.id, task.log, request.offset, request.lines, request.since, live
        )

    # ---- time ------------------------------------------------------------------------------

    def _tick(self, now: float) -> Iterator[do.Action]:
        if self.facts is None or not self.complete:
            return
        if now >= self.beat_at:
            self.beat_at = now + self.beat_s
            yield do.TakeLoad(tuple(t.id for t in self.tasks.values() if t.status.alive))
        joined = self.control.relation is Relation.JOINED
        if joined and now >= self.heard_at + SILENCE_S:
            yield from self._drop(self.control, f"silent for {SILENCE_S:g} s", now)
        for channel in (self.control, self.stream):
            if now >= channel.greeted_by:
                yield from self._drop(channel, "no answer to our greeting", now)
        if not joined:
            yield from self._orphaned(now)
        yield from self._call(now)

    def _orphaned(self, now: float) -> Iterator[do.Action]:
        assert self.facts is not None
        limit = self.facts.orphans_kill_s
        if limit and not self.dismissed and now >= self.orphan_since + limit:
            self.dismissed = True
            yield do.Say("severe", f"no master for {limit:g} s: ending all tasks and stopping")
            yield do.Tell(orders.Stop(end_tasks=True, reason=f"no master for {limit:g} s"))
