"""Nodes, tasks and usage as tables for people; scripts read JSON instead."""

import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from godwit.task.record import Usage
from godwit.wire import operations as op
from masterd import render
from masterd.commands.asking import Given, status_text
from masterd.commands.context import Context

#: How many ended tasks are shown when not all are asked for.
ENDED_SHOWN = 10

#: A cell with this text is painted so.
PAINTED = {
    "suspect": "yellow", "unreachable": "red", "unknown": "yellow", "failed": "red",
    "held": "red", "aborted": "yellow", "reverted": "yellow",
}

Row = Sequence[str]
#: A heading, and what stands below it.
Column = tuple[str, Callable[[op.TaskView], str]]


class View(Struct, frozen=True):
    """How a table is wanted."""

    width: int | None
    headers: bool
    wide: bool
    colour: bool

    @classmethod
    def of(cls, context: Context, given: Given, *, wide: bool = False) -> "View":
        """As the options --no-trunc and --no-headers say."""
        width = None if given["--no-trunc"] or wide else context.width
        return cls(width, not given["--no-headers"], wide, context.colour)

    def lines(self, headers: Row, rows: Sequence[Row], right: Row = ()) -> list[str]:
        """The table's lines."""
        return render.table(
            headers, rows, width=self.width, right=right, show_headers=self.headers,
            painted=PAINTED if self.colour else {},
        )


def newest(views: Sequence[op.TaskView], everything: bool) -> tuple[list[op.TaskView], int]:
    """Tasks that have not ended and the ENDED_SHOWN that ended last, and how many are left out.

    Remote commands that were typed at a prompt are shown while they run only.
    """
    if everything:
        return list(views), 0
    ended = [v for v in views if v.task.status.ended and not v.task.spec.oneoff]
    ended.sort(key=lambda view: view.task.ended_at, reverse=True)
    kept = {view.task.id for view in ended[:ENDED_SHOWN]}
    shown = [v for v in views if not v.task.status.ended or v.task.id in kept]
    return shown, len(views) - len(shown)


def nodes(view: View, found: Sequence[op.NodeView]) -> list[str]:
    """The table of nodes, and below it a line for each thing that is weaker on some of them."""
    headers = ["NAME", "ADDRESS", "STATE", "LOAD", "MEM", "TASKS"]
    if view.wide:
        headers += ["SILENT", "USERS", "KEYBOARD", "SYSTEM"]
    rows = [_node_row(view, node) for node in found]
    lines = view.lines([*headers, "CAN"], rows, ("LOAD", "MEM", "TASKS", "SILENT", "USERS"))
    return lines + _weaker(found)


def _node_row(view: View, node: op.NodeView) -> Row:
    load = node.load
    used = load.memory_bytes - load.memory_free_bytes
    known = load.cpus > 0
    row = [
        node.name, node.address, node.state,
        f"{load.cpu_percent:.0f}% of {load.cpus}" if known else "-",
        f"{render.human_bytes(used)}/{render.human_bytes(load.memory_bytes)}" if known else "-",
        str(sum(not task.task.status.ended for task in node.tasks)),
    ]
    if view.wide:
        idle = load.keyboard_idle_s
        row += [
            render.age(node.silent_s), str(load.users), "-" if idle is None else render.age(idle),
            node.system or "-",
        ]
    return [*row, ",".join(node.can) or "-"]


def _weaker(found: Sequence[op.NodeView]) -> list[str]:
    """What nodes lack, each lack once with the nodes that have it."""
    lacks: dict[tuple[str, str], list[str]] = {}
    for node in found:
        for what, why in node.lacks.items():
            lacks.setdefault((what, why), []).append(node.name)
    return [
        render.printable(f"weaker on {', '.join(names)}: no {what} ({why})")
        for (what, why), names in lacks.items()
    ]


def tasks(view: View, found: Sequence[op.TaskView], now: float) -> list[str]:
    """The table of tasks."""
    columns: list[Column] = [
        ("TASK", lambda v: v.task.id),
        ("NODE", lambda v: v.node),
        ("KIND", lambda v: v.task.spec.kind),
        ("PID", lambda v: _pid(v)),
        ("STATUS", lambda v: status_text(v.task)),
        ("AGE", lambda v: _age(v, now)),
    ]
    if view.wide or any(home(each) != each.node for each in found):
        columns.insert(2, ("HOME", home))
    if any(each.every_s for each in found):
        columns.append(("SNAPSHOTS", _every))
    if view.wide:
        columns += [
            ("EPOCH", lambda v: str(v.task.spec.epoch)),
            ("USER", lambda v: v.task.spec.user or "-"),
            ("STARTED", lambda v: clock(v.task.started_at)),
            ("LOG", lambda v: v.task.log or "-"),
        ]
    columns += [("NAME", lambda v: v.task.spec.name)] if _named(found) else []
    return _task_table(view, found, [*columns, ("COMMAND", lambda v: v.task.spec.command)])


def home(view: op.TaskView) -> str:
    """The node where the task was started."""
    return view.task.spec.home or view.node


def _every(view: op.TaskView) -> str:
    """How often one is taken by itself."""
    return f"each {render.age(view.every_s)}" if view.every_s else "-"


def pids(view: View, found: Sequence[op.TaskView]) -> list[str]:
    """One node's map pid -> status."""
    columns: list[Column] = [
        ("PID", lambda v: _pid(v)),
        ("STATUS", lambda v: status_text(v.task)),
        ("TASK", lambda v: v.task.id),
        ("COMMAND", lambda v: v.task.spec.command),
    ]
    return _task_table(view, found, columns)


def launched(found: Sequence[op.TaskView], width: int | None) -> list[str]:
    """The answer to execute."""
    view = View(width, headers=True, wide=False, colour=False)
    columns: list[Column] = [
        ("TASK", lambda v: v.task.id),
        ("NODE", lambda v: v.node),
        ("PID", lambda v: _pid(v)),
        ("COMMAND", lambda v: v.task.spec.command),
    ]
    return _task_table(view, found, columns)


def _task_table(view: View, found: Sequence[op.TaskView], columns: Sequence[Column]) -> list[str]:
    rows = [[cell(each) for _, cell in columns] for each in found]
    return view.lines([name for name, _ in columns], rows, ("PID", "AGE", "EPOCH"))


def _named(found: Sequence[op.TaskView]) -> bool:
    return any(view.task.spec.name for view in found)


def _pid(view: op.TaskView) -> str:
    return "-" if view.task.pid is None else str(view.task.pid)


def _age(view: op.TaskView, now: float) -> str:
    began = view.task.started_at or view.task.spec.asked_at
    return render.age(now - began) if began else "-"


USAGE_HEADERS = ("USER", "SYSTEM", "PEAK")
USAGE_WIDE = ("MINFLT", "MAJFLT", "INBLOCK", "OUBLOCK", "NVCSW", "NIVCSW")


def usage_of_nodes(view: View, found: Sequence[op.NodeUsage]) -> list[str]:
    """What each node's ended children used."""
    headers = ["NODE", *_usage_headers(view)]
    rows = [[each.name, *_usage(view, each.children)] for each in found]
    return view.lines(headers, rows, headers[1:])


def usage_of_tasks(view: View, found: Sequence[op.TaskView]) -> list[str]:
    """What each task used."""
    numbers = _usage_headers(view)
    rows = [
        [each.task.id, each.node, status_text(each.task), *_usage(view, each.task.usage),
         each.task.spec.command]
        for each in found
    ]
    return view.lines(["TASK", "NODE", "STATUS", *numbers, "COMMAND"], rows, numbers)


def _usage_headers(view: View) -> Row:
    return (*USAGE_HEADERS, *USAGE_WIDE) if view.wide else USAGE_HEADERS


def _usage(view: View, usage: Usage | None) -> Row:
    if usage is None:
        return ["-"] * len(_usage_headers(view))
    peak = render.human_bytes(usage.maxrss_bytes)
    short = [
        f"{usage.utime_s:.2f}s", f"{usage.stime_s:.2f}s",
        f"<{peak}" if usage.maxrss_is_bound else peak,
    ]
    counts = (usage.minflt, usage.majflt, usage.inblock, usage.oublock, usage.nvcsw, usage.nivcsw)
    return [*short, *map(str, counts)] if view.wide else short


def clock(at: float) -> str:
    """A moment in the local time zone; - for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "-"
