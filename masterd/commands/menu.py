"""The command for people who do not want to type commands: numbered choices, and questions."""

import re
import shlex
from collections.abc import Callable, Collection, Sequence

from godwit.errors import PeerError, UsageError
from godwit.wire import operations as op
from masterd import commands, render
from masterd.client import MasterGone
from masterd.commands import asking, dispatching, nodes, tables
from masterd.commands.asking import Given
from masterd.commands.context import Context

#: module:Class and file.py:Class, which `run` takes beside the names that a node knows.
_PROGRAM = re.compile(r"[\w./-]+:[A-Za-z_]\w*")
_NUMBER = re.compile(r"[0-9]{1,4}")
INDENT = 2
QUIT = ("0", "q", "quit", "exit")


def menu(context: Context, given: Given) -> int:
    """Choose from a menu: launch, remove, migrate, list

    Usage: menu [options]

    It asks for what it needs, and comes back until you choose 0 or the input ends.  A choice is
    its number or its word; where nodes and tasks are listed, a reference does as well (a pid as
    NODE:PID); an empty answer goes back.  The exit status is that of the last thing done.

    Options:
      -h, --help  Show this.

    Examples:
      menu
    """
    status = 0
    while True:
        try:
            choice = _choice(context)
            if choice is None:
                return status
            status = choice(context, status)
        except EOFError:
            context.note("")
            return status
        except (UsageError, PeerError) as err:
            status = _failed(context, err)


def _failed(context: Context, err: UsageError | PeerError) -> int:
    """Said; a menu goes on after it."""
    told = err if isinstance(err, UsageError) else UsageError(str(err), code="failed")
    dispatching.report(context, "", told, as_json=False)
    return told.exit_status


def _choice(context: Context) -> Callable[[Context, int], int] | None:
    """What a person wants to do next; None to quit.  Raises EOFError."""
    context.line()
    for number, (word, (summary, _)) in enumerate(CHOICES.items(), 1):
        context.line(f"  {number}  {word:<8} {summary}")
    context.line("  0  quit")
    while True:
        answer = _asked(context, "Choice: ")
        if answer.lower() in QUIT:
            return None
        words = list(CHOICES)
        word = words[int(answer) - 1] if _within(answer, len(words)) else answer.lower()
        if word in CHOICES:
            return CHOICES[word][1]
        if answer:
            context.note(f"no choice {answer!r}: a number from 0 to {len(words)}")


def _launch(context: Context, before: int) -> int:
    """Asks for a node and what to run there."""
    node = _node(context, "On which node? ")
    if not node:
        return before
    known = _programs(context, node)
    if known:
        context.line("Programs:")
        _show(context, [[name, *about.split("\n")[:1]] for name, about in known.items()])
    line = _asked(context, "Program with its arguments, or a shell command: ")
    if not line:
        return before
    names = list(known)
    if _within(line, len(names)):
        line = f"{names[int(line) - 1]} {_asked(context, 'Its arguments: ')}"
    words = _words(line)
    if words and (words[0] in known or _PROGRAM.fullmatch(words[0])):
        return commands.dispatch(context, ["run", "--", node, *words])
    return commands.dispatch(context, ["execute", "--shell", "--", node, line])


def _words(line: str) -> list[str]:
    """The words of a line; none of one that only sh understands."""
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _programs(context: Context, node: str) -> dict[str, str]:
    """Name -> what it does and takes, of the Python programs that the node knows."""
    try:
        answer = context.master.ask(op.ListPrograms(0, node), op.Programs)
    except MasterGone:
        raise
    except UsageError:
        # A node that knows no programs, or cannot be heard: execute says so.
        return {}
    return {name: about for each in answer.nodes for name, about in each.programs.items()}


def _remove(context: Context, before: int) -> int:
    """Asks for a task, ends it and forgets it."""
    found, _ = tables.newest(_tasks(context), everything=False)
    task = _task(context, found, "Which task is to be ended and forgotten? ")
    return commands.dispatch(context, ["remove", "--", task]) if task else before


def _migrate(context: Context, before: int) -> int:
    """Asks for a task and a node, and moves it there."""
    found = [v for v in _tasks(context) if not v.task.status.ended]
    task = _task(context, found, "Which task is to move? ")
    if not task:
        return before
    here = {view.node for view in found if view.task.id == task}
    node = _node(context, "To which node? ", without=here)
    return commands.dispatch(context, ["move", "--", task, node]) if node else before


def _list(context: Context, before: int) -> int:
    return commands.dispatch(context, ["list"])


Do = Callable[[Context, int], int]
#: Word -> what it says of itself, and what it does, given the status of what was done before.
CHOICES: dict[str, tuple[str, Do]] = {
    "launch": ("start a program or a shell command on a node", _launch),
    "remove": ("end a task and forget it", _remove),
    "migrate": ("move a running task to another node", _migrate),
    "list": ("show nodes and their tasks", _list),
}


def _node(context: Context, question: str, without: Collection[str] = ()) -> str:
    """The node that a person chooses; empty for none.  Raises EOFError."""
    found = context.master.ask(op.ListNodes(0), op.Nodes).nodes
    offered = [node for node in found if node.state != "left" and node.name not in without]
    rows = [
        [node.name, node.state, nodes.tasks_text(nodes.running([node]))] for node in offered
    ]
    return _one_of(context, rows, question, "there is no node for it")


def _task(context: Context, found: Sequence[op.TaskView], question: str) -> str:
    """The task that a person chooses; empty for none.  Raises EOFError."""
    rows = [
        [view.task.id, view.node, asking.status_text(view.task), view.task.spec.command]
        for view in found
    ]
    return _one_of(context, rows, question, "there is no task for it")


def _tasks(context: Context) -> list[op.TaskView]:
    found = context.master.ask(op.ListNodes(0), op.Nodes).nodes
    return [view for node in found for view in node.tasks if not view.task.spec.oneoff]


def _one_of(
    context: Context, rows: Sequence[Sequence[str]], question: str, none: str
) -> str:
    """The first cell of the row whose number was typed, or what was typed instead.

    A number is never a pid here: NODE:PID is one.
    """
    if not rows:
        context.note(none)
        return ""
    _show(context, rows)
    names = [row[0] for row in rows]
    while True:
        answer = _asked(context, question)
        # A name wins: a node may be called 2.
        if answer in names or not answer.isdecimal():
            return answer
        if _within(answer, len(rows)):
            return names[int(answer) - 1]
        context.note(f"no number {answer} here: 1 to {len(rows)}")


def _show(context: Context, rows: Sequence[Sequence[str]]) -> None:
    numbered = [[str(number), *row] for number, row in enumerate(rows, 1)]
    room = None if context.width is None else context.width - INDENT
    headers = ["", *[" "] * len(rows[0])]
    lines = render.table(headers, numbered, width=room, right=[""], show_headers=False)
    for line in lines:
        context.line(" " * INDENT + line)


def _within(answer: str, count: int) -> bool:
    """It is a number from 1 to ``count``."""
    return bool(_NUMBER.fullmatch(answer)) and 1 <= int(answer) <= count


def _asked(context: Context, question: str) -> str:
    """What is typed, without the spaces around it.  Raises EOFError."""
    context.out.flush()
    return context.ask(question).strip()
