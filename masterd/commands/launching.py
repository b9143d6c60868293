"""Commands that start tasks: execute, on, and the line that is no command."""

import os
import time
from collections.abc import Sequence

from godwit.wire import operations as op
from masterd.commands import asjson, asking, foreground, output, tables
from masterd.commands.asking import Given
from masterd.commands.context import Context

#: Nodes named one by one in the summary of a remote command; of more, outcomes are counted.
NAMED = 6
#: Shell words whose effect ends with the line.
FLEETING = ("cd", "export", "alias", "source", ".", "set", "unset", "umask", "ulimit", "pushd")


def execute(context: Context, given: Given) -> int:
    """Start a command as a task on each node, and answer with its task id and pid

    Usage: execute [options] [-e VAR]... NODES CMD...

    The words after NODES are the program and its arguments, as they are: no shell reads them.
    A pipe or a redirection needs --shell and one quoted word.  Options stand before NODES.
    Standard input is empty; output goes to the task's log, in the node's folder for logs.
    Where list says that a node can "apart", pids inside are the task's own ($$ is 2), and all that
    it started ends when it does.

    Options:
      --shell           CMD is one line for /bin/sh -c.
      --cwd DIR         Start there, instead of in the node's folder for files.
      -e, --env VAR     NAME=VALUE, or NAME to pass on the one here; may be repeated.
      --name NAME       A name of your own, shown in list.
      --user USER       Run as this user of the node, who must be let into DIR.
      --plain           Without a pid namespace and an init of its own: what it starts may outlive
                        it, and it cannot be moved.
      --log-at-home     While it is on another node than this one, keep its log here as well.
      --count N         So many copies on each node; each reads GODWIT_INDEX  [default: 1]
      -f, --follow      Show the output until the tasks have ended; Ctrl-C leaves them running.
      --wait            Block until they have ended, pass signals on, and exit as wait does.
      --timeout S       With --wait: S seconds at most (90, 10m), then exit with 124.
      -q, --quiet       Task ids only.
      --json            As JSON: {"tasks"}.
      -h, --help        Show this.

    Examples:
      execute node1 sleep 60
      execute --shell all 'dmesg | tail -3 > /tmp/last'
      execute --wait -f -e LANG=C @web[1-4] make -j4
    """
    return start(context, given, _request(context, given))


def start(context: Context, given: Given, request: op.Execute) -> int:
    """Has it started, and does what -f, --wait and --timeout say.  Raises UsageError."""
    timeout = asking.seconds(given["--timeout"], "--timeout")
    if timeout is not None and not given["--wait"]:
        raise asking.misuse("--timeout goes with --wait")
    deadline = None if timeout is None else time.monotonic() + timeout
    if given["--follow"]:
        return _followed(context, given, request, deadline)
    return _launched(context, given, request, deadline)


def _request(context: Context, given: Given) -> op.Execute:
    """What ``execute`` asks of the master.  Raises UsageError."""
    words = _program(given["CMD"])
    if given["--shell"] and len(words) != 1:
        raise asking.misuse(
            "--shell takes one line as one word", "quote it: execute --shell NODES 'a | b > c'"
        )
    return op.Execute(
        0, given["NODES"], argv=tuple(map(os.fsencode, words)), shell=given["--shell"],
        cwd=os.fsencode(given["--cwd"] or ""), env=environment(context, given["--env"]),
        name=given["--name"] or "", user=given["--user"] or "",
        count=asking.whole(given["--count"], "--count", least=1), follow=given["--follow"],
        contained=not given["--plain"], log_at_home=given["--log-at-home"],
    )


def _program(words: list[str]) -> list[str]:
    """The words of a command; a ``--`` before them is the operator's, as kubectl has it."""
    if words[0] == "--":
        words = words[1:]
    elif words[0].startswith("-"):
        raise asking.misuse(
            f"{words[0]!r} stands where the program should",
            "options go before NODES; -- goes before a program whose name begins with -",
        )
    if not words or not words[0]:
        raise asking.misuse("no program is named")
    return words


def environment(context: Context, given: Sequence[str]) -> dict[bytes, bytes]:
    """NAME=VALUE as it is, NAME from the environment here.  Raises UsageError."""
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name:
            raise asking.misuse(f"-e {each!r} names no variable", "write NAME=VALUE")
        if not equals and name not in context.environ:
            raise asking.misuse(f"-e {name}: there is no such variable here", "write NAME=VALUE")
        found[os.fsencode(name)] = os.fsencode(value if equals else context.environ[name])
    return found


def _launched(
    context: Context, given: Given, request: op.Execute, deadline: float | None
) -> int:
    """Without its output: says what started, and with --wait how it ended."""
    client = context.master
    answer = client.ask(request, op.Tasks)
    if not given["--wait"] or not answer.tasks:
        return told(context, given, answer)
    status = asking.faults(context, answer.faults)
    _note_started(context, given, answer.tasks)
    front = foreground.Foreground(context, client, foreground.PASS_ON)
    return _ended(context, given, front.wait(answer.tasks, deadline)) or status


def _followed(
    context: Context, given: Given, request: op.Execute, deadline: float | None
) -> int:
    """With its output, until all have ended."""

    def opened(tasks: Sequence[op.TaskView]) -> output.Sink:
        if given["--json"]:
            return output.objects(context, {view.task.id: view.node for view in tasks})
        _note_started(context, given, tasks)
        if len(tasks) == 1:
            return output.Plain(context)
        return output.prefixed(context, {view.task.id: view.task.id for view in tasks})

    steps = foreground.PASS_ON if given["--wait"] else foreground.LOOK_ON
    front = foreground.Foreground(context, context.master, steps)
    answer = front.run(request, opened, deadline)
    status = front.status
    if given["--wait"]:
        return _ended(context, given, answer) or status
    if given["--json"]:
        context.line(asjson.dumps(asjson.tasks(answer.tasks, answer.faults)))
    return asking.faults(context, answer.faults) or status


def told(context: Context, given: Given, answer: op.Tasks) -> int:
    """Which tasks there are now: JSON, ids, or a table."""
    if given["--json"]:
        context.line(asjson.dumps(asjson.tasks(answer.tasks, answer.faults)))
    elif given["--quiet"]:
        for view in answer.tasks:
            context.line(view.task.id)
    elif answer.tasks:
        for line in tables.launched(answer.tasks, context.width):
            context.line(line)
    return asking.faults(context, answer.faults)


def _note_started(context: Context, given: Given, tasks: Sequence[op.TaskView]) -> None:
    if given["--json"] or given["--quiet"]:
        return
    for view in tasks:
        context.note(f"{view.task.id} on {view.node}: pid {view.task.pid}")


def _ended(context: Context, given: Given, answer: op.Tasks) -> int:
    """How tasks that were waited for ended; their exit status."""
    if given["--json"]:
        context.line(asjson.dumps(asjson.tasks(answer.tasks, answer.faults)))
    elif given["--quiet"]:
        for view in answer.tasks:
            context.line(view.task.id)
    else:
        context.out.flush()
        for view in answer.tasks:
            context.note(f"{view.task.id} on {view.node}: {asking.exit_text(view.task)}")
    return asking.first_failure(answer.tasks) or asking.faults(context, answer.faults)


def on(context: Context, given: Given) -> int:
    """Run a command on nodes and show what it says, each line with its node

    Usage: on [options] NODES CMD...

    One word is a line for /bin/sh -c; several are a program and its arguments, no shell.
    Ctrl-C sends SIGINT, again SIGTERM, again SIGKILL.  The exit status is the first that is not
    0, in the order of the nodes.

    Options:
      --json      Each line as {"task", "node", "line"}, at the end {"tasks"}.
      -h, --help  Show this.

    Examples:
      on all 'uptime; df -h / | tail -1'
      on @web[1-4] systemctl is-active nginx
    """
    words = _program(given["CMD"])
    request = op.Execute(
        0, given["NODES"], argv=tuple(map(os.fsencode, words)), shell=len(words) == 1,
        oneoff=True, follow=True,
    )
    return _on(context, request, as_json=given["--json"])


def remote(context: Context, line: str) -> int:
    """Runs a line by /bin/sh -c on the chosen nodes.  See masterd.commands.remote."""
    request = op.Execute(
        0, context.chosen, argv=(os.fsencode(line),), shell=True, oneoff=True, follow=True
    )
    status = _on(context, request, as_json=False)
    first = line.split(maxsplit=1)[0] if line.strip() else ""
    if context.interactive and first in FLEETING and not set(";&|\n") & set(line):
        context.note(f"{first} had its effect in a shell of its own: the next line starts afresh")
    return status


def _on(context: Context, request: op.Execute, *, as_json: bool) -> int:
    def opened(tasks: Sequence[op.TaskView]) -> output.Sink:
        nodes = {view.task.id: view.node for view in tasks}
        return output.objects(context, nodes) if as_json else output.prefixed(context, nodes)

    front = foreground.Foreground(context, context.master, foreground.HARDER)
    answer = front.run(request, opened)
    status = front.status or asking.faults(context, answer.faults)
    context.out.flush()
    if as_json:
        context.line(asjson.dumps(asjson.tasks(answer.tasks, answer.faults)))
    elif answer.tasks:
        context.note(summary(answer.tasks))
    return asking.first_failure(answer.tasks) or status


def summary(tasks: Sequence[op.TaskView]) -> str:
    """node1: exit 0 · node2: exit 3; of many nodes, how many had each outcome."""
    outcomes: dict[str, list[str]] = {}
    for view in tasks:
        outcomes.setdefault(asking.exit_text(view.task), []).append(view.node)
    if len(tasks) <= NAMED:
        return " · ".join(f"{view.node}: {asking.exit_text(view.task)}" for view in tasks)
    return " · ".join(
        f"{', '.join(nodes) if len(nodes) <= NAMED else f'{len(nodes)} nodes'}: {outcome}"
        for outcome, nodes in outcomes.items()
    )
