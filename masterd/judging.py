"""Whether a task can move, and where: its node and the others are asked, then judged.  Pure.

    Describe -> the task's node | Described     Survey -> each other node | Surveyed

Nothing is frozen to find out.  What comes of it is told in one table: why asks for it, and a move
of a task as it is begins with it.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct, field
from msgspec.structs import replace

from godwit.task.reasons import Reason
from godwit.task.record import Task
from godwit.task.verdict import Place, Traits, Verdict, judge, judge_here, sum_up
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.moves import places
from masterd.moves.core import Moves
from masterd.moves.objections import WAYS
from masterd.orders import Gather, Orders
from masterd.registry import Node, Registry

#: Told all verdicts, or why there are none.
Then = Callable[[list[Verdict]], Iterator[do.Action]]


class Case(Struct):
    """One task, and where it might go."""

    task: Task
    source: Node
    targets: list[Node]
    now: float
    then: Then
    #: Of the task, bytes; known once its node has told.
    memory: int = 0
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def all(self) -> list[Verdict]:
        return [self.verdicts[node.name] for node in self.targets]


class Judging:
    """All that are being judged."""

    def __init__(self, registry: Registry, orders: Orders, moves: Moves):
        self._registry = registry
        self._orders = orders
        self._moves = moves
        #: Who waits: operator and request.
        self._waiting: set[tuple[int, int]] = set()

    def why(
        self, operator: int, request: op.JudgeMove, task: Task, source: Node, targets: list[Node],
        now: float,
    ) -> Iterator[do.Action]:
        """Answers with a verdict for each node."""
        def then(verdicts: list[Verdict]) -> Iterator[do.Action]:
            answer = op.Verdicts(request.id, task.id, source.name, tuple(verdicts))
            yield do.Answer(operator, answer)

        yield from self._begin(operator, request.id, Case(task, source, targets, now, then))

    def before_move(
        self, operator: int, request: op.MoveTask, task: Task, source: Node, target: Node,
        now: float, begin: Callable[[int], Iterator[do.Action]],
    ) -> Iterator[do.Action]:
        """Begins the move, of a task with so many bytes of memory, unless the verdict forbids it:
        then that is the answer."""
        def then(verdicts: list[Verdict]) -> Iterator[do.Action]:
            (verdict,) = verdicts
            if verdict.verdict == "no":
                first = verdict.reasons[0]
                yield do.Answer(operator, op.Problem(
                    request.id, first.code, _with_more(verdict), first.fix
                ))
            else:
                yield from begin(case.memory)

        case = Case(task, source, [target], now, then)
        yield from self._begin(operator, request.id, case)

    def before_snapshot(
        self, task: Task, node: Node, now: float,
        then: Callable[[Reason | None], Iterator[do.Action]],
    ) -> Iterator[do.Action]:
        """Tells what keeps the task from being saved as it is, if anything does."""
        def described(answer: wire.Message) -> Iterator[do.Action]:
            if not isinstance(answer, wire.Described):
                assert isinstance(answer, wire.Done)
                yield from then(_untold(node, answer))
                return
            verdict = judge_here(answer.traits, places.place(node))
            if verdict.verdict == "no":
                first = verdict.reasons[0]
                yield from then(replace(first, text=f"{task.id}: {first.text}"))
            else:
                yield from then(None)

        order = self._orders.number()
        yield from self._orders.send(
            node, wire.Describe(order, task.id), order, now, described, wanted=wire.Described
        )

    def cancel(self, operator: int, request: int | None = None) -> None:
        """Nobody waits for it any more."""
        self._waiting = {
            key for key in self._waiting
            if key[0] != operator or (request is not None and key[1] != request)
        }

    # ---- asking ----------------------------------------------------------------------------

    def _begin(self, operator: int, number: int, case: Case) -> Iterator[do.Action]:
        key = operator, number
        self._waiting.add(key)
        then = case.then

        def told(verdicts: list[Verdict]) -> Iterator[do.Action]:
            if key in self._waiting:
                self._waiting.discard(key)
                yield from then(verdicts)

        case.then = told
        if not case.targets:
            yield from told([])
            return

        def described(answer: wire.Message) -> Iterator[do.Action]:
            if isinstance(answer, wire.Described):
                yield from self._survey(case, answer.traits)
            else:
                assert isinstance(answer, wire.Done)
                yield from self._fail(case, answer)

        order = self._orders.number()
        yield from self._orders.send(
            case.source, wire.Describe(order, case.task.id), order, case.now, described,
            wanted=wire.Described,
        )

    def _survey(self, case: Case, traits: Traits) -> Iterator[do.Action]:
        case.memory = traits.memory_bytes
        gather = Gather(len(case.targets), lambda: case.then(case.all()))
        paths = tuple(dict.fromkeys(traits.needs))
        for node in case.targets:

            def surveyed(answer: wire.Message, node: Node = node) -> Iterator[do.Action]:
                if isinstance(answer, wire.Surveyed):
                    # A node speaks only for itself.
                    there = replace(answer.place, name=node.name)
                    verdict = self._judge(case, traits, node, there)
                else:
                    assert isinstance(answer, wire.Done)
                    verdict = self._unknown(case, node, answer)
                case.verdicts[node.name] = verdict
                yield from gather.one()

            order = self._orders.number()
            yield from self._orders.send(
                node, wire.Survey(order, case.task.spec, paths), order, case.now, surveyed,
                wanted=wire.Surveyed,
            )

    # ---- judging ---------------------------------------------------------------------------

    def _judge(self, case: Case, traits: Traits, node: Node, there: Place) -> Verdict:
        here, past = places.place(case.source), self._moves.past.values()
        if _kind(case.task) == "python":
            verdict = places.judged(case.task, traits, here, there, past)
        else:
            rate = places.rate(here.name, there.name, past)
            verdict = judge(traits, here, replace(there, rate=rate))
        return self._with_objections(case, node, verdict)

    def _unknown(self, case: Case, node: Node, answer: wire.Done) -> Verdict:
        """It does not tell what it has."""
        verdict = sum_up(
            Place(node.name, ""), _kind(case.task), (_untold(node, answer),), None
        )
        return self._with_objections(case, node, verdict)

    def _with_objections(self, case: Case, node: Node, verdict: Verdict) -> Verdict:
        """What the master knows comes first: a move is refused by that at once."""
        known = list(self._moves.objections(case.task, case.source, node))
        more = [reason for reason in verdict.reasons if reason not in known]
        return sum_up(
            Place(node.name, ""), verdict.kind, (*known, *more), verdict.blackout_ms
        )

    def _fail(self, case: Case, answer: wire.Done) -> Iterator[do.Action]:
        """The task cannot be looked at: that is so wherever it is to go."""
        reason = _untold(case.source, answer)
        for node in case.targets:
            verdict = sum_up(Place(node.name, ""), _kind(case.task), (reason,), None)
            case.verdicts[node.name] = self._with_objections(case, node, verdict)
        yield from case.then(case.all())


def _untold(node: Node, answer: wire.Done) -> Reason:
    text = answer.text if answer.code == "unreachable" else f"{node.name}: {answer.text}"
    return Reason(answer.code, text)


def _kind(task: Task) -> str:
    return WAYS.get(task.spec.kind, "criu")


def _with_more(verdict: Verdict) -> str:
    more = sum(reason.verdict == "no" for reason in verdict.reasons) - 1
    text = verdict.reasons[0].text
    return f"{text}; and {more} more: `why` tells" if more else text
