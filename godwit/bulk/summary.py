"""What a copy was, told to both of its ends, and how far it is."""

from collections.abc import Callable

from msgspec import Struct

from godwit.bulk.words import TEXT, WARNINGS
from godwit.log import printable

#: Called with (bytes done, bytes in all), often, in the transfer's thread.  What it raises ends
#: the copy: a TransferError with its own code, anything else as ``abandoned``.
Progress = Callable[[int, int], None]


class Summary(Struct, frozen=True):
    """A copy that is complete.

    ``size`` is in bytes, ``files`` counts files and symbolic links, ``path`` is where it is now.
    ``kept`` bytes of ``size`` were there already and were not sent again.  ``warnings`` say what
    was left out.
    """

    size: int
    files: int
    path: bytes
    warnings: tuple[str, ...] = ()
    kept: int = 0


class Warnings:
    """The first WARNINGS things to tell the user, and how many more there were."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._more = 0

    def __call__(self, text: str) -> None:
        if len(self._texts) < WARNINGS:
            self._texts.append(text[:TEXT])
        else:
            self._more += 1

    def all(self) -> tuple[str, ...]:
        more = (f"and {self._more} more warnings",) if self._more else ()
        return (*self._texts, *more)


def cleaned(texts: tuple[str, ...]) -> tuple[str, ...]:
    """A peer's warnings, as text that is safe to show."""
    return tuple(map(printable, texts))


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""
