"""How long a task is likely to stand still for a move, by each way, and which one to take.  Pure.

Ways: ``stop-and-copy`` freezes the task till all of it is at its new node; ``post-copy`` till all
but its memory is, which then follows while the task runs there.  The first is safe at any moment:
either node may die, and the task goes on.  With the second the old node is needed till the memory
is there; so it is taken only when it alone keeps to the budget.

A blackout is taken for a fixed part and one that grows with the memory.  Either is learnt from past
moves: between the two nodes, else between any, else as measured once on a small machine (two
processors of 2.5 GHz, both nodes on it; benchmarks/budget.py).
"""

from collections.abc import Iterable
from statistics import median

from msgspec import Struct

from godwit.task.reasons import Reason
from masterd.moves.table import Move

STOP, LATER = "stop-and-copy", "post-copy"
#: Bytes of memory from which on it is what takes the time.
BIG = 64 << 20
#: Moves, the newest, that are learnt from.
MOST = 50


class Cost(Struct, frozen=True):
    """What one way takes: seconds, and seconds for each byte of memory."""

    fixed_s: float
    each_s: float

    def ms(self, memory: int) -> float:
        """Predicted, of a task with so many bytes of memory."""
        return round(1000 * (self.fixed_s + memory * self.each_s), 1)


#: Before anything is learnt: 2.9 s and 0.3 s for 1 GiB.
FIRST = {STOP: Cost(0.13, 2.6e-9), LATER: Cost(0.19, 1.0e-10)}


#: Of a Python task, before any has been moved.
PICKLED_MS = 30


class Choice(Struct, frozen=True):
    """How a task is to be moved; without a budget there is nothing to choose."""

    way: str = STOP
    memory: int = 0
    budget_ms: float = 0.0
    predicted_ms: float = 0.0

    def told(self, task: str) -> str:
        """The prediction, before anything is frozen."""
        by = f" by {self.way}" if self.way else ""
        return (
            f"{task}: predicted to stand still for {self.predicted_ms:.0f} ms{by}; the budget is "
            f"{self.budget_ms:.0f} ms"
        )


NO_CHOICE = Choice("")


def learnt(way: str, source: str, target: str, past: Iterable[Move]) -> Cost:
    """What this way takes between two nodes, as far as past moves tell.

    A bound is no measurement: moves of which only that is known are left out.
    """
    flown = [m for m in past if m.way == way and m.blackout_ms and not m.blackout_is_bound]
    between = [m for m in flown if {m.source, m.target} == {source, target}]
    first = FIRST[way]
    fixed = _first_of(
        [m.blackout_ms / 1000 - m.memory * first.each_s for m in moves if m.memory < BIG]
        for moves in (between, flown)
    )
    fixed = first.fixed_s if fixed is None else max(0.001, fixed)
    each = _first_of(
        [(m.blackout_ms / 1000 - fixed) / m.memory for m in moves if m.memory >= BIG]
        for moves in (between, flown)
    )
    return Cost(fixed, first.each_s if each is None else max(0.0, each))


def _first_of(samples: Iterable[list[float]]) -> float | None:
    """The median of the newest in the first list that has any."""
    return next((median(found[-MOST:]) for found in samples if found), None)


def choose_pickled(budget_ms: float, past_ms: int | None, anyway: bool) -> Choice | Reason:
    """Of a Python task, which is moved between two steps; ``past_ms``: what its moves took."""
    predicted = float(PICKLED_MS if past_ms is None else past_ms)
    if predicted <= budget_ms or anyway:
        return Choice("", 0, budget_ms, predicted)
    return Reason(
        "budget", f"it would stand still for about {predicted:.0f} ms, over the budget of "
        f"{budget_ms:.0f} ms", f"a budget of at least {predicted:.0f} ms, or --anyway",
    )


def choose(
    budget_ms: float, memory: int, nodes: tuple[str, str], past: Iterable[Move],
    without_later: str = "", anyway: bool = False,
) -> Choice | Reason:
    """The safest way that is likely to keep to the budget; else why none is.

    ``nodes``: source and target.  ``without_later``: why post-copy cannot be had.  ``anyway``: the
    way that is likely to come nearest is taken then.
    """
    moves = tuple(past)
    ways = (STOP,) if without_later else (STOP, LATER)
    predicted = {way: learnt(way, *nodes, moves).ms(memory) for way in ways}
    for way in ways:
        if predicted[way] <= budget_ms:
            return Choice(way, memory, budget_ms, predicted[way])
    best = min(ways, key=predicted.__getitem__)
    if anyway:
        return Choice(best, memory, budget_ms, predicted[best])
    told = ", ".join(f"{ms:.0f} ms by {way}" for way, ms in predicted.items())
    fixes = [f"a budget of at least {predicted[best]:.0f} ms, or --anyway"]
    if without_later:
        fixes.append(f"post-copy, which cannot be had: {without_later}")
    return Reason(
        "budget", f"it would stand still for about {told} ({memory / 2**20:.0f} MiB of memory), "
        f"over the budget of {budget_ms:.0f} ms", "; or ".join(fixes),
    )
