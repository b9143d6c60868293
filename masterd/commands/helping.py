"""The command that explains the others."""

from godwit.errors import UsageError
from masterd import commands
from masterd.commands import asjson
from masterd.commands.asking import Given
from masterd.commands.context import Context

TITLES = {
    "look": "Look", "run": "Run", "control": "Control", "files": "Files", "nodes": "Nodes",
    "leave": "Leave",
}

CLOSING = """\
Anything else that is typed in the shell runs on the nodes chosen with `use` (at first all).
Tasks:  an id, its beginning, NODE:PID, or a pid that only one node has.
Nodes:  a name, host:port, @a,b, @web[1-20], all.
`help COMMAND` shows one in full, with examples; so does COMMAND --help."""


def help_(context: Context, given: Given) -> int:
    """Show all commands, or one in full

    Usage: help [options] [COMMAND]

    Options:
      --json      As JSON: {"commands"}, each with "name", "group", "summary" and "help".
      -h, --help  Show this.

    Examples:
      help execute
    """
    chosen = _chosen(given["COMMAND"])
    if given["--json"]:
        context.line(asjson.dumps({"commands": [_document(each) for each in chosen]}))
    elif given["COMMAND"]:
        context.line(chosen[0].doc)
    else:
        for line in overview():
            context.line(line)
    return 0


def _chosen(word: str | None) -> list[commands.Command]:
    if not word:
        return list(commands.table().values())
    found = commands.find(word)
    if found is None:
        raise no_command(word)
    return [found]


def no_command(word: str) -> UsageError:
    """``word`` is none of the commands."""
    near = commands.closest(word, slip=True)
    return UsageError(
        f"no command {word!r}", code="no-command", exit_status=2,
        hint=f"did you mean {near}?" if near else "`help` lists them",
    )


def _document(command: commands.Command) -> dict[str, object]:
    return {
        "name": command.name, "aliases": command.aliases, "group": command.group,
        "summary": command.summary, "help": command.doc,
    }


def overview() -> list[str]:
    """Every command with its summary, in groups."""
    rows = commands.table().values()
    width = max(len(_names(command)) for command in rows)
    lines = []
    for group in commands.GROUPS:
        lines.append(TITLES[group])
        lines += [
            f"  {_names(command):<{width}}  {command.summary}"
            for command in rows if command.group == group
        ]
    return [*lines, "", *CLOSING.split("\n")]


def _names(command: commands.Command) -> str:
    return ", ".join([command.name, *command.aliases])
