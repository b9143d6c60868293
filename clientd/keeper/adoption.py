"""After a restart: what became of each task, from the journal and from what runs now.  Pure."""

from msgspec import Struct

from clientd.keeper.processes import Process
from clientd.keeper.records import Kept, Records, Started, Stepped
from godwit.task.lifecycle import Cause, Status
from godwit.task.record import Spec, Task

UNSTARTED = "clientd ended while starting it"
UNWATCHED = "ended while clientd was not running"
REBOOTED = "the machine restarted"
UNRECORDED = "its record was lost"
UNTOLD = "ended, but the process that inherited it from the old clientd took its status"


def left_text(count: int) -> str:
    """The reason shown for a task that has ended while others of its processes run on."""
    if count == 1:
        return "1 process it started still runs"
    return f"{count} processes it started still run"


class Sight(Struct, frozen=True):
    """What is to be seen of a task now."""

    #: Who has its root's pid.
    there: Process | None
    #: All processes that are the task's by their cgroup or their mark.
    found: list[Process]
    #: Where its log is, or would be.
    log: str
    #: Its leader's command line.
    words: tuple[bytes, ...] = ()


def decide(task: Task, sight: Sight, boot: str, at: float) -> Records | None:
    """What is to be recorded of a task that had not ended; nothing when it is as it was."""
    if task.status is Status.STARTING:
        return _unstarted(task, sight, boot, at)
    if is_same(task, sight.there, boot):
        return Stepped(task.id, Cause.FOUND) if task.status is Status.UNKNOWN else None
    if task.status is Status.UNKNOWN:
        return None
    reason = UNWATCHED if task.boot == boot else REBOOTED
    return Stepped(task.id, Cause.LOST, _with_left(reason, sight.found), at)


def is_same(task: Task, there: Process | None, boot: str) -> bool:
    """The process that now has the pid of the task's root is that root."""
    return (
        there is not None and task.boot == boot
        and (there.pid, there.start_ticks) == (task.pid, task.start_ticks)
    )


def _unstarted(task: Task, sight: Sight, boot: str, at: float) -> Records:
    leader = leader_of(sight.found)
    if leader is None:
        return Stepped(task.id, Cause.LOST, _with_left(UNSTARTED, sight.found), at)
    return Started(task.id, leader.pid, leader.start_ticks, boot, sight.log, at)


def unrecorded(task: str, sight: Sight, boot: str, at: float) -> Kept:
    """A task that no record speaks of, and that runs."""
    leader = leader_of(sight.found)
    spec = Spec(task, sight.words, asked_at=at)
    if leader is None:
        reason = _with_left(UNRECORDED, sight.found)
        return Kept(Task(spec, Status.UNKNOWN, reason=reason, log=sight.log, ended_at=at))
    return Kept(Task(
        spec, Status.RUNNING, leader.pid, leader.start_ticks, boot,
        reason=f"found running; {UNRECORDED}", log=sight.log, started_at=at,
    ))


def leader_of(found: list[Process]) -> Process | None:
    """The task's root among its processes: it leads its session; the oldest if several do."""
    leaders = [one for one in found if one.pid == one.session]
    return min(leaders, key=lambda one: one.start_ticks, default=None)


def _with_left(reason: str, found: list[Process]) -> str:
    return f"{reason}; {left_text(len(found))}" if found else reason
