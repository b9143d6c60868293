"""What is in the way of a move, as far as is known without asking any node.  Pure."""

from collections.abc import Iterator

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.reasons import Reason
from godwit.task.record import Task
from godwit.wire import operations as op
from masterd.moves import places
from masterd.moves.here import Here
from masterd.orders import unreachable
from masterd.registry import Node

#: Kind of task -> how it is moved, if it can be.
WAYS = {"python": "python", "shell": "criu"}

CANNOT = "`list` shows what each node can do"


class Objections:
    def __init__(self, here: Here):
        self._here = here

    def check(self, request: op.MoveTask, task: Task, source: Node, target: Node) -> None:
        """Raises UsageError for what is known already to be in the way."""
        if request.source and request.source != source.name:
            raise UsageError(
                f"{task.id} is on {source.name}, not on {request.source}", code="elsewhere",
                hint=f"move {task.id} {target.name}",
            )
        if source is target:
            raise UsageError(f"{task.id} is on {target.name} already", code="there")
        for reason in self.objections(task, source, target):
            raise UsageError(reason.text, code=reason.code, hint=reason.fix)

    def objections(self, task: Task, source: Node, target: Node) -> Iterator[Reason]:
        """What is known, without asking anybody, to be in the way of a move."""
        if task.id in self._here.of:
            yield Reason("moving", f"{task.id} is moving already: {self._here.of[task.id].move.id}")
        if task.status.ended or task.status is Status.UNKNOWN:
            yield Reason("ended", f"{task.id} has ended ({task.status.value})")
        elif task.status is Status.FROZEN:
            yield Reason(
                "moving",
                f"{task.id} stands still for a move or a snapshot that this master is finding out "
                "about",
            )
        elif task.status is Status.PAUSED:
            yield Reason("paused", f"{task.id} is paused", f"`resume {task.id}` first")
        for node in (source, target):
            if not node.connected:
                yield Reason("unreachable", unreachable(node))
        if task.spec.kind == "adopted":
            yield Reason(
                "adopted",
                f"{task.id} was started by hand: it has no pid namespace of its own, and cannot "
                "move", "a task that `execute` starts can",
            )
        elif task.spec.kind not in WAYS:
            yield Reason(
                "kind", f"a {task.spec.kind} task cannot move from {source.name} to {target.name}",
                CANNOT,
            )
        elif WAYS[task.spec.kind] == "criu" and not task.spec.contained:
            how = "by a one-off command" if task.spec.oneoff else "with --plain"
            yield Reason(
                "plain",
                f"{task.id} was started {how}: it has no pid namespace of its own, and cannot move",
                "a task that `execute` starts without --plain can",
            )
        elif target.connected and WAYS[task.spec.kind] == "python":
            yield from places.judged_by_heart(task, source, target).reasons
