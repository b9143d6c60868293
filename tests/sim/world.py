"""A seeded scheduler: all that happens in a simulation happens here, in an order that replays."""

import heapq
import random
from collections import deque
from collections.abc import Callable

#: Lines of the trace that a failure shows.
SHOWN = 60
#: Wall clock at second 0.
EPOCH = 1_700_000_000.0


class Broken(AssertionError):
    """A promise was not kept."""


class World:
    """The clock, the dice and the trace."""

    def __init__(self, seed: int):
        self.seed = seed
        self.now = 0.0
        self.chaos = True
        self.steps = 0
        self.dice = random.Random(seed)
        self.trace: deque[str] = deque(maxlen=SHOWN)
        self._order = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []

    @property
    def wall(self) -> float:
        return EPOCH + self.now

    def at(self, after_s: float, call: Callable[..., None], *arguments: object) -> None:
        """Calls that many simulated seconds from now."""
        self._order += 1
        heapq.heappush(self._heap, (self.now + after_s, self._order, call, arguments))

    def run(self, until: float) -> None:
        """All that is due up to that second."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call, arguments = heapq.heappop(heap)
            self.steps += 1
            call(*arguments)
        self.now = until

    def likely(self, share: float) -> bool:
        return self.dice.random() < share

    def bad_luck(self, share: float) -> bool:
        """As ``likely`` while faults happen, else never."""
        return self.chaos and self.dice.random() < share

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.dice.random()

    def say(self, *what: object) -> None:
        self.trace.append(f"{self.now:9.4f} " + " ".join(map(str, what)))


class Process:
    """One life of one process: it dies once, and does nothing while it is stopped."""

    def __init__(self, world: World, name: str):
        self.world = world
        self.name = name
        self.alive = True
        self._stopped = False
        self._backlog: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()

    def later(self, after_s: float, call: Callable[..., None], *arguments: object) -> None:
        """Calls then, if it is alive then; what comes while it is stopped waits in its order."""
        self.world.at(after_s, self._now, call, arguments)

    def _now(self, call: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if not self.alive:
            return
        if self._stopped:
            self._backlog.append((call, arguments))
        else:
            call(*arguments)

    def stop(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        if self.alive and not self._stopped:
            self.world.say(self.name, "is stopped for", round(for_s, 2))
            self._stopped = True
            self.world.at(for_s, self._go_on)

    def _go_on(self) -> None:
        self._stopped = False
        while self._backlog and self.alive and not self._stopped:
            call, arguments = self._backlog.popleft()
            call(*arguments)
