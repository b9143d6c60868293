"""What waits until records are on the disk, and what is done when they cannot be written.  Pure.

Nothing else waits meanwhile: the answer of the disk comes back as an event, as every slow work's.
"""

from collections.abc import Callable, Iterator

from masterd import actions as do

Then = Callable[[], Iterator[do.Action]]
#: Called with the reason.
Failing = Callable[[str], Iterator[do.Action]]


class Confirms:
    """All that waits for the disk."""

    def __init__(self) -> None:
        self._last = 0
        self._waiting: dict[int, tuple[Then, Failing]] = {}

    def ask(self, then: Then, failing: Failing) -> Iterator[do.Action]:
        """One of the two, once it is known whether all records up to now are on the disk."""
        self._last += 1
        self._waiting[self._last] = then, failing
        yield do.Confirm(self._last)

    def recorded(self, number: int) -> Iterator[do.Action]:
        then, _ = self._waiting.pop(number)
        yield from then()

    def unrecorded(self, number: int, reason: str) -> Iterator[do.Action]:
        _, failing = self._waiting.pop(number)
        yield from failing(f"the master cannot record it ({reason})")
