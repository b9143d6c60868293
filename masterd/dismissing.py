"""Nodes that are told to end their tasks and themselves.  Pure."""

from collections.abc import Callable, Iterator

from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.nodes import Nodes
from masterd.orders import Gather, Orders, unreachable
from masterd.registry import Node, Registry, State

#: Seconds a node has to end its tasks and itself: the keeper's grace and some more.
DISMISS_S = 8.0


class Dismissing:
    def __init__(
        self, registry: Registry, nodes: Nodes, orders: Orders, wall: Callable[[], float]
    ):
        """``wall`` is seconds since 1970, for display."""
        self._registry = registry
        self._nodes = nodes
        self._orders = orders
        self._wall = wall

    def begin(
        self, operator: int, number: int, nodes: list[Node],
        finish: Callable[[], Iterator[do.Action]], now: float,
    ) -> Iterator[do.Action]:
        """Ends the tasks of nodes and the nodes; a line of Progress for each."""
        gather = Gather(len(nodes), finish)
        if not nodes:
            yield from finish()
        for node in nodes:
            running = [task.id for task in node.tasks.values() if task.status.alive]

            def then(
                answer: wire.Message, node: Node = node, running: list[str] = running
            ) -> Iterator[do.Action]:
                yield from self._dismissed(operator, number, node, running, answer)
                yield from gather.one()

            node.dismissing = node.connected
            order = self._orders.number()
            yield from self._orders.send(
                node, wire.Dismiss(order), order, now, then, within_s=DISMISS_S
            )

    def _dismissed(
        self, operator: int, number: int, node: Node, running: list[str], answer: wire.Message
    ) -> Iterator[do.Action]:
        """The node has stopped, or cannot be told to."""
        where = self._registry.where
        left = sum(where[t].tasks[t].status.alive for t in running if t in where)
        count = len(running) - left
        ended = f", {count} task{'' if count == 1 else 's'} ended" if count else ""
        if node.state is State.LEFT:
            text = f"{node.name}: deregistered{ended}"
        else:
            why = unreachable(node) if not node.connected else "it did not stop in time"
            text = f"{node.name}: taken off the list ({why}); {left} of its tasks may run on"
            yield from self._nodes.left(node, self._wall(), text)
        yield do.Answer(operator, op.Progress(number, text))
