"""Copies: who sends, who receives, over which connection.  Pure.

Between two nodes bytes go directly: the receiver opens a port, the sender calls it.  Where that
cannot be (the sender does not get through), and between a node and the operator, the master
relays.  A connection is known by its ticket: random, for one copy, named by no path.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from msgspec import Struct, field

from godwit.names import join_address
from godwit.wire import messages as wire
from godwit.wire import operations as op
from godwit.wire.preface import Show
from masterd import actions as do
from masterd.orders import ANSWER_S, Orders, unreachable
from masterd.registry import Node

Role = Literal["send", "receive"]
OTHER: dict[Role, Role] = {"send": "receive", "receive": "send"}
#: Codes with which a side says that the other one went; why, only that one knows.
CONSEQUENCES = ("cut", "dropped", "timeout")


class Side(Struct):
    """A node's part in a copy."""

    node: Node
    path: bytes
    order: int = 0
    answer: wire.Message | None = None


class Copy(Struct):
    """One copy under way."""

    operator: int
    id: int
    ticket: str
    sides: dict[Role, Side]
    direct: bool
    bulks: dict[Role, int] = field(default_factory=dict)


class Copies:
    """All copies under way."""

    def __init__(
        self, orders: Orders, leaves: Mapping[str, tuple[str, ...]], new_ticket: Callable[[], str]
    ):
        self._orders = orders
        #: By node, the certificates that are its own.
        self._leaves = leaves
        self._new_ticket = new_ticket
        self._copies: dict[str, Copy] = {}

    def begin(
        self, operator: int, request: op.Copy, nodes: dict[Role, Node], now: float
    ) -> Iterator[do.Action]:
        """Starts a copy; ``nodes`` has the sides that are no operator's."""
        for node in nodes.values():
            if not node.connected:
                problem = op.Problem(request.id, "unreachable", unreachable(node))
                yield do.Answer(operator, problem)
                return
        paths: dict[Role, bytes] = {"send": request.source.path, "receive": request.target.path}
        sides = {role: Side(node, paths[role]) for role, node in nodes.items()}
        copy = Copy(operator, request.id, self._new_ticket(), sides, direct=_may_meet(nodes))
        self._copies[copy.ticket] = copy
        if copy.direct:
            yield from self._order(copy, "receive", "", now)
            return
        yield from self._relay(copy, now)
        if len(sides) == 1:
            (role,) = sides
            yield do.Answer(operator, op.Ticket(request.id, copy.ticket, OTHER[role]))

    def _relay(self, copy: Copy, now: float) -> Iterator[do.Action]:
        """Every node calls the master, or is called by it."""
        for role, side in copy.sides.items():
            if copy.ticket not in self._copies:
                return  # the first could not be asked
            yield from self._order(copy, role, "" if side.node.called else "master", now)

    def _order(self, copy: Copy, role: Role, address: str, now: float) -> Iterator[do.Action]:
        side = copy.sides[role]
        side.answer = None
        side.order = number = self._orders.number()

        def then(answer: wire.Message) -> Iterator[do.Action]:
            side.answer = answer
            yield from self._answered(copy, role, now)

        # Directly the other node shows its certificate, else the master its own.
        leaves = self._leaves_of(copy.sides[OTHER[role]].node) if copy.direct else ()
        transfer = wire.Transfer(number, copy.ticket, role, side.path, address, leaves)
        yield from self._orders.send(
            side.node, transfer, number, now, then, within_s=float("inf"), wanted=wire.Copied
        )

    # ---- connections -----------------------------------------------------------------------

    def listening(self, node: Node, message: wire.Listening, now: float) -> Iterator[do.Action]:
        """A node waits for a call: from the other node, or from us."""
        found = self._find(node, message.order)
        if found is None:
            return
        copy, role = found
        if copy.direct:
            if role != "receive" or copy.sides["send"].order:
                return
            address = join_address(node.peer_host, message.port)
            yield from self._order(copy, OTHER[role], address, now)
        else:
            show = Show(copy.ticket, role)
            yield do.DialBulk(node.host, message.port, show, self._leaves_of(node))

    def bulk_opened(self, bulk: int, show: Show, leaf: str) -> Iterator[do.Action]:
        """A side of a copy is here; with both, bytes flow.

        ``leaf`` is the certificate it showed, which must be that side's; an operator has none.
        """
        copy = self._copies.get(show.ticket)
        if copy is None or copy.direct or show.role in copy.bulks or (
            not self._may_show(copy, show.role, leaf)
        ):
            yield do.DropBulk(bulk)
            return
        copy.bulks[show.role] = bulk
        if len(copy.bulks) == 2:
            yield do.Splice(copy.bulks["send"], copy.bulks["receive"])

    def _leaves_of(self, node: Node) -> tuple[str, ...]:
        return self._leaves.get(node.name, ())

    def _may_show(self, copy: Copy, role: Role, leaf: str) -> bool:
        """This certificate is right for who has this role; an operator has none."""
        side = copy.sides.get(role)
        return leaf in self._leaves_of(side.node) if side else not leaf

    def bulk_failed(self, ticket: str, reason: str) -> Iterator[do.Action]:
        """A node that waits for our call did not answer it."""
        copy = self._copies.get(ticket)
        if copy is not None:
            yield from self._fail(copy, "unreachable", reason)

    def moved(self, node: Node, message: wire.Moved) -> Iterator[do.Action]:
        """A node tells how far it is; between two nodes, nobody else sees it."""
        found = self._find(node, message.order)
        if found is not None and len(found[0].sides) == 2 and found[1] == "receive":
            copy = found[0]
            progress = op.Progress(copy.id, done=message.done, total=message.total)
            yield do.Answer(copy.operator, progress)

    def _find(self, node: Node, order: int) -> tuple[Copy, Role] | None:
        for copy in self._copies.values():
            for role, side in copy.sides.items():
                if side.node is node and side.order == order:
                    return copy, role
        return None

    # ---- ending ----------------------------------------------------------------------------

    def _answered(self, copy: Copy, role: Role, now: float) -> Iterator[do.Action]:
        if copy.ticket not in self._copies:
            return
        side = copy.sides[role]
        if copy.direct and role == "send" and _code(side) == "unreachable":
            yield from self._go_round(copy, now)
            return
        # Before both are here, the other waits for one that does not come.
        alone = not copy.sides["send"].order if copy.direct else len(copy.bulks) < len(copy.sides)
        if all(side.answer for side in copy.sides.values()) or (alone and _code(side)):
            yield from self._finish(copy)
        elif _code(side):
            # The other side sees the connection end and says so; unless there never was one.
            other = copy.sides[OTHER[role]]
            self._orders.extend(other.node, other.order, now, ANSWER_S)

    def _go_round(self, copy: Copy, now: float) -> Iterator[do.Action]:
        """The sender cannot reach the receiver: the master relays, under a new ticket."""
        receiver = copy.sides["receive"]
        self._orders.forget(receiver.order)
        if receiver.node.control is not None:
            yield do.Send(receiver.node.control, wire.Abandon(receiver.order))
        del self._copies[copy.ticket]
        copy.ticket = self._new_ticket()
        copy.direct = False
        self._copies[copy.ticket] = copy
        yield from self._relay(copy, now)

    def _finish(self, copy: Copy) -> Iterator[do.Action]:
        """All sides have answered: the receiver knows what is there."""
        failures = [side for side in copy.sides.values() if _code(side)]
        # Where one end failed, the other only saw the connection end.
        failures.sort(key=lambda side: _code(side) in CONSEQUENCES)
        if failures:
            side = failures[0]
            assert isinstance(side.answer, wire.Done)
            yield from self._fail(copy, side.answer.code, f"{side.node.name}: {side.answer.text}")
            return
        yield from self._drop(copy)
        answer = (copy.sides.get("receive") or copy.sides["send"]).answer
        assert isinstance(answer, wire.Copied)
        yield do.Answer(copy.operator, op.CopyDone(
            copy.id, answer.size, answer.files, answer.path, answer.warnings
        ))

    def _fail(self, copy: Copy, code: str, text: str) -> Iterator[do.Action]:
        yield from self._drop(copy)
        yield do.Answer(copy.operator, op.Problem(copy.id, code, text))

    def _drop(self, copy: Copy) -> Iterator[do.Action]:
        del self._copies[copy.ticket]
        for side in copy.sides.values():
            self._orders.forget(side.order)
            unanswered = side.answer is None or _code(side) == "timeout"
            if side.order and unanswered and side.node.control is not None:
                yield do.Send(side.node.control, wire.Abandon(side.order))
        if len(copy.bulks) == 1:
            for bulk in copy.bulks.values():
                yield do.DropBulk(bulk)

    def cancel(self, operator: int, request: int | None = None) -> Iterator[do.Action]:
        """The operator no longer wants this copy, or is gone."""
        for copy in list(self._copies.values()):
            if copy.operator == operator and request in (None, copy.id):
                yield from self._drop(copy)


def _code(side: Side) -> str:
    """The code of a side's failure; empty when it has none."""
    return side.answer.code if isinstance(side.answer, wire.Done) else ""


def _may_meet(nodes: dict[Role, Node]) -> bool:
    """Two nodes that may reach each other: not when only one of them is on the master's machine."""
    if len(nodes) < 2:
        return False
    loopback = [node.peer_host.startswith("127.") or node.peer_host == "::1"
                for node in nodes.values()]
    return loopback[0] == loopback[1] or not loopback[1]
