"""The real master's core with a fake store and network: what masterd/server.py does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, assert_never

from godwit.names import join_address
from godwit.task.record import Task
from godwit.wire import frames, messages, operations
from godwit.wire.session import Session
from masterd import actions as do
from masterd import events as on
from masterd.backlog import Backlog
from masterd.core import Chance, Identity, Master
from masterd.registry import Node
from tests.sim.net import End
from tests.sim.ticks import Ticks
from tests.sim.transfers import Side, join
from tests.sim.world import Process, World

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

_OPENED = {
    "control": messages.decode_from_node,
    "stream": messages.decode_stream_from_node,
}
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"

Record = (
    do.KeepFact | do.KeepNode | do.DropNode | do.KeepLeaves | do.KeepTask | do.DropTask
    | do.KeepEvent
)
#: The certificate that every node shows here, when the master has it on its list.
LEAF = ""


@dataclass
class Disk:
    """What the master finds when it starts again."""

    facts: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, do.KeepNode] = field(default_factory=dict)
    leaves: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tasks: dict[str, tuple[str, Task]] = field(default_factory=dict)
    #: There is no room.
    full: bool = False

    def apply(self, record: Record) -> None:
        match record:
            case do.KeepFact(name, value):
                self.facts[name] = value
            case do.KeepNode(name):
                self.nodes[name] = record
            case do.DropNode(name):
                self.nodes.pop(name, None)
            case do.KeepLeaves(name, leaves):
                self.leaves[name] = leaves
            case do.KeepTask(node, task):
                self.tasks[task.id] = (node, task)
            case do.DropTask(task):
                self.tasks.pop(task, None)
            case do.KeepEvent():
                pass
            case _:
                assert_never(record)


class MasterProcess(Process):
    """One life of the master."""

    def __init__(self, world: World, cluster: "Cluster", disk: Disk):
        super().__init__(world, "master")
        self.cluster = cluster
        self.disk = disk
        self.links: dict[int, tuple[End, Session]] = {}
        self.operators: dict[int, End] = {}
        self._bulks: dict[int, Side] = {}
        self._numbers = 0
        self._queue: list[Record | Callable[[str], None]] = []
        self._unwritten = Backlog()
        self._writing = False
        self._ticks = Ticks(self, lambda: self.handle(on.Tick()))
        self.core = self._new_core()
        world.say("the master begins with", len(disk.tasks), "tasks")
        self.handle(on.Tick())

    def _new_core(self) -> Master:
        dice = self.world.dice
        if "master" not in self.disk.facts:
            self.disk.facts["master"] = "m1"
        identity = Identity(self.disk.facts["master"], "10.0.0.1:15440", "0", 1, "/m", "ca")
        core = Master(identity, Chance(
            dice.random, lambda: "".join(dice.choices(_ALPHABET, k=8)),
            lambda: f"{dice.getrandbits(256):064x}", lambda count: "0" * 2 * count,
        ))
        # Those that call by themselves joined before this story begins.
        joined = {name: (LEAF,) for name, node in self.cluster.nodes.items() if not node.listens}
        kept = {**joined, **self.disk.leaves}
        core.admission.leaves = {name: leaves for name, leaves in kept.items() if leaves}
        for known in self.disk.nodes.values():
            node = Node(known.name, known.node, host=known.host, port=known.port)
            if known.host:
                node.address = join_address(known.host, known.port)
            core.registry.nodes[known.name] = node
        for name, task in list(self.disk.tasks.values()):
            where = core.registry.nodes.get(name)
            if where is not None:
                core.registry.put(where, task)
            else:
                self._put(do.DropTask(task.id))
        return core

    def die(self) -> None:
        """kill -9: of what was being written, all or nothing is there."""
        self.world.say("the master is killed")
        self.alive = False
        if self._writing and not self.disk.full and self.world.likely(0.5):
            self._store(self._batch)
        self.cluster.net.gone(self, silently=False)
        for end in list(self.operators.values()):
            end.close("the master died")

    # ---- events in -------------------------------------------------------------------------

    def handle(self, event: on.Event) -> None:
        if not self.alive:
            return
        actions = self.core.handle(event, self.world.now, self.world.wall)
        for action in actions:
            if isinstance(action, do.KeepTask):
                self.cluster.truth.check(action.node, action.task)
        self._perform(actions)
        self._ticks.sleep_till(self.core.deadline(), isinstance(event, on.Tick))

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def new_link(self, end: End) -> int:
        number, session = self._number(), Session()
        self.links[number] = (end, session)

        def received(data: bytes) -> None:
            for message in session.receive(data):
                self.handle(on.Received(number, message))
                if not end.open:
                    return

        def closed(reason: str) -> None:
            del self.links[number]
            self.handle(on.LinkClosed(number, reason))

        end.on_data, end.on_closed = received, closed
        return number

    def accepted(self, end: End, peer: str) -> None:
        """A node called."""
        number = self.new_link(end)
        self.handle(on.LinkAccepted(number, peer))

    def new_operator(self, end: End) -> None:
        number = self._number()
        self.operators[number] = end

        def closed(reason: str) -> None:
            del self.operators[number]
            self.handle(on.OperatorGone(number))

        end.on_data = lambda data: self.handle(on.Asked(number, operations.decode_request(data)))
        end.on_closed = closed

    def bulk(self, side: Side, show: object) -> None:
        """Somebody shows a ticket."""
        number = self._number()
        self._bulks[number] = side
        self.handle(on.BulkOpened(number, show))  # type: ignore[arg-type]

    # ---- the store -------------------------------------------------------------------------

    def _put(self, item: Record | Callable[[str], None]) -> None:
        self._queue.append(item)
        if not self._writing:
            self._write()

    def _write(self) -> None:
        self._writing = True
        self._batch, self._queue = self._queue, []
        slow = self.world.bad_luck(0.05)
        self.later(self.world.between(0.0003, 1.0 if slow else 0.01), self._written)

    def _written(self) -> None:
        batch, self._writing = self._batch, False
        trouble = self._store(batch)
        for item in batch:
            if callable(item):
                self.later(0, item, trouble)
        if self._queue:
            self._write()
        elif trouble:
            self.later(1.0, self._retry)

    def _retry(self) -> None:
        if not self._writing:
            self._write()

    def _store(self, batch: list[Record | Callable[[str], None]]) -> str:
        """Writes the batch and what waited; why it could not, if so."""
        for item in batch:
            if not callable(item):
                self._unwritten.add(item)
        if self._unwritten and self.disk.full:
            return "disk is full"
        for record in self._unwritten:
            self.disk.apply(record)
        self._unwritten.clear()
        return ""

    # ---- actions out -----------------------------------------------------------------------

    def _perform(self, actions: list[do.Action]) -> None:
        for index, action in enumerate(actions):
            if isinstance(action, do.Commit):
                rest = actions[index + 1:]
                self._put(partial(self._committed, rest))
                return
            self._do(action)

    def _committed(self, rest: list[do.Action], trouble: str) -> None:
        self._perform(rest)

    def _confirmed(self, number: int, trouble: str) -> None:
        self.handle(on.Unrecorded(number, trouble) if trouble else on.Recorded(number))

    def _do(self, action: do.Action) -> None:
        match action:
            case do.Send(link, message):
                if link in self.links:
                    self.links[link][0].send(frames.encode(messages.encode(message)))
            case do.Answer(operator, reply):
                if operator in self.operators:
                    self.operators[operator].send(operations.encode(reply))
            case do.Open(link, channel):
                self.links[link][1].opened(_OPENED[channel])
            case do.Close(link, reason):
                if link in self.links:
                    self.links[link][0].close(reason)
            case do.Dial(node, channel):
                self.cluster.dial_node(self, node, channel)
            case do.KeepEvent(event):
                self.world.say("history:", event.text)
                self._put(action)
            case do.DropNode(name):
                if name in self.core.registry.nodes:
                    self.cluster.dropped.update(self.core.registry.nodes[name].tasks)
                self._put(action)
            case do.DropTask(task):
                self.cluster.dropped.add(task)
                self._put(action)
            case do.KeepNode() | do.KeepTask() | do.KeepFact() | do.KeepLeaves():
                self._put(action)
            case do.Adopt():
                self.later(self.world.between(0.001, 0.2), self._adopt, action.node)
            case do.Hand():
                pass
            case do.Admit() | do.Deny() | do.Renew() | do.KeepToken() | do.DropToken():
                raise AssertionError(f"nobody asked for {action}")
            case do.DialBulk(_, port, show):
                self.later(self.world.between(0.001, 0.2), self._dial_bulk, port, show)
            case do.Splice(one, other):
                join(self._bulks.pop(one), self._bulks.pop(other))
            case do.DropBulk(number):
                self._bulks.pop(number).end("cut")
            case do.Stop():
                pass
            case do.Confirm(number):
                self._put(partial(self._confirmed, number))
            case do.Commit():
                raise AssertionError("a Commit is performed by _perform")
            case _:
                assert_never(action)

    def _adopt(self, node: str) -> None:
        """The node has the code right; it may be lost before it has its certificate."""
        self.handle(on.Certified(0, node, LEAF))
        if self.world.bad_luck(0.2):
            self.handle(on.DialFailed(node, "control", "connection reset"))
        else:
            self.later(self.world.between(0.001, 0.2), self.handle, on.Adopted(node))

    def _dial_bulk(self, port: int, show: object) -> None:
        side = self.cluster.ports.pop(port, None)
        if side is None or self.world.bad_luck(0.2):
            self.handle(on.BulkFailed(show.ticket, "refused"))  # type: ignore[attr-defined]
        else:
            self.bulk(side, show)
