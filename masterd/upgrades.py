"""Upgrades: the agents of nodes start anew, with the code that is there now.  Pure.

A node's keeper and its tasks take no part in it.  It is done when another agent of the node says
Hello; what the old one answered only says whether it was told.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct, field

from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.orders import Orders, unreachable
from masterd.registry import Node

#: Seconds a node has to come back with another agent.
BACK_S = 20.0
#: Codes of answers that were lost, perhaps because the old agent has ended.
_NO_ANSWER = ("lost", "timeout")


class Upgrade(Struct):
    """One request, over one or several nodes."""

    operator: int
    id: int
    due: float
    #: node name -> the agent that it had; those that are not back.
    left: dict[str, str]
    done: list[op.Restarted] = field(default_factory=list)
    faults: list[op.Fault] = field(default_factory=list)


class Upgrades:
    """All upgrades under way."""

    def __init__(self, orders: Orders, note: Callable[[str, str], Iterator[do.Action]]):
        self._orders = orders
        #: Adds a line about a node to the history.
        self._note = note
        self._upgrades: list[Upgrade] = []

    def begin(
        self, operator: int, request: op.Upgrade, nodes: list[Node], now: float
    ) -> Iterator[do.Action]:
        """Tells every node; each is waited for."""
        upgrade = Upgrade(
            operator, request.id, now + BACK_S, {node.name: node.agent for node in nodes}
        )
        self._upgrades.append(upgrade)
        for node in nodes:
            yield from self._tell(upgrade, node, now)
        yield from self._answer_if_complete(upgrade)

    def _tell(self, upgrade: Upgrade, node: Node, now: float) -> Iterator[do.Action]:
        def then(answer: wire.Message) -> Iterator[do.Action]:
            assert isinstance(answer, wire.Done)
            if answer.code and answer.code not in _NO_ANSWER:
                yield from self._failed(upgrade, node.name, answer.code, answer.text)

        if node.control is None:
            yield from self._failed(upgrade, node.name, "unreachable", unreachable(node))
            return
        order = self._orders.number()
        yield from self._orders.send(node, wire.Upgrade(order), order, now, then)

    def _failed(
        self, upgrade: Upgrade, name: str, code: str, text: str
    ) -> Iterator[do.Action]:
        if upgrade.left.pop(name, None) is not None:
            upgrade.faults.append(op.Fault(name, code, f"{name}: {text}"))
            yield from self._answer_if_complete(upgrade)

    def came(self, node: Node) -> Iterator[do.Action]:
        """The node's agent has said Hello."""
        waiting = [u for u in self._upgrades if u.left.get(node.name, node.agent) != node.agent]
        if waiting:
            yield from self._note(node.name, f"{node.name} has a new agent: {node.release}")
        for upgrade in waiting:
            del upgrade.left[node.name]
            upgrade.done.append(op.Restarted(node.name, node.release))
            text = f"{node.name}: the agent has started anew: {node.release}"
            yield do.Answer(upgrade.operator, op.Progress(upgrade.id, text))
            yield from self._answer_if_complete(upgrade)

    def left(self, node: Node) -> Iterator[do.Action]:
        """It is no node of ours any more."""
        for upgrade in tuple(self._upgrades):
            yield from self._failed(upgrade, node.name, "left", "it was deregistered")

    def late(self, now: float) -> Iterator[do.Action]:
        """Gives up on those that are not back."""
        for upgrade in [u for u in self._upgrades if u.due <= now]:
            for name in tuple(upgrade.left):
                yield from self._failed(
                    upgrade, name, "timeout",
                    f"no new agent within {BACK_S:g} s; its log says why: clientd.log",
                )

    def deadline(self) -> float:
        return min((upgrade.due for upgrade in self._upgrades), default=float("inf"))

    def _answer_if_complete(self, upgrade: Upgrade) -> Iterator[do.Action]:
        if not upgrade.left and upgrade in self._upgrades:
            self._upgrades.remove(upgrade)
            yield do.Answer(upgrade.operator, op.Upgraded(
                upgrade.id, tuple(upgrade.done), tuple(upgrade.faults)
            ))

    def cancel(self, operator: int, request: int | None = None) -> None:
        """The operator no longer waits; what it began goes on."""
        self._upgrades = [
            u for u in self._upgrades if u.operator != operator or request not in (None, u.id)
        ]
