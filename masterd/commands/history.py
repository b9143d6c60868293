"""Commands that tell what happened: events, inspect."""

import signal
import time

from godwit.task.record import signal_name
from godwit.wire import operations as op
from masterd import render
from masterd.client import Interrupted
from masterd.commands import asjson, asking, flights, interrupts, tables
from masterd.commands.asking import Given
from masterd.commands.context import Context
from masterd.commands.dispatching import INTERRUPTED

#: Events in the time line of one task.
TIME_LINE = 1000
#: Moves of one task that are shown, the newest.
MOVES = 100


def events(context: Context, given: Given) -> int:
    """Show what happened in the cluster

    Usage: events [options] [REFERENCE]

    REFERENCE is a node or a task; without it, everything.

    Options:
      -f, --follow          Go on as things happen, until Ctrl-C.
      -n, --number N        The newest N events  [default: 100]
      -o, --output FORMAT   table, json or jsonl (an event a line).
      --json                The same as -o json; with -f, as -o jsonl.
      -h, --help            Show this.

    Examples:
      events -n 20
      events -f node1
    """
    form = asking.output_format(given, ("table", "json", "jsonl"))
    live = given["--follow"]
    request = op.History(
        0, given["REFERENCE"] or "", limit=asking.whole(given["--number"], "--number"), live=live
    )
    if form == "json" and not live:
        answer = context.master.ask(request, op.Events)
        context.line(asjson.dumps({"events": [asjson.event(each) for each in answer.events]}))
        return 0
    with (
        interrupts.caught(*[signal.SIGINT] * live) as wake,
        context.master.stream(request, wake) as answers,
    ):
        for reply in answers:
            if isinstance(reply, Interrupted):
                return INTERRUPTED
            if isinstance(reply, op.Events):
                for each in reply.events:
                    context.line(_line(each, form))
                context.out.flush()
    return 0


def _line(it: op.Event, form: str) -> str:
    return _text(it) if form == "table" else asjson.dumps(asjson.event(it))


def _text(it: op.Event) -> str:
    about = " ".join(name for name in (it.node, it.task) if name and name not in it.text)
    line = f"{tables.clock(it.at)}  {it.level:<7}  {about + '  ' if about else ''}{it.text}"
    return render.printable(line)


def inspect_tasks(context: Context, given: Given) -> int:
    """Show all that is known about tasks, and what happened to them

    Usage: inspect [options] TASK...

    Options:
      --json      As JSON: {"tasks"}, each with "events" and "moves".
      -h, --help  Show this.

    Examples:
      inspect ab12cd34
      inspect node1:4711 --json
    """
    answer = context.master.ask(op.ListTasks(0, tuple(given["TASK"])), op.Tasks)
    told = [(view, _time_line(context, view), _moves(context, view)) for view in answer.tasks]
    if given["--json"]:
        documents = [
            {**asjson.task(view), **asjson.whole_task(view.task),
             "events": [asjson.event(each) for each in happened],
             "moves": [asjson.move(each) for each in moves]}
            for view, happened, moves in told
        ]
        context.line(asjson.dumps({"tasks": documents, **asjson.errors(answer.faults)}))
        return asking.faults(context, answer.faults)
    for place, (view, happened, moves) in enumerate(told):
        if place:
            context.line()
        _describe(context, view, happened, moves)
    return asking.faults(context, answer.faults)


def _time_line(context: Context, view: op.TaskView) -> tuple[op.Event, ...]:
    return context.master.ask(op.History(0, view.task.id, limit=TIME_LINE), op.Events).events


def _moves(context: Context, view: op.TaskView) -> tuple[op.MoveView, ...]:
    return context.master.ask(op.ListMoves(0, view.task.id, MOVES), op.Moves).moves


def _describe(
    context: Context, view: op.TaskView, happened: tuple[op.Event, ...],
    moves: tuple[op.MoveView, ...],
) -> None:
    for name, value in _facts(view):
        context.line(f"{name:<13}{render.printable(value)}")
    if moves:
        context.line("moves")
    for move in moves:
        told = f"{tables.clock(move.begun_at)}  {move.id}  {flights.outcome(move)}"
        context.line(render.printable(f"  {told}"))
        if move.phases_ms:
            context.line(render.printable(f"    {flights.phases(move)}"))
    if happened:
        context.line("events")
    for each in happened:
        context.line(render.printable(f"  {tables.clock(each.at)}  {each.text}"))


def _facts(view: op.TaskView) -> list[tuple[str, str]]:
    """Name and value of each fact that is there."""
    it, spec = view.task, view.task.spec
    ended = it.ended_at or time.time()
    facts = [
        ("task", it.id), ("name", spec.name), ("command", spec.command),
        ("words", "a line for /bin/sh -c" if spec.shell else f"{len(spec.argv)}, no shell"),
        ("kind", spec.kind), ("status", asking.status_text(it)), ("reason", it.reason),
        ("exit code", "" if it.exit_code is None else str(it.exit_code)),
        ("signal", "" if it.signal is None else f"{signal_name(it.signal)} ({it.signal})"),
        ("core", "dumped" if it.core_dumped else ""),
        ("node", view.node), ("home", spec.home or view.node), ("epoch", str(spec.epoch)),
        ("pid", "" if it.pid is None else str(it.pid)),
        ("user", spec.user), ("folder", asjson.text(spec.cwd)),
        ("asked", tables.clock(spec.asked_at) if spec.asked_at else ""),
        ("started", tables.clock(it.started_at) if it.started_at else ""),
        ("ended", tables.clock(it.ended_at) if it.ended_at else ""),
        ("ran for", render.age(ended - it.started_at) if it.started_at else ""),
        ("log", it.log),
        ("from", f"snapshot {spec.snapshot}" if spec.snapshot else ""),
        ("snapshots", f"each {render.age(view.every_s)}" if view.every_s else ""),
    ]
    facts += [
        ("environment", f"{asjson.text(name)}={asjson.text(value)}")
        for name, value in sorted(spec.env.items())
    ]
    if it.usage:
        used = it.usage
        bound = "less than " if used.maxrss_is_bound else ""
        facts += [
            ("CPU", f"{used.utime_s:.3f}s user, {used.stime_s:.3f}s system"),
            ("peak memory", f"{bound}{render.human_bytes(used.maxrss_bytes)}"),
            ("switches", f"{used.nvcsw} voluntary, {used.nivcsw} not"),
            ("page faults", f"{used.minflt} minor, {used.majflt} major"),
        ]
    return [(name, value) for name, value in facts if value]
