"""Snapshots that nodes keep of tasks: asked for, listed, and started from.  Pure.

A task that is started from one has an id and a log of its own: whatever becomes of the task that
it was taken of, no id ever has two copies.
"""

from collections.abc import Callable, Iterator

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.record import Snapshot, Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.launches import MOST
from masterd.orders import Orders
from masterd.registry import Node

#: Seconds that a task has to end its step, and its node to write and compress its state.
CHECKPOINT_S = 600.0
#: Snapshots kept of a task of which a move keeps one.
BY_MOVE = 3
#: Most snapshots kept of one task.
MOST_KEPT = 100

Launch = Callable[[int, op.Execute], Iterator[do.Action]]


class Snapshots:
    """See the module."""

    def __init__(self, orders: Orders, new_id: Callable[[], str], launch: Launch):
        self._orders = orders
        self._new_id = new_id
        self._launch = launch

    def checkpoint(
        self, operator: int, request: op.CheckpointTask, task: Task, node: Node, now: float
    ) -> Iterator[do.Action]:
        """Raises UsageError."""
        if not 1 <= request.keep <= MOST_KEPT:
            text = f"{request.keep} snapshots are not between 1 and {MOST_KEPT}"
            raise UsageError(text, code="bad-count", exit_status=2)
        number = self._orders.number()
        order = wire.Checkpoint(number, task.id, self._new_id(), request.keep)
        yield from self._ask(
            operator, request.id, node, order, now, CHECKPOINT_S,
            lambda found: self._tell(operator, request.id, node, found),
        )

    def before_move(
        self, operator: int, request: op.MoveTask, task: Task, node: Node, now: float,
        then: Callable[[Snapshot], Iterator[do.Action]],
    ) -> Iterator[do.Action]:
        """Keeps one; if none can be kept, that is the answer."""
        def told(found: tuple[Snapshot, ...]) -> Iterator[do.Action]:
            if found:
                yield from then(found[-1])
            else:
                text = f"{node.name} has lost its snapshot"
                yield do.Answer(operator, op.Problem(request.id, "no-snapshot", text))

        order = wire.Checkpoint(self._orders.number(), task.id, self._new_id(), BY_MOVE)
        yield from self._ask(operator, request.id, node, order, now, CHECKPOINT_S, told)

    def list(
        self, operator: int, request: op.ListSnapshots, task: Task, node: Node, now: float
    ) -> Iterator[do.Action]:
        order = wire.ListSnapshots(self._orders.number(), task.id)
        yield from self._ask(
            operator, request.id, node, order, now, 10.0,
            lambda found: self._tell(operator, request.id, node, found),
        )

    def restart(
        self, operator: int, request: op.RestartTask, task: Task, node: Node, now: float
    ) -> Iterator[do.Action]:
        """Raises UsageError."""
        if not 1 <= request.count <= MOST:
            text = f"a count of {request.count} is not between 1 and {MOST}"
            raise UsageError(text, code="bad-count", exit_status=2)
        if not request.fork and not _is_over(task, node):
            raise UsageError(
                f"{task.id} has not ended ({task.status.value})", code="not-ended",
                hint="kill it first; or fork it, for a second one beside it",
            )
        order = wire.ListSnapshots(self._orders.number(), task.id)
        yield from self._ask(
            operator, request.id, node, order, now, 10.0,
            lambda found: self._start(operator, request, task, node, found),
        )

    # ---- parts -----------------------------------------------------------------------------

    def _ask(
        self, operator: int, request: int, node: Node,
        order: wire.Checkpoint | wire.ListSnapshots, now: float, within_s: float,
        then: Callable[[tuple[Snapshot, ...]], Iterator[do.Action]],
    ) -> Iterator[do.Action]:
        def answered(answer: wire.Message) -> Iterator[do.Action]:
            if isinstance(answer, wire.Snapshots):
                yield from then(answer.found)
            else:
                assert isinstance(answer, wire.Done)
                text = f"{node.name}: {answer.text}"
                yield do.Answer(operator, op.Problem(request, answer.code, text))

        yield from self._orders.send(
            node, order, order.order, now, answered, within_s=within_s, wanted=wire.Snapshots
        )

    def _tell(
        self, operator: int, request: int, node: Node, found: tuple[Snapshot, ...]
    ) -> Iterator[do.Action]:
        views = tuple(
            op.SnapshotView(one.id, one.spec.task, node.name, one.spec.kind, one.at, one.size,
                            one.packed, one.blackout_ms, one.writes)
            for one in found
        )
        yield do.Answer(operator, op.Snapshots(request, views))

    def _start(
        self, operator: int, request: op.RestartTask, task: Task, node: Node,
        found: tuple[Snapshot, ...],
    ) -> Iterator[do.Action]:
        chosen = [one for one in found if request.snapshot in ("", one.id)]
        if not chosen:
            which = f"no snapshot {request.snapshot}" if request.snapshot else "no snapshot"
            text = f"{node.name} has {which} of {task.id}"
            yield do.Answer(operator, op.Problem(
                request.id, "no-snapshot", text, "`snapshots TASK` lists them"
            ))
            return
        spec, writes = chosen[-1].spec, chosen[-1].writes
        if writes and (request.fork or request.count > 1):
            yield do.Answer(operator, _same_files(request, task, chosen[-1]))
            return
        yield from self._launch(operator, op.Execute(
            request.id, node.name, spec.argv, spec.shell, spec.cwd, spec.env, spec.name, spec.user,
            request.count, kind=spec.kind, contained=spec.contained,
            log_at_home=spec.log_at_home, snapshot=chosen[-1].id, digest=spec.digest,
        ))


def _is_over(task: Task, node: Node) -> bool:
    """For certain: its node says that it is gone, if not how.  Of one whose node is not heard a
    copy may be alive yet."""
    is_lost = task.status is Status.UNKNOWN and node.control is not None
    return task.status.ended or is_lost


def _same_files(request: op.RestartTask, task: Task, found: Snapshot) -> op.Problem:
    names = ", ".join(name.decode("utf-8", "backslashreplace") for name in found.writes[:3])
    more = f" and {len(found.writes) - 3} more" if len(found.writes) > 3 else ""
    return op.Problem(
        request.id, "writes", f"{task.id} had {names}{more} open for writing when snapshot "
        f"{found.id} was taken: copies of it would all write there",
        f"`restart {task.id} --from {found.id}` starts one, once it has ended",
    )
