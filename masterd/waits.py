"""Operators who wait for tasks to end.  Pure."""

from collections.abc import Iterator

from msgspec import Struct

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.wire import operations as op
from masterd import actions as do
from masterd.registry import Registry, State

#: What `timeout(1)` exits with when the time is over.
TIMEOUT_STATUS = 124


class Wait(Struct):
    """One AwaitTasks."""

    operator: int
    id: int
    tasks: tuple[str, ...]
    left: set[str]
    due: float
    timeout_s: float


class Waits:
    """All waits."""

    def __init__(self, registry: Registry):
        self._registry = registry
        self._waits: list[Wait] = []

    def begin(
        self, operator: int, request: op.AwaitTasks, tasks: list[str], now: float
    ) -> Iterator[do.Action]:
        """Waits until all of ``tasks`` have ended, as far as can be known."""
        left = {task for task in tasks if not self._final(task)}
        timeout = request.timeout_s
        if timeout is not None and not timeout >= 0:  # no number is neither
            raise UsageError(
                f"{timeout:g} is no time to wait", code="bad-timeout", exit_status=2,
                hint="give seconds, 0 or more",
            )
        due = float("inf") if timeout is None else now + timeout
        wait = Wait(operator, request.id, tuple(tasks), left, due, timeout or 0.0)
        self._waits.append(wait)
        yield from self._answer_if_complete(wait)

    def _final(self, task: str) -> bool:
        """The node itself says that it ended, or that it cannot be known; or it left for good."""
        node = self._registry.where.get(task)
        if node is None or node.state is State.LEFT:
            return True
        status = node.tasks[task].status
        return status.ended or status is Status.UNKNOWN

    def changed(self, task: str) -> Iterator[do.Action]:
        """A task may have ended, or be gone."""
        if not self._waits or not self._final(task):
            return
        for wait in [w for w in self._waits if task in w.left]:
            wait.left.discard(task)
            yield from self._answer_if_complete(wait)

    def _answer_if_complete(self, wait: Wait) -> Iterator[do.Action]:
        if not wait.left:
            self._waits.remove(wait)
            known = (task for task in wait.tasks if task in self._registry.where)
            views = tuple(self._registry.view(task) for task in known)
            yield do.Answer(wait.operator, op.Tasks(wait.id, views))

    def late(self, now: float) -> Iterator[do.Action]:
        for wait in [w for w in self._waits if w.due <= now]:
            self._waits.remove(wait)
            many = f"{len(wait.left)} tasks" if len(wait.left) > 1 else next(iter(wait.left))
            yield do.Answer(wait.operator, op.Problem(
                wait.id, "timeout", f"{many} still running after {wait.timeout_s:g} s",
                exit_status=TIMEOUT_STATUS,
            ))

    def deadline(self) -> float:
        return min((wait.due for wait in self._waits), default=float("inf"))

    def cancel(self, operator: int, request: int | None = None) -> None:
        """The operator no longer waits for this request, or is gone."""
        self._waits = [
            w for w in self._waits
            if w.operator != operator or request not in (None, w.id)
        ]
