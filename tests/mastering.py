"""A master's core with a clock, nodes that say what they are told to, and operators."""

from collections.abc import Iterator
from typing import TypeVar

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import messages as m
from godwit.wire import operations as op
from godwit.wire.preface import Show
from masterd import actions as do
from masterd import events as on
from masterd.copies import Role
from masterd.core import Chance, Identity, Master
from masterd.registry import State

FAR = float("inf")
IDENTITY = Identity("M", "hub:15440", "0", 1, "/state", "ca")
OPERATOR = 1000
T = TypeVar("T")


def task_ids() -> Iterator[str]:
    """t0000001, t0000002, ..."""
    number = 0
    while True:
        number += 1
        yield f"t{number:07}"


def task(name: str, status: Status = Status.RUNNING, exit_code: int | None = None) -> Task:
    return Task(Spec(name, (b"true",), home="n1"), status, pid=7, exit_code=exit_code)


class Mastering:
    """Feeds a core; keeps what it did last in ``last`` and all it ever did in ``all``."""

    def __init__(self) -> None:
        ids = task_ids()
        tickets = iter(range(1, 1000))
        self.core = Master(
            IDENTITY,
            Chance(
                lambda: 1.0, lambda: next(ids), lambda: f"ticket{next(tickets)}",
                lambda count: "ab" * count,
            ),
        )
        self.now = 100.0
        #: Its disk takes what is committed, at once.
        self.records = True
        self.last: list[do.Action] = []
        self.all: list[do.Action] = []
        self._links = 0
        self._requests = 0
        self(on.Asked(OPERATOR, op.Attach(0, op.VERSION)))

    def __call__(self, event: on.Event, after: float = 0.0) -> list[do.Action]:
        self.now += after
        self.last = self._handle(event)
        if self.records:
            for confirm in self.done(do.Confirm):
                self.last += self._handle(on.Recorded(confirm.number))
        self.all += self.last
        return self.last

    def _handle(self, event: on.Event) -> list[do.Action]:
        return self.core.handle(event, self.now, 1e9 + self.now)

    def tick(self) -> list[do.Action]:
        """Sleeps till the deadline that the core named."""
        deadline = self.core.deadline()
        assert deadline < FAR, "there is nothing to wait for"
        assert deadline >= self.now, "a deadline that has passed spins"
        self.now = deadline
        return self(on.Tick())

    def wait(self, seconds: float, *nodes: "FakeNode") -> list[do.Action]:
        """Time goes by; these nodes beat."""
        end = self.now + seconds
        done: list[do.Action] = []
        while self.now < end:
            for node in nodes:
                node.say(m.Beat(m.Load()))
            self.now = min(end, self.now + 1.0)
            done += self(on.Tick())
        self.last = done
        return done

    # ---- nodes -----------------------------------------------------------------------------

    def link(self) -> int:
        self._links += 1
        return self._links

    def certify(self, name: str) -> str:
        """The sha256 of the certificate of the node of this name."""
        leaf = f"leaf of {name}"
        self.core.admission.leaves.setdefault(name, (leaf,))
        return leaf

    def accepted(self, link: int, peer: str = "10.0.0.9:5", name: str = "n1") -> list[do.Action]:
        """The node of this name called."""
        return self(on.LinkAccepted(link, peer, self.certify(name)))

    def opened(self, link: int, name: str, channel: on.Channel) -> list[do.Action]:
        """A node answered our call."""
        return self(on.LinkOpened(link, name, channel, self.certify(name)))

    def bulk(self, bulk: int, ticket: str, role: Role, name: str = "") -> list[do.Action]:
        """Somebody shows a ticket: the node of this name, or an operator."""
        return self(on.BulkOpened(bulk, Show(ticket, role), self.certify(name) if name else ""))

    def register(self, number: int = 1, name: str = "n1") -> list[op.Reply]:
        """An operator registers a node that was one of this cluster before."""
        self.certify(name)
        return self.ask(op.Register(number, "10.0.0.7", 5, name))

    def node(self, name: str = "n1", *tasks: Task, identity: str = "", stream: bool = True
             ) -> "FakeNode":
        """A node that joins and reports."""
        node = FakeNode(self, name, identity or f"id of {name}")
        node.join()
        node.say(m.Report(tasks))
        if stream:
            node.join("stream")
        return node

    # ---- operators -------------------------------------------------------------------------

    def ask(self, request: op.Request, operator: int = OPERATOR) -> list[op.Reply]:
        self(on.Asked(operator, request))
        return self.replies(operator)

    def replies(self, operator: int = OPERATOR) -> list[op.Reply]:
        """What the last step answered this operator."""
        return [a.reply for a in self.last if isinstance(a, do.Answer) and a.operator == operator]

    def id(self) -> int:
        self._requests += 1
        return self._requests

    def execute(self, nodes: str = "n1", follow: bool = False, count: int = 1) -> int:
        number = self.id()
        self.ask(op.Execute(number, nodes, (b"true",), follow=follow, count=count))
        return number

    def sends(self, kind: type[T]) -> list[T]:
        """The messages of one kind that the last step sent to nodes."""
        return [a.message for a in self.last
                if isinstance(a, do.Send) and isinstance(a.message, kind)]

    def done(self, kind: type[T]) -> list[T]:
        """The actions of one kind of the last step."""
        return [a for a in self.last if isinstance(a, kind)]

    def is_idle(self) -> bool:
        """Nothing is left of any request."""
        core = self.core
        return not any((
            core.orders._pending, core.launches._waiting, core.confirms._waiting,
            core.follows._streams, core.follows._readings, core.waits._waits,
            core.copies._copies, core.upgrades._upgrades, core.judging._waiting,
            core.lodging._carriages, core.lodging._in_use,
        ))


class FakeNode:
    """The other end of a node's links."""

    def __init__(self, world: Mastering, name: str, identity: str):
        self.world = world
        self.name = name
        self.identity = identity
        self.agent = "run"
        self.control = 0
        self.stream = 0
        self.can: tuple[str, ...] = ("shell", "python")

    def hello(self, channel: on.Channel = "control") -> m.Hello:
        return m.Hello(
            m.VERSION, self.name, self.identity, self.agent, channel, can=self.can,
            programs={"P": "X: does"},
        )

    def join(self, channel: on.Channel = "control") -> list[do.Action]:
        link = self.world.link()
        setattr(self, channel, link)
        self.world.accepted(link, f"10.0.0.1:{link}", self.name)
        return self.world(on.Received(link, self.hello(channel)))

    def say(self, message: m.Message) -> list[do.Action]:
        data = isinstance(message, m.Chunk | m.Ended)
        return self.world(on.Received(self.stream if data else self.control, message))

    def cut(self, channel: on.Channel = "control") -> list[do.Action]:
        return self.world(on.LinkClosed(getattr(self, channel), "reset"))

    @property
    def state(self) -> State:
        """What the master thinks of it."""
        return self.world.core.registry.nodes[self.name].state
