"""Snapshots of tasks: taken, copied to one other node, listed.  Pure.

What there is, the nodes tell: the task's own, which keeps them, and those that lodge copies
(masterd.lodging).  Starting from one is masterd.restarts.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct, field

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.reasons import Reason
from godwit.task.record import Snapshot, Spec, Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.judging import Judging
from masterd.lodging import Lodging
from masterd.orders import Gather, Orders, unreachable
from masterd.references import by_number
from masterd.registry import Node, Registry
from masterd.schedules import Done, Schedules, check

#: Seconds that a task has to end its step, and its node to write and compress its state.
CHECKPOINT_S = 600.0
#: Seconds that a node has to tell what it has.
LIST_S = 10.0
#: Most snapshots kept of one task.
MOST_KEPT = 100
#: And of one of which a move takes one.
BY_MOVE = 3
#: With these a node says that it cannot just now: a beat of a schedule is left out.
LATER = ("busy", "moving", "paused", "ended")


#: By operator and request.
Waiting = dict[tuple[int, int], Callable[[], Iterator[do.Action]]]


class Taken(Struct, frozen=True):
    """What came of a checkpoint."""

    snapshot: Snapshot | None
    #: Who has it.
    nodes: tuple[Node, ...] = ()
    #: Why there is none, or no copy of it, and what would change that.
    code: str = ""
    text: str = ""
    hint: str = ""


class Found(Struct):
    """One snapshot, and who has it: the task's own node first, then its peer."""

    snapshot: Snapshot
    nodes: list[Node] = field(default_factory=list)


class Subject(Struct, frozen=True):
    """A task that may have snapshots, and may be known by these alone."""

    id: str
    task: Task | None = None
    node: Node | None = None


class Snapshots:
    """See the module."""

    def __init__(
        self, registry: Registry, orders: Orders, judging: Judging, lodging: Lodging,
        new_id: Callable[[], str], find: Callable[[str], str], now: Callable[[], float],
    ):
        """``find`` makes a task's id of a reference; ``now`` is monotonic seconds."""
        self._registry = registry
        self._orders = orders
        self._judging = judging
        self._lodging = lodging
        self._new_id = new_id
        self._find = find
        self._now = now
        #: By the order that a node has not answered yet: the task, and what waits for that.
        self._taking: dict[int, tuple[str, Waiting]] = {}

    def subject(self, reference: str) -> Subject:
        """Raises UsageError."""
        try:
            name = self._find(reference)
        except UsageError:
            lodged = [task for task in self._lodging.tasks() if task.startswith(reference)]
            if not reference or len(lodged) != 1 or lodged[0] in self._registry.where:
                raise
            return Subject(lodged[0])
        node = self._registry.where[name]
        return Subject(name, node.tasks[name], node)

    # ---- taking one ------------------------------------------------------------------------

    def checkpoint(
        self, operator: int, request: op.CheckpointTask, schedules: Schedules
    ) -> Iterator[do.Action]:
        """Raises UsageError."""
        name = self._find(request.task)
        if request.stop:
            yield from self._stop(operator, request.id, name, schedules)
            return
        if not 1 <= request.keep <= MOST_KEPT:
            text = f"{request.keep} snapshots are not between 1 and {MOST_KEPT}"
            raise UsageError(text, code="bad-count", exit_status=2)
        if request.every_s:
            check(request.every_s)
        node = self._registry.where[name]
        task = node.tasks[name]

        def then(taken: Taken) -> Iterator[do.Action]:
            if taken.snapshot is None:
                yield do.Answer(operator, _problem(request.id, taken))
                return
            here = self._registry.where.get(name)
            if request.every_s and here is not None and not here.tasks[name].status.ended:
                yield from schedules.set(name, request.every_s, request.keep)
                yield do.Commit()
            yield do.Answer(operator, self._told(request, taken))

        yield from self.take(task, node, request.keep, then)

    @staticmethod
    def _told(request: op.CheckpointTask, taken: Taken) -> op.Snapshots:
        assert taken.snapshot is not None
        nodes = tuple(node.name for node in taken.nodes)
        remarks = (f"kept on {nodes[0]} only: {taken.text}",) if taken.text else ()
        return op.Snapshots(
            request.id, (view(taken.snapshot, nodes),), remarks, request.every_s,
            request.keep if request.every_s else 0,
        )

    @staticmethod
    def _stop(
        operator: int, number: int, name: str, schedules: Schedules
    ) -> Iterator[do.Action]:
        if name not in schedules.all:
            raise UsageError(f"no snapshots of {name} are taken by themselves", code="no-schedule")
        yield from schedules.stop(name)
        yield do.Commit()
        text = f"{name}: no more snapshots are taken by themselves; those that are there stay"
        yield do.Answer(operator, op.Ok(number, text))

    def before_move(
        self, operator: int, request: op.MoveTask, task: Task, node: Node,
        then: Callable[[Taken], Iterator[do.Action]],
    ) -> Iterator[do.Action]:
        """Takes one; if none can be taken, that is the answer."""
        def taken(it: Taken) -> Iterator[do.Action]:
            if it.snapshot is None:
                yield do.Answer(operator, _problem(request.id, it))
            else:
                yield from then(it)

        yield from self.take(task, node, BY_MOVE, taken)

    def take(
        self, task: Task, node: Node, keep: int, then: Callable[[Taken], Iterator[do.Action]]
    ) -> Iterator[do.Action]:
        """Takes one, of a task that can be saved as it is, and has it copied to one other node."""
        if task.spec.kind == "python":
            yield from self._take(task, node, keep, then)
            return

        def judged(reason: Reason | None) -> Iterator[do.Action]:
            if reason is None:
                yield from self._take(task, node, keep, then)
            else:
                yield from then(Taken(None, (), reason.code, reason.text, reason.fix))

        yield from self._judging.before_snapshot(task, node, self._now(), judged)

    def _take(
        self, task: Task, node: Node, keep: int, then: Callable[[Taken], Iterator[do.Action]]
    ) -> Iterator[do.Action]:
        order = wire.Checkpoint(self._orders.number(), task.id, self._new_id(), keep)
        self._taking[order.order] = task.id, {}

        def answered(answer: wire.Message) -> Iterator[do.Action]:
            _, waiting = self._taking.pop(order.order)
            yield from told(answer)
            for goes_on in waiting.values():
                yield from goes_on()

        def told(answer: wire.Message) -> Iterator[do.Action]:
            if isinstance(answer, wire.Snapshots) and [one.id for one in answer.found] == [
                order.snapshot
            ]:
                (taken,) = answer.found
                yield from self._lodging.copy(
                    taken, task, node, keep, lambda peer, why: copied(taken, peer, why)
                )
                return
            done = answer if isinstance(answer, wire.Done) else wire.Done(
                order.order, "bad-answer", "it told of another snapshot"
            )
            text = done.text if done.code == "unreachable" else f"{node.name}: {done.text}"
            yield from then(Taken(None, (), done.code, text))

        def copied(taken: Snapshot, peer: Node | None, why: str) -> Iterator[do.Action]:
            nodes = (node,) if peer is None else (node, peer)
            yield from then(Taken(taken, nodes, "alone" if peer is None else "", why))

        yield from self._orders.send(
            node, order, order.order, self._now(), answered, within_s=CHECKPOINT_S,
            wanted=wire.Snapshots,
        )

    def wait(
        self, operator: int, request: int, task: str, then: Callable[[], Iterator[do.Action]]
    ) -> bool:
        """A snapshot of the task is being taken, for which it may stand still; ``then`` comes
        after that."""
        for of, waiting in self._taking.values():
            if of == task:
                waiting[operator, request] = then
                return True
        return False

    def cancel(self, operator: int, request: int | None = None) -> None:
        """Nobody waits for it any more."""
        for _, waiting in self._taking.values():
            for key in list(waiting):
                if key[0] == operator and request in (None, key[1]):
                    del waiting[key]

    def take_by_schedule(
        self, task: Task, node: Node, keep: int, done: Done
    ) -> Iterator[do.Action]:
        """As Schedules wants it."""
        def then(taken: Taken) -> Iterator[do.Action]:
            if taken.code in LATER:
                yield from done(None)
                return
            alone = taken.snapshot is not None and taken.text
            yield from done(f"kept on {node.name} only: {taken.text}" if alone else taken.text)

        yield from self.take(task, node, keep, then)

    # ---- what there is ---------------------------------------------------------------------

    def show(
        self, operator: int, request: op.ListSnapshots, schedules: Schedules
    ) -> Iterator[do.Action]:
        """Raises UsageError."""
        if not request.task:
            nodes = [node for node in self._registry.nodes.values() if node.connected]
            yield from self.gather("", nodes, lambda found, faults: self._tell(
                operator, op.Snapshots(request.id, (), tuple(faults)), found
            ))
            return
        subject = self.subject(request.task)
        schedule = schedules.all.get(subject.id)
        every_s, keep = (schedule.every_s, schedule.keep) if schedule else (0.0, 0)

        def then(found: list[Found], faults: list[str]) -> Iterator[do.Action]:
            remarks = (*faults, *self._away(subject))
            answer = op.Snapshots(request.id, (), remarks, every_s, keep)
            yield from self._tell(operator, answer, found)

        yield from self.gather(subject.id, self.having(subject), then)

    def _tell(
        self, operator: int, answer: op.Snapshots, found: list[Found]
    ) -> Iterator[do.Action]:
        views = tuple(view(one.snapshot, self._in_order(one)) for one in found)
        yield do.Answer(operator, op.Snapshots(
            answer.id, views, answer.remarks, answer.every_s, answer.keep
        ))

    def _in_order(self, one: Found) -> tuple[str, ...]:
        """The task's own node first, in whatever order they answered."""
        own = self._registry.where.get(one.snapshot.spec.task)
        nodes = sorted(one.nodes, key=lambda node: (node is not own, by_number(node.name)))
        return tuple(node.name for node in nodes)

    def having(self, subject: Subject) -> list[Node]:
        """Nodes that are there and may have some: the task's own first, then its peer."""
        node = subject.node
        own = [node] if node is not None and node.connected else []
        return [*own, *(other for other in self._lodging.nodes(subject.id) if other not in own)]

    def _away(self, subject: Subject) -> Iterator[str]:
        """What cannot be seen just now."""
        node = subject.node
        if node is not None and not node.connected:
            yield f"{unreachable(node)}: what it keeps is not shown"
        for name in self._lodging.away(subject.id):
            if node is None or node.name != name:
                yield f"{name} has copies, and is away"

    def none_there(self, subject: Subject) -> str:
        """Why nobody can be asked."""
        away = [*([subject.node.name] if subject.node else []), *self._lodging.away(subject.id)]
        names = ", ".join(dict.fromkeys(away)) or "its node"
        return f"no node that is up has a snapshot of {subject.id} (away: {names})"

    def gather(
        self, task: str, nodes: list[Node],
        then: Callable[[list[Found], list[str]], Iterator[do.Action]],
    ) -> Iterator[do.Action]:
        """Asks these nodes; tells what they have, the oldest first, and which did not answer."""
        told: dict[str, tuple[Snapshot, ...]] = {}
        faults: list[str] = []

        def finish() -> Iterator[do.Action]:
            found: dict[str, Found] = {}
            for node in nodes:
                for one in told.get(node.name, ()):
                    if task in ("", one.spec.task):  # a node speaks of what it was asked
                        found.setdefault(one.id, Found(one)).nodes.append(node)
            yield from then(sorted(found.values(), key=lambda one: one.snapshot.at), faults)

        gather = Gather(len(nodes), finish)
        if not nodes:
            yield from finish()
        for node in nodes:

            def answered(answer: wire.Message, node: Node = node) -> Iterator[do.Action]:
                if isinstance(answer, wire.Snapshots):
                    told[node.name] = answer.found
                else:
                    assert isinstance(answer, wire.Done)
                    faults.append(f"{node.name}: {answer.text}")
                yield from gather.one()

            order = wire.ListSnapshots(self._orders.number(), task)
            yield from self._orders.send(
                node, order, order.order, self._now(), answered, within_s=LIST_S,
                wanted=wire.Snapshots,
            )

    # ---- tasks that are known by their snapshots alone -------------------------------------

    def remove(self, operator: int, request: op.ForgetTasks) -> Iterator[do.Action] | None:
        """Has the snapshots of such tasks dropped, if all that are named are such."""
        try:
            subjects = [self.subject(reference) for reference in request.tasks]
        except UsageError:
            return None
        if not subjects or any(subject.task for subject in subjects):
            return None
        return self._remove(operator, request.id, subjects)

    def _remove(
        self, operator: int, number: int, subjects: list[Subject]
    ) -> Iterator[do.Action]:
        views = []
        for subject in subjects:
            (first, *_) = self._lodging.nodes(subject.id)
            views.append(op.TaskView(first.name, Task(
                Spec(subject.id, ()), Status.UNKNOWN, reason="only its snapshots were known",
            )))
            yield from self._lodging.forgotten(subject.id, True)
        yield do.Answer(operator, op.Tasks(number, tuple(views)))


def view(one: Snapshot, nodes: tuple[str, ...]) -> op.SnapshotView:
    """As people see it."""
    return op.SnapshotView(
        one.id, one.spec.task, nodes, one.spec.kind, one.at, one.size, one.packed,
        one.blackout_ms, one.writes,
    )


def _problem(number: int, taken: Taken) -> op.Problem:
    return op.Problem(number, taken.code, taken.text, taken.hint)
