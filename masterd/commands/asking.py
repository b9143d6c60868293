"""What several commands ask and say alike: numbers, formats, references, faults, statuses."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.record import Task, shell_status, signal_name
from godwit.wire import operations as op
from masterd.commands import asjson
from masterd.commands.context import Context

Given = Mapping[str, Any]

#: Ways to write tables, for -o.
FORMATS = ("table", "wide", "json", "jsonl", "name")

_WHOLE = re.compile(r"[0-9]{1,9}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_SPAN = re.compile(r"([0-9]{1,9})([smhd])")
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def misuse(message: str, hint: str = "") -> UsageError:
    """Wrong usage: status 2."""
    return UsageError(message, code="usage", hint=hint, exit_status=2)


def output_format(given: Given, allowed: Sequence[str] = FORMATS) -> str:
    """What -o and --json ask for.  Raises UsageError (status 2)."""
    if given["--json"]:
        return "json"
    chosen = given["--output"] or "table"
    if chosen not in allowed:
        raise misuse(f"no output format {chosen!r}", f"one of {', '.join(allowed)}")
    return str(chosen)


def whole(text: str, option: str, least: int = 0) -> int:
    """The number after ``option``: ASCII digits only.  Raises UsageError (status 2)."""
    if not _WHOLE.fullmatch(text) or int(text) < least:
        raise misuse(f"{option} takes a whole number from {least} up, not {text!r}")
    return int(text)


def seconds(text: str | None, option: str) -> float | None:
    """Seconds: 90, 0.5, or 10m and 1h30m.  Raises UsageError (status 2)."""
    if text is None:
        return None
    found = float(text) if _SECONDS.fullmatch(text) else span(text)
    if found is None:
        raise misuse(f"{option} takes seconds, or a time like 10m, not {text!r}")
    return found


def span(text: str) -> float | None:
    """Seconds in 45s, 10m, 1h30m, 2d; None for anything else."""
    parts = _SPAN.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        return None
    return float(sum(int(count) * _SPANS[unit] for count, unit in parts))


def faults(context: Context, found: Sequence[op.Fault]) -> int:
    """One line on stderr for each; the exit status they make."""
    context.out.flush()
    for fault in found:
        hint = f" ({fault.hint})" if fault.hint else ""
        context.note(f"{fault.message}{hint}")
    return 1 if found else 0


def status_text(task: Task) -> str:
    """running, exited 3, exited SIGKILL, failed: why."""
    if task.status is Status.EXITED:
        if task.signal is not None:
            return f"exited {signal_name(task.signal)}"
        return "exited" if task.exit_code is None else f"exited {task.exit_code}"
    if task.status is Status.FAILED and task.reason:
        return f"failed: {task.reason}"
    return str(task.status.value)


def exit_text(task: Task) -> str:
    """exit 3, SIGKILL, or why nobody knows: for the summary of a remote command."""
    if task.exit_code is not None:
        return f"exit {task.exit_code}"
    if task.signal is not None:
        return signal_name(task.signal) + (" (core dumped)" if task.core_dumped else "")
    return f"{task.status.value}: {task.reason}" if task.reason else task.status.value


def first_failure(views: Sequence[op.TaskView]) -> int:
    """The first exit status that is not 0, as a shell would show it; else 0."""
    return next((s for view in views if (s := shell_status(view.task))), 0)


def acted(
    context: Context, given: Given, answer: op.Tasks, said: Callable[[op.TaskView], str]
) -> int:
    """Shows what was done to tasks: JSON, ids only, or a line for each.  The exit status."""
    if given["--json"]:
        context.line(asjson.dumps(asjson.tasks(answer.tasks, answer.faults)))
    elif given["--quiet"]:
        for view in answer.tasks:
            context.line(view.task.id)
    else:
        for view in answer.tasks:
            context.line(f"{view.task.id} on {view.node}: {said(view)}")
    return faults(context, answer.faults)
