"""A node of the simulated moves: the real core of its keeper, a plain agent, and the machine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.core import Moves
from clientd.keeper.moves.table import Part
from clientd.keeper.records import Ledger, Left, Moved, Records, decode, encode
from godwit.wire import messages as wire

if TYPE_CHECKING:
    from tests.sim.flights import World


class Died(Exception):
    """Killed between two actions."""


@dataclass
class Process:
    """A copy of a task on one node."""

    pid: int
    state: str  # warm, loaded, running, frozen
    count: int = 0


@dataclass
class Image:
    """A frozen state in a file."""

    count: int
    synced: bool = False


@dataclass
class Machine:
    """What outlives a keeper; of it, a power cut leaves what is synced."""

    name: str
    journal: list[bytes] = field(default_factory=list)
    synced: int = 0
    #: By task.
    processes: dict[str, Process] = field(default_factory=dict)
    #: By move.
    images: dict[str, Image] = field(default_factory=dict)
    boots: int = 1

    def state(self, task: str) -> str:
        process = self.processes.get(task)
        return process.state if process is not None else ""


class Node:
    """A keeper with a plain agent, on its machine."""

    def __init__(self, world: "World", name: str):
        self.world = world
        self.name = name
        self.machine = Machine(name)
        self.link = 0
        self.agents = 0
        self.alive = False
        self.life = 0
        #: Moves of which bytes are on their way from or to here.
        self.streams: set[str] = set()
        self._waiting: list[bytes] = []
        self._words: list[orders.Word] = []
        #: What follows at once from what is being done.
        self._events: list[do.Event] = []
        self._out = 0.0
        self.start()

    # ---- life ------------------------------------------------------------------------------

    def start(self) -> None:
        self.life += 1
        self.alive = True
        self.ledger = Ledger()
        self.ledger.replay(decode(record) for record in self.machine.journal)
        self.core = self.make()
        unsettled = [m for m in self.ledger.moves.values() if not m.part.settled]
        for task in list(self.machine.processes):
            self._sweep(task, unsettled)
        for record in unsettled:
            self.handle(do.Returned(record.move, self._lives(record)))

    def make(self) -> Moves:
        return Moves(self.ledger, f"boot {self.machine.boots}", "images")

    def _sweep(self, task: str, unsettled: list[Moved]) -> None:
        """A copy that no record lets run, or stand still, is what a move left here."""
        known = self.ledger.tasks.get(task)
        wanted = {record.pid for record in unsettled if record.part in (
            Part.CONSUMED, Part.RESUMING
        )}
        pid = self.machine.processes[task].pid
        if pid not in wanted and (known is None or known.pid != pid):
            self._end(task)

    def _lives(self, record: Moved) -> bool:
        process = self.machine.processes.get(record.task)
        known = self.ledger.tasks.get(record.task)
        pid = record.pid if record.pid is not None else known.pid if known else None
        return process is not None and process.pid == pid

    def die(self, why: str) -> None:
        if not self.alive:
            return
        self.world.say(self.name, "keeper dies:", why)
        self.alive = False
        self._waiting.clear()
        self._words.clear()
        self.cut("the keeper died")
        self._lose_streams()
        self.world.later(self.world.random.uniform(0.05, 2.0), self._restart)

    def _restart(self) -> None:
        if not self.alive:
            self.start()
            self.connect()

    def power_cut(self) -> None:
        machine = self.machine
        self.world.say(self.name, "loses power")
        died = list(machine.processes)
        for task in died:
            self._excuse(task)
        machine.processes.clear()
        machine.images = {m: image for m, image in machine.images.items() if image.synced}
        del machine.journal[machine.synced:]
        machine.boots += 1
        if self.alive:
            self.die("power")
        for task in died:
            self.world.replace_if_lost(task)

    def _excuse(self, task: str) -> None:
        """Whoever loses a running task, or one that was not on any disk, has lost it; and one that
        is on record as let run again, with its image used, which had no time to."""
        state = self.machine.state(task)
        kept = self.has_image(task, synced=True) or self.world.running(task)
        about_to_run = state == "loaded" and any(
            record.task == task and record.part is Part.RESUMING and not record.image
            for record in self.ledger.moves.values()
        )
        if state == "running" or about_to_run or (state == "frozen" and not kept):
            self.world.tasks[task].excused = True

    def has_image(self, task: str, synced: bool = False) -> bool:
        """The task's state can still be had from an image here."""
        for record in self.ledger.moves.values():
            image = self.machine.images.get(record.move)
            if image is not None and record.task == task and (image.synced or not synced) and (
                record.part in (Part.FROZEN, Part.PREPARED)
                or (record.part is Part.RESUMING and record.image)
            ):
                return True
        return False

    # ---- the agent, plain ------------------------------------------------------------------

    def connect(self) -> None:
        world = self.world
        if self.link or not self.alive:
            return
        if not world.master.up:
            world.later(0.3, self.connect)
            return
        self.link = world.master.open(self)
        self.agents += 1
        self._tell(wire.Hello(
            wire.VERSION, self.name, f"id {self.name}", f"agent {self.agents}",
            can=("shell", "python"), programs={"count": "N"},
        ))
        self._tell(wire.Report(tuple(self.ledger.tasks.values())))
        for word in self.core.standings():
            self._pass_on(word)
        for move in sorted(self.streams):  # the agent's own last word of these
            self._tell_reserved(move)
        self._beat(self.link)

    def _beat(self, link: int) -> None:
        if self.link == link:
            self._tell(wire.Beat(wire.Load()))
            self.world.later(2.0, lambda: self._beat(link))

    def cut(self, why: str, pause: float | None = None) -> None:
        if self.link:
            link, self.link = self.link, 0
            self.world.say(self.name, "cut:", why)
            self.world.master.close(link)
            if pause is None:
                pause = self.world.random.uniform(0.1, self.world.luck.away)
            self.world.later(pause, self.connect)

    def _tell(self, message: wire.Message) -> None:
        link, master = self.link, self.world.master
        if not link:
            return
        if self.world.bad(self.world.luck.cut):
            self.cut("bad luck")
            return
        self._ordered(lambda: master.received(link, message))
        if isinstance(message, wire.Standing):
            if self.world.bad(self.world.luck.double):
                self._ordered(lambda: master.received(link, message))
            if self.world.bad(self.world.luck.late):
                self.world.later(self.world.random.uniform(0.1, 9.0), lambda: (
                    master.received(self.link, message) if self.link else None
                ))

    def _ordered(self, step: Callable[[], None]) -> None:
        """As TCP has it: nothing overtakes."""
        self._out = max(self._out, self.world.now) + 0.0005
        self.world.later(self._out - self.world.now + self.world.random.random() * 1e-4, step)

    def deliver(self, link: int, message: wire.Message) -> None:
        """From the master."""
        if self.world.bad(self.world.luck.cut):
            self.cut("bad luck")
            return
        self._ordered(lambda: self._received(link, message))
        if isinstance(message, wire.Verdict | wire.Freeze | wire.Reserve):
            if self.world.bad(self.world.luck.double):
                self._ordered(lambda: self._received(link, message))
            if self.world.bad(self.world.luck.late):
                pause = self.world.random.uniform(0.1, 9.0)
                self.world.later(pause, lambda: self._received(self.link, message))

    def _received(self, link: int, message: wire.Message) -> None:
        if not self.alive or not link or link != self.link:
            return
        match message:
            case wire.Reserve(move, task, epoch, peer=peer):
                self.handle(do.Ordered(orders.Reserve(move, task, epoch, peer=peer)))
            case wire.Freeze():
                self.world.soon(self._mine(lambda: self._stream(message)))
            case wire.Verdict(move, task, epoch, verdict):
                if verdict not in ("commit", "ask"):
                    self.streams.discard(move)
                self.handle(do.Ordered(orders.Verdict(move, task, epoch, verdict)))
            case wire.Signal(order, tasks):
                self._tell(wire.Done(order, self._signal(tasks[0])))

    def _signal(self, task: str) -> str:
        """As the keeper does: not while the task may stand still for a move."""
        if self.core.of_task(task) is not None:
            return "moving"
        return "" if task in self.ledger.tasks else "no-task"

    def _mine(self, step: Callable[[], None]) -> Callable[[], None]:
        """Only in this life."""
        life = self.life
        return lambda: step() if self.alive and self.life == life else None

    def _stream(self, asked: wire.Freeze) -> None:
        """The log so far has been sent; what has been frozen before is not sent again."""
        known = asked.move in self.ledger.moves
        if not known and self.world.bad(self.world.luck.fail):
            self._tell(wire.Standing(
                asked.move, asked.task, asked.epoch, "unfrozen", "cut", "no way there"
            ))
        else:
            self.streams.add(asked.move)
            self.handle(do.Ordered(orders.Freeze(
                asked.move, asked.task, asked.epoch, asked.peer
            )))

    def _lose_streams(self) -> None:
        """An agent died: both ends of its streams see it."""
        for node in self.world.nodes.values():
            for move in sorted(node.streams):
                if move in self.streams:
                    node.streams.discard(move)
                    node.handle_later(do.Ordered(orders.Cut(move, "cut", "the stream ended")))
        self.streams.clear()

    def agent_dies(self) -> None:
        self.world.say(self.name, "agent dies")
        self.cut("the agent died")
        self._lose_streams()
        self.handle(do.AgentLost())

    def handle_later(self, event: do.Event) -> None:
        self.world.soon(self._mine(lambda: self.handle(event)))

    # ---- the keeper ------------------------------------------------------------------------

    def note(self, record: Records) -> None:
        self.ledger.apply(record)
        self.machine.journal.append(encode(record))
        self.machine.synced = len(self.machine.journal)
        self._tell(wire.Changed(tuple(self.ledger.tasks.values())))

    def handle(self, event: do.Event) -> None:
        if not self.alive:
            return
        self.world.changed = True
        self.world.say(self.name, brief(event))
        try:
            self._events.append(event)
            while self._events:
                self._act_on(self._events.pop(0))
            self._flush()
        except Died:
            self._events.clear()
            self.die("bad luck")

    def _act_on(self, event: do.Event) -> None:
        for action in self.core.handle(event):
            if self.world.bad(self.world.luck.die):
                raise Died
            if self.world.bad(self.world.luck.power):
                self._events.clear()
                self.power_cut()
                return
            if not self.perform(action):
                return

    def _flush(self) -> None:
        """What is not durable is written, which may be lost with the machine's power; then the
        agent is told."""
        if not self.alive:
            return
        self.machine.journal += self._waiting
        self._waiting.clear()
        words, self._words = self._words, []
        if self.world.bad(self.world.luck.die):
            raise Died
        self._tell(wire.Changed(tuple(self.ledger.tasks.values())))
        for word in words:
            self._pass_on(word)

    def _pass_on(self, word: orders.Word) -> None:
        match word:
            case orders.Standing():
                self._tell(wire.Standing(
                    word.move, word.task, word.epoch, word.state, word.code, word.text,
                    size=word.size, phases=word.phases, at=word.at, wall=word.wall,
                    peer=word.peer,
                ))
            case orders.Forgotten(tasks):
                self._tell(wire.Forgotten(tasks))
            case orders.Landing(move):
                self.streams.add(move)
                self._tell_reserved(move)
            case orders.Shipping(move, size=size):
                self.world.soon(self._mine(lambda: self._ship(move, size)))

    def _tell_reserved(self, move: str) -> None:
        record = self.ledger.moves.get(move)
        if record is not None and record.part is Part.RESERVED:
            self._tell(wire.Standing(move, record.task, record.epoch, "reserved", port=7))

    def _ship(self, move: str, size: int) -> None:
        """The image arrives, and is not synced, at whoever waits for it; or the stream breaks."""
        target = next((
            node for node in self.world.nodes.values()
            if node is not self and move in node.streams and node.alive
        ), None)
        image = self.machine.images.get(move)
        if target is None or image is None or self.world.bad(self.world.luck.fail):
            self.handle_later(do.Ordered(orders.Cut(move, "cut", "the stream ended")))
            if target is not None:
                target.streams.discard(move)
                target.handle_later(do.Ordered(orders.Cut(move, "cut", "the stream ended")))
            return
        target.streams.discard(move)
        record = target.ledger.moves.get(move)
        if record is not None and record.part is Part.RESERVED:
            target.machine.images[move] = Image(image.count)
            target.handle_later(do.Ordered(orders.Landed(move, size)))

    # ---- what the keeper's core wants --------------------------------------------------------

    def perform(self, action: do.Action) -> bool:
        """False: nothing that follows is to be done."""
        machine = self.machine
        match action:
            case do.Note(record, durable):
                return self._note(record, durable)
            case do.Tell(word):
                self._words.append(word)
            case do.Birth(move, task, fresh):
                self._birth(move, task.id, fresh)
            case do.FreezeCopy(move, name):
                self._freeze(move, name)
            case do.LoadCopy(move, name):
                self._load(move, name)
            case do.Thaw(move, name):
                process = machine.processes.get(name)
                if process is not None:
                    assert process.state != "warm", "an empty copy is let run"
                    process.state = "running"
                    self.handle_later(do.WentOn(move, 1.0, 1.0, {}))
            case do.KillCopy(move, name):
                self._end(name)
                self.handle_later(do.Gone(move))
            case do.DropFiles(move):
                machine.images.pop(move, None)
            case do.ForgetTask(name):
                self._forget(name)
        return True

    def _note(self, record: Moved, durable: bool) -> bool:
        if durable and self.world.bad(self.world.luck.full):
            self._events.append(do.Unwritten(record, "ENOSPC", "no space left on device"))
            return False
        self._waiting.append(encode(record))
        if durable:
            self.sync()
        self.ledger.apply(record)
        return True

    def sync(self) -> None:
        """All that was noted is on the disk."""
        self.machine.journal += self._waiting
        self._waiting.clear()
        self.machine.synced = len(self.machine.journal)

    def _forget(self, task: str) -> None:
        self._end(task)
        self.ledger.apply(Left(task, 0))
        self._waiting.append(encode(Left(task, 0)))
        self._words.append(orders.Forgotten((task,)))

    def _end(self, task: str) -> None:
        self.machine.processes.pop(task, None)
        self.world.changed = True

    def _birth(self, move: str, task: str, fresh: bool) -> None:
        if task in self.machine.processes or self.world.bad(self.world.luck.fail):
            self.handle_later(do.Failed(move, "birth", "no process"))
            return
        assert fresh or move in self.machine.images, "nothing to be born for"
        process = self.machine.processes[task] = Process(self.world.pid(), "warm")

        def warm() -> None:
            if self.machine.processes.get(task) is process:
                self.handle(do.Warm(move, "log"))

        self.world.soon(self._mine(warm))

    def _load(self, move: str, task: str) -> None:
        process = self.machine.processes.get(task)
        if process is None or self.world.bad(self.world.luck.fail):
            self.handle_later(do.Failed(move, "load", "cannot be loaded"))
            return
        assert process.state == "warm", f"a copy that is {process.state} is loaded"
        process.state, process.count = "loaded", self.machine.images[move].count
        self.handle_later(do.Loaded(move, process.pid, 1, {}))

    def _freeze(self, move: str, task: str) -> None:
        process = self.machine.processes.get(task)
        if process is None or self.world.bad(self.world.luck.fail):
            self.handle_later(do.Failed(move, "unpicklable", "self.conn: a socket cannot travel"))
            return
        process.state = "frozen"
        image = self.machine.images[move] = Image(process.count)
        self.handle_later(do.StoodStill(move, 10, 10, 1.0, 1.0, {}))

        def synced() -> None:
            if self.machine.processes.get(task) is process:
                image.synced = True
                self.handle(do.Synced(move, {}))

        self.world.later(0.03, self._mine(synced))


def brief(event: do.Event) -> str:
    """For the trace."""
    inner = event.order if isinstance(event, do.Ordered) else event
    words = [type(inner).__name__]
    for name in ("move", "epoch", "verdict", "code", "alive"):
        if (value := getattr(inner, name, None)) not in (None, ""):
            words.append(f"{name}={value}")
    if isinstance(event, do.Unwritten):
        words.append(f"{event.record.move} {event.record.part.value}")
    return " ".join(words)
