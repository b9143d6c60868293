"""Commands for snapshots of tasks: checkpoint, snapshots, restart, fork."""

import time

from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd import render
from masterd.commands import asjson, asking
from masterd.commands.asking import Given
from masterd.commands.context import Context

_HEADERS = ("SNAPSHOT", "TASK", "TAKEN", "KIND", "SIZE", "KEPT", "STILL", "NODE")


def checkpoint(context: Context, given: Given) -> int:
    """Keep a snapshot of a running task, which goes on

    Usage: checkpoint [options] TASK

    The task stands still while its state is written; its node keeps it, compressed, as long as it
    has the task, until N later ones are there.  The state is a Python task's object; of any other
    task all of its processes and their memory, saved as for a move: what keeps a task from moving
    (`why TASK` tells) keeps it from this, too.  The files that it has open below its working
    directory are part of it.  A task that cannot be kept goes on.

    Options:
      --keep N     How many of the task's snapshots are kept, 1 to 100  [default: 3]
      -q, --quiet  The snapshot's id only.
      --json       As JSON: {"snapshots"}.
      -h, --help   Show this.

    Examples:
      checkpoint ab12cd34
      checkpoint ab12cd34 --keep 10
    """
    keep = _count(given["--keep"], "--keep")
    return _show(context, given, op.CheckpointTask(0, given["TASK"], keep))


def snapshots(context: Context, given: Given) -> int:
    """List the snapshots of a task

    Usage: snapshots [options] TASK

    The oldest first: its id, the task, when it was taken, kind, the state's size, what is kept
    of it on the disk, how long the task stood still for it, and where it is.

    Options:
      -q, --quiet  Ids only.
      --json       As JSON: {"snapshots"}.
      -h, --help   Show this.

    Examples:
      snapshots ab12cd34
    """
    return _show(context, given, op.ListSnapshots(0, given["TASK"]))


def restart(context: Context, given: Given) -> int:
    """Start an ended task again from a snapshot

    Usage: restart [options] TASK

    From the last one unless told, on the node that keeps it.  It has a new id and a log of its
    own, which begins where the snapshot was taken: what the task wrote after that is in the old
    log, and is written again.  It must have ended, or be lost for certain: one that a move still
    holds, or whose node cannot be reached, may be running.

    It finds the files that it had open below its working directory as they were in the snapshot;
    what is there by then is kept beside them, as NAME.before-ID.  If another process has one of
    them open for writing, nothing is started.  What it had open elsewhere must be as it was.

    Options:
      --from SNAPSHOT  Another snapshot than the last.
      -q, --quiet      The new task's id only.
      --json           As JSON: {"tasks"}.
      -h, --help       Show this.

    Examples:
      restart ab12cd34
      restart ab12cd34 --from k2m9x1qa
    """
    return _start(context, given, fork=False, count=1)


def fork(context: Context, given: Given) -> int:
    """Start copies of a task from a snapshot, beside it

    Usage: fork [options] TASK

    Each has an id and a log of its own, on the node that keeps the snapshot; the task itself
    goes on.  Pids inside of a copy, and its environment, are as they were.  A task that had files
    open for writing is not forked, as all copies would write the same ones.

    Options:
      --from SNAPSHOT  Another snapshot than the last.
      --count N        So many copies  [default: 1]
      -q, --quiet      Ids of the new tasks only.
      --json           As JSON: {"tasks"}.
      -h, --help       Show this.

    Examples:
      fork ab12cd34 --count 4
    """
    return _start(context, given, fork=True, count=_count(given["--count"], "--count"))


def _count(text: str, option: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) < 1:
        raise UsageError(f"{option} {text}: not a number from 1 up", code="usage", exit_status=2)
    return int(text)


def _start(context: Context, given: Given, *, fork: bool, count: int) -> int:
    request = op.RestartTask(0, given["TASK"], given["--from"] or "", fork, count)
    answer = context.master.ask(request, op.Tasks)
    return asking.acted(context, given, answer, lambda view: "started")


def _show(context: Context, given: Given, request: op.CheckpointTask | op.ListSnapshots) -> int:
    found = context.master.ask(request, op.Snapshots).snapshots
    if given["--json"]:
        context.line(asjson.dumps({"snapshots": [_fields(one) for one in found]}))
        return 0
    if given["--quiet"]:
        lines = [one.id for one in found]
    else:
        rows = [_row(one) for one in found]
        lines = render.table(_HEADERS, rows, right=("SIZE", "KEPT", "STILL"))
    for line in lines if found else ():
        context.line(line)
    return 0


def _row(one: op.SnapshotView) -> tuple[str, ...]:
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
    sizes = render.human_bytes(one.size), render.human_bytes(one.packed)
    still = render.milliseconds(one.blackout_ms) if one.blackout_ms else "-"
    return one.id, one.task, taken, one.kind, *sizes, still, one.node


def _fields(one: op.SnapshotView) -> dict[str, object]:
    return {
        "id": one.id, "task": one.task, "at": one.at, "kind": one.kind, "bytes": one.size,
        "kept_bytes": one.packed, "blackout_ms": one.blackout_ms or None,
        "writes": [asjson.text(name) for name in one.writes], "node": one.node,
    }
