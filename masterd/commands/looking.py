"""Commands that look at the cluster and change nothing: list, pid, getrusage, health, version."""

import select
import signal
import time
from collections.abc import Callable, Sequence

from godwit import __version__
from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd import render
from masterd.commands import asjson, asking, interrupts, tables
from masterd.commands.asking import Given
from masterd.commands.context import Context
from masterd.commands.dispatching import INTERRUPTED

#: Seconds between two views of --watch: a node reports as often.
WATCH_S = 2.0


def list_nodes(context: Context, given: Given) -> int:
    """Show nodes and their tasks

    Usage: list [options] [NODES]

    Nodes with their address, state, load and what they can do; then the tasks that run and the
    ten that ended last.  JSON always has all tasks.

    Options:
      -a, --all             Show every ended task.
      -o, --output FORMAT   table, wide, json, jsonl (a node a line) or name.
      --json                The same as -o json.
      -q, --quiet           Task ids only.
      --no-headers          Leave out the lines of headings.
      --no-trunc            Cut nothing to the width of the screen.
      -w, --watch           Show it again every 2 s, until Ctrl-C.
      -h, --help            Show this.

    Examples:
      list
      list @web[1-4] -o wide
      list --json | jq -r '.nodes[].tasks[].task'
    """
    form = asking.output_format(given)
    return _watched(context, given, lambda: _list_once(context, given, form))


def _list_once(context: Context, given: Given, form: str) -> int:
    nodes = _nodes(context, given)
    if _plain_forms(context, given, form, nodes, ("node", "task")):
        return 0
    if form == "json":
        context.line(asjson.dumps({"nodes": [asjson.node(node) for node in nodes]}))
    elif form == "jsonl":
        for node in nodes:
            context.line(asjson.dumps(asjson.node(node)))
    else:
        view = tables.View.of(context, given, wide=form == "wide")
        _show(context, tables.nodes(view, nodes))
        shown, hidden = tables.newest(_tasks(nodes), given["--all"])
        if shown:
            context.line()
            _show(context, tables.tasks(view, shown, time.time()))
        _tell_hidden(context, hidden)
        if not nodes:
            context.out.flush()
            who = context.master.attached
            context.note(f"no nodes yet: clientd --name NODE --master {who.address if who else ''}")
    return 0


def pid(context: Context, given: Given) -> int:
    """Show each node's map of pids and what became of them

    Usage: pid [options] [NODES]

    The node refreshes its map at every change; it is shown as last heard.

    Options:
      -a, --all             Show every ended task.
      -o, --output FORMAT   table, wide, json, jsonl (a task a line) or name.
      --json                The same as -o json.
      -q, --quiet           Task ids only.
      --no-headers          Leave out the lines of headings.
      --no-trunc            Cut nothing to the width of the screen.
      -w, --watch           Show it again every 2 s, until Ctrl-C.
      -h, --help            Show this.

    Examples:
      pid
      pid node1 --json
    """
    form = asking.output_format(given)
    return _watched(context, given, lambda: _pid_once(context, given, form))


def _pid_once(context: Context, given: Given, form: str) -> int:
    nodes = _nodes(context, given)
    if _plain_forms(context, given, form, nodes, ("task",)):
        return 0
    views = _tasks(nodes)
    if form == "json":
        context.line(asjson.dumps(asjson.tasks(views)))
    elif form == "jsonl":
        for each in views:
            context.line(asjson.dumps(asjson.task(each)))
    else:
        shown, hidden = tables.newest(views, given["--all"])
        view = tables.View.of(context, given, wide=form == "wide")
        for place, node in enumerate(nodes):
            here = [each for each in shown if each.node == node.name]
            if place:
                context.line()
            context.line(render.printable(f"{node.name} ({node.state})"))
            _show(context, tables.pids(view, here) if here else ["no tasks"])
        _tell_hidden(context, hidden)
    return 0


def getrusage(context: Context, given: Given) -> int:
    """Show what nodes' children and tasks have used

    Usage: getrusage [options] [REFERENCE]

    REFERENCE is a node or a task; without it, everything.  For a node: getrusage(RUSAGE_CHILDREN)
    of its keeper, which counts the tasks that ended.  For a task, running or ended: its own.
    A peak marked < is a bound: the real one is below it.

    Options:
      -o, --output FORMAT   table, wide or json.
      --json                The same as -o json: seconds, bytes and counts, exact.
      --no-headers          Leave out the lines of headings.
      --no-trunc            Cut nothing to the width of the screen.
      -h, --help            Show this.

    Examples:
      getrusage
      getrusage node1 --json
    """
    form = asking.output_format(given, ("table", "wide", "json"))
    answer = context.master.ask(op.MeasureUsage(0, given["REFERENCE"] or ""), op.Usages)
    if form == "json":
        context.line(asjson.dumps(asjson.usages(answer)))
        return asking.faults(context, answer.faults)
    view = tables.View.of(context, given, wide=form == "wide")
    if answer.nodes:
        _show(context, tables.usage_of_nodes(view, answer.nodes))
    if answer.tasks:
        if answer.nodes:
            context.line()
        _show(context, tables.usage_of_tasks(view, answer.tasks))
    return asking.faults(context, answer.faults)


def health(context: Context, given: Given) -> int:
    """Say whether the master answers and every node is up

    Usage: health [options]

    The exit status is 0 when they do, 1 when a node is suspect or unreachable, or no master.

    Options:
      --json      As JSON: {"healthy", "master", "nodes"}.
      -h, --help  Show this.

    Examples:
      health && execute all ./nightly
    """
    nodes = context.master.ask(op.ListNodes(0), op.Nodes).nodes
    who = context.master.attached
    assert who is not None
    states = [node.state for node in nodes]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    healthy = not {"suspect", "unreachable"} & set(states)
    if given["--json"]:
        context.line(asjson.dumps({
            "healthy": healthy, "nodes": counts,
            "master": {"address": who.address, "version": who.version, "pid": who.pid,
                       "state": who.state},
        }))
        return 0 if healthy else 1
    context.line(render.printable(
        f"master {who.version} at {who.address}, pid {who.pid}, state {who.state}"
    ))
    told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
    context.line(f"nodes: {told}")
    for node in nodes:
        if node.state in ("suspect", "unreachable"):
            context.note(f"{node.name} is {node.state}: silent for {render.age(node.silent_s)}")
    return 0 if healthy else 1


def version(context: Context, given: Given) -> int:
    """Show the versions of this program and of the master

    Usage: version [options]

    Options:
      --json      As JSON: {"godwit", "master"}; null when no master runs.
      -h, --help  Show this.

    Examples:
      version
    """
    try:
        attached = context.master.attached
    except UsageError:
        attached = None
    if given["--json"]:
        its = attached.version if attached else None
        context.line(asjson.dumps({"godwit": __version__, "master": its}))
        return 0
    context.line(f"godwit {__version__}")
    context.line(render.printable(f"master {attached.version}" if attached else "master: none"))
    return 0


def _nodes(context: Context, given: Given) -> Sequence[op.NodeView]:
    return context.master.ask(op.ListNodes(0, given["NODES"] or "all"), op.Nodes).nodes


def _tasks(nodes: Sequence[op.NodeView]) -> list[op.TaskView]:
    return [view for node in nodes for view in node.tasks]


def _plain_forms(
    context: Context, given: Given, form: str, nodes: Sequence[op.NodeView], kinds: Sequence[str]
) -> bool:
    """Prints names for -q and -o name; False when another form was asked for."""
    if form != "name" and not given["--quiet"]:
        return False
    for node in nodes:
        if form == "name" and "node" in kinds:
            context.line(render.printable(f"node/{node.name}"))
        for view in node.tasks:
            context.line(f"task/{view.task.id}" if form == "name" else view.task.id)
    return True


def _show(context: Context, lines: Sequence[str]) -> None:
    for line in lines:
        context.line(line)


def _tell_hidden(context: Context, hidden: int) -> None:
    if hidden:
        context.out.flush()
        context.note(f"{hidden} more ended {'task' if hidden == 1 else 'tasks'}: --all shows them")


def _watched(context: Context, given: Given, show: Callable[[], int]) -> int:
    """``show`` once, or again and again with --watch, until Ctrl-C."""
    if not given["--watch"]:
        return show()
    with interrupts.caught(signal.SIGINT, signal.SIGTERM) as wake:
        while True:
            if context.out_tty:
                context.out.write("\033[H\033[2J" if context.colour else "\n")
            show()
            context.out.flush()
            if select.select([wake], [], [], WATCH_S)[0]:
                return INTERRUPTED
