"""Every command once: the shell, the CLI and the manual read this table.

A command is a function ``run(context, given) -> exit status`` whose docstring is both its help
and its docopt grammar; the first line of it is the summary.  To add one: write the function,
add its row.  Modules of commands are imported when a command of theirs is first needed.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masterd.commands.context import Context

Given = dict[str, Any]
Run = Callable[["Context", Given], int]

#: Groups in the order of the help.
GROUPS = ("look", "run", "control", "files", "nodes", "leave")


class Command:
    """One row of the table."""

    def __init__(
        self, group: str, names: str, where: str, *,
        options_first: bool = False, signal_words: bool = False,
    ):
        self.group = group
        self.name, *self.aliases = names.split()
        self.where = where
        #: Options end at the first word that is none: what follows belongs to somebody else.
        self.options_first = options_first
        #: ``-9`` and ``-KILL`` mean ``--signal``.
        self.signal_words = signal_words

    @cached_property
    def run(self) -> Run:
        module, function = self.where.split(":")
        run: Run = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        return run

    @cached_property
    def doc(self) -> str:
        """The docopt text, which is also the help."""
        return inspect.cleandoc(self.run.__doc__ or "")

    @property
    def summary(self) -> str:
        """One line."""
        return self.doc.split("\n", 1)[0]


ROWS = (
    Command("look", "list", "looking:list_nodes"),
    Command("look", "pid", "looking:pid"),
    Command("look", "inspect", "history:inspect_tasks"),
    Command("look", "moves", "moves:moves"),
    Command("look", "why", "why:why"),
    Command("look", "logs", "logs:logs"),
    Command("look", "events", "history:events"),
    Command("look", "getrusage", "looking:getrusage"),
    Command("look", "health", "looking:health"),
    Command("look", "snapshots", "snapshots:snapshots"),
    Command("look", "programs", "running:programs"),
    Command("look", "version", "looking:version"),
    Command("look", "help h", "helping:help_"),
    Command("look", "completion", "completing:completion"),
    Command("run", "execute", "launching:execute", options_first=True),
    Command("run", "on", "launching:on", options_first=True),
    Command("run", "run", "running:run", options_first=True),
    Command("run", "adopt", "running:adopt"),
    Command("run", "use", "nodes:use"),
    Command("run", "wait", "control:wait"),
    Command("run", "menu", "menu:menu"),
    Command("control", "kill", "control:kill", signal_words=True),
    Command("control", "sKill skill", "control:skill"),
    Command("control", "signal", "control:send_signal"),
    Command("control", "pause", "control:pause"),
    Command("control", "resume", "control:resume"),
    Command("control", "move", "moving:move"),
    Command("control", "transfer", "moving:transfer"),
    Command("control", "checkpoint", "snapshots:checkpoint"),
    Command("control", "restart", "snapshots:restart"),
    Command("control", "fork", "snapshots:fork"),
    Command("control", "resolve", "moves:resolve"),
    Command("files", "copy", "files:copy"),
    Command("files", "remove", "files:remove"),
    Command("nodes", "register", "nodes:register"),
    Command("nodes", "dereg", "nodes:dereg"),
    Command("nodes", "upgrade", "nodes:upgrade"),
    Command("nodes", "token", "nodes:token"),
    Command("nodes", "revoke", "nodes:revoke"),
    Command("leave", "exit quit", "leaving:exit_"),
    Command("leave", "detach", "leaving:detach"),
    Command("leave", "stop", "leaving:stop"),
)

_TABLE = {row.name: row for row in ROWS}
_WORDS = {word: row for row in ROWS for word in (row.name, *row.aliases)}


def table() -> dict[str, Command]:
    """Every command by its name, in the order of the help."""
    return dict(_TABLE)


def find(word: str) -> Command | None:
    """The command of this name or alias."""
    return _WORDS.get(word)


def closest(word: str, *, slip: bool = False) -> str | None:
    """The name or alias that ``word`` is most likely a slip of, if any.

    A word that is a program on this machine (top, head) counts as meant, unless it must be a
    ``slip`` because only commands are allowed where it stands.
    """
    import shutil

    # A slip keeps its first letter among the first two: move is no slip of remove.
    likely = [name for name in _WORDS if word and word[0] in name[:2]]
    slips = {name: _slips(word, name) for name in likely if abs(len(name) - len(word)) < 3}
    near = min(slips, key=slips.__getitem__, default=None)
    if near is None or slips[near] > _slips_allowed(near):
        return None
    return near if slip or shutil.which(word) is None else None


def _slips(word: str, name: str) -> int:
    """Letters wrong, missing or added; two letters exchanged are one slip."""
    from docopt import levenshtein

    distance = int(levenshtein(word, name))
    return 1 if distance == 2 and sorted(word) == sorted(name) else distance


def _slips_allowed(name: str) -> int:
    """How many slips still mean ``name``."""
    return 0 if len(name) < 3 else 1 if len(name) < 6 else 2


def dispatch(context: "Context", words: list[str]) -> int:
    """Runs one command line; every mistake is one line on ``context.err``.

    ``words`` is the command and its arguments; bytes that are no UTF-8 come as surrogates
    (os.fsdecode).  Returns the exit status; raises Leave only.
    """
    from masterd.commands import dispatching

    return dispatching.dispatch(context, words)


def remote(context: "Context", line: str) -> int:
    """Runs ``line`` by /bin/sh -c on the nodes of ``context.chosen`` and streams what they say."""
    from masterd.commands import dispatching

    return dispatching.remote(context, line)
