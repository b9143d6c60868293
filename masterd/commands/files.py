"""Commands about files: copy, remove."""

import contextlib
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from msgspec import Struct

from godwit import bulk
from godwit.errors import TransferError, UsageError
from godwit.wire import operations as op
from masterd import render
from masterd.client import Answers, Client, MasterGone, TimedOut
from masterd.commands import asjson, asking, bars, nodes
from masterd.commands.asking import Given
from masterd.commands.context import Context

#: The code of a connection that ended before the copy did (godwit.bulk.faults).
CUT = "cut"
#: Codes of what ends a copy that goes on later; the second is of a node that went away
#: (masterd.orders).
BROKEN_OFF = frozenset({CUT, "lost"})
#: Once it was broken off, a node that is not back yet is waited for.
NOT_BACK = BROKEN_OFF | {"unreachable"}
#: Pauses, seconds, before a copy that was cut is taken up again.
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Seconds the master has to say why a connection for a copy was cut.
EXPLAIN_S = 5.0


def copy(context: Context, given: Given) -> int:
    """Copy a file or folder to, from or between nodes

    Usage: copy [options] SRC DST

    Either side may be NODE:PATH, or both; a PATH that is not absolute is below the node's folder
    for files, any other must lie in a folder that the node's clientd.toml opens to copies.
    A local name with a colon is written ./a:b.  As with cp, what is copied goes into DST when that
    is a folder.  The digest is checked, nothing half copied stands under the final name, and a
    copy that was cut goes on from where it was.

    Options:
      -q, --quiet  No progress bar and no closing line.
      --json       As JSON: {"copied": {"size", "files", "path", "warnings"}}.
      -h, --help   Show this.

    Examples:
      copy report.csv node1:
      copy node1:results ./
      copy node1:/srv/model node2:/srv/
    """
    source, target = place(given["SRC"]), place(given["DST"])
    if not source.node and not target.node:
        raise asking.misuse(
            "both sides are on this machine", "write NODE:PATH for one of them, or use cp"
        )
    request = op.Copy(0, absolute(source), absolute(target))
    with _bar(context, given, source) as bar:
        done = _copied(context, request, bar)
    for warning in done.warnings:
        context.note(warning)
    path = _shown(op.Place(done.path or target.path, target.node))
    if given["--json"]:
        context.line(asjson.dumps({"copied": {
            "size": done.size, "files": done.files, "path": path,
            "warnings": list(done.warnings),
        }}))
    elif not given["--quiet"]:
        files = "1 file" if done.files == 1 else f"{done.files} files"
        context.note(f"{path}: {files}, {done.size} bytes")
    return 0


def place(text: str) -> op.Place:
    """NODE:PATH, or a local path: one without a colon, or with a slash before the first."""
    node, colon, path = text.partition(":")
    if colon and node and "/" not in node:
        return op.Place(os.fsencode(path), node)
    return op.Place(os.fsencode(text))


def absolute(it: op.Place) -> op.Place:
    """A local path from the root on, for the master's log; its last slash, if any, stays."""
    if it.node or not it.path:
        return it
    slash = b"/" if it.path.endswith(b"/") else b""
    try:
        return op.Place(os.path.abspath(it.path).rstrip(b"/") + slash or b"/")
    except FileNotFoundError as err:
        raise UsageError("the folder that this runs in is gone", code="not-found") from err


def _copied(context: Context, request: op.Copy, bar: bulk.Progress) -> bulk.Summary:
    """One copy, taken up again after a cut connection.  Raises UsageError."""
    passing = BROKEN_OFF
    for pause in PAUSES_S:
        try:
            return _attempt(context.master, request, bar)
        except UsageError as err:
            if err.code not in passing:
                raise
        if passing is BROKEN_OFF:
            context.note("the connection was cut: the copy goes on from there")
        passing = NOT_BACK
        time.sleep(pause)
    return _attempt(context.master, request, bar)


def _attempt(client: Client, request: op.Copy, bar: bulk.Progress) -> bulk.Summary:
    """What the receiving end says of the copy.  Raises UsageError."""
    received: bulk.Summary | None = None
    with client.stream(request) as answers:
        for reply in answers:
            match reply:
                case op.Ticket():
                    done = _local_end(client, answers, request, reply, bar)
                    received = done if reply.role == "receive" else None
                case op.Progress(done=done_bytes, total=total):
                    bar(done_bytes, total)
                case op.CopyDone(size=size, files=files, path=path, warnings=warnings):
                    return received or bulk.Summary(size, files, path, warnings)
                case _:
                    pass
    raise UsageError("the master did not say how the copy went", code="unknown", exit_status=125)


def _local_end(
    client: Client, answers: Answers, request: op.Copy, ticket: op.Ticket, bar: bulk.Progress
) -> bulk.Summary:
    """This process's part of a copy.  Raises UsageError."""
    with client.open_bulk(ticket.ticket, ticket.role) as link:
        try:
            if ticket.role == "send":
                return bulk.send(link, request.source.path, bar)
            return bulk.receive(link, request.target.path, bar)
        except TransferError as err:
            if err.code == CUT:
                _explain(answers)
            far = f"{request.source.node or request.target.node}: " if err.remote else ""
            raise UsageError(far + err.text, code=err.code) from err


def _explain(answers: Answers) -> None:
    """Raises what the master says of a connection that ended, if it says anything."""
    answers.deadline = time.monotonic() + EXPLAIN_S
    with contextlib.suppress(TimedOut):
        for _ in answers:
            pass


def _bar(context: Context, given: Given, source: op.Place) -> AbstractContextManager[bars.Bar]:
    return bars.bar(context, _shown(source), wanted=not given["--quiet"])


class Doomed(Struct, frozen=True):
    """What remove was told to remove, files and tasks told apart."""

    places: tuple[op.Place, ...]
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, words: list[str]) -> "Doomed":
        """NODE:PATH is a file; NODE:PID, a pid and an id are tasks."""
        found = [(word, place(word)) for word in words]
        files = [p for word, p in found if p.node and not p.path.isdigit()]
        tasks = [word for word, p in found if not p.node or p.path.isdigit()]
        return cls(tuple(files), tuple(tasks))


def remove(context: Context, given: Given) -> int:
    """Delete files on nodes; end tasks and forget them and their logs

    Usage: remove [options] WHAT...

    WHAT is NODE:PATH, or a task.  NODE:123 is a pid; a file of that name is NODE:./123.  On a
    terminal it asks first.

    Options:
      -r, --recursive  Folders too, with all that is in them.
      -y, --yes        Do not ask.
      -n, --dry-run    Only say what would be removed.
      --json           As JSON: {"tasks", "files"}.
      -h, --help       Show this.

    Examples:
      remove ab12cd34
      remove -r node1:/tmp/build node2:/tmp/build
    """
    doomed = Doomed.of(given["WHAT"])
    client = context.master
    found = client.ask(op.ListTasks(0, doomed.tasks), op.Tasks) if doomed.tasks else op.Tasks(0, ())
    if given["--dry-run"]:
        return _tell(context, given, "would remove", doomed.places, found.tasks, found.faults)
    asks = bool(doomed.places or found.tasks) and not given["--yes"]
    if asks and not context.confirm(_question(doomed.places, found.tasks)):
        context.note("nothing was removed")
        return 1
    forgotten = _forget(client, found.tasks)
    gone, kept = _erase(client, doomed.places, recursive=given["--recursive"])
    faults = (*found.faults, *forgotten.faults, *kept)
    return _tell(context, given, "removed", gone, forgotten.tasks, faults)


def _question(places: Sequence[op.Place], tasks: Sequence[op.TaskView]) -> str:
    """Remove 1 running task, 2 ended tasks, node1:/tmp/x?"""
    alive = sum(not view.task.status.ended for view in tasks)
    ended = len(tasks) - alive
    what = [nodes.tasks_text(alive)] if alive else []
    what += [f"{ended} ended {'task' if ended == 1 else 'tasks'}"] if ended else []
    return f"Remove {', '.join([*what, *map(_shown, places)])}?"


def _forget(client: Client, tasks: Sequence[op.TaskView]) -> op.Tasks:
    if not tasks:
        return op.Tasks(0, ())
    ids = tuple(view.task.id for view in tasks)
    return client.ask(op.ForgetTasks(0, ids), op.Tasks)


def _erase(
    client: Client, places: Sequence[op.Place], *, recursive: bool
) -> tuple[list[op.Place], list[op.Fault]]:
    """Which are gone, and why the others are not."""
    gone: list[op.Place] = []
    faults: list[op.Fault] = []
    for each in places:
        try:
            client.ask(op.EraseFile(0, each, recursive=recursive), op.Ok)
            gone.append(each)
        except MasterGone:
            raise
        except UsageError as err:
            hint = "remove -r" if err.code == "is-folder" else err.hint
            faults.append(op.Fault(_shown(each), err.code, err.message, hint))
    return gone, faults


def _tell(
    context: Context, given: Given, verb: str,
    places: Sequence[op.Place], tasks: Sequence[op.TaskView], faults: Sequence[op.Fault],
) -> int:
    """What was removed, or would be, and what was not; the exit status."""
    if given["--json"]:
        document = asjson.tasks(tasks, faults)
        context.line(asjson.dumps({**document, "files": [_shown(each) for each in places]}))
    else:
        for view in tasks:
            context.line(f"{view.task.id} on {view.node}: {verb}")
        for each in places:
            context.line(f"{render.printable(_shown(each))}: {verb}")
    return asking.faults(context, faults)


def _shown(it: op.Place) -> str:
    """NODE:PATH, or a local path, as text."""
    return f"{it.node}:{asjson.text(it.path)}" if it.node else asjson.text(it.path)
