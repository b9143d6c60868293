"""The JSON that scripts read: stable shapes, exact numbers; docs/commands.md shows them."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from godwit.task.record import Task, Usage, signal_name
from godwit.wire import operations as op

Document = dict[str, Any]

#: Of Usage, what is shown of a task; the rest of it is shown of nodes only.
TASK_USAGE = (
    "utime_s", "stime_s", "maxrss_bytes", "minflt", "majflt", "nvcsw", "nivcsw",
)


def dumps(document: Document) -> str:
    """One line; whatever is no ASCII is escaped, so any terminal and any locale can take it."""
    return json.dumps(document)


def task(view: op.TaskView) -> Document:
    """TASK of the documented shapes."""
    it = view.task
    return {
        "task": it.id,
        "node": view.node,
        "home": it.spec.home or view.node,
        "kind": it.spec.kind,
        "command": it.spec.command,
        "pid": it.pid,
        "status": it.status.value,
        "exit_code": it.exit_code,
        "signal": None if it.signal is None else signal_name(it.signal),
        "reason": it.reason or None,
        "epoch": it.spec.epoch,
        "log": it.log or None,
        "name": it.spec.name or None,
        "user": it.spec.user or None,
        "started_at": it.started_at or None,
        "ended_at": it.ended_at or None,
        "snapshot_every_s": view.every_s or None,
    }


def node(view: op.NodeView) -> Document:
    """One node with its tasks."""
    return {
        "name": view.name,
        "address": view.address,
        "state": view.state,
        "load": fields(view.load),
        "can": list(view.can),
        "lacks": view.lacks,
        "system": view.system,
        "silent_s": round(view.silent_s, 3),
        "tasks": [task(each) for each in view.tasks],
    }


def tasks(views: Sequence[op.TaskView], faults: Sequence[op.Fault] = ()) -> Document:
    """{"tasks": [TASK]}, and what could not be done."""
    return {"tasks": [task(view) for view in views], **errors(faults)}


def errors(faults: Sequence[op.Fault]) -> Document:
    """Nothing when there are no faults; else the first as "error" and all as "faults"."""
    if not faults:
        return {}
    first = faults[0]
    return {
        "error": {"code": first.code, "message": first.message, "hint": first.hint},
        "faults": [fields(fault) for fault in faults],
    }


def usage_of_task(view: op.TaskView) -> Document:
    """A task's usage, null while it is not known."""
    used = fields(view.task.usage) if view.task.usage else dict.fromkeys(fields(Usage()))
    return {
        "task": view.task.id,
        **{name: used[name] for name in TASK_USAGE},
        "maxrss_is_bound": used["maxrss_is_bound"],
        "node": view.node,
        "status": view.task.status.value,
    }


def usages(answer: op.Usages) -> Document:
    """What getrusage shows."""
    return {
        "nodes": [{"name": n.name, "children": fields(n.children)} for n in answer.nodes],
        "tasks": [usage_of_task(view) for view in answer.tasks],
        **errors(answer.faults),
    }


def move(view: op.MoveView) -> Document:
    """MOVE of the documented shapes; what is not known yet is null."""
    return {
        "id": view.id,
        "task": view.task,
        "from": view.source,
        "to": view.target,
        "kind": view.kind,
        "result": view.result or None,
        "state": view.state or None,
        "code": view.code or None,
        "reason": view.reason or None,
        "hint": view.hint or None,
        "blackout_ms": view.blackout_ms or None,
        "blackout_is_bound": view.blackout_is_bound,
        "bytes": view.size or None,
        "way": view.way or None,
        "budget_ms": view.budget_ms or None,
        "predicted_ms": view.predicted_ms or None,
        "phases_ms": {**dict.fromkeys(op.PHASES), **view.phases_ms},
        "snapshot": view.snapshot or None,
        "begun_at": view.begun_at or None,
        "ended_at": view.ended_at or None,
    }


def verdicts(answer: op.Verdicts) -> Document:
    """What why shows."""
    return {
        "task": answer.task,
        "from": answer.node,
        "nodes": [
            {
                "node": each.node, "verdict": each.verdict, "kind": each.kind,
                "reasons": [fields(reason) for reason in each.reasons],
                "blackout_ms": each.blackout_ms,
            }
            for each in answer.verdicts
        ],
    }


def event(it: op.Event) -> Document:
    """One line of the history."""
    return {
        "at": it.at, "level": it.level, "text": it.text,
        "node": it.node or None, "task": it.task or None,
    }


def whole_task(it: Task) -> Document:
    """Every other fact about a task, for inspect."""
    spec = it.spec
    return {
        "argv": [text(word) for word in spec.argv],
        "shell": spec.shell,
        "cwd": text(spec.cwd) or None,
        "env": {text(name): text(value) for name, value in spec.env.items()},
        "index": spec.index,
        "oneoff": spec.oneoff,
        "contained": spec.contained,
        "log_at_home": spec.log_at_home,
        "asked_at": spec.asked_at or None,
        "start_ticks": it.start_ticks or None,
        "boot": it.boot or None,
        "core_dumped": it.core_dumped,
        "usage": fields(it.usage) if it.usage else None,
    }


def text(raw: bytes) -> str:
    r"""Bytes as text; those that are no UTF-8 become \xNN."""
    return raw.decode("utf-8", "backslashreplace")


def fields(struct: msgspec.Struct) -> Document:
    """Every field of a flat struct, defaults included."""
    return msgspec.structs.asdict(struct)
