"""Commands about Python programs: run, programs."""

import os
import re
import shlex

from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd import render
from masterd.commands import asjson, asking, launching
from masterd.commands.asking import Given
from masterd.commands.context import Context
from masterd.commands.tables import View

#: Asked where no program was named.
PROMPT = "Run Job > "
#: FILE.py or FILE.py:Class, whose text goes along.
_FILE = re.compile(r"(?P<file>.+\.py)(:(?P<name>\w*))?")


def run(context: Context, given: Given) -> int:
    """Start a Python program that can move between nodes while it runs

    Usage: run [options] [-e VAR]... NODES [PROGRAM...]

    PROGRAM is a name that `programs` lists; MODULE:CLASS, of a module that the nodes have; or
    FILE.py:CLASS, of a file here, whose text goes along.  What follows are its arguments, as they
    are.  Without PROGRAM it is asked for.  Options stand before NODES.  Output goes to the task's
    log; the program's files are in the node's folder for files.

    Options:
      -C, --cwd DIR     Start there, instead of in the node's folder for files.
      -e, --env VAR     NAME=VALUE, or NAME to pass on the one here; may be repeated.
      --name NAME       A name of your own, shown in list.
      --user USER       Run as this user of the node.
      --log-at-home     While it is on another node than this one, keep its log here as well.
      --count N         So many copies on each node; each reads GODWIT_INDEX  [default: 1]
      -f, --follow      Show the output until the tasks have ended; Ctrl-C leaves them running.
      --wait            Block until they have ended, pass signals on, and exit as wait does.
      --timeout S       With --wait: S seconds at most (90, 10m), then exit with 124.
      -q, --quiet       Task ids only.
      --json            As JSON: {"tasks"}.
      -h, --help        Show this.

    Examples:
      run node1 CountProcess 1000 0.5
      run -f node1 ./countdown.py:Countdown 10
      run --cwd /srv/logs node2 GrepProcess error app.log errors.txt
    """
    return launching.start(context, given, _request(context, given))


def _request(context: Context, given: Given) -> op.Execute:
    """What ``run`` asks of the master.  Raises UsageError."""
    program, *arguments = _words(context, given["PROGRAM"])
    program, source = _source(program)
    return op.Execute(
        0, given["NODES"], argv=tuple(map(os.fsencode, [program, *arguments])),
        cwd=os.fsencode(given["--cwd"] or ""),
        env=launching.environment(context, given["--env"]), name=given["--name"] or "",
        user=given["--user"] or "", count=asking.whole(given["--count"], "--count", least=1),
        follow=given["--follow"], kind="python", source=source, log_at_home=given["--log-at-home"],
    )


def _words(context: Context, given: list[str]) -> list[str]:
    """The program and its arguments; asked for if there are none.  Raises UsageError."""
    words = given[1:] if given and given[0] == "--" else given
    if not words:
        context.out.flush()
        try:
            words = shlex.split(context.ask(PROMPT))
        except EOFError:
            words = []
        except ValueError as err:
            raise asking.misuse(f"what was typed ends in the middle: {err}") from err
    if not words or not words[0]:
        raise asking.misuse("no program is named", "`programs` lists those that nodes know")
    if words[0].startswith("-"):
        raise asking.misuse(
            f"{words[0]!r} stands where the program should", "options go before NODES"
        )
    return words


def _source(program: str) -> tuple[str, bytes]:
    """The program as nodes are to know it, and its text if it is a file here."""
    found = _FILE.fullmatch(program)
    if found is None:
        return program, b""
    path = found["file"]
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as err:
        raise UsageError(
            f"Job creation failed: program not found: {path}: {err.strerror}", code="no-program"
        ) from err
    if not source.strip():
        raise UsageError(f"Job creation failed: {path} is empty", code="no-program")
    return os.path.basename(path) + (f":{found['name']}" if found["name"] else ""), source


def adopt(context: Context, given: Given) -> int:
    """Bring a process that was started by hand under care

    Usage: adopt [options] NODE PID

    The process runs on as it was, and is a task from now on: list, inspect, getrusage, kill, sKill,
    pause, wait and events have it, and dereg ends it.  Its output is followed if it goes to a file
    on the file system of the node's logs.  How it ends the kernel tells to a stranger since Linux
    6.15; on older ones its status may be unknown.  It cannot be moved.  The node's policy must
    let it: where clientd.toml names users or commands, adopt = true has to stand there.

    Options:
      --name NAME       A name of your own, shown in list.
      -q, --quiet       The task id only.
      --json            As JSON: {"tasks"}.
      -h, --help        Show this.

    Examples:
      adopt node1 4711
      adopt --name backup node2 815
    """
    pid = asking.whole(given["PID"], "PID", least=1)
    request = op.Execute(
        0, given["NODE"], argv=(b"%d" % pid,), name=given["--name"] or "", kind="adopted"
    )
    return launching.told(context, given, context.master.ask(request, op.Tasks))


def programs(context: Context, given: Given) -> int:
    """Show the Python programs that nodes know by name

    Usage: programs [options] [NODES]

    `run` starts them, and others besides: see its help.

    Options:
      -o, --output FORMAT   table, wide, json, jsonl (a program a line) or name.
      --json                The same as -o json.
      --no-headers          Leave out the line of headings.
      --no-trunc            Cut nothing to the width of the screen.
      -h, --help            Show this.

    Examples:
      programs
      programs node1 --json
    """
    form = asking.output_format(given)
    answer = context.master.ask(op.ListPrograms(0, given["NODES"] or "all"), op.Programs)
    nodes: dict[tuple[str, str], list[str]] = {}
    for each in answer.nodes:
        for name, about in each.programs.items():
            nodes.setdefault((name, about), []).append(each.name)
    found = [
        {"name": name, "takes": takes, "does": does.strip(), "nodes": there}
        for (name, about), there in sorted(nodes.items())
        for takes, _, does in [about.partition(":")]
    ]
    match form:
        case "json":
            context.line(asjson.dumps({"programs": found}))
        case "jsonl":
            for each_program in found:
                context.line(asjson.dumps(each_program))
        case "name":
            for each_program in found:
                context.line(render.printable(str(each_program["name"])))
        case _:
            rows = [
                [str(p["name"]), str(p["takes"]), ",".join(p["nodes"]), str(p["does"])]
                for p in found
            ]
            for line in View.of(context, given, wide=form == "wide").lines(
                ["PROGRAM", "TAKES", "NODES", "WHAT IT DOES"], rows
            ):
                context.line(line)
    return 0
