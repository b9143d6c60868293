"""The master's side of the simulated moves: the real core, a disk that loses, connections."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from godwit.errors import UsageError
from godwit.task.record import Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as act
from masterd import events as on
from masterd.core import Chance, Master
from masterd.moves.flight import Flight
from masterd.moves.table import Move, State
from masterd.registry import Node as Known
from tests.mastering import IDENTITY, OPERATOR

if TYPE_CHECKING:
    from tests.sim.flights import World
    from tests.sim.flying_node import Node

#: One write each, whatever it says.
Write = act.KeepMove | act.KeepTask | act.DropTask


class MasterSide:
    """The master's core, its disk, and its ends of the connections."""

    def __init__(self, world: "World"):
        self.world = world
        self.moves: dict[str, Move] = {}
        self.tasks: dict[str, tuple[str, Task]] = {}
        self.leaves: dict[str, tuple[str, ...]] = {}
        #: What was on the disk some time ago.
        self.backup: tuple[dict[str, Move], dict[str, tuple[str, Task]]] = {}, {}
        #: Queued for the disk; a master that dies loses what was not written.
        self.unwritten: list[Write] = []
        #: Requests of operators that have no answer yet; those of a master that died get none.
        self.unanswered: set[int] = set()
        self.requests = 0
        self.links = 0
        #: link -> what it leads to.
        self.peers: dict[int, Node] = {}
        self.life = 0
        self.up = False
        self.start()

    def make(self) -> Master:
        rng = self.world.random
        return Master(IDENTITY, Chance(
            rng.random, lambda: "unused", lambda: "ticket", lambda n: rng.randbytes(n).hex()
        ))

    def start(self) -> None:
        if self.up:
            return
        self.life += 1
        self.up = True
        if self.world.bad(self.world.luck.amnesia):
            self.forget()
        self.core = self.make()
        self.core.admission.leaves.update(self.leaves)
        for name in self.leaves:
            self.core.registry.nodes[name] = Known(name, f"id {name}")
        for name, task in self.tasks.values():
            self.core.registry.put(self.core.registry.nodes[name], task)
        self.core.moves.load(list(self.moves.values()), self.world.now)
        self.handle(on.Asked(OPERATOR, op.Attach(0, op.VERSION)))
        self._tick(self.life)

    def forget(self) -> None:
        """Its database was damaged, or an older one is put in its place."""
        lost = self.world.random.random() < 0.5
        self.world.say("the master has", "no database" if lost else "an older database")
        self.moves, self.tasks = ({}, {}) if lost else (dict(self.backup[0]), dict(self.backup[1]))

    def die(self) -> None:
        """With some of what was queued on the disk, in its order."""
        if not self.up:
            return
        self.world.say("the master dies")
        self._write(self.life, self.world.random.randint(0, len(self.unwritten)))
        self.up = False
        self.unwritten.clear()
        self.unanswered.clear()
        for node in list(self.peers.values()):
            node.cut("the master died")
        self.peers.clear()
        self.world.later(self.world.random.uniform(0.05, 3.0), self.start)

    def flight_of(self, task: str) -> Flight | None:
        return self.core.moves._here.of.get(task)

    def _tick(self, life: int) -> None:
        if life != self.life or not self.up:
            return
        if self.core.deadline() <= self.world.now:
            self.handle(on.Tick())
        self.world.later(0.2, lambda: self._tick(life))

    def handle(self, event: on.Event) -> None:
        if self.up:
            actions = self.core.handle(event, self.world.now, 1e9 + self.world.now)
            self._perform(actions, self.life)
            if self.world.bad(self.world.luck.master):
                self.world.later(self.world.random.uniform(0.0, 0.03), self._killed(self.life))

    def _killed(self, life: int) -> Callable[[], None]:
        return lambda: self.die() if life == self.life else None

    # ---- what it does ----------------------------------------------------------------------

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
                    self.world.later(pause, partial(self._committed, rest, life))
                    return
                case act.Send(link, message):
                    self._send(link, message)
                case act.Answer(_, op.Moves(number) | op.Tasks(number) | op.Problem(number)):
                    self.unanswered.discard(number)
                case act.Close(link):
                    if link in self.peers:
                        self.peers[link].cut("closed by the master")

    def _committed(self, rest: list[act.Action], life: int) -> None:
        if life != self.life or not self.up:
            return
        is_stored = not self.unwritten or not self.world.bad(self.world.luck.disk)
        if is_stored:
            self._write(life)
        else:
            self.world.say("the master's disk is full")
            rest = [a for a in rest if not (isinstance(a, act.Send) and a.recorded)]
        self._perform(rest, life)

    def _write(self, life: int, most: int | None = None) -> None:
        """What is queued, in its order."""
        if life != self.life or not self.up:
            return
        if self.world.random.random() < 0.02:
            self.backup = dict(self.moves), dict(self.tasks)
        for record in self.unwritten[:most]:
            self._put(record)
        del self.unwritten[:most]

    def _put(self, record: Write) -> None:
        match record:
            case act.KeepMove(move, name, task):
                self.moves[move.id] = move
                if task is not None:
                    self.tasks[task.id] = name, task
                if move.state is State.REVERTED and move.code in ("lost", "resolved"):
                    self.world.tasks[move.task].again = True
            case act.KeepTask(name, task):
                self.tasks[task.id] = name, task
            case act.DropTask(dropped):
                self.tasks.pop(dropped, None)

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

    # ---- operators -------------------------------------------------------------------------

    def ask(self, request: op.Request) -> None:
        """That it may be refused is as well."""
        if not self.up:
            return
        self.world.say("asked:", request)
        if not isinstance(request, op.Cancel):
            self.unanswered.add(request.id)
        try:
            self.handle(on.Asked(OPERATOR, request))
        except UsageError:
            self.unanswered.discard(request.id)

    def number(self) -> int:
        self.requests += 1
        return self.requests
