"""One task that moves between nodes, with the real cores of the master's and of the keepers' moves.

Smaller than the rest of the simulator, and rougher: here messages are also doubled and come late
after their connection has ended, keepers die between any two of their actions, disks are full,
machines lose power with what was not synced, and the master is started again from what it had
committed.  The task counts; what it says is kept in one list for the whole world: a number that
comes twice is a second copy, or a state that ran twice.
"""

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.core import Moves
from clientd.keeper.moves.table import Part
from clientd.keeper.records import Kept, Ledger, Left, Moved, Records, decode, encode
from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as act
from masterd import events as on
from masterd.core import Chance, Master
from masterd.moves.table import Move, State
from masterd.registry import Node as Known
from tests.mastering import IDENTITY, OPERATOR

TASK = "t0000001"


class Died(Exception):
    """Killed between two actions."""


@dataclass
class Luck:
    """How bad it is: the chance of each mishap at each occasion."""

    cut: float = 0.01
    double: float = 0.05
    late: float = 0.03
    die: float = 0.01
    full: float = 0.01
    fail: float = 0.03


@dataclass
class Process:
    """A copy of the task on one node."""

    pid: int
    state: str  # warm, loaded, running, frozen
    count: int = 0


@dataclass
class Machine:
    """What outlives a keeper; of it, a power cut leaves what is synced."""

    name: str
    journal: list[bytes] = field(default_factory=list)
    synced: int = 0
    process: Process | None = None
    #: move -> (count, synced).
    images: dict[str, tuple[int, bool]] = field(default_factory=dict)
    boots: int = 1


class World:
    """Everything, and the queue of what happens next."""

    def __init__(self, seed: int, nodes: int = 3, luck: Luck | None = None):
        self.random = random.Random(seed)
        self.luck = luck or Luck()
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.trace: list[str] = []
        #: All that the task ever said.
        self.said: dict[int, None] = {}
        #: A power cut took the task while it ran, or before its state was on a disk.
        self.excused = False
        self.pids = 100
        self.calm = False
        self.master = MasterSide(self)
        self.nodes = {f"n{i}": Node(self, f"n{i}") for i in range(1, nodes + 1)}
        first = self.nodes["n1"]
        first.machine.process = Process(self.pid(), "running")
        first.note(Kept(Task(
            Spec(TASK, (b"count",), kind="python", home="n1"), Status.RUNNING,
            pid=first.machine.process.pid, log="log",
        )))
        for node in self.nodes.values():
            node.connect()

    # ---- chance and time -------------------------------------------------------------------

    def pid(self) -> int:
        self.pids += 1
        return self.pids

    def bad(self, chance: float) -> bool:
        return not self.calm and self.random.random() < chance

    def say(self, *words: object) -> None:
        self.trace.append(f"{self.now:8.3f} " + " ".join(map(str, words)))

    def later(self, pause: float, step: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._queue, (self.now + pause, self._count, step))

    def soon(self, step: Callable[[], None]) -> None:
        self.later(self.random.uniform(0.0005, 0.02), step)

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, step = heappop(self._queue)
            step()
            self.check()
        self.now = until

    # ---- the task --------------------------------------------------------------------------

    def tick(self) -> None:
        """Every running copy says its number."""
        for node in self.nodes.values():
            process = node.machine.process
            if process is not None and process.state == "running":
                assert process.count not in self.said, f"{process.count} is said again"
                self.said[process.count] = None
                process.count += 1
        self.later(0.02, self.tick)

    def check(self) -> None:
        machines = [node.machine for node in self.nodes.values()]
        running = [m.name for m in machines if m.process and m.process.state == "running"]
        assert len(running) <= 1, f"two running copies: {running}"
        if self.excused:
            return
        alive = any(m.process and m.process.state in ("running", "frozen") for m in machines)
        assert alive or any(node.has_image() for node in self.nodes.values()), "zero copies"


class MasterSide:
    """The master's core, its disk, and its ends of the connections."""

    def __init__(self, world: World):
        self.world = world
        self.moves: dict[str, Move] = {}
        self.tasks: dict[str, tuple[str, Task]] = {}
        self.leaves: dict[str, tuple[str, ...]] = {}
        #: Queued for the disk; a master that dies loses what was not written.
        self.unwritten: list[act.Action] = []
        self.answers: list[op.Reply] = []
        self.links = 0
        #: link -> what it leads to.
        self.peers: dict[int, Node] = {}
        self.life = 0
        self.up = True
        self.start()

    def start(self) -> None:
        self.life += 1
        self.up = True
        rng = self.world.random
        self.core = Master(IDENTITY, Chance(
            rng.random, lambda: "unused", lambda: "ticket", lambda n: rng.randbytes(n).hex()
        ))
        self.core.admission.leaves.update(self.leaves)
        for name in self.leaves:
            self.core.registry.nodes[name] = Known(name, f"id {name}")
        for name, task in self.tasks.values():
            self.core.registry.put(self.core.registry.nodes[name], task)
        self.core.moves.load(list(self.moves.values()), self.world.now)
        self.handle(on.Asked(OPERATOR, op.Attach(0, op.VERSION)))
        self._tick(self.life)

    def die(self) -> None:
        if not self.up:
            return
        self.world.say("the master dies")
        if self.world.random.random() < 0.5:
            self._write(self.life)
        self.up = False
        self.unwritten.clear()
        for node in list(self.peers.values()):
            node.cut("the master died")
        self.peers.clear()
        self.world.later(self.world.random.uniform(0.05, 3.0), self.start)

    def _tick(self, life: int) -> None:
        if life != self.life or not self.up:
            return
        if self.core.deadline() <= self.world.now:
            self.handle(on.Tick())
        self.world.later(0.1, lambda: self._tick(life))

    def handle(self, event: on.Event) -> None:
        if self.up:
            actions = self.core.handle(event, self.world.now, 1e9 + self.world.now)
            self._perform(actions, self.life)

    def _perform(self, actions: list[act.Action], life: int) -> None:
        """A commit takes a while; a master that dies meanwhile has committed, or has not."""
        for index, action in enumerate(actions):
            match action:
                case act.KeepMove() | act.KeepTask() | act.DropTask():
                    self.unwritten.append(action)
                    self.world.later(0.02, lambda: self._write(life))
                case act.Commit():
                    rest = actions[index + 1:]
                    pause = self.world.random.uniform(0.0002, 0.01)
                    self.world.later(pause, lambda: self._committed(rest, life))
                    return
                case act.Send(link, message):
                    self._send(link, message)
                case act.Answer(_, reply):
                    self.answers.append(reply)
                case act.Close(link):
                    if link in self.peers:
                        self.peers[link].cut("closed by the master")

    def _committed(self, rest: list[act.Action], life: int) -> None:
        self._write(life)
        if life != self.life or not self.up:
            return
        if self.world.bad(self.world.luck.die):
            self.die()
        else:
            self._perform(rest, life)

    def _write(self, life: int) -> None:
        """What is queued, in its order."""
        if life != self.life or not self.up:
            return
        for record in self.unwritten:
            match record:
                case act.KeepMove(move):
                    self.moves[move.id] = move
                case act.KeepTask(name, task):
                    self.tasks[task.id] = (name, task)
                case act.DropTask(task):
                    self.tasks.pop(task, None)
        self.unwritten.clear()

    def _send(self, link: int, message: wire.Message) -> None:
        node = self.peers.get(link)
        if node is not None:
            node.deliver(link, message)

    # ---- connections -----------------------------------------------------------------------

    def open(self, node: "Node") -> int:
        self.links += 1
        leaf = f"leaf of {node.name}"
        self.leaves.setdefault(node.name, (leaf,))
        self.core.admission.leaves.setdefault(node.name, (leaf,))
        self.peers[self.links] = node
        self.handle(on.LinkAccepted(self.links, f"10.0.0.1:{self.links}", leaf))
        return self.links

    def received(self, link: int, message: wire.Message) -> None:
        if link in self.peers:
            self.handle(on.Received(link, message))

    def close(self, link: int) -> None:
        if self.peers.pop(link, None) is not None:
            self.handle(on.LinkClosed(link, "cut"))


class Node:
    """A keeper with a plain agent, on its machine."""

    def __init__(self, world: World, name: str):
        self.world = world
        self.name = name
        self.machine = Machine(name)
        self.link = 0
        self.agents = 0
        self.alive = False
        self.life = 0
        self.streams: dict[str, int] = {}
        self._waiting: list[bytes] = []
        self._words: list[orders.Word] = []
        self.start()

    # ---- life ------------------------------------------------------------------------------

    def start(self) -> None:
        self.life += 1
        self.alive = True
        self.ledger = Ledger()
        self.ledger.replay(decode(record) for record in self.machine.journal)
        self.core = Moves(self.ledger, f"boot {self.machine.boots}", "images")
        unsettled = [m for m in self.ledger.moves.values() if not m.part.settled]
        self._sweep(unsettled)
        for record in unsettled:
            self.handle(do.Returned(record.move, self._lives(record)))

    def _sweep(self, unsettled: list[Moved]) -> None:
        """A copy that no record lets run, or stand still, is what a move left here."""
        process, known = self.machine.process, self.ledger.tasks.get(TASK)
        if process is None:
            return
        wanted = {record.pid for record in unsettled if record.part in (
            Part.CONSUMED, Part.RESUMING
        )}
        if process.pid not in wanted and (known is None or known.pid != process.pid):
            self.machine.process = None

    def _lives(self, record: Moved) -> bool:
        process = self.machine.process
        known = self.ledger.tasks.get(TASK)
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
        process = machine.process
        if process is not None and process.state in ("running", "frozen"):
            others = any(
                node is not self and node.has_image() for node in self.world.nodes.values()
            )
            ours = any(synced for _, synced in machine.images.values())
            if process.state == "running" or not (ours or others):
                self.world.excused = True
        machine.process = None
        machine.images = {m: image for m, image in machine.images.items() if image[1]}
        del machine.journal[machine.synced:]
        machine.boots += 1
        if self.alive:
            self.die("power")

    def has_image(self) -> bool:
        """The task's state can still be had from an image here."""
        return any(
            record.move in self.machine.images and record.part in (
                Part.FREEZING, Part.FROZEN, Part.RESUMING, Part.PREPARED,
            )
            for record in self.ledger.moves.values()
        )

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
            can=("shell", "python"),
        ))
        self._tell(wire.Report(tuple(self.ledger.tasks.values())))
        for word in self.core.standings():
            self._pass_on(word)
        self._beat(self.link)

    def _beat(self, link: int) -> None:
        if self.link == link:
            self._tell(wire.Beat(wire.Load()))
            self.world.later(2.0, lambda: self._beat(link))

    def cut(self, why: str) -> None:
        if self.link:
            link, self.link = self.link, 0
            self.world.say(self.name, "cut:", why)
            self.world.master.close(link)
            self.world.later(self.world.random.uniform(0.1, 1.5), self.connect)

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
        self._out = max(getattr(self, "_out", 0.0), self.world.now) + 0.0005
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
            case wire.Reserve(move, task, epoch):
                self.handle(do.Ordered(orders.Reserve(move, task, epoch)))
            case wire.Freeze(move, task, epoch, address):
                self.world.soon(self._mine(lambda: self._stream(move, task, epoch, address)))
            case wire.Verdict(move, task, epoch, verdict):
                self.handle(do.Ordered(orders.Verdict(move, task, epoch, verdict)))

    def _mine(self, step: Callable[[], None]) -> Callable[[], None]:
        """Only in this life."""
        life = self.life
        return lambda: step() if self.alive and self.life == life else None

    def _stream(self, move: str, task: str, epoch: int, address: str) -> None:
        """The log so far has been sent."""
        if self.world.bad(self.world.luck.fail):
            self._tell(wire.Standing(move, task, epoch, "unfrozen", "cut", "no way there"))
        else:
            self.streams[move] = 1
            self.handle(do.Ordered(orders.Freeze(move, task, epoch)))

    def _lose_streams(self) -> None:
        """An agent died: both ends of its streams see it."""
        for node in self.world.nodes.values():
            for move in list(node.streams):
                if self.streams.get(move) or node is self:
                    node.streams.pop(move, None)
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

    def handle(self, event: do.Event) -> None:
        if not self.alive:
            return
        self.world.say(self.name, brief(event))
        try:
            for action in self.core.handle(event):
                if self.world.bad(self.world.luck.die):
                    raise Died
                if not self._perform(action):
                    break
            self._flush()
        except Died:
            self.die("bad luck")

    def _flush(self) -> None:
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
            case orders.Standing(move, task, epoch, state, code, text, size, phases, at, wall):
                self._tell(wire.Standing(
                    move, task, epoch, state, code, text, 0, size, 0, phases, at, wall
                ))
            case orders.Forgotten(tasks):
                self._tell(wire.Forgotten(tasks))
            case orders.Landing(move):
                self.streams[move] = 1
                record = self.ledger.moves[move]
                self._tell(wire.Standing(move, record.task, record.epoch, "reserved", port=7))
            case orders.Shipping(move, size=size):
                self.world.soon(self._mine(lambda: self._ship(move, size)))

    def _ship(self, move: str, size: int) -> None:
        """The image arrives, synced, at whoever waits for it; or the stream breaks."""
        target = next((
            node for node in self.world.nodes.values()
            if node is not self and move in node.streams and node.alive
        ), None)
        image = self.machine.images.get(move)
        if target is None or image is None or self.world.bad(self.world.luck.fail):
            self.handle_later(do.Ordered(orders.Cut(move, "cut", "the stream ended")))
            if target is not None:
                target.streams.pop(move, None)
                target.handle_later(do.Ordered(orders.Cut(move, "cut", "the stream ended")))
            return
        target.streams.pop(move, None)
        record = target.ledger.moves.get(move)
        if record is not None and record.part is Part.RESERVED:
            target.machine.images[move] = (image[0], True)
            target.handle_later(do.Ordered(orders.Landed(move, size, "digest")))

    def _perform(self, action: do.Action) -> bool:
        """False: nothing that follows is to be done."""
        machine = self.machine
        match action:
            case do.Note(record, durable):
                if durable and self.world.bad(self.world.luck.full):
                    self.handle(do.Unwritten(record, "ENOSPC", "no space left on device"))
                    return False
                if durable:
                    machine.journal += [*self._waiting, encode(record)]
                    self._waiting.clear()
                    machine.synced = len(machine.journal)
                else:
                    self._waiting.append(encode(record))
                self.ledger.apply(record)
            case do.Tell(word):
                self._words.append(word)
            case do.Birth(move, _, fresh):
                if machine.process is not None or self.world.bad(self.world.luck.fail):
                    self.handle_later(do.Failed(move, "birth", "no process"))
                else:
                    assert fresh or move in machine.images, "nothing to be born for"
                    machine.process = Process(self.world.pid(), "warm")
                    self.handle_later(do.Warm(move, "log"))
            case do.FreezeCopy(move):
                self._freeze(move)
            case do.LoadCopy(move):
                process = machine.process
                if process is None or self.world.bad(self.world.luck.fail):
                    self.handle_later(do.Failed(move, "load", "cannot be loaded"))
                else:
                    assert process.state == "warm", process
                    process.state, process.count = "loaded", machine.images[move][0]
                    self.handle_later(do.Loaded(move, process.pid, 1, {}))
            case do.Thaw(move):
                if machine.process is not None:
                    assert machine.process.state != "warm"
                    machine.process.state = "running"
                    self.handle_later(do.WentOn(move, 1.0, 1.0, {}))
            case do.KillCopy(move):
                machine.process = None
                self.handle_later(do.Gone(move))
            case do.DropFiles(move):
                machine.images.pop(move, None)
            case do.ForgetTask(task):
                machine.process = None
                self.ledger.apply(Left(task, 0))
                self._waiting.append(encode(Left(task, 0)))
                self._words.append(orders.Forgotten((task,)))
        return True

    def _freeze(self, move: str) -> None:
        process = self.machine.process
        if process is None or self.world.bad(self.world.luck.fail):
            self.handle_later(do.Failed(move, "unpicklable", "self.conn: a socket cannot travel"))
            return
        process.state = "frozen"
        self.machine.images[move] = (process.count, False)
        self.handle_later(do.StoodStill(move, 10, 10, 1.0, 1.0, {}))

        def synced() -> None:
            if move in self.machine.images and self.machine.process is process:
                self.machine.images[move] = (self.machine.images[move][0], True)
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


def move(world: World, target: str) -> None:
    """An operator asks for a move; that it may be refused is as well."""
    with contextlib.suppress(UsageError):
        world.master.handle(on.Asked(
            OPERATOR, op.MoveTask(len(world.master.answers) + 1, TASK, target)
        ))


def settled(world: World) -> bool:
    """No move is under way, on any record."""
    master = all(m.settled for m in world.master.moves.values())
    return master and all(
        record.part.settled or record.part is Part.LOST
        for node in world.nodes.values() for record in node.ledger.moves.values()
    )


def is_held(world: World) -> bool:
    """The one state that only a person resolves."""
    return any(
        m.state is State.COMMITTED for m in world.master.moves.values()
    ) and any(
        record.part is Part.LOST for node in world.nodes.values()
        for record in node.ledger.moves.values()
    )
