"""Looks at images that are being written: what there is of a large one goes ahead of the rest."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from clientd.keeper.loop import Loop
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.ways import Hear

#: Seconds between two looks.
LOOK_S = 0.02


class Growing:
    """The images of this node's tasks that are freezing."""

    def __init__(self, loop: Loop, hear: Hear):
        self._loop = loop
        self._hear = hear

    def watch(self, move: str, is_much: Callable[[], bool]) -> None:
        """Says Grows once ``is_much()``: what is in the image from then on is there to stay, and
        only more is added to it.  An OSError of it ends the watch."""
        self._loop.alarm(_name(move), LOOK_S, partial(self._look, move, is_much))

    def _look(self, move: str, is_much: Callable[[], bool]) -> None:
        with suppress(OSError):
            if is_much():
                self._hear(do.Grows(move))
            else:
                self.watch(move, is_much)

    def leave(self, move: str) -> None:
        """It is written, or not wanted."""
        self._loop.silence(_name(move))


def _name(move: str) -> str:
    return f"image of {move}"
