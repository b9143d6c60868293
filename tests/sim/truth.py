"""What may be said of a task, given what the fake kernels know."""

from typing import TYPE_CHECKING

from clientd.keeper.records import told_by
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from tests.sim.world import Broken

if TYPE_CHECKING:
    from tests.sim.node import Node


class Truth:
    """Compares words with facts."""

    def __init__(self, nodes: "dict[str, Node]"):
        self._nodes = nodes

    def check(self, node: str, task: Task) -> None:
        """Raises Broken for a status that is a guess."""
        kernel = self._nodes[node].kernel
        run = kernel.runs.get(task.id)
        said = f"{task.id} on {node} is said to be {task.status.value}"
        match task.status:
            case Status.EXITED:
                if run is None or run.status is None:
                    raise Broken(f"{said}, but has not ended")
                if told_by(run.status)[:2] != (task.exit_code, task.signal):
                    raise Broken(f"{said} with {task.exit_code}/{task.signal}, not {run.status}")
            case Status.RUNNING | Status.PAUSED:
                if run is None or run.pid != task.pid:
                    raise Broken(f"{said} as pid {task.pid}, which is no truth")
            case Status.UNKNOWN:
                if not task.reason:
                    raise Broken(f"{said} for no reason")
            case Status.FAILED:
                if run is not None or not task.reason:
                    raise Broken(f"{said} ({task.reason}), but it was started")
                kernel.denied.add(task.id)
