"""From where to where a task is to move, in which way, and what is asked before it does.  Pure."""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.task.record import Task
from godwit.wire import operations as op
from masterd import actions as do
from masterd.judging import Judging
from masterd.meant import Meant
from masterd.moves import budget, places
from masterd.moves.core import Moves
from masterd.moves.objections import WAYS
from masterd.registry import Node, Registry
from masterd.snapshots import Snapshots, Taken

#: Turns a UsageError on the way into the answer.
Refusing = Callable[[int, op.Request, Iterator[do.Action]], Iterator[do.Action]]


class Routes:
    def __init__(
        self, registry: Registry, meant: Meant, moves: Moves, judging: Judging,
        snapshots: Snapshots, refusing: Refusing, now: Callable[[], float],
    ):
        """``now`` is monotonic seconds."""
        self._registry = registry
        self._meant = meant
        self._moves = moves
        self._judging = judging
        self._snapshots = snapshots
        self._refusing = refusing
        self._now = now

    def move(
        self, operator: int, request: op.MoveTask, memory: int | None = None
    ) -> Iterator[do.Action]:
        """``memory``: of a task that is moved as it is, bytes, once the move has been judged."""
        task = self._meant.task(request.task)
        source = self._registry.where[task]
        known = source.tasks[task]
        at_home = request.target == "home" and "home" not in self._registry.nodes
        target = self._meant.node(known.spec.home if at_home else request.target)
        if request.source:
            request = replace(request, source=self._meant.node(request.source).name)
        if self._snapshots.wait(
            operator, request.id, task,
            lambda: self._refusing(operator, request, self.move(operator, request, memory)),
        ):
            return
        # Of a Python task all is known by heart or told by the destination as it makes room.
        if memory is not None or WAYS.get(known.spec.kind, "python") == "python":
            choice = self._choose(request, known, (source, target), memory)
            if request.safe:
                self._moves.check(request, known, source, target)
                yield from self._safely(operator, request, known, (source, target), choice)
            else:
                yield from self._moves.begin(operator, request, known, source, target, choice)
            return
        self._moves.check(request, known, source, target)
        yield from self._judging.before_move(
            operator, request, known, source, target, self._now(),
            lambda size: self._refusing(operator, request, self.move(operator, request, size)),
        )

    def _safely(
        self, operator: int, request: op.MoveTask, task: Task, nodes: tuple[Node, Node],
        choice: budget.Choice,
    ) -> Iterator[do.Action]:
        """Moves it once a snapshot is kept; what is in its way by then is told."""
        source, target = nodes

        def begin(taken: Taken) -> Iterator[do.Action]:
            assert taken.snapshot is not None
            kept, having = taken.snapshot.id, " and ".join(node.name for node in taken.nodes)
            told = f"{task.id}: snapshot {kept} is kept on {having}"
            yield do.Answer(operator, op.Progress(request.id, told))
            known = source.tasks.get(task.id, task)
            yield from self._refusing(operator, request, self._moves.begin(
                operator, request, known, source, target, choice, kept
            ))

        yield from self._snapshots.before_move(operator, request, task, source, begin)

    def _choose(
        self, request: op.MoveTask, task: Task, nodes: tuple[Node, Node], memory: int | None
    ) -> budget.Choice:
        """How it is moved.  Raises UsageError when no way is likely to keep to the budget."""
        if not request.budget_ms:
            return budget.Choice("" if memory is None else budget.STOP, memory or 0)
        names, past = (nodes[0].name, nodes[1].name), self._moves.past.values()
        if memory is None:
            known = places.blackout_ms(task.id, *names, past)
            choice = budget.choose_pickled(request.budget_ms, known, request.anyway)
        else:
            choice = budget.choose(
                request.budget_ms, memory, names, past, places.without_later(*nodes),
                request.anyway,
            )
        if isinstance(choice, budget.Choice):
            return choice
        raise UsageError(f"{task.id}: {choice.text}", code=choice.code, hint=choice.fix)

    def judge(self, operator: int, request: op.JudgeMove) -> Iterator[do.Action]:
        """Answers whether the task can move, and where.  Raises UsageError."""
        task = self._meant.task(request.task)
        source = self._registry.where[task]
        known = source.tasks[task]
        at_home = request.nodes == "home" and "home" not in self._registry.nodes
        targets = self._meant.nodes(known.spec.home if at_home else request.nodes)
        if targets == [source] and request.nodes != "all":
            raise UsageError(f"{task} is on {source.name} already", code="there")
        others = [node for node in targets if node is not source]
        yield from self._judging.why(operator, request, known, source, others, self._now())
