"""What Tab offers: pure, from the line before the cursor and what is known of the cluster.

The grammar of a command says which of its arguments stands at the cursor, the argument's name
says what may stand there.  So a new command that names its arguments like the others needs
nothing here.
"""

import signal
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from godwit.programs import PROGRAMS
from godwit.task.lifecycle import Status
from godwit.task.record import signal_name
from godwit.wire.operations import NodeView
from masterd import commands
from masterd.commands.grammar import Argument, Grammar, Option, grammar
from masterd.shell.words import quoted, split

#: A choice that ends in one of these is not finished: a folder, ``NODE:``, ``@a,``.
UNFINISHED = ("/", ":", ",")


class Scene(Struct, frozen=True):
    """What there is to choose from."""

    nodes: Sequence[NodeView] = ()
    #: The local paths that a path's beginning may mean; folders end in a slash.
    files: Callable[[str], Iterable[str]] = lambda beginning: ()


class At(Struct, frozen=True):
    """The word at the cursor: its value, and the command it belongs to."""

    value: str
    command: commands.Command
    scene: Scene


Offer = Callable[[At], Iterable[str]]


def complete(line: str, scene: Scene) -> tuple[int, list[str]]:
    """Where the word at the end of ``line`` starts, and all that could stand there instead.

    The answers are quoted as the word was begun, and end in a space when they are finished.
    """
    *before, word = split(line)
    if not before:
        return word.start, [f"{name} " for name in _beginning(word.typed, commands.table())]
    choices = _beginning(word.value, _choices([w.value for w in before], word.value, scene))
    typed = {quoted(c, word.open, finished=not c.endswith(UNFINISHED)) for c in choices}
    return word.start, sorted(t for t in typed if t.startswith(word.typed))


def _beginning(value: str, choices: Iterable[str]) -> list[str]:
    """Those that begin so and can be typed."""
    return [c for c in choices if c.startswith(value) and c.isprintable()]


def _choices(before: Sequence[str], value: str, scene: Scene) -> Iterable[str]:
    command = commands.find(before[0])
    if command is None:
        return ()
    at = At(value, command, scene)
    rules = grammar(command.doc, command.options_first)
    stands, options_too = _stands(rules, before[1:])
    if isinstance(stands, Option):
        return _of(OPTION_VALUES.get(stands.name, ()), at)
    if options_too and value.startswith("-"):
        return [name for o in rules.options for name in (o.short, o.long) if name]
    return {c: None for each in stands for c in _of(ARGUMENTS.get(each.name, ()), at)}


def _of(offers: Iterable[Offer], at: At) -> list[str]:
    return [choice for offer in offers for choice in offer(at)]


def _stands(
    rules: Grammar, before: Sequence[str]
) -> tuple[Option | Sequence[Argument], bool]:
    """What may stand after these words, and whether an option may."""
    given = 0
    options_too = True
    waiting: Option | None = None
    for word in before:
        if waiting:
            waiting = None
        elif options_too and word == "--":
            options_too = False
        elif options_too and word.startswith("-") and word != "-":
            waiting = next(
                (o for o in rules.options if word in (o.short, o.long) and o.takes_value), None
            )
        else:
            given += 1
            options_too = options_too and not rules.options_first
    if waiting:
        return waiting, False
    many = next((place for place, a in enumerate(rules.arguments) if a.repeats), given)
    return rules.arguments[min(given, many) : given + 1], options_too


# ---- what may stand where ------------------------------------------------------------------


def _nodes(at: At) -> list[str]:
    names = [node.name for node in at.scene.nodes if node.state != "left"]
    if not at.value.startswith("@"):
        return [*names, "all"]
    chosen, _, _ = at.value[1:].rpartition(",")
    taken = chosen.split(",")
    return ["@" + ",".join([*filter(None, taken), n]) for n in names if n not in taken]


def _one_node(at: At) -> list[str]:
    home = ["home"] if at.command.name == "move" else []
    return [*(node.name for node in at.scene.nodes if node.state != "left"), *home]


def _tasks(at: At) -> list[str]:
    """All that can be meant; of commands that act on a process only those that have one."""
    acts = at.command.group == "control"
    return [
        view.task.id for node in at.scene.nodes for view in node.tasks
        if not (acts and view.task.status.ended)
    ]


def _held(at: At) -> list[str]:
    """Tasks that a move holds: each stands for its move."""
    return [
        view.task.id for node in at.scene.nodes for view in node.tasks
        if view.task.status is Status.HELD
    ]


def _node_paths(at: At) -> list[str]:
    return [f"{node.name}:" for node in at.scene.nodes if node.state != "left"]


def _files(at: At) -> Iterable[str]:
    return at.scene.files(at.value)


def _programs(at: At) -> Iterable[str]:
    return PROGRAMS


def _sources(at: At) -> list[str]:
    return [path for path in at.scene.files(at.value) if path.endswith((".py", "/"))]


def _signals(at: At) -> list[str]:
    names = [signal_name(number) for number in sorted(signal.Signals) if number < signal.SIGRTMIN]
    return names if at.value.startswith("SIG") else [name.removeprefix("SIG") for name in names]


def _commands(at: At) -> Iterable[str]:
    return commands.table()


def _shells(at: At) -> Iterable[str]:
    return ("bash", "zsh")


def _unknowns(at: At) -> Iterable[str]:
    return ("hold", "resume")


def _formats(at: At) -> Iterable[str]:
    return ("table", "wide", "json", "jsonl", "name")


#: By the argument's name in the usage.  One that is not here is the user's own (CMD, HOST, ...).
ARGUMENTS: dict[str, tuple[Offer, ...]] = {
    "NODE": (_one_node,),
    "PROGRAM": (_programs, _sources),
    "NODES": (_nodes,),
    "FROM": (_one_node,),
    "TO": (_one_node,),
    "MOVE": (_held,),
    "TASK": (_tasks,),
    "REFERENCE": (_nodes, _tasks),
    "SIGNAL": (_signals,),
    "SRC": (_files, _node_paths),
    "DST": (_files, _node_paths),
    "WHAT": (_node_paths, _tasks),
    "COMMAND": (_commands,),
    "SHELL": (_shells,),
}
#: By the option's long name.
OPTION_VALUES: dict[str, tuple[Offer, ...]] = {
    "--signal": (_signals,),
    "--output": (_formats,),
    "--node": (_one_node,),
    "--on-unknown": (_unknowns,),
}
