"""The life of a task, as a table.

Rules:
* a task ends once: exited, failed and lost-for-good (``unknown`` with ``Cause.LOST``) are final
  at the node, except that a task thought lost may still turn out to be running;
* ``paused`` is what a person did, ``frozen`` is what a move did, ``held`` is a move without a
  verdict; only the same hand takes it back;
* what is not in the table is refused: ``advance`` is its only reader.
"""

from enum import StrEnum

from godwit.errors import TaskError


class Status(StrEnum):
    """Where a task is in its life; the value is what users and scripts read."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    FROZEN = "frozen"
    HELD = "held"
    EXITED = "exited"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """No process of the task's own can be running any more."""
        return self in (Status.EXITED, Status.FAILED)

    @property
    def alive(self) -> bool:
        """The task has, as far as is known, a process."""
        return self in (Status.RUNNING, Status.PAUSED, Status.FROZEN, Status.HELD)


class Cause(StrEnum):
    """What moves a task from one status to another."""

    STARTED = "started"
    REFUSED = "refused"  # its program could not be executed
    PAUSED = "paused"
    RESUMED = "resumed"
    FROZE = "froze"
    THAWED = "thawed"
    HELD = "held"
    ENDED = "ended"  # the kernel told its status
    LOST = "lost"  # it is gone and the kernel's answer cannot be had
    FOUND = "found"  # it was thought lost and is there


TABLE: dict[Status, dict[Cause, Status]] = {
    Status.STARTING: {
        Cause.STARTED: Status.RUNNING,
        Cause.REFUSED: Status.FAILED,
        Cause.ENDED: Status.EXITED,
        Cause.LOST: Status.UNKNOWN,
    },
    Status.RUNNING: {
        Cause.PAUSED: Status.PAUSED,
        Cause.FROZE: Status.FROZEN,
        Cause.ENDED: Status.EXITED,
        Cause.LOST: Status.UNKNOWN,
    },
    Status.PAUSED: {
        Cause.RESUMED: Status.RUNNING,
        Cause.ENDED: Status.EXITED,
        Cause.LOST: Status.UNKNOWN,
    },
    Status.FROZEN: {
        Cause.THAWED: Status.RUNNING,
        Cause.HELD: Status.HELD,
        Cause.ENDED: Status.EXITED,
        Cause.LOST: Status.UNKNOWN,
    },
    Status.HELD: {
        Cause.THAWED: Status.RUNNING,
        Cause.ENDED: Status.EXITED,
        Cause.LOST: Status.UNKNOWN,
    },
    Status.UNKNOWN: {
        Cause.FOUND: Status.RUNNING,
        Cause.ENDED: Status.EXITED,
    },
    Status.EXITED: {},
    Status.FAILED: {},
}


def advance(status: Status, cause: Cause) -> Status:
    """The status that follows.  Raises TaskError when the table has no such step."""
    try:
        return TABLE[status][cause]
    except KeyError:
        text = f"a task that is {status.value} cannot be {cause.value}"
        raise TaskError("bad-step", text) from None
