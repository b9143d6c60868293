"""Commands for snapshots of tasks: checkpoint, snapshots, restart, fork."""

import time

from godwit.wire import operations as op
from masterd import render
from masterd.commands import asjson, asking
from masterd.commands.asking import Given
from masterd.commands.context import Context

#: More the master takes of neither snapshots nor copies.
MOST = 10_000
_HEADERS = ("SNAPSHOT", "TASK", "TAKEN", "KIND", "SIZE", "KEPT", "STILL", "NODES")


def checkpoint(context: Context, given: Given) -> int:
    """Keep a snapshot of a running task, which goes on

    Usage: checkpoint [options] TASK

    The task stands still while its state is written; its node keeps it, compressed, as long as it
    has the task, until N later ones are there.  The state is a Python task's object; of any other
    task all of its processes and their memory, saved as for a move: what keeps a task from moving
    (`why TASK` tells) keeps it from this, too.  The files that it has open below its working
    directory are part of it.  A task that cannot be kept goes on.

    A copy goes to one other node that is up and could run it, the same each time while that is so;
    this waits for it.  Where there is none, that is said, and the snapshot is on the task's node
    only.

    With --every another is taken each so often, on whatever node the task is then, till it ends;
    while it cannot be (its node is away, it is paused or moves) it is left out.

    Options:
      --keep N      How many of the task's snapshots are kept, 1 to 100  [default: 3]
      --every TIME  And again each so often: 60s, 10m, 1h; from 1s to 31d.
      --stop        No more by themselves; those that are there stay.
      -q, --quiet   The snapshot's id only.
      --json        As JSON: {"snapshots"}; with --stop {"task"}.
      -h, --help    Show this.

    Examples:
      checkpoint ab12cd34
      checkpoint ab12cd34 --every 60s --keep 10
      checkpoint ab12cd34 --stop
    """
    if given["--stop"]:
        return _stop(context, given)
    keep = _count(given["--keep"], "--keep")
    every = asking.seconds(given["--every"], "--every")
    if every == 0:
        raise asking.misuse("--every takes a time from 1s up")
    return _show(context, given, op.CheckpointTask(0, given["TASK"], keep, every or 0.0))


def _stop(context: Context, given: Given) -> int:
    if given["--every"]:
        raise asking.misuse("--stop and --every are not for one task at once")
    answer = context.master.ask(op.CheckpointTask(0, given["TASK"], stop=True), op.Ok)
    if given["--json"]:
        context.line(asjson.dumps({"task": given["TASK"]}))
    elif not given["--quiet"]:
        context.note(answer.text)
    return 0


def snapshots(context: Context, given: Given) -> int:
    """List the snapshots of a task, or of all

    Usage: snapshots [options] [TASK]

    The oldest first: its id, the task, when it was taken, kind, the state's size, what is kept
    of it on the disk, how long the task stood still for it, and the nodes that have it.

    Options:
      -q, --quiet  Ids only.
      --json       As JSON: {"snapshots"}; of a task also "every_s", "keep" and "remarks".
      -h, --help   Show this.

    Examples:
      snapshots ab12cd34
      snapshots
    """
    return _show(context, given, op.ListSnapshots(0, given["TASK"] or ""))


def restart(context: Context, given: Given) -> int:
    """Start an ended task again from a snapshot

    Usage: restart [options] TASK [NODE]

    From the last one unless told; on NODE, which gets the snapshot first if it has it not, else
    on a node that has it.  It has a new id and a log of its own, which begins where the snapshot
    was taken: what the task wrote after that is in the old log, and is written again.  It must
    have ended, and no move may hold it.

    It finds the files that it had open below its working directory as they were in the snapshot;
    what is there by then is kept beside them, as NAME.before-ID.  If another process has one of
    them open for writing, nothing is started.  What it had open elsewhere must be as it was.

    A task whose node is gone may run on there.  If you know that it does not, say --lost: should
    that node come back with it, it is ended there.

    Options:
      --from SNAPSHOT  Another snapshot than the last.
      --lost           Nobody can say what became of the task: it counts as ended.
      -q, --quiet      The new task's id only.
      --json           As JSON: {"tasks"}.
      -h, --help       Show this.

    Examples:
      restart ab12cd34
      restart ab12cd34 --from k2m9x1qa node3
      restart ab12cd34 --lost
    """
    nodes = (given["NODE"],) if given["NODE"] else ()
    request = op.RestartTask(
        0, given["TASK"], given["--from"] or "", nodes=nodes, lost=given["--lost"]
    )
    return _start(context, given, request)


def fork(context: Context, given: Given) -> int:
    """Start copies of a task from a snapshot, beside it

    Usage: fork [options] TASK [NODES...]

    Each has an id and a log of its own; the task itself goes on.  They start on each of NODES,
    which get the snapshot first where they have it not, or else on a node that has it.  Pids
    inside of a copy, and its environment, are as they were.  A task that had files open for
    writing is not forked, as all copies would write the same ones.

    Options:
      --from SNAPSHOT  Another snapshot than the last.
      --count N        So many copies on each node  [default: 1]
      -q, --quiet      Ids of the new tasks only.
      --json           As JSON: {"tasks"}.
      -h, --help       Show this.

    Examples:
      fork ab12cd34 --count 4
      fork ab12cd34 node2 node3
      fork ab12cd34 @web[1-4] --count 2
    """
    request = op.RestartTask(
        0, given["TASK"], given["--from"] or "", True,
        _count(given["--count"], "--count"), tuple(given["NODES"]),
    )
    return _start(context, given, request)


def _count(text: str, option: str) -> int:
    count = asking.whole(text, option, 1)
    if count > MOST:
        raise asking.misuse(f"{option} takes at most {MOST}, not {count}")
    return count


def _start(context: Context, given: Given, request: op.RestartTask) -> int:
    answer = context.master.ask(request, op.Tasks)
    return asking.acted(context, given, answer, lambda view: "started")


def _show(context: Context, given: Given, request: op.CheckpointTask | op.ListSnapshots) -> int:
    answer = context.master.ask(request, op.Snapshots)
    found = answer.snapshots
    if given["--json"]:
        context.line(asjson.dumps({
            "snapshots": [_fields(one) for one in found], "every_s": answer.every_s or None,
            "keep": answer.keep or None, "remarks": list(answer.remarks),
        }))
        return 0
    if given["--quiet"]:
        lines = [one.id for one in found]
    else:
        rows = [_row(one) for one in found]
        lines = render.table(_HEADERS, rows, right=("SIZE", "KEPT", "STILL"))
    for line in lines if found else ():
        context.line(line)
    if not given["--quiet"]:
        if not found:
            context.note("no snapshots")
        _remark(context, answer)
    return 0


def _remark(context: Context, answer: op.Snapshots) -> None:
    context.out.flush()
    for remark in answer.remarks:
        context.note(render.printable(remark))
    if answer.every_s:
        context.note(f"one each {render.age(answer.every_s)}, the last {answer.keep} are kept")


def _row(one: op.SnapshotView) -> tuple[str, ...]:
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
    sizes = render.human_bytes(one.size), render.human_bytes(one.packed)
    still = render.milliseconds(one.blackout_ms) if one.blackout_ms else "-"
    return one.id, one.task, taken, one.kind, *sizes, still, ", ".join(one.nodes)


def _fields(one: op.SnapshotView) -> dict[str, object]:
    return {
        "id": one.id, "task": one.task, "at": one.at, "kind": one.kind, "bytes": one.size,
        "kept_bytes": one.packed, "blackout_ms": one.blackout_ms or None,
        "writes": [asjson.text(name) for name in one.writes], "nodes": list(one.nodes),
    }
