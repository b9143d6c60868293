"""Which of the nodes and tasks that are known an operator means.  Pure."""

from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd.references import choose_nodes, choose_task, choose_tasks
from masterd.registry import Node, Registry, State


class Meant:
    """References, read by what is known just now.  All raise UsageError for what is not there."""

    def __init__(self, registry: Registry):
        self._registry = registry

    def nodes(self, reference: str) -> list[Node]:
        """The nodes meant.  `all` leaves out those that left."""
        known = self._registry.nodes
        names = [n for n in known if reference != "all" or known[n].state is not State.LEFT]
        return [known[n] for n in choose_nodes(reference, names, self._registry.addresses())]

    def node(self, name: str) -> Node:
        chosen = self.nodes(name)
        if len(chosen) != 1:
            raise UsageError(f"{name!r} is {len(chosen)} nodes, wanted is one", code="bad-nodes")
        return chosen[0]

    def tasks(self, references: tuple[str, ...]) -> tuple[list[str], list[op.Fault]]:
        if all(reference in self._registry.where for reference in references):
            return list(dict.fromkeys(references)), []
        return choose_tasks(references, self._registry.all_tasks())

    def task(self, reference: str) -> str:
        """The id of the one task meant."""
        return choose_task(reference, self._registry.all_tasks())

    def about(self, about: str) -> str:
        """The node or task meant."""
        if about in self._registry.nodes:
            return about
        return self.task(about)
