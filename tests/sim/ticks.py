"""Wakes a core when it wants, and sees that it does not want it without end."""

from collections import deque
from collections.abc import Callable

from tests.sim.world import Broken, Process

#: Ticks within a simulated second that no core has a reason for.
STORM = 60


class Ticks:
    """One core's timer, as both daemons have it."""

    def __init__(self, owner: Process, tick: Callable[[], None]):
        self._owner = owner
        self._tick = tick
        self._at = float("inf")
        self._number = 0
        self._last: deque[float] = deque(maxlen=STORM)

    def sleep_till(self, deadline: float, after_tick: bool) -> None:
        now = self._owner.world.now
        if after_tick and deadline <= now:
            raise Broken(f"{self._owner.name} wants a Tick at {deadline:.4f} again, at {now:.4f}")
        if deadline == self._at:
            return
        self._at = deadline
        self._number += 1
        if deadline != float("inf"):
            self._owner.later(max(0.0, deadline - now), self._ring, self._number)

    def _ring(self, number: int) -> None:
        if number != self._number:
            return
        self._at = float("inf")
        now = self._owner.world.now
        if len(self._last) == STORM and now - self._last[0] < 1.0:
            raise Broken(f"{self._owner.name} ticks {STORM} times within a second")
        self._last.append(now)
        self._tick()
