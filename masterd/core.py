"""The master's brain: events in, actions out.  No I/O, no clock, no randomness of its own.

It is made of parts, each with one idea (nodes, tidings, launches, follows, copies, waits,
orders, history and more), that share the registry; this module only says which part hears of what.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct

from godwit.errors import UsageError
from godwit.log import Level
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd import events as on
from masterd.admission import UNRECORDED, Admission
from masterd.confirms import Confirms
from masterd.copies import Copies, Role
from masterd.dismissing import Dismissing
from masterd.each import Each
from masterd.follows import Follows
from masterd.heirs import Heirs
from masterd.history import History
from masterd.homelogs import HomeLogs
from masterd.judging import Judging
from masterd.launches import Launches, Then, check
from masterd.lodging import Lodging
from masterd.meant import Meant
from masterd.measuring import Measuring
from masterd.moves.core import Moves
from masterd.nodes import Nodes, Upon
from masterd.orders import Orders, unreachable
from masterd.pruning import surplus_nodes
from masterd.registering import Registering
from masterd.registry import Node, Registry, State
from masterd.restarts import Restarts
from masterd.routes import Routes
from masterd.schedules import Schedules
from masterd.shadows import Shadows
from masterd.snapshots import Snapshots
from masterd.sources import Sources
from masterd.tidings import Tidings
from masterd.upgrades import Upgrades
from masterd.waits import Waits

#: What it means of a change that has been made.
IN_MEMORY = "it is done, is lost if the master ends now, and is recorded as soon as it can be"


class Identity(Struct, frozen=True):
    """Who this master is, and where it can be found."""

    master: str
    address: str
    version: str
    pid: int
    state: str
    #: sha256 of the cluster's CA certificate.
    ca: str


class Chance(Struct, frozen=True):
    """The randomness that the core is given."""

    jitter: Callable[[], float]
    task_id: Callable[[], str]
    ticket: Callable[[], str]
    #: So many random bytes, as hex.
    secret: Callable[[int], str]


class Mishap(Exception):
    """A bug of ours, raised from what went wrong; ``done`` is what was to be done till then.

    What the core knows has changed that far, so its records and messages are still to go out.
    """

    def __init__(self, done: list[do.Action]):
        super().__init__()
        self.done = done


class Master:
    """The core.  ``handle`` is its only way in, ``deadline`` says when it wants a Tick."""

    def __init__(self, identity: Identity, chance: Chance):
        self.identity = identity
        self.registry = Registry()
        self.history = History()
        self.orders = Orders()
        self.confirms = Confirms()
        self.admission = Admission(
            self.registry, self.history, self.confirms, identity.ca, chance.secret
        )
        self.nodes = Nodes(
            self.registry, self.history, self.admission, identity.master, chance.jitter,
            Upon(self.orders.lost, self._lost, self._left, self._replaced),
        )
        #: Texts of Python programs by their digest.
        self.sources = Sources(self.registry)
        self.launches = Launches(
            self.registry, chance.task_id, self.confirms,
            lambda *of: self.tidings.forget(*of), self.sources.texts,
        )
        self.lodging = Lodging(
            self.registry, self.orders, self.sources, self.admission.leaves, chance.ticket,
            lambda: self._now,
        )
        self.heirs = Heirs(self.registry, self.orders, self._note, lambda: self._now)
        self.follows = Follows(self.registry)
        self.homelogs = HomeLogs(self.registry, self.follows)
        self.waits = Waits(self.registry)
        self.upgrades = Upgrades(self.orders, lambda node, text: self._note(text, node=node))
        self.copies = Copies(self.orders, self.admission.leaves, chance.ticket)
        self.moves = Moves(
            self.registry, self.history, self.admission.leaves, chance.secret,
            self.sources.texts,
            self._moved,
            lambda node, task: self.tidings.forget(node, task, surely=False),
        )
        self.shadows = Shadows(self.registry, self.orders, self.moves, self.history)
        self.tidings = Tidings(
            self.registry, self._note, self.launches, self.follows, self.waits, self.moves,
            self.shadows, self.homelogs, self.sources, self._forgotten,
        )
        self.meant = Meant(self.registry)
        self.each = Each(
            self.registry, self.meant, self.orders, self.moves, self.tidings.forget,
            lambda: self._now,
        )
        self.measuring = Measuring(self.registry, self.meant, self.orders)
        self.registering = Registering(
            self.registry, self.admission, self.nodes, self._confirm
        )
        self.dismissing = Dismissing(
            self.registry, self.nodes, self.orders, lambda: self._wall
        )
        self.judging = Judging(self.registry, self.orders, self.moves)
        self.snapshots = Snapshots(
            self.registry, self.orders, self.judging, self.lodging, chance.task_id,
            self.meant.task, lambda: self._now,
        )
        self.schedules = Schedules(
            self.registry, self.moves.is_moving, self.snapshots.take_by_schedule, self._note,
            lambda: self._now,
        )
        self.restarts = Restarts(
            self.registry, self.snapshots, self.lodging, self.heirs, self._launch_on,
            self.meant.nodes, self.moves.unsettled,
        )
        self.routes = Routes(
            self.registry, self.meant, self.moves, self.judging, self.snapshots, self._refusing,
            lambda: self._now,
        )
        #: Operators that have said Attach.
        self._attached: set[int] = set()
        self._now = 0.0
        self._wall = 0.0

    # ---- the way in ------------------------------------------------------------------------

    def handle(self, event: on.Event, now: float, wall: float) -> list[do.Action]:
        """What is to be done now that ``event`` happened.

        ``now`` is monotonic seconds; ``wall`` seconds since 1970, for display only.  Raises
        Mishap for any exception that nobody expected.
        """
        self._now, self._wall = now, wall
        self.moves.at(now, wall)
        self.shadows.at(now, wall)
        done: list[do.Action] = []
        try:
            self._collect(event, done)
        except Exception as err:
            raise Mishap(done) from err
        return done

    def _collect(self, event: on.Event, done: list[do.Action]) -> None:
        for action in self._handle(event):
            if isinstance(action, do.Answer) and action.operator < 0:
                done += self.homelogs.answered(action.operator, action.reply)
                continue
            done.append(action)
            # A launch may have been followed before it was known what came of it.
            if isinstance(action, do.Answer) and isinstance(action.reply, op.Launched):
                done += self.follows.launched(action.operator, action.reply)
            elif isinstance(action, do.Answer) and isinstance(action.reply, op.Tasks):
                self.follows.refused(action.operator, action.reply.id)

    def deadline(self) -> float:
        """Monotonic second at which a Tick is wanted; infinity: none."""
        return min(
            self.nodes.deadline(), self.launches.deadline(), self.waits.deadline(),
            self.orders.deadline(), self.upgrades.deadline(), self.moves.deadline(),
            self.shadows.deadline(), self.schedules.deadline(),
        )

    def _handle(self, event: on.Event) -> Iterator[do.Action]:
        now, wall = self._now, self._wall
        match event:
            case on.Received(link, message):
                yield from self._received(link, message)
            case on.Asked(operator, request):
                yield from self._asked(operator, request)
            case on.LinkAccepted(link, peer, leaf):
                yield from self.nodes.accepted(link, peer, leaf, now, wall)
            case on.LinkOpened(link, node, channel, leaf):
                yield from self.nodes.opened(link, node, channel, leaf, now)
            case on.JoinAsked(asked, token, secret, name, peer):
                yield from self.admission.join(asked, token, secret, name, peer, wall)
            case on.Certified(asked, name, leaf):
                yield from self.admission.certified(asked, name, leaf, wall)
            case on.Adopted(name):
                yield from self.nodes.adopted(name, now)
            case on.DialFailed(node, channel, reason):
                yield from self.nodes.dial_failed(node, channel, reason, now, wall)
            case on.LinkClosed(link, reason):
                yield from self.nodes.closed(link, reason, now, wall)
            case on.OperatorGone(operator):
                yield from self._gone(operator)
            case on.BulkOpened(bulk, show, leaf):
                yield from self.copies.bulk_opened(bulk, show, leaf)
            case on.BulkFailed(ticket, reason):
                yield from self.copies.bulk_failed(ticket, reason)
            case on.Recorded(number):
                yield from self.confirms.recorded(number)
            case on.Unrecorded(number, reason):
                yield from self.confirms.unrecorded(number, reason)
            case on.Tick():
                yield from self.nodes.late(now, wall)
                yield from self.nodes.silent(now, wall)
                yield from self.nodes.call(now)
                yield from self.launches.late(now)
                yield from self.orders.late(now)
                yield from self.waits.late(now)
                yield from self.upgrades.late(now)
                yield from self.moves.late()
                yield from self.shadows.late()
                yield from self.schedules.late()

    def _note(
        self, text: str, *, node: str = "", task: str = "", notice: bool = False,
        level: Level = "info",
    ) -> Iterator[do.Action]:
        yield from self.history.add(
            self._wall, level, text, node=node, task=task, notice=notice
        )

    def _confirm(self, operator: int, answer: op.Ok) -> Iterator[do.Action]:
        """Answers once what was done is on the disk; it is done in any case."""
        def then() -> Iterator[do.Action]:
            yield do.Answer(operator, answer)

        def failing(why: str) -> Iterator[do.Action]:
            text = f"{why}: {IN_MEMORY}"
            yield do.Answer(operator, op.Problem(answer.id, UNRECORDED, text))

        yield from self.confirms.ask(then, failing)

    # ---- what nodes say --------------------------------------------------------------------

    def _received(self, link: int, message: wire.Message) -> Iterator[do.Action]:
        if self.nodes.is_opening(link):
            yield from self.nodes.hello(link, message, self._now, self._wall)
            met = self.registry.by_link(link)
            if met is not None and met[1] == "stream":
                yield from self.follows.stream_up(met[0])
            elif met is not None:
                yield from self.upgrades.came(met[0])
            return
        found = self.registry.by_link(link)
        if found is None:
            return  # what was still in a connection that we closed
        node = found[0]
        yield from self.nodes.heard(node, self._now, self._wall)
        yield from self._said(node, message)

    def _said(self, node: Node, message: wire.Message) -> Iterator[do.Action]:
        match message:
            case wire.Beat(load, children):
                node.load, node.children = load, children
                if node.control is not None:
                    yield do.Send(node.control, wire.Heard())
            case wire.Chunk():
                yield from self.follows.chunk(node, message)
            case wire.Ended():
                yield from self.follows.ended(node, message)
            case wire.Changed(tasks):
                yield from self._changed(node, tasks)
            case wire.Report(tasks, last):
                node.reporting.update(task.id for task in tasks)
                yield from self._changed(node, tasks)
                if last:
                    yield from self.tidings.reported(node)
            case wire.Rejected(tasks, code, text):
                for task in tasks:
                    yield from self.tidings.rejected(node, task, code, text)
            case wire.Forgotten(tasks):
                for task in tasks:
                    yield from self.tidings.forget(node, task)
            case (
                wire.Done(order) | wire.Measured(order) | wire.Copied(order)
                | wire.Described(order) | wire.Surveyed(order) | wire.Snapshots(order)
            ):
                yield from self.orders.answered(node, order, message)
            case wire.Lodging(tasks):
                yield from self.lodging.told(node, tasks)
            case wire.Listening(order) if self.lodging.waits(order):
                yield from self.lodging.listening(node, message)
            case wire.Listening():
                yield from self.copies.listening(node, message, self._now)
            case wire.Moved():
                yield from self.copies.moved(node, message)
            case wire.Renew(request):
                yield from self.admission.renew(node, request, self._now)
            case wire.Standing():
                yield from self.moves.said(node, message)
            case wire.Kept():
                yield from self.homelogs.kept(node, message)
            case wire.Caught():
                yield from self.shadows.caught(node, message)
            case wire.Able(can, lacks):
                node.can, node.lacks = can, dict(lacks)
            case wire.Leaving():
                yield from self.nodes.leaving(node, message, self._now, self._wall)

    def _changed(self, node: Node, tasks: tuple[Task, ...]) -> Iterator[do.Action]:
        yield from self.tidings.changed(node, tasks)
        yield from self.heirs.told(node, tasks)
        for task in tasks:
            if self.registry.where.get(task.id) is node:
                yield from self.schedules.changed(task)

    def _forgotten(self, task: str, surely: bool) -> Iterator[do.Action]:
        """There is no such task any more."""
        yield from self.schedules.stop(task)
        yield from self.lodging.forgotten(task, surely)

    def _moved(self, task: Task, node: Node) -> Iterator[do.Action]:
        """It runs there now."""
        if task.spec.home == node.name:
            yield from self.homelogs.stop(task.id)
        yield from self.follows.moved(task.id, node)
        yield from self.shadows.look(task.id)

    # ---- what becomes of nodes -------------------------------------------------------------

    def _lost(self, node: Node) -> Iterator[do.Action]:
        """It is not heard any more: who wants what is there now does not wait for its return."""
        yield from self.homelogs.lost(node)
        yield from self.follows.cut(node, "unreachable", unreachable(node), live=False)

    def _left(self, node: Node) -> Iterator[do.Action]:
        """It is no node of ours any more: nobody is to wait for what it would have said."""
        yield from self.moves.left(node)
        for task in tuple(node.tasks.values()):
            if task.status is Status.STARTING:
                why = f"{node.name} was deregistered"
                yield from self.tidings.forget(node, task.id, "left", why)
            else:
                yield from self.waits.changed(task.id)
        yield from self.follows.cut(node, "left", f"{node.name} was deregistered", live=True)
        yield from self.upgrades.left(node)
        yield from self.lodging.left(node)
        for old in surplus_nodes(self.registry):
            for name in tuple(old.tasks):
                yield from self.tidings.forget(old, name, surely=False)
            self.registry.drop_node(old.name)

    def _replaced(self, node: Node) -> Iterator[do.Action]:
        """Another machine has its name: its tasks are not there."""
        yield from self.moves.left(node)
        for task in [task for task in node.tasks if not self.moves.is_part(node, task)]:
            yield from self.tidings.forget(node, task, surely=False)

    # ---- what operators ask ----------------------------------------------------------------

    def _asked(self, operator: int, request: op.Request) -> Iterator[do.Action]:
        if operator not in self._attached and not isinstance(request, op.Attach):
            yield do.Answer(
                operator, op.Problem(request.id, "order", "Attach comes first", exit_status=2)
            )
            return
        yield from self._refusing(operator, request, self._do(operator, request))

    def _refusing(
        self, operator: int, request: op.Request, doing: Iterator[do.Action]
    ) -> Iterator[do.Action]:
        """What is refused on the way is the answer."""
        try:
            yield from doing
        except UsageError as err:
            yield do.Answer(operator, op.Problem(
                request.id, err.code, err.message, err.hint, err.exit_status
            ))

    def _do(self, operator: int, request: op.Request) -> Iterator[do.Action]:
        match request:
            case op.Attach():
                yield from self._attach(operator, request)
            case op.ListNodes(nodes=nodes):
                chosen = self.meant.nodes(nodes)
                views = tuple(self.registry.node_view(node, self._now) for node in chosen)
                yield do.Answer(operator, op.Nodes(request.id, views))
            case op.ListTasks(tasks=tasks):
                found, faults = self.meant.tasks(tasks)
                yield from self._answer_tasks(operator, request.id, found, faults)
            case op.Execute():
                yield from self._execute(operator, request)
            case op.FollowLogs(tasks=tasks):
                found, faults = self.meant.tasks(tasks)
                yield from self.follows.begin(operator, request, found, faults)
            case op.Took():
                yield from self.follows.took(operator, request)
            case op.Cancel():
                yield from self._cancel(operator, request.id)
            case op.SignalTasks(tasks=tasks, number=number, whole=whole):
                yield from self.each.begin(
                    operator, request.id, tasks,
                    lambda order, task: wire.Signal(order, (task,), number, whole),
                )
            case op.PauseTasks(tasks=tasks, resume=resume):
                yield from self.each.begin(
                    operator, request.id, tasks,
                    lambda order, task: wire.Pause(order, (task,), resume),
                )
            case op.ForgetTasks() if (removal := self.snapshots.remove(operator, request)):
                yield from removal
            case op.ForgetTasks(tasks=tasks):
                yield from self.each.begin(
                    operator, request.id, tasks, lambda order, task: wire.Forget(order, (task,)),
                    forgets=True,
                )
            case op.MoveTask():
                yield from self.routes.move(operator, request)
            case op.JudgeMove():
                yield from self.routes.judge(operator, request)
            case op.ListMoves(about=about, limit=limit):
                known = "" if not about else self.meant.about(about)
                yield do.Answer(operator, op.Moves(request.id, self.moves.listed(known, limit)))
            case op.ListPrograms(nodes=nodes):
                known_there = tuple(
                    op.NodePrograms(node.name, node.programs)
                    for node in self.meant.nodes(nodes) if node.connected
                )
                yield do.Answer(operator, op.Programs(request.id, known_there))
            case op.ResolveMove():
                yield from self.moves.resolve(operator, request)
            case op.CheckpointTask():
                yield from self.snapshots.checkpoint(operator, request, self.schedules)
            case op.ListSnapshots():
                yield from self.snapshots.show(operator, request, self.schedules)
            case op.RestartTask():
                yield from self.restarts.begin(operator, request)
            case op.AwaitTasks(tasks=tasks):
                found, faults = self.meant.tasks(tasks)
                if faults:
                    raise UsageError(faults[0].message, code=faults[0].code, hint=faults[0].hint)
                yield from self.waits.begin(operator, request, found, self._now)
            case op.MeasureUsage():
                yield from self.measuring.begin(operator, request, self._now)
            case op.EraseFile():
                yield from self._erase(operator, request)
            case op.Copy():
                yield from self._copy(operator, request)
            case op.Register():
                yield from self.registering.begin(operator, request, self._now)
            case op.Deregister(nodes=nodes):
                chosen = [n for n in self.meant.nodes(nodes) if n.state is not State.LEFT]
                yield from self.dismissing.begin(
                    operator, request.id, chosen,
                    lambda: self._confirm(operator, op.Ok(request.id)), self._now,
                )
            case op.Upgrade(nodes=nodes):
                chosen = [n for n in self.meant.nodes(nodes) if n.state is not State.LEFT]
                yield from self.upgrades.begin(operator, request, chosen, self._now)
            case op.History():
                yield from self._history(operator, request)
            case op.StopMaster():
                yield from self._stop(operator, request)
            case op.MakeToken():
                yield from self.admission.make_token(operator, request, self._wall)
            case op.Revoke(node=name):
                yield from self._revoke(operator, request.id, name)

    def _attach(self, operator: int, request: op.Attach) -> Iterator[do.Action]:
        if request.version != op.VERSION:
            raise UsageError(
                f"this master speaks version {op.VERSION} to its shell, not {request.version}",
                code="version",
            )
        self._attached.add(operator)
        if request.notices:
            self.history.listen(operator, request.id)
        me = self.identity
        yield do.Answer(
            operator, op.Attached(request.id, me.master, me.address, me.version, me.pid, me.state)
        )

    def _gone(self, operator: int) -> Iterator[do.Action]:
        self._attached.discard(operator)
        self.history.gone(operator)
        self.waits.cancel(operator)
        self.upgrades.cancel(operator)
        yield from self.follows.cancel(operator)
        yield from self.copies.cancel(operator)
        self.judging.cancel(operator)
        self.snapshots.cancel(operator)
        yield from self.moves.cancel(operator)

    def _cancel(self, operator: int, request: int) -> Iterator[do.Action]:
        self.history.cancel(operator, request)
        self.waits.cancel(operator, request)
        self.upgrades.cancel(operator, request)
        yield from self.follows.cancel(operator, request)
        yield from self.copies.cancel(operator, request)
        self.judging.cancel(operator, request)
        self.snapshots.cancel(operator, request)
        yield from self.moves.cancel(operator, request)

    def _answer_tasks(
        self, operator: int, number: int, tasks: list[str], faults: list[op.Fault]
    ) -> Iterator[do.Action]:
        views = tuple(self.registry.view(task) for task in tasks if task in self.registry.where)
        yield do.Answer(operator, op.Tasks(number, views, tuple(faults)))

    # ---- tasks -----------------------------------------------------------------------------

    def _execute(self, operator: int, request: op.Execute) -> Iterator[do.Action]:
        check(request, request.count == 1 and len(self.meant.nodes(request.nodes)) == 1)
        nodes = self.meant.nodes(request.nodes)
        if not nodes:
            raise UsageError(
                "there are no nodes yet", code="no-such-node",
                hint="start one: clientd --name NODE --master HOST:PORT",
            )
        reading = self.follows.with_launch(operator, request) if request.follow else None

        def streams(tasks: tuple[str, ...], node: Node) -> tuple[int, ...]:
            if reading is None or not self.follows.is_open(reading):
                return ()
            return tuple(self.follows.stream(reading, task, node) for task in tasks)

        yield from self.launches.begin(operator, request, nodes, self._now, self._wall, streams)

    def _launch_on(
        self, operator: int, request: op.Execute, nodes: list[Node], faults: list[op.Fault],
        then: Then,
    ) -> Iterator[do.Action]:
        """Starts it on these, and nobody follows it."""
        def launching() -> Iterator[do.Action]:
            check(request, False)
            yield from self.launches.begin(
                operator, request, nodes, self._now, self._wall, lambda *_: (), faults, then
            )

        yield from self._refusing(operator, request, launching())

    # ---- files -----------------------------------------------------------------------------

    def _erase(self, operator: int, request: op.EraseFile) -> Iterator[do.Action]:
        node = self.meant.node(request.place.node)

        def then(answer: wire.Message) -> Iterator[do.Action]:
            assert isinstance(answer, wire.Done)
            if answer.code:
                text = f"{node.name}: {answer.text}"
                yield do.Answer(operator, op.Problem(request.id, answer.code, text))
                return
            shown = request.place.path.decode("utf-8", "backslashreplace")
            yield from self._note(f"removed {node.name}:{shown}", node=node.name)
            yield do.Answer(operator, op.Ok(request.id))

        order = self.orders.number()
        erase = wire.Erase(order, request.place.path, request.recursive)
        yield from self.orders.send(node, erase, order, self._now, then, within_s=600.0)

    def _copy(self, operator: int, request: op.Copy) -> Iterator[do.Action]:
        nodes: dict[Role, Node] = {}
        if request.source.node:
            nodes["send"] = self.meant.node(request.source.node)
        if request.target.node:
            nodes["receive"] = self.meant.node(request.target.node)
        if not nodes:
            raise UsageError(
                "both sides are on this machine", code="usage", hint="write NODE:PATH for one",
                exit_status=2,
            )
        yield from self.copies.begin(operator, request, nodes, self._now)

    # ---- nodes -----------------------------------------------------------------------------

    def _revoke(self, operator: int, number: int, reference: str) -> Iterator[do.Action]:
        """Also of a name that only has a certificate: it joined and never came."""
        name = reference if reference in self.admission.leaves else self.meant.node(reference).name
        yield from self.admission.revoke(name, self._wall)
        node = self.registry.nodes.get(name)
        text = f"{name} was taken off the list; what runs there runs on"
        if node is not None and node.state is not State.LEFT:
            yield from self.nodes.left(node, self._wall, text)
        yield from self._confirm(operator, op.Ok(number, text))

    def _history(self, operator: int, request: op.History) -> Iterator[do.Action]:
        about = self.meant.about(request.about) if request.about else ""
        yield from self.history.answer(operator, request, about)

    def _stop(self, operator: int, request: op.StopMaster) -> Iterator[do.Action]:
        def finish() -> Iterator[do.Action]:
            yield from self._note("the master stops")
            yield do.Commit()
            yield do.Answer(operator, op.Ok(request.id))
            yield do.Stop()

        nodes = [n for n in self.registry.nodes.values() if n.state is not State.LEFT]
        if request.deregister:
            yield from self.dismissing.begin(operator, request.id, nodes, finish, self._now)
        else:
            yield from finish()
