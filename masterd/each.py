"""One order for each of some tasks, to the node that has it, and one answer of all.  Pure."""

from collections.abc import Callable, Iterator

from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.meant import Meant
from masterd.moves.core import Moves
from masterd.orders import Gather, Orders
from masterd.registry import Node, Registry, State

#: The code with which a node says that it knows no such task.
NO_TASK = "no-task"
#: The code with which a node says that a task is frozen for a move.
MOVING = "moving"


class Each:
    """Orders to tasks, wherever they are by then."""

    def __init__(
        self, registry: Registry, meant: Meant, orders: Orders, moves: Moves,
        forget: Callable[[Node, str], Iterator[do.Action]], now: Callable[[], float],
    ):
        """``forget`` drops a task that its node does not have; ``now`` is monotonic seconds."""
        self._registry = registry
        self._meant = meant
        self._orders = orders
        self._moves = moves
        self._forget = forget
        self._now = now

    def begin(
        self, operator: int, number: int, references: tuple[str, ...],
        make: Callable[[int, str], wire.Message], *, forgets: bool = False,
    ) -> Iterator[do.Action]:
        """One order for each task; one answer when all are in, with the tasks as they then are."""
        tasks, faults = self._meant.tasks(references)
        before = {task: self._registry.view(task) for task in tasks}

        def finish() -> Iterator[do.Action]:
            where = self._registry.where
            views = tuple(self._registry.view(t) if t in where else before[t] for t in tasks)
            bad = {fault.about for fault in faults}
            good = tuple(view for view in views if view.task.id not in bad)
            yield do.Answer(operator, op.Tasks(number, good, tuple(faults)))

        gather = Gather(len(tasks), finish)
        if not tasks:
            yield from finish()

        def send(task: str) -> Iterator[do.Action]:
            if task in self._registry.held:
                yield from held(task)
                return
            node = self._registry.where[task]

            def then(answer: wire.Message) -> Iterator[do.Action]:
                assert isinstance(answer, wire.Done)
                if answer.code == MOVING and self._moves.is_moving(task):
                    # It acts where the task goes on, once that is known.
                    yield from self._moves.after(task, lambda: again(task))
                    return
                if forgets and (answer.code == NO_TASK or node.state is State.LEFT):
                    yield from self._forget(node, task)
                elif answer.code:
                    where = f"{task} on {node.name}: {answer.text}"
                    faults.append(op.Fault(task, answer.code, where))
                yield from gather.one()

            order = self._orders.number()
            yield from self._orders.send(node, make(order, task), order, self._now(), then)

        def again(task: str) -> Iterator[do.Action]:
            if task in self._registry.where:
                yield from send(task)
            else:
                faults.append(op.Fault(task, NO_TASK, f"{task} is not there any more"))
                yield from gather.one()

        def held(task: str) -> Iterator[do.Action]:
            why = f"{task} is held: {self._registry.held[task]}"
            hint = f"`resolve {task} --source` or `--destination`; `moves {task}` tells more"
            faults.append(op.Fault(task, "held", why, hint))
            yield from gather.one()

        for task in tasks:
            yield from send(task)
