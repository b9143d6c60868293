"""How long to wait before something that keeps dying is started again.  Pure."""

#: Seconds before the first, second, third, ... restart; the last one from then on.
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: Seconds of life after which earlier deaths no longer count.
GOOD_LIFE_S = 30.0


class Backoff:
    """Counts deaths; every time is seconds on one monotonic clock."""

    def __init__(self) -> None:
        self._deaths = 0
        self._born = 0.0

    def born(self, now: float) -> None:
        self._born = now

    def died(self, now: float) -> float:
        """When to start it again."""
        if now - self._born >= GOOD_LIFE_S:
            self._deaths = 0
        pause = PAUSES[min(self._deaths, len(PAUSES) - 1)]
        self._deaths += 1
        return now + pause
