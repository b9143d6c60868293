"""Nodes as a verdict sees them, from what the master knows by heart; and what moves have taken.

Pure.
"""

from collections.abc import Iterable
from statistics import median

from godwit.task import pickled
from godwit.task.record import Task
from godwit.task.verdict import OVERHEAD_S, Place, Traits, Verdict
from masterd.moves.budget import LATER
from masterd.moves.table import Move
from masterd.registry import Node

#: Bytes of a snapshot from which on its transport is what takes the time.
BIG = 8 << 20
#: Moves, the newest, that an estimate is made from.
MOST = 50


def place(node: Node) -> Place:
    """As it was when it last said so."""
    # "Linux 6.1.0 x86_64": its system, kernel and machine.
    words = node.system.split()
    kernel, machine = (words[-2], words[-1]) if len(words) >= 3 else ("", "")
    return Place(
        node.name, machine, node.can, node.lacks, kernel=kernel, programs=frozenset(node.programs),
    )


def judged_by_heart(task: Task, source: Node, target: Node) -> Verdict:
    """A Python task, without asking any node: no more than is sure."""
    return judged(task, Traits(""), place(source), place(target), ())


def judged(
    task: Task, traits: Traits, here: Place, there: Place, past: Iterable[Move]
) -> Verdict:
    """A Python task, with all that has been found out."""
    program = task.spec.argv[0].decode("utf-8", "backslashreplace") if task.spec.argv else ""
    return pickled.judge(
        traits, program, task.spec.digest, here, there,
        blackout_ms(task.id, here.name, there.name, past),
    )


def without_later(source: Node, target: Node) -> str:
    """Why a task's memory cannot follow it from one to the other; nothing when it can."""
    for node in (source, target):
        if "lazy" not in node.can:
            return f"{node.name}: {node.lacks.get('lazy', 'it does not tell that it can')}"
    return ""


def blackout_ms(task: str, source: str, target: str, past: Iterable[Move]) -> int | None:
    """What a Python task's move is likely to take: the median of those of this task, else of those
    between the two nodes, else of all; None when there were none."""
    flown = [m for m in past if m.kind == "python" and m.blackout_ms]
    nearer = (
        [m for m in flown if m.task == task],
        [m for m in flown if {m.source, m.target} == {source, target}], flown,
    )
    for moves in nearer:
        if moves:
            return max(1, round(median(m.blackout_ms for m in moves[-MOST:])))
    return None


def rate(source: str, target: str, past: Iterable[Move]) -> float:
    """Bytes a second of tasks that were moved as they are, between the two or else anywhere; 0: no
    big one was."""
    flown = [
        m for m in past
        if m.kind != "python" and m.way != LATER and m.size >= BIG and m.blackout_ms
    ]
    between = [m for m in flown if {m.source, m.target} == {source, target}]
    rates = [
        m.size / max(0.001, m.blackout_ms / 1000 - OVERHEAD_S) for m in (between or flown)[-MOST:]
    ]
    return median(rates) if rates else 0.0
