"""Nodes coming, being heard, falling silent, leaving.  Pure.

Two ways to meet: a node with ``--master`` calls us and says Hello; a node with ``--listen`` is
called (``register``), hears our Adopt and then says its Hello.  From there on all is the same.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct

from godwit.names import is_node_name
from godwit.seldom import Seldom
from godwit.task.record import Task, signal_name
from godwit.wire import messages as wire
from masterd import actions as do
from masterd.admission import Admission
from masterd.events import Channel
from masterd.history import History
from masterd.registry import Call, Cause, Node, Registry, State

#: First and longest pause, seconds, between two calls to a node.
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 15.0
#: Seconds a peer has to say Hello.
OPENING_S = 5.0
#: Connections that have not said Hello; one more is turned away.
OPENING_MOST = 256

Concern = Callable[[Node], Iterator[do.Action]]
#: Called with a code, empty when it went well, and a text.
Answer = Callable[[str, str], Iterator[do.Action]]


class Upon(Struct, frozen=True):
    """What the other parts of the master do about a node."""

    #: Its control connection is gone, and with it the answers that were to come.
    parted: Concern
    #: It is not heard any more.
    lost: Concern
    #: It is no node of ours any more.
    left: Concern
    #: Another machine has its name.
    replaced: Concern


class Opening(Struct, frozen=True):
    """A connection whose peer has not said Hello."""

    peer: str
    due: float
    #: sha256 of the certificate it showed.
    leaf: str
    #: Whom we called, and for which channel, if we did.
    called: str = ""
    channel: Channel = "control"


class Nodes:
    """How nodes and the master meet and part."""

    def __init__(
        self, registry: Registry, history: History, admission: Admission, master: str,
        jitter: Callable[[], float], upon: Upon,
    ):
        self._registry = registry
        self._history = history
        self._admission = admission
        self._master = master
        self._jitter = jitter
        self._upon = upon
        #: By link, the oldest first.
        self._opening: dict[int, Opening] = {}
        self._seldom = Seldom()
        #: Names being registered -> how to answer the operator.
        self._registering: dict[str, Answer] = {}

    # ---- a connection opens ----------------------------------------------------------------

    def accepted(
        self, link: int, peer: str, leaf: str, now: float, wall: float
    ) -> Iterator[do.Action]:
        """A node called; who shows a certificate that is no node's is not listened to."""
        if not self._admission.is_somebodys(leaf):
            reason = "that certificate is no node's of this cluster, or was revoked"
            yield do.Send(link, wire.Refuse("certificate", reason))
            yield do.Close(link, reason)
            yield from self._stranger(peer, reason, now, wall)
        elif len(self._opening) < OPENING_MOST:
            self._opening[link] = Opening(peer, now + OPENING_S, leaf)
        else:
            yield do.Close(link, "too many callers")

    def _stranger(
        self, peer: str, reason: str, now: float, wall: float, name: str = ""
    ) -> Iterator[do.Action]:
        """Nothing came of a connection; it is noted seldom, for it may come again and again."""
        if self._seldom.may(f"{peer.rpartition(':')[0]} {name} {reason}", now):
            yield from self._history.add(
                wall, "warning", f"refused a node at {peer}: {reason}", node=name
            )

    def opened(
        self, link: int, name: str, channel: Channel, leaf: str, now: float
    ) -> Iterator[do.Action]:
        """A node answered our call: greet it."""
        node = self._registry.nodes.get(name)
        if node is None or not node.called:
            yield do.Close(link, "no longer registered")
            return
        self._opening[link] = Opening(
            f"{node.host}:{node.port}", now + OPENING_S, leaf, name, channel
        )
        if not self._admission.knows(name, leaf):
            yield do.Close(link, f"its certificate is not {name}'s")
            return
        yield do.Send(link, wire.Adopt(wire.VERSION, self._master, name, channel))

    def dial_failed(
        self, name: str, channel: Channel, reason: str, now: float, wall: float
    ) -> Iterator[do.Action]:
        """Nobody answered: later again, and the operator who registers hears it at once."""
        node = self._registry.nodes.get(name)
        if node is None or not node.called:
            return
        yield from self._again(node, channel, reason, now, wall)
        at = f"{node.host}:{node.port}"
        yield from self._not_registered(node, channel, "no-answer", f"{at}: {reason}")

    def _not_registered(
        self, node: Node, channel: Channel, code: str, text: str
    ) -> Iterator[do.Action]:
        """If an operator waits for this call, that is the end of it."""
        if channel == "control" and node.name in self._registering:
            answer = self._registering.pop(node.name)
            yield from self._unregister(node)
            yield from answer(code, text)

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

    def is_registering(self, name: str) -> bool:
        """An operator waits for its answer."""
        return name in self._registering

    def is_opening(self, link: int) -> bool:
        return link in self._opening

    def hello(
        self, link: int, message: wire.Message, now: float, wall: float
    ) -> Iterator[do.Action]:
        """The first message of a connection."""
        opening = self._opening.pop(link)
        if isinstance(message, wire.Refuse) and opening.called:
            yield from self._refused(link, opening, message, now, wall)
            return
        if not isinstance(message, wire.Hello):
            reason = f"{type(message).__name__} is not how a node begins"
            yield do.Close(link, reason)
            yield from self._failed(opening, reason, now, wall)
            return
        objection = self._objection(message, opening)
        if objection is not None:
            yield do.Send(link, objection)
            yield do.Close(link, objection.text)
            yield from self._failed(opening, objection.text, now, wall, _shown_name(message))
            return
        yield from self._admission.shown(message.name, opening.leaf)
        yield from self._welcome(link, message, opening, now, wall)

    def _failed(
        self, opening: Opening, reason: str, now: float, wall: float, name: str = ""
    ) -> Iterator[do.Action]:
        """Nothing came of a connection; if it was we who called, we call again."""
        if opening.called:
            yield from self.dial_failed(opening.called, opening.channel, reason, now, wall)
        else:
            yield from self._stranger(opening.peer, reason, now, wall, name)

    def _refused(
        self, link: int, opening: Opening, refusal: wire.Refuse, now: float, wall: float
    ) -> Iterator[do.Action]:
        yield do.Close(link, f"refused: {refusal.text}")
        node = self._registry.nodes.get(opening.called)
        if node is None or not node.called:
            return
        if refusal.code != "order":  # it will say the same for some time
            call = node.calls[opening.channel]
            call.failures = max(call.failures, 10)
        yield from self._again(
            node, opening.channel, f"it refuses this master: {refusal.text}", now, wall
        )
        text = f"{node.name} refuses: {refusal.text}"
        yield from self._not_registered(node, opening.channel, refusal.code, text)

    def _objection(self, hello: wire.Hello, opening: Opening) -> wire.Refuse | None:
        if hello.version != wire.VERSION:
            return wire.Refuse(
                "version", f"protocol {hello.version}, this master has {wire.VERSION}"
            )
        if not is_node_name(hello.name):
            return wire.Refuse("name", "that is no name for a node")
        if not self._admission.knows(hello.name, opening.leaf):
            return wire.Refuse("certificate", f"that certificate is not {hello.name}'s")
        if opening.called not in ("", hello.name):
            return wire.Refuse("name", f"called as {opening.called}, answered as {hello.name}")
        known = self._registry.nodes.get(hello.name)
        if opening.called and (known is None or not known.called):
            return wire.Refuse("left", f"{opening.called} was deregistered meanwhile")
        if known is not None and known.node not in ("", hello.node) and _holds_its_name(known):
            return wire.Refuse(
                "taken",
                f"another node is called {hello.name} already; `dereg {hello.name}` frees the name",
            )
        if hello.channel == "stream" and (
            known is None or known.agent != hello.agent or not known.connected
        ):
            return wire.Refuse("order", "the control connection comes first")
        return None

    def _welcome(
        self, link: int, hello: wire.Hello, opening: Opening, now: float, wall: float
    ) -> Iterator[do.Action]:
        node = self._registry.nodes.setdefault(hello.name, Node(hello.name))
        if hello.channel == "stream":
            yield from self._welcome_stream(node, link)
            return
        if node.connected:
            yield from self._part(node, "replaced by a newer connection")
        if node.node not in ("", hello.node):
            yield from self._another_machine(node, wall)
        self._registry.connect(node, "control", link)
        node.calls["control"] = Call()
        node.node, node.agent, node.address = hello.node, hello.agent, opening.peer
        node.can, node.lacks, node.system = hello.can, dict(hello.lacks), hello.system
        node.programs = dict(hello.programs)
        node.release = hello.release
        node.goodbye, node.dismissing = "", False
        node.reporting.clear()
        node.lodging, node.lodges = frozenset(), False
        yield do.KeepNode(node.name, node.node, node.host, node.port)
        yield do.Open(link, "control")
        yield do.Send(link, wire.Welcome(self._master))
        yield from self._heard(node, now, wall, met=True)
        answer = self._registering.pop(node.name, None)
        if answer is not None:
            yield from answer("", "")
        yield from self.call(now)

    def _welcome_stream(self, node: Node, link: int) -> Iterator[do.Action]:
        old = self._registry.disconnect(node, "stream")
        if old is not None:
            yield do.Close(old, "replaced by a newer connection")
        self._registry.connect(node, "stream", link)
        node.calls["stream"] = Call()
        yield do.Open(link, "stream")
        yield do.Send(link, wire.Welcome(self._master))

    def _another_machine(self, node: Node, wall: float) -> Iterator[do.Action]:
        """The name was free and another node has it now: the old one's tasks are not here."""
        yield from self._upon.replaced(node)
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
        if opening is not None:
            yield from self._failed(opening, reason, now, wall)
        found = self._registry.by_link(link)
        if found is None:
            return
        node, channel = found
        self._registry.disconnect(node, channel)
        what = "connection" if channel == "control" else "stream"
        if node.hearable:
            yield from self._history.add(
                wall, "info", f"{node.name} lost its {what} ({reason})", node=node.name
            )
        if channel == "control":
            yield from self._part(node, "the control connection is gone")
        yield from self.call(now)

    def _part(self, node: Node, reason: str) -> Iterator[do.Action]:
        """Ends its connections.  Their LinkClosed may come much later, and is then nobody's."""
        channels: tuple[Channel, ...] = ("control", "stream")
        for channel in channels:
            link = self._registry.disconnect(node, channel)
            if link is not None:
                yield do.Close(link, reason)
        yield from self._upon.parted(node)

    def leaving(
        self, node: Node, message: wire.Leaving, now: float, wall: float
    ) -> Iterator[do.Action]:
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
        yield from self._part(node, "it said goodbye")
        yield from self._upon.lost(node)
        yield from self.call(now)

    def left(self, node: Node, wall: float, text: str) -> Iterator[do.Action]:
        """It is no node of ours any more."""
        node.advance(Cause.DISMISSED)
        if node.called:
            # It forgets us, too, and waits for a master with a new code.
            yield from self._admission.forget(node.name)
        node.host = node.node = ""
        yield do.DropNode(node.name)
        yield from self._history.add(wall, "info", text, node=node.name, notice=True)
        answer = self._registering.pop(node.name, None)
        if answer is not None:
            yield from answer("deregistered", f"{node.name} was deregistered meanwhile")
        yield from self._part(node, "deregistered")
        yield from self._upon.left(node)

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
            yield from self._history.add(
                wall, "severe",
                f"{node.name} is unreachable: {silence}; {self._unknown(node)}",
                node=node.name, notice=True,
            )
            yield from self._part(node, silence)
            yield from self._upon.lost(node)

    @staticmethod
    def _unknown(node: Node) -> str:
        count = sum(task.status.alive for task in node.tasks.values())
        return "its one running task is unknown" if count == 1 else (
            f"its {count} running tasks are unknown"
        )

    def late(self, now: float, wall: float) -> Iterator[do.Action]:
        """Gives up on those that said no Hello in time."""
        for link in [link for link, opening in self._opening.items() if opening.due <= now]:
            yield do.Close(link, "said no hello")
            yield from self._failed(self._opening.pop(link), "it said no hello", now, wall)

    # ---- calling nodes that wait -----------------------------------------------------------

    def register(
        self, name: str, host: str, port: int, code: str, answer: Answer, now: float
    ) -> Iterator[do.Action]:
        """Calls a node that waits for a master, whose name is free; ``answer`` once it is known.

        ``code`` takes a node that is not ours yet; without it the node must be.
        """
        node = self._registry.nodes.setdefault(name, Node(name))
        node.host, node.port = host, port
        node.address = f"{host}:{port}"
        self._registering[name] = answer
        node.calls = {"control": Call(at=now, under_way=bool(code)), "stream": Call()}
        if code:
            yield do.Adopt(name, host, port, code)
        else:
            yield from self.call(now)

    def adopted(self, name: str, now: float) -> Iterator[do.Action]:
        """The node is ours now: call it as such."""
        node = self._registry.nodes.get(name)
        if node is not None:
            node.calls["control"] = Call(at=now)
            yield from self.call(now)

    def _unregister(self, node: Node) -> Iterator[do.Action]:
        """What was known of it before stays known."""
        node.host = ""
        if node.state is not State.LEFT:
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
        oldest = next(iter(self._opening.values()), None)
        if oldest is not None:
            times.append(oldest.due)
        return min([*times, self._registry.next_silence()])


def _holds_its_name(node: Node) -> bool:
    """Another machine may not have it: this one is there, or left tasks that may still run."""
    return node.connected or node.hearable or any(
        not task.status.ended for task in node.tasks.values()
    )


def _shown_name(hello: wire.Hello) -> str:
    """The name in a refused Hello, if it could be one."""
    return hello.name if is_node_name(hello.name) else ""


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
