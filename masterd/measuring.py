"""What nodes and tasks use, as their nodes measure it when asked.  Pure."""

from collections.abc import Iterator

from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.meant import Meant
from masterd.orders import Gather, Orders
from masterd.registry import Node, Registry


class Measuring:
    def __init__(self, registry: Registry, meant: Meant, orders: Orders):
        self._registry = registry
        self._meant = meant
        self._orders = orders

    def begin(
        self, operator: int, request: op.MeasureUsage, now: float
    ) -> Iterator[do.Action]:
        """Asks the nodes meant and answers with what they tell, and a fault for each other."""
        nodes, wanted = self._to_measure(request.about)
        usages: dict[str, op.NodeUsage] = {}
        live: dict[str, wire.Measured] = {}
        faults: list[op.Fault] = []

        def finish() -> Iterator[do.Action]:
            views = []
            for node in nodes:
                fresh = live[node.name].tasks if node.name in live else {}
                for task in tuple(node.tasks.values()):
                    if wanted is None or task.id == wanted:
                        used = fresh.get(task.id) if not task.status.ended else task.usage
                        view = self._registry.view(task.id)
                        views.append(replace(view, task=replace(view.task, usage=used)))
            shown = tuple(usages[node.name] for node in nodes) if wanted is None else ()
            yield do.Answer(operator, op.Usages(request.id, shown, tuple(views), tuple(faults)))

        gather = Gather(len(nodes), finish)
        if not nodes:
            yield from finish()
        for node in nodes:

            def then(answer: wire.Message, node: Node = node) -> Iterator[do.Action]:
                if isinstance(answer, wire.Measured):
                    live[node.name] = answer
                    node.children = answer.children
                elif isinstance(answer, wire.Done):
                    faults.append(op.Fault(node.name, answer.code, answer.text))
                usages[node.name] = op.NodeUsage(node.name, node.children)
                yield from gather.one()

            order = self._orders.number()
            asked = (wanted,) if wanted else ()
            yield from self._orders.send(
                node, wire.Measure(order, asked), order, now, then, wanted=wire.Measured
            )

    def _to_measure(self, about: str) -> tuple[list[Node], str | None]:
        """The nodes to ask, and the one task that is wanted if it is one."""
        if not about:
            return self._meant.nodes("all"), None
        try:
            return self._meant.nodes(about), None
        except UsageError as no_node:
            try:
                task = self._meant.task(about)
            except UsageError as no_task:
                if no_task.code == "ambiguous":
                    raise
                raise UsageError(
                    f"no node and no task {about!r}", code="no-such-task", hint=no_node.hint
                ) from no_task
            return [self._registry.where[task]], task
