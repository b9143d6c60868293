"""What a user writes for nodes and tasks, and which ones that means.  Pure.

Nodes:  name   host:port   a,b   @a,b   @web[1-20]   @web[01-20,30]   all
Tasks:  id   prefix of an id (at least PREFIX characters, unique)   NODE:PID   pid
A task id begins with a letter, so a reference of digits alone can only be a pid.
"""

import re
from collections.abc import Iterable

from godwit.errors import UsageError
from godwit.task.record import Task
from godwit.wire.operations import Fault

#: Fewest characters of an id that may stand for it: a slip of one key never ends a task.
PREFIX = 3
#: Most names one reference may expand to.
MOST = 10_000
#: Candidates listed in a refusal.
LISTED = 8

_RANGE = re.compile(r"\[([0-9,-]+)\]")
_PID = re.compile(r"[0-9]{1,10}", re.ASCII)


def expand(reference: str) -> list[str]:
    """The names that a reference spells out, each once, in its order.  Raises UsageError."""
    names: list[str] = []
    for part in _split(reference.removeprefix("@")):
        if not part:
            raise UsageError(
                f"{reference!r} has an empty name in it", code="bad-nodes", exit_status=2,
                hint="write @a,b or @web[1-20]",
            )
        names += _ranges(part, reference)
        if len(names) > MOST:
            raise _too_many(reference)
    return list(dict.fromkeys(names))


def _too_many(reference: str) -> UsageError:
    return UsageError(
        f"{reference!r} stands for more than {MOST} nodes", code="bad-nodes", exit_status=2
    )


def _split(text: str) -> list[str]:
    """Cuts at the commas outside of brackets."""
    return re.split(r",(?![^\[]*\])", text)


def _ranges(part: str, reference: str) -> list[str]:
    """web[1-3]x -> web1x web2x web3x; zeros in front are kept."""
    names = [""]
    # Text and ranges take turns.
    for place, piece in enumerate(_RANGE.split(part)):
        if place % 2 == 0 and ("[" in piece or "]" in piece):
            raise UsageError(
                f"{reference!r} has a bracket that is no range", code="bad-nodes", exit_status=2,
                hint="write @web[1-20] or @web[01-09,12]",
            )
        numbers = list(_numbers(piece, reference)) if place % 2 else [piece]
        if len(names) * len(numbers) > MOST:
            raise _too_many(reference)
        names = [name + number for name in names for number in numbers]
    return names


def _numbers(text: str, reference: str) -> Iterable[str]:
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if not first or (dash and not last) or "-" in last:
            raise UsageError(
                f"{piece!r} in {reference!r} is no range of numbers", code="bad-nodes",
                exit_status=2, hint="write @web[1-20]",
            )
        if not dash:
            yield first
            continue
        if len(first) > 9 or len(last) > 9 or int(last) - int(first) >= MOST:
            raise _too_many(reference)
        if int(last) < int(first):
            raise UsageError(
                f"{piece!r} in {reference!r} counts down", code="bad-nodes", exit_status=2,
                hint=f"write {last}-{first}",
            )
        width = len(first) if first.startswith("0") else 0
        for number in range(int(first), int(last) + 1):
            yield str(number).zfill(width)


def choose_nodes(reference: str, names: Iterable[str], addresses: dict[str, str]) -> list[str]:
    """The known nodes that a reference means, in its order; ``all`` sorts them by name.

    ``addresses`` is host:port -> name.  Raises UsageError for a name that is not there.
    """
    known = list(names)
    if reference == "all":
        return sorted(known, key=by_number)
    there = frozenset(known)
    chosen: list[str] = []
    for name in expand(reference):
        if name in addresses:
            name = addresses[name]
        if name not in there:
            raise _no_node(name, sorted(known, key=by_number))
        chosen.append(name)
    return list(dict.fromkeys(chosen))


def by_number(name: str) -> list[tuple[int, str]]:
    """A key that sorts web2 before web10."""
    parts = enumerate(re.split(r"([0-9]+)", name))
    return [(int(part) if place % 2 else 0, part) for place, part in parts]


def _no_node(name: str, known: list[str]) -> UsageError:
    if not known:
        return UsageError(
            f"no node {name!r}: there are no nodes yet", code="no-such-node",
            hint="start one: clientd --name NODE --master HOST:PORT",
        )
    listed = ", ".join(known[:LISTED]) + (", ..." if len(known) > LISTED else "")
    return UsageError(f"no node {name!r}", code="no-such-node", hint=f"nodes: {listed}")


def choose_task(reference: str, tasks: dict[str, tuple[str, Task]]) -> str:
    """The id of the one task that a reference means.  ``tasks`` is id -> (node, task).

    Raises UsageError when there is none, or more than one.
    """
    if reference in tasks:
        return reference
    node, colon, pid = reference.rpartition(":")
    if colon and _PID.fullmatch(pid):
        return _by_pid(reference, int(pid), {i: t for i, t in tasks.items() if t[0] == node})
    if _PID.fullmatch(reference):
        return _by_pid(reference, int(reference), tasks)
    return _by_prefix(reference, tasks)


def _by_pid(reference: str, pid: int, tasks: dict[str, tuple[str, Task]]) -> str:
    """Tasks that live before tasks that ended: the kernel uses pids again."""
    having = [i for i, (_, task) in tasks.items() if task.pid == pid]
    alive = [i for i in having if not tasks[i][1].status.ended]
    return _only(reference, alive or having, tasks)


def _by_prefix(reference: str, tasks: dict[str, tuple[str, Task]]) -> str:
    having = [i for i in tasks if i.startswith(reference)] if reference else []
    if having and len(reference) < PREFIX:
        raise UsageError(
            f"{reference!r} is too short for a task", code="no-such-task",
            hint=f"give at least {PREFIX} characters of its id",
        )
    return _only(reference, having, tasks)


def _only(reference: str, having: list[str], tasks: dict[str, tuple[str, Task]]) -> str:
    if len(having) == 1:
        return having[0]
    if not having:
        raise UsageError(f"no task {reference!r}", code="no-such-task", hint="`list` shows them")
    shown = [f"{i} ({tasks[i][0]}:{tasks[i][1].pid})" for i in having[:LISTED]]
    more = ", ..." if len(having) > LISTED else ""
    raise UsageError(
        f"{reference!r} could be any of {len(having)} tasks", code="ambiguous",
        hint=", ".join(shown) + more,
    )


def choose_tasks(
    references: Iterable[str], tasks: dict[str, tuple[str, Task]]
) -> tuple[list[str], list[Fault]]:
    """The tasks meant, each once, and a Fault for each reference that means none."""
    chosen: list[str] = []
    faults: list[Fault] = []
    for reference in references:
        try:
            chosen.append(choose_task(reference, tasks))
        except UsageError as err:
            faults.append(Fault(reference, err.code, err.message, err.hint))
    return list(dict.fromkeys(chosen)), faults
