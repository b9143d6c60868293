"""Nodes coming, being heard, falling silent, leaving.  Pure.

Two ways to meet: a node with ``--master`` calls us and says Hello; a node with ``--listen`` is
called (``register``), hears our Adopt and then says its Hello.  From there on all is the same.
"""

from collections.abc import Callable, Iterator

from godwit.names import is_node_name
from godwit.task.record import Task, signal_name
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.events import Channel
from masterd.history import History
from masterd.registry import Call, Cause, Node, Registry, State

#: First and longest pause, seconds, between two calls to a node.
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 15.0

Answered = Callable[[op.Reply], Iterator[do.Action]]


class Nodes:
    """How nodes and the master meet and part."""

    def __init__(
        self, registry: Registry, history: History, master: str, jitter: Callable[[], float]
    ):
        self._registry = registry
        self._history = history
        self._master = master
        self._jitter = jitter
        #: Links whose peer has not said Hello: link -> peer address, and whom we called, if we did.
        self._opening: dict[int, tuple[str, str]] = {}
        #: Names being registered -> how to answer the operator.
        self._registering: dict[str, Callable[[str, str], Iterator[do.Action]]] = {}

    # ---- a connection opens ----------------------------------------------------------------

    def accepted(self, link: int, peer: str) -> None:
        """A node called."""
        self._opening[link] = (peer, "")

    def opened(self, link: int, name: str, channel: Channel) -> Iterator[do.Action]:
        """A node answered our call: greet it."""
        node = self._registry.nodes.get(name)
        if node is None or not node.called:
            yield do.Close(link, "no longer registered")
            return
        self._opening[link] = (f"{node.host}:{node.port}", name)
        yield do.Send(link, wire.Adopt(wire.VERSION, self._master, name, channel))

    def dial_failed(
        self, name: str, channel: Channel, reason: str, now: float, wall: float
    ) -> Iterator[do.Action]:
        """Nobody answered: later again, and the operator who registers hears it at once."""
        node = self._registry.nodes.get(name)
        if node is None:
            return
        yield from self._again(node, channel, reason, now, wall)
        answer = self._registering.pop(name, None)
        if answer is not None:
            yield from self._unregister(node)
            yield from answer("no-answer", f"{node.host}:{node.port}: {reason}")

    def _again(
        self, node: Node, channel: Channel, reason: str, now: float, wall: float
    ) -> Iterator[do.Action]:
        call = node.calls[channel]
        call.under_way = False
        pause = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(call.failures, 10))
        call.failures += 1
        call.at = now + pause * (0.5 + self._jitter() / 2)
        if reason != call.said and node.name not in self._registering:
            call.said = reason
            yield from self._history.add(
                wall, "warning", f"{node.name} cannot be called ({reason}); trying on",
                node=node.name,
            )

    def is_opening(self, link: int) -> bool:
        return link in self._opening

    def hello(
        self, link: int, message: wire.Message, now: float, wall: float
    ) -> Iterator[do.Action]:
        """The first message of a connection."""
        peer, called = self._opening.pop(link)
        if isinstance(message, wire.Refuse) and called:
            yield from self._refused(link, called, message, now, wall)
            return
        if not isinstance(message, wire.Hello):
            yield do.Close(link, f"{type(message).__name__} is not how a node begins")
            return
        objection = self._objection(message, called)
        if objection is not None:
            yield from self._history.add(
                wall, "warning", f"refused a node at {peer}: {objection.text}", node=message.name
            )
            yield do.Send(link, objection)
            yield do.Close(link, objection.text)
            return
        yield from self._welcome(link, message, peer, now, wall)

    def _refused(
        self, link: int, name: str, refusal: wire.Refuse, now: float, wall: float
    ) -> Iterator[do.Action]:
        yield do.Close(link, f"refused: {refusal.text}")
        node = self._registry.nodes[name]
        for channel in node.calls:
            node.calls[channel].under_way = False
            node.calls[channel].at = now + BACKOFF_MOST_S
        answer = self._registering.pop(name, None)
        if answer is not None:
            yield from self._unregister(node)
            yield from answer(refusal.code, f"{name} refuses: {refusal.text}")
        else:
            yield from self._history.add(
                wall, "warning", f"{name} refuses this master: {refusal.text}", node=name
            )

    def _objection(self, hello: wire.Hello, called: str) -> wire.Refuse | None:
        if hello.version != wire.VERSION:
            return wire.Refuse(
                "version", f"protocol {hello.version}, this master has {wire.VERSION}"
            )
        if not is_node_name(hello.name):
            return wire.Refuse("name", "that is no name for a node")
        if called and hello.name != called:
            return wire.Refuse("name", f"called as {called}, answered as {hello.name}")
        known = self._registry.nodes.get(hello.name)
        other = known is not None and known.node not in ("", hello.node)
        if other and known is not None and known.state is not State.LEFT and known.connected:
            return wire.Refuse("taken", f"another node is called {hello.name} already")
        if hello.channel == "stream" and (
            known is None or known.agent != hello.agent or not known.connected
        ):
            return wire.Refuse("order", "the control connection comes first")
        return None

    def _welcome(
        self, link: int, hello: wire.Hello, peer: str, now: float, wall: float
    ) -> Iterator[do.Action]:
        node = self._registry.nodes.setdefault(hello.name, Node(hello.name))
        old = node.control if hello.channel == "control" else node.stream
        if old is not None:
            yield from self._replace(node, hello.channel, old)
        if node.called:
            node.calls[hello.channel] = Call()
        if hello.channel == "stream":
            node.stream = link
            yield do.Open(link, "stream")
            yield do.Send(link, wire.Welcome(self._master))
            return
        if node.node not in ("", hello.node):
            yield from self._another_machine(node, wall)
        node.control = link
        node.node, node.agent, node.address = hello.node, hello.agent, peer
        node.can, node.lacks, node.system = hello.can, dict(hello.lacks), hello.system
        node.goodbye, node.dismissing = "", False
        node.reporting.clear()
        yield do.KeepNode(node.name, node.node, node.host, node.port)
        yield do.Open(link, "control")
        yield do.Send(link, wire.Welcome(self._master))
        yield from self._heard(node, now, wall, met=True)
        answer = self._registering.pop(node.name, None)
        if answer is not None:
            yield from answer("", "")
        yield from self.call(now)

    def _replace(self, node: Node, channel: Channel, old: int) -> Iterator[do.Action]:
        if channel == "control":
            node.control = None
        else:
            node.stream = None
        yield do.Close(old, "replaced by a newer connection")

    def _another_machine(self, node: Node, wall: float) -> Iterator[do.Action]:
        """The name was free and another node has it now: the old one's tasks are not here."""
        for task in tuple(node.tasks):
            self._registry.drop(task)
            yield do.DropTask(task)
        yield from self._history.add(
            wall, "warning", f"{node.name} is another machine than before: its tasks are forgotten",
            node=node.name,
        )

    # ---- it is heard -----------------------------------------------------------------------

    def heard(self, node: Node, now: float, wall: float) -> Iterator[do.Action]:
        """Anything at all came from it."""
        yield from self._heard(node, now, wall, met=False)

    def _heard(self, node: Node, now: float, wall: float, met: bool) -> Iterator[do.Action]:
        before = node.state
        node.heard_at = now
        if before is State.UP and not met:
            return
        node.advance(Cause.HEARD)
        if before is State.LEFT or (before is State.UNREACHABLE and not node.lost_wall):
            text = f"{node.name} joined from {node.address}"
        elif before is State.UP:
            text = f"{node.name} connected again"
        else:
            text = f"{node.name} is back"
        quiet = before in (State.UP, State.SUSPECT)
        yield from self._history.add(wall, "info", text, node=node.name, notice=not quiet)

    # ---- it goes ---------------------------------------------------------------------------

    def closed(self, link: int, reason: str, now: float, wall: float) -> Iterator[do.Action]:
        """A connection ended.  That alone makes no node unreachable: silence does."""
        opening = self._opening.pop(link, None)
        if opening is not None and opening[1]:
            for channel in ("control", "stream"):
                if self._registry.nodes[opening[1]].calls[channel].under_way:
                    yield from self.dial_failed(opening[1], channel, reason, now, wall)
        found = self._registry.by_link(link)
        if found is None:
            return
        node, channel = found
        if channel == "stream":
            node.stream = None
        else:
            node.control = None
            yield from self._control_lost(node, reason, wall)
        yield from self.call(now)

    def _control_lost(self, node: Node, reason: str, wall: float) -> Iterator[do.Action]:
        if node.stream is not None:
            stream, node.stream = node.stream, None
            yield do.Close(stream, "the control connection is gone")
        if node.hearable and not node.goodbye:
            yield from self._history.add(
                wall, "info", f"{node.name} lost its connection ({reason})", node=node.name
            )

    def leaving(self, node: Node, message: wire.Leaving, wall: float) -> Iterator[do.Action]:
        """It stops on purpose and says so: there is nothing to wait for."""
        node.goodbye = message.reason
        if node.dismissing:
            yield from self.left(node, wall, f"{node.name} was deregistered")
            return
        node.advance(Cause.LOST)
        node.lost_wall = wall
        left = f", {message.tasks_left} tasks go on" if message.tasks_left else ""
        yield from self._history.add(
            wall, "warning", f"{node.name} stopped ({message.reason}){left}",
            node=node.name, notice=True,
        )

    def left(self, node: Node, wall: float, text: str) -> Iterator[do.Action]:
        """It is no node of ours any more."""
        node.advance(Cause.DISMISSED)
        node.host = ""
        node.node = ""
        if node.control is not None:
            yield do.Close(node.control, "deregistered")
        yield do.DropNode(node.name)
        yield from self._history.add(wall, "info", text, node=node.name, notice=True)

    def silent(self, now: float, wall: float) -> Iterator[do.Action]:
        """Says once of each node that its silence has become suspect, or too long."""
        for node, cause in list(self._registry.silent(now)):
            node.advance(cause)
            silence = f"silent for {now - node.heard_at:.0f} s"
            if cause is Cause.SILENT:
                yield from self._history.add(
                    wall, "warning", f"{node.name} is suspect: {silence}",
                    node=node.name, notice=True,
                )
                continue
            node.lost_wall = wall
            for link in (node.control, node.stream):
                if link is not None:
                    yield do.Close(link, silence)
            yield from self._history.add(
                wall, "severe",
                f"{node.name} is unreachable: {silence}; its {self._running(node)} are unknown",
                node=node.name, notice=True,
            )

    @staticmethod
    def _running(node: Node) -> str:
        count = sum(task.status.alive for task in node.tasks.values())
        return f"{count} running task" + ("" if count == 1 else "s")

    # ---- calling nodes that wait -----------------------------------------------------------

    def register(
        self, name: str, host: str, port: int, answer: Callable[[str, str], Iterator[do.Action]],
        now: float,
    ) -> Iterator[do.Action]:
        """Calls a node that waits for a master; ``answer(code, text)`` once it is known."""
        node = self._registry.nodes.setdefault(name, Node(name))
        node.host, node.port = host, port
        node.address = f"{host}:{port}"
        self._registering[name] = answer
        node.calls["control"] = Call(at=now)
        yield from self.call(now)

    def _unregister(self, node: Node) -> Iterator[do.Action]:
        self._registry.drop_node(node.name)
        yield do.DropNode(node.name)

    def call(self, now: float) -> Iterator[do.Action]:
        """Calls every waiting node whose time has come."""
        for node in self._registry.nodes.values():
            if not node.called:
                continue
            for channel in self._missing(node):
                call = node.calls[channel]
                if not call.under_way and call.at <= now:
                    call.under_way = True
                    yield do.Dial(node.name, channel, node.host, node.port)

    @staticmethod
    def _missing(node: Node) -> Iterator[Channel]:
        if node.control is None:
            yield "control"
        elif node.stream is None:
            yield "stream"

    def deadline(self) -> float:
        times = [
            node.calls[channel].at
            for node in self._registry.nodes.values() if node.called
            for channel in self._missing(node) if not node.calls[channel].under_way
        ]
        return min([*times, self._registry.next_silence()])


def describe_end(name: str, task: Task) -> str:
    """One line for a task that ended."""
    if task.exit_code is not None:
        how = f"exited {task.exit_code}"
    elif task.signal is not None:
        how = f"was ended by {signal_name(task.signal)}"
    else:
        how = f"is {task.status.value} ({task.reason})"
    label = f" ({task.spec.name})" if task.spec.name else ""
    return f"{task.id}{label} on {name} {how}: {task.spec.command[:80]}"
