"""Where this node stands in its moves.  Pure.

The journal's word on each move is in the ledger (``Moved``; clientd/keeper/moves/table.py has the
rules).  Beside it is only what dies with this keeper: which copies are warm or loaded, and which
verdict waits for a copy to be loaded.
"""

from collections.abc import Iterator
from enum import Enum

from msgspec import Struct, field
from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.table import Cause, advance
from clientd.keeper.records import Ledger, Moved


class Ready(Enum):
    """How far a copy has come that is to take over a frozen state."""

    ABSENT = "absent"
    BORN = "born"  # asked for
    WARM = "warm"
    LOADING = "loading"
    LOADED = "loaded"


class Copy(Struct):
    """A copy that has not run yet, in this keeper's life."""

    ready: Ready = Ready.ABSENT
    #: The verdict is ours: it runs as soon as it is loaded.
    wanted: bool = False
    loaded: do.Loaded | None = None
    #: The frozen copy of a source has died: its image is what is left.
    dead: bool = False
    #: All of its memory is here.
    drained: bool = False
    phases: dict[str, float] = field(default_factory=dict)


class Here:
    """What all parts of the core share."""

    def __init__(self, ledger: Ledger, boot: str, images: str):
        """``images``: the folder of the images, each called by its move."""
        self.ledger = ledger
        self.boot = boot
        #: move -> its copy.
        self.copies: dict[str, Copy] = {}
        self._images = images

    def image(self, move: str) -> str:
        return f"{self._images}/{move}"

    def copy(self, move: str) -> Copy:
        return self.copies.setdefault(move, Copy())

    def of_task(self, task: str) -> Moved | None:
        """The move, not settled here, that has this task."""
        return next(
            (m for m in self.ledger.moves.values() if m.task == task and not m.part.settled), None
        )


def step(record: Moved, cause: Cause, **changes: object) -> Moved:
    """The record after it.  Raises TaskError when the table has no such step."""
    return replace(record, part=advance(record.part, cause), **changes)


def tell(record: Moved) -> Iterator[do.Action]:
    """The agent hears where it stands, if there is anything to be told yet."""
    if record.kept:
        if record.part.settled:
            yield do.Unkept(record.move, record.code, record.text)
    elif record.part.told is not None:
        yield do.Tell(standing(record))


def standing(record: Moved) -> orders.Standing:
    """What the agent is told.  Raises AssertionError for a part that is not told."""
    told = record.part.told
    assert told is not None
    return orders.Standing(
        record.move, record.task, record.epoch, told, record.code, record.text, record.size,
        record.phases, record.at, record.wall, record.peer,
    )
