"""Commands about nodes: use, register, dereg."""

import re
from collections.abc import Sequence

from godwit.wire import operations as op
from masterd.commands import asjson, asking
from masterd.commands.asking import Given
from masterd.commands.context import Context

_PORT = re.compile(r"[0-9]{1,5}")


def use(context: Context, given: Given) -> int:
    """Choose the nodes that lines which are no command run on

    Usage: use [options] [NODES]

    NODES is a name, host:port, @a,b, @web[1-20] or all; without it, the present choice is shown.
    It lasts until the shell ends.

    Options:
      -h, --help  Show this.

    Examples:
      use @web[1-4]
      use all
    """
    if not context.in_shell:
        raise asking.misuse("a choice of nodes lasts within a shell only", "godwit on NODES CMD...")
    if given["NODES"]:
        context.master.ask(op.ListNodes(0, given["NODES"]), op.Nodes)
        context.chosen = given["NODES"]
    else:
        context.note(f"lines run on: {context.chosen}")
    return 0


def register(context: Context, given: Given) -> int:
    """Adopt a clientd that waits for a master

    Usage: register [options] HOST PORT [NAME]

    The clientd was started with --listen; NAME is the name it has, or HOST:PORT NAME.

    Options:
      --json      As JSON: {"node"}.
      -h, --help  Show this.

    Examples:
      register 10.0.0.7 15441 web7
      register 10.0.0.7:15441 web7
    """
    host, port, name = _where(given["HOST"], given["PORT"], given["NAME"])
    answer = context.master.ask(op.Register(0, host, port, name), op.Ok)
    if given["--json"]:
        context.line(asjson.dumps({"node": {"name": name, "address": f"{host}:{port}"}}))
    else:
        context.note(answer.text or f"{name} is registered")
    return 0


def _where(host: str, port: str, name: str | None) -> tuple[str, int, str]:
    """Host, port and name from three words, or from HOST:PORT NAME.  Raises UsageError."""
    if name is None:
        host, _, found = host.rpartition(":")
        port, name = found, port
    host = host.removeprefix("[").removesuffix("]")
    if not host or not name:
        raise asking.misuse("a host, a port and a name are needed", "register HOST PORT NAME")
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise asking.misuse(f"{port!r} is no port", "a number from 1 to 65535")
    return host, int(port), name


def dereg(context: Context, given: Given) -> int:
    """End the tasks of nodes, and the nodes' clientd

    Usage: dereg [options] NODES

    On a terminal it asks first.

    Options:
      -y, --yes      Do not ask.
      -n, --dry-run  Only say what would be ended.
      --json         As JSON: {"nodes"}, their names.
      -h, --help     Show this.

    Examples:
      dereg web7
      dereg @web[1-4] --dry-run
    """
    nodes = context.master.ask(op.ListNodes(0, given["NODES"]), op.Nodes).nodes
    names = [node.name for node in nodes]
    if given["--dry-run"]:
        for node in nodes:
            context.note(f"would end {node.name} and {tasks_text(running([node]))}")
    elif not given["--yes"] and not context.confirm(
        f"End {', '.join(names)} and {tasks_text(running(nodes))}?"
    ):
        context.note("nothing was done")
        return 1
    else:
        progress(context, op.Deregister(0, given["NODES"]))
    if given["--json"]:
        context.line(asjson.dumps({"nodes": names}))
    return 0


def progress(context: Context, request: op.Request) -> None:
    """Asks, and shows each line on the way.  Raises UsageError as the client does."""
    with context.master.stream(request) as answers:
        for reply in answers:
            if isinstance(reply, op.Progress | op.Ok) and reply.text:
                context.note(reply.text)


def running(nodes: Sequence[op.NodeView]) -> int:
    """How many tasks there have not ended."""
    return sum(not view.task.status.ended for node in nodes for view in node.tasks)


def tasks_text(count: int) -> str:
    """no running task, 1 running task, 5 running tasks."""
    return f"{count or 'no'} running {'task' if count < 2 else 'tasks'}"
