"""What the master knows: nodes, and the tasks on each.  Pure.

A node's state, a table:

    up --silent--> suspect --lost--> unreachable
     ^----------------+------heard-------+
    any --dismissed--> left --heard--> up

What a node last said of a task is kept as it is; while the node cannot be heard, the task is
*shown* as unknown.  So when the node returns, nothing has to be undone.
"""

from collections.abc import Iterator
from enum import Enum

from msgspec import Struct, field
from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Task, Usage
from godwit.wire.messages import Load
from godwit.wire.operations import NodeView, TaskView
from masterd.events import Channel

#: Seconds of silence after which a node is suspect, and unreachable.
SUSPECT_S = 6.0
UNREACHABLE_S = 15.0


class State(Enum):
    """How well the master hears a node; the value is what users read."""

    UP = "up"
    SUSPECT = "suspect"
    UNREACHABLE = "unreachable"
    LEFT = "left"


class Cause(Enum):
    HEARD = "heard"
    SILENT = "silent"
    LOST = "lost"
    DISMISSED = "dismissed"


TABLE: dict[State, dict[Cause, State]] = {
    State.UP: {
        Cause.HEARD: State.UP, Cause.SILENT: State.SUSPECT, Cause.LOST: State.UNREACHABLE,
        Cause.DISMISSED: State.LEFT,
    },
    State.SUSPECT: {
        Cause.HEARD: State.UP, Cause.LOST: State.UNREACHABLE, Cause.DISMISSED: State.LEFT,
    },
    State.UNREACHABLE: {Cause.HEARD: State.UP, Cause.DISMISSED: State.LEFT},
    State.LEFT: {Cause.HEARD: State.UP},
}


class Call(Struct):
    """How the master gets hold of a node that waits to be called, on one channel."""

    under_way: bool = False
    at: float = 0.0
    failures: int = 0
    said: str = ""


class Node(Struct):
    """One node."""

    name: str
    #: The node's own random id: another machine of the same name is not this node.
    node: str = ""
    agent: str = ""
    address: str = ""
    #: Where to call it, when it was registered; empty for a node that calls by itself.
    host: str = ""
    port: int = 0
    state: State = State.UNREACHABLE
    control: int | None = None
    stream: int | None = None
    calls: dict[Channel, Call] = field(
        default_factory=lambda: {"control": Call(), "stream": Call()}
    )
    #: Monotonic seconds.
    heard_at: float = 0.0
    #: Wall clock, for display.
    lost_wall: float = 0.0
    load: Load = Load()
    children: Usage = Usage()
    can: tuple[str, ...] = ()
    lacks: dict[str, str] = field(default_factory=dict)
    system: str = ""
    #: Python programs that it knows by name: what each takes and does.
    programs: dict[str, str] = field(default_factory=dict)
    release: str = ""
    tasks: dict[str, Task] = field(default_factory=dict)
    #: Tasks of other nodes of which it has snapshots, as it said last.
    lodging: frozenset[str] = frozenset()
    #: It says so at all: its clientd is not too old to pass snapshots.
    lodges: bool = False
    #: Ids in the Report that is coming in.
    reporting: set[str] = field(default_factory=set)
    #: Its own goodbye, if it said one.
    goodbye: str = ""
    dismissing: bool = False

    def advance(self, cause: Cause) -> None:
        self.state = TABLE[self.state][cause]

    @property
    def hearable(self) -> bool:
        """What it last said is still believed."""
        return self.state in (State.UP, State.SUSPECT)

    @property
    def connected(self) -> bool:
        return self.control is not None

    @property
    def called(self) -> bool:
        """This node waits to be called by the master."""
        return bool(self.host)

    @property
    def peer_host(self) -> str:
        """The address by which the master sees it."""
        return self.host or self.address.rpartition(":")[0].strip("[]")


class Registry:
    """All nodes by name; all tasks by id."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        #: task id -> the node it is on.
        self.where: dict[str, Node] = {}
        #: task id -> why nobody can say where it runs.
        self.held: dict[str, str] = {}
        #: task -> who told of it last though another node has it, and how it is there.
        self.doubted: dict[str, tuple[Node, Task]] = {}
        #: task -> seconds between two snapshots of it that are taken by themselves.
        self.every_s: dict[str, float] = {}
        self._links: dict[int, tuple[Node, Channel]] = {}

    def put(self, node: Node, task: Task) -> None:
        """Sets what is known of a task."""
        node.tasks[task.id] = task
        self.where[task.id] = node

    def give(self, node: Node, task: Task) -> None:
        """From now on the task is this node's."""
        self.drop(task.id)
        self.put(node, task)

    def drop(self, task: str) -> None:
        """Forgets a task."""
        node = self.where.pop(task, None)
        if node is not None:
            node.tasks.pop(task, None)

    def drop_node(self, name: str) -> None:
        """Forgets a node and its tasks."""
        node = self.nodes.pop(name)
        self.disconnect(node, "control")
        self.disconnect(node, "stream")
        for task in node.tasks:
            self.where.pop(task, None)

    def connect(self, node: Node, channel: Channel, link: int) -> None:
        """From now on the node's connection on this channel is ``link``."""
        self.disconnect(node, channel)
        setattr(node, channel, link)
        self._links[link] = node, channel

    def disconnect(self, node: Node, channel: Channel) -> int | None:
        """The node has no such connection any more; tells which one it had."""
        link: int | None = getattr(node, channel)
        setattr(node, channel, None)
        if link is not None:
            del self._links[link]
        return link

    def by_link(self, link: int) -> tuple[Node, Channel] | None:
        """Whose connection this is."""
        return self._links.get(link)

    def addresses(self) -> dict[str, str]:
        """host:port -> name."""
        return {node.address: node.name for node in self.nodes.values() if node.address}

    # ---- as shown --------------------------------------------------------------------------

    def shown(self, node: Node, task: Task) -> Task:
        """The task as users see it: unknown while its node cannot be heard."""
        if task.id in self.held and not task.status.ended:
            return replace(task, status=Status.HELD, reason=self.held[task.id])
        if node.hearable or task.status.ended:
            return task
        return replace(task, status=Status.UNKNOWN, reason=self._cannot_say(node))

    @staticmethod
    def _cannot_say(node: Node) -> str:
        if node.goodbye:
            return f"{node.name} stopped ({node.goodbye})"
        return f"{node.name} is {node.state.value}"

    def view(self, task: str) -> TaskView:
        node = self.where[task]
        return self._view(node, node.tasks[task])

    def _view(self, node: Node, task: Task) -> TaskView:
        return TaskView(node.name, self.shown(node, task), self.every_s.get(task.id, 0.0))

    def all_tasks(self) -> dict[str, tuple[str, Task]]:
        """id -> (node, task as shown)."""
        return {
            task.id: (node.name, self.shown(node, task))
            for node in self.nodes.values()
            for task in node.tasks.values()
        }

    def node_view(self, node: Node, now: float) -> NodeView:
        return NodeView(
            name=node.name, address=node.address, state=node.state.value, load=node.load,
            can=node.can, lacks=node.lacks, system=node.system,
            silent_s=round(max(0.0, now - node.heard_at), 1),
            tasks=tuple(self._view(node, task) for task in node.tasks.values()),
        )

    def silent(self, now: float) -> Iterator[tuple[Node, Cause]]:
        """Nodes whose silence has become long enough to mean something."""
        for node in self.nodes.values():
            # The same sums as in next_silence: a rounded difference would make it tick in vain.
            if node.hearable and now >= node.heard_at + UNREACHABLE_S:
                yield node, Cause.LOST
            elif node.state is State.UP and now >= node.heard_at + SUSPECT_S:
                yield node, Cause.SILENT

    def next_silence(self) -> float:
        """Monotonic second at which ``silent`` will have something to say; infinity: never."""
        times = [
            node.heard_at + (SUSPECT_S if node.state is State.UP else UNREACHABLE_S)
            for node in self.nodes.values()
            if node.hearable
        ]
        return min(times, default=float("inf"))
