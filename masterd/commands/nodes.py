"""Commands about nodes: use, register, dereg."""

import re
import sys
from collections.abc import Sequence

from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd import render
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

    The clientd was started with --listen; NAME is the name it has, or HOST:PORT NAME.  It printed
    a one-time code at its start: on a terminal register asks for it, else it is taken from the
    file or from $GODWIT_CODE.  A node that this master adopted before needs none.

    Options:
      --code-file FILE  The code; - reads it from stdin.
      --json            As JSON: {"node"}.
      -h, --help        Show this.

    Examples:
      register 10.0.0.7 15441 web7
      register 10.0.0.7:15441 web7
    """
    host, port, name = _where(given["HOST"], given["PORT"], given["NAME"])
    request = op.Register(0, host, port, name, _code(context, given["--code-file"]))
    try:
        answer = context.master.ask(request, op.Ok)
    except UsageError as err:
        if err.code != "code-needed" or not context.interactive:
            raise
        code = context.ask(f"Code of {render.printable(name)}: ").strip()
        answer = context.master.ask(replace(request, code=code), op.Ok)
    if given["--json"]:
        context.line(asjson.dumps({"node": {"name": name, "address": f"{host}:{port}"}}))
    else:
        context.note(answer.text or f"{name} is registered")
    return 0


def _code(context: Context, path: str | None) -> str:
    """The code that was given, if one was.  Raises UsageError."""
    if path is None:
        return context.environ.get("GODWIT_CODE", "").strip()
    try:
        if path == "-":
            return sys.stdin.readline().strip() if sys.stdin else ""
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as err:
        why = getattr(err, "strerror", None) or "no text"
        raise UsageError(f"{path}: {why}", code="no-code") from err


def token(context: Context, given: Given) -> int:
    """Make a token with which a machine joins this cluster

    Usage: token [options]

    The token is printed once and kept nowhere.  On the machine that joins:
      clientd --name NAME --master HOST:PORT --token-file FILE     (or GODWIT_TOKEN=...)

    Options:
      --uses N     So many machines may join with it [default: 1].
      --ttl TIME   It is good for so long: 30m, 2h, 7d, or seconds [default: 1h].
      --node NODE  Only for a machine that joins under this name.
      --json       As JSON: {"token"}.
      -h, --help   Show this.

    Examples:
      token
      token --uses 5 --ttl 1d
    """
    ttl = asking.seconds(given["--ttl"], "--ttl")
    uses = asking.whole(given["--uses"], "--uses", 1)
    request = op.MakeToken(0, uses, ttl or 0.0, given["--node"] or "")
    made = context.master.ask(request, op.TokenMade).token
    context.line(asjson.dumps({"token": made}) if given["--json"] else made)
    return 0


def revoke(context: Context, given: Given) -> int:
    """Make a node's certificate worthless, at once

    Usage: revoke [options] NODE

    Its connections end and it cannot come back without a new token: those that it could have seen
    (made for any node, or for this one) end with it.  What runs there runs on: to end that, too,
    use dereg first.  On a terminal it asks first.

    Options:
      -y, --yes   Do not ask.
      --json      As JSON: {"node"}.
      -h, --help  Show this.

    Examples:
      revoke web7
    """
    name = given["NODE"]
    if not given["--yes"] and not context.confirm(f"Revoke {name}?"):
        context.note("nothing was done")
        return 1
    answer = context.master.ask(op.Revoke(0, name), op.Ok)
    if given["--json"]:
        context.line(asjson.dumps({"node": {"name": name}}))
    else:
        context.note(answer.text)
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


def upgrade(context: Context, given: Given) -> int:
    """Start the agents of nodes anew, with the code that is installed there now

    Usage: upgrade [options] NODES

    Tasks run on, and clientd's keeper with them; logs that are followed go on where they were.
    A copy under way is cut.  Install the new version on the nodes first.

    Options:
      --json      As JSON: {"nodes"}, each with "name" and "release".
      -h, --help  Show this.

    Examples:
      upgrade web7
      upgrade @web[1-4]
    """
    status, nodes = 0, []
    with context.master.stream(op.Upgrade(0, given["NODES"])) as answers:
        for reply in answers:
            if isinstance(reply, op.Progress):
                context.note(reply.text)
            elif isinstance(reply, op.Upgraded):
                nodes = [asjson.fields(node) for node in reply.nodes]
                status = asking.faults(context, reply.faults)
                if given["--json"]:
                    context.line(asjson.dumps({"nodes": nodes, **asjson.errors(reply.faults)}))
    return status


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
