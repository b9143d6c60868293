"""Tasks that move between nodes, with the real cores of the master's and of the keepers' moves.

Smaller than the rest of the simulator, and rougher: here messages are also doubled and come late
after their connection has ended, keepers die between any two of their actions, disks are full,
machines lose power with what was not synced, and the master is started again from what it had
written, which may be less than it had said, or from a backup.  Each task counts; what it says is
kept in one list for the whole world: a number that comes twice is a second copy, or a state that
ran twice.

The promises, as the reference model has them:

* I1: never two running copies of a task.
* I2: never none, of which nothing could be recovered.
* I3: once nothing fails any more, every move settles and one copy runs; or it is held.
* I4: a frozen state runs once.

Three things are no broken promise, and are marked on the task: ``excused``, a machine lost its
power while the task ran there (I2); ``again``, somebody allowed its state to run twice (I4);
``twice``, a person said that the destination never ran it, and it did (I1).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from clientd.keeper.moves.table import Part
from clientd.keeper.records import Kept
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from masterd.moves.table import State
from tests.sim.flying_master import MasterSide
from tests.sim.flying_node import Node, Process

#: Between two numbers that a task says.
TICK_S = 0.05
#: The longest that anything may need to settle once nothing fails any more.
SETTLE_S = 90.0
#: Tasks in one world, lost ones among them.
MOST_TASKS = 8


@dataclass(frozen=True)
class Luck:
    """How bad it is: the chance of each mishap at each occasion."""

    #: A message is not sent, its connection is cut.
    cut: float = 0.01
    #: Of a word on a move: it comes twice, or again long after.
    double: float = 0.05
    late: float = 0.03
    #: A daemon is killed between two of its actions, or while its disk writes.
    die: float = 0.01
    #: A durable write fails.
    full: float = 0.01
    #: A copy cannot be frozen, born or loaded; a stream of bytes breaks.
    fail: float = 0.03
    #: Seconds until a cut connection is made anew, at most.
    away: float = 1.5
    #: Soon after an event the master dies; one of its commits fails.
    master: float = 0.002
    disk: float = 0.01
    #: A machine loses its power between two of its keeper's actions.
    power: float = 0.0
    #: After each of an operator's commands: which mishap follows, by weight, and whether one does.
    mishap: float = 0.6
    mishaps: tuple[str, ...] = (
        "master", "master", "keeper", "keeper", "keeper", "agent", "agent", "agent", "power",
        "network", "network", "network",
    )
    #: A master that starts has its database from a backup, or none.
    amnesia: float = 0.0
    #: A person resolves what is held without knowing whether that is true.
    reckless: float = 0.0


LUCKS = {
    "none": Luck(0, 0, 0, 0, 0, 0, master=0, disk=0, mishap=0),
    "usual": Luck(),
    "mild": Luck(0.002, 0.02, 0.01, 0.002, 0.002, 0.01),
    "hard": Luck(0.03, 0.15, 0.15, 0.03, 0.04, 0.08, mishap=0.9),
    "keepers": Luck(die=0.06, mishap=0.9, mishaps=("keeper", "keeper", "keeper", "agent")),
    "late": Luck(0.005, 0.3, 0.4, 0.03, 0.01, 0.2, mishap=0.3, mishaps=("keeper",)),
    "masters": Luck(0.005, 0.05, 0.1, 0.0, 0.0, 0.01, master=0.02, disk=0.2, mishap=0.0),
    "partitions": Luck(cut=0.05, late=0.1, away=30.0, mishap=0.9, mishaps=("network",)),
    "power": Luck(power=0.02, mishap=0.5, mishaps=("power", "keeper", "master", "network")),
    "amnesia": Luck(
        power=0.005, amnesia=0.5, mishaps=("master", "master", "master", "keeper", "power")
    ),
    "reckless": Luck(reckless=0.7, cut=0.03, power=0.005, away=20.0, mishap=0.4),
}


@dataclass
class Counter:
    """What the world knows of one task."""

    name: str
    said: set[int] = field(default_factory=set)
    excused: bool = False
    again: bool = False
    twice: bool = False


class World:
    """Everything, and the queue of what happens next."""

    def __init__(
        self, seed: int, luck: Luck = LUCKS["usual"], nodes: int = 3, tasks: int = 1,
        master: type[MasterSide] = MasterSide, node: type[Node] = Node,
    ):
        self.random = random.Random(seed)
        self.luck = luck
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.trace: list[str] = []
        self.tasks = {f"t{n:07}": Counter(f"t{n:07}") for n in range(1, tasks + 1)}
        self._pids = 100
        self.calm = False
        #: Something that the promises speak of has changed since they were looked at.
        self.changed = True
        self.master = master(self)
        self.nodes = {f"n{i}": node(self, f"n{i}") for i in range(1, nodes + 1)}
        for name in self.tasks:
            self._begin(name, self.random.choice(list(self.nodes.values())))
        for each in self.nodes.values():
            each.connect()
        self._tick()

    def replace_if_lost(self, name: str) -> None:
        """A power cut took it: another is begun, so that there is always one to move."""
        if not self.tasks[name].excused or self.calm or len(self.tasks) >= MOST_TASKS:
            return
        fresh = f"t{len(self.tasks) + 1:07}"
        self.tasks[fresh] = Counter(fresh)
        node = self.random.choice(list(self.nodes.values()))
        self._begin(fresh, node)

    def _begin(self, name: str, node: Node) -> None:
        process = node.machine.processes[name] = Process(self.pid(), "running")
        node.note(Kept(Task(
            Spec(name, (b"count",), kind="python", home=node.name), Status.RUNNING,
            pid=process.pid, log="log",
        )))

    # ---- chance and time -------------------------------------------------------------------

    def pid(self) -> int:
        self._pids += 1
        return self._pids

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
            if self.changed:
                self.changed = False
                for task in self.tasks.values():
                    self._check(task)
        self.now = until

    # ---- the promises ----------------------------------------------------------------------

    def _tick(self) -> None:
        """Every running copy says its number."""
        for node in self.nodes.values():
            for name, process in node.machine.processes.items():
                if process.state == "running":
                    task = self.tasks[name]
                    if not task.again:
                        assert process.count not in task.said, f"I4: {process.count} is said again"
                    task.said.add(process.count)
                    process.count += 1
        self.later(TICK_S, self._tick)

    def running(self, name: str) -> list[str]:
        """The nodes where it runs."""
        return [n.name for n in self.nodes.values() if n.machine.state(name) == "running"]

    def _check(self, task: Counter) -> None:
        running = self.running(task.name)
        assert len(running) <= 1 or task.twice, f"I1: two running copies: {running}"
        if task.excused or running:
            return
        alive = any(n.machine.state(task.name) == "frozen" for n in self.nodes.values())
        if not alive:
            has_image = any(node.has_image(task.name) for node in self.nodes.values())
            assert has_image, f"I2: zero copies of {task.name}"

    def settle(self) -> None:
        """Nothing fails any more: everything is brought to its end, or is held (I3)."""
        self.calm = True
        end = self.now + SETTLE_S
        self.run(self.now + 15.0)  # the latest of the late messages has come
        while not all(node.link for node in self.nodes.values()) and self.now < end:
            self.run(self.now + 1.0)
        end = self.now + SETTLE_S
        while not all(map(self.is_settled, self.tasks)) and self.now < end:
            self.run(self.now + 1.0)
        for name in self.tasks:
            assert self.is_settled(name) or self.is_held(name), f"I3: {name} has not settled"
            self._check_end(name)

    def is_settled(self, name: str) -> bool:
        """No move of it is under way, on any record."""
        moves = (m for m in self.master.moves.values() if m.task == name)
        records = (r for n in self.nodes.values() for r in n.ledger.moves.values())
        return all(m.settled for m in moves) and all(
            record.part.settled for record in records if record.task == name
        )

    def is_held(self, name: str) -> bool:
        """It waits for a person, and says so: its destination may have run it, and is lost."""
        flight = self.master.flight_of(name)
        if flight is None or not flight.held:
            return False
        record = self.nodes[flight.move.target].ledger.moves.get(flight.move.id)
        return flight.move.state in (State.COMMITTED, State.UNSURE) and (
            record is not None and record.part is Part.LOST
        )

    def _check_end(self, name: str) -> None:
        """One copy runs, at the node that the master says; or it was lost with a machine's power,
        or it is held."""
        task = self.tasks[name]
        running = self.running(name)
        if self.is_held(name):
            return
        assert len(running) == 1 or task.excused, f"I3: {name} runs on {running}"
        if len(running) == 1:
            owner = self.master.core.registry.where.get(name)
            assert owner is not None, f"I3: the master does not know {name}"
            assert running == [owner.name], f"{name} runs on {running}, known on {owner.name}"
        assert task.again or task.said == set(range(len(task.said))), f"I4: {name} left numbers out"
