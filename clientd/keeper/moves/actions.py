"""What the moves' core hears and what it wants done; clientd/keeper/moves/mover.py does it.

A ``copy`` is what a task is on one node while it moves: the runner of a python task, or a tree of
processes.  Whoever freezes, loads and thaws copies of a kind says these events.
"""

from msgspec import Struct

from clientd.keeper.orders import Cut, Freeze, Landed, Reserve, Verdict, Word
from clientd.keeper.records import Moved
from godwit.task.record import Task

# ---- events --------------------------------------------------------------------------------


class Ordered(Struct, frozen=True):
    """The agent passes on what the master, or the stream of bytes, says."""

    order: Reserve | Freeze | Landed | Cut | Verdict


class Warm(Struct, frozen=True):
    """An empty copy waits for its state; its log is there, and its image's file."""

    move: str
    log: str
    #: Where that file is, if not where it was to be.
    image: str = ""


class Grows(Struct, frozen=True):
    """A good deal of the image is written, and more is to come."""

    move: str


class StoodStill(Struct, frozen=True):
    """The copy is frozen and its image written, though not yet on the disk."""

    move: str
    size: int
    log_size: int
    #: When it stopped: CLOCK_MONOTONIC of this boot, and seconds since 1970.
    at: float
    wall: float
    phases: dict[str, float]
    #: That it has open, relative to its working directory, and that are to travel with it.
    files: tuple[bytes, ...] = ()


class Synced(Struct, frozen=True):
    """The image is on the disk."""

    move: str
    phases: dict[str, float]


class Apart(Struct, frozen=True):
    """All that is to be kept of the copy is apart from it, which may go on; see Keep."""

    move: str
    #: When it stopped: CLOCK_MONOTONIC of this boot.
    at: float


class Loaded(Struct, frozen=True):
    """A copy has the frozen state, and stands still."""

    move: str
    pid: int
    start_ticks: int
    phases: dict[str, float]


class WentOn(Struct, frozen=True):
    """The copy runs.  ``at`` and ``wall`` are of the end of its first step."""

    move: str
    at: float
    wall: float
    phases: dict[str, float]


class Drained(Struct, frozen=True):
    """All memory of the copy is here, or it has ended: the source is not needed any more."""

    move: str


class Drying(Struct, frozen=True):
    """What is still missing of the copy's memory will never come: it cannot go on."""

    move: str
    text: str


class Unthawed(Struct, frozen=True):
    """The copy is alive and could not be told to run: it stands still, as far as is known."""

    move: str


class Failed(Struct, frozen=True):
    """The copy could not be frozen, born or loaded.  One that was to be frozen runs on."""

    move: str
    code: str
    text: str


class Gone(Struct, frozen=True):
    """The copy's process has ended."""

    move: str


class Unwritten(Struct, frozen=True):
    """This durable record could not be written, and is not in force."""

    record: Moved
    code: str
    text: str


class AgentLost(Struct, frozen=True):
    """The agent has died, and every stream of bytes with it."""


class Returned(Struct, frozen=True):
    """This keeper is new, and a copy of this move is, or is not, alive."""

    move: str
    alive: bool


Event = (
    Ordered | Warm | Grows | StoodStill | Synced | Apart | Loaded | WentOn | Drained | Drying
    | Unthawed | Failed | Gone | Unwritten | AgentLost | Returned
)


# ---- actions -------------------------------------------------------------------------------


class Note(Struct, frozen=True):
    """Put this on record.  ``durable``: what follows is done only once it is on the disk, and
    never if that fails; then Unwritten says so."""

    record: Moved
    durable: bool = False


class Tell(Struct, frozen=True):
    word: Word


class Birth(Struct, frozen=True):
    """Make an empty copy; answered by Warm or Failed.

    ``fresh``: its log and its image's file are made, and must not be there yet; else they are.
    """

    move: str
    task: Task
    fresh: bool = False
    source: bytes = b""


class FreezeCopy(Struct, frozen=True):
    """Answered by StoodStill, perhaps with Grows before it, and Synced, or by Failed; if it is
    ``kept``, perhaps by Apart."""

    move: str
    task: str
    image: str
    #: Its memory stays in it, and is asked for once it runs elsewhere.
    lazy: bool = False
    #: It goes nowhere: see Keep.
    kept: bool = False


class LoadCopy(Struct, frozen=True):
    """Give the image to the empty copy; answered by Loaded or Failed."""

    move: str
    task: str
    image: str
    size: int


class Thaw(Struct, frozen=True):
    """Let the copy run; answered by WentOn.  Harmless for one that runs."""

    move: str
    task: str


class WatchDrain(Struct, frozen=True):
    """A copy that runs, or is about to, still needs the source; answered by Drained or Drying.

    For a keeper that did not load it; the one that did says either by itself.
    """

    move: str
    task: str


class KillCopy(Struct, frozen=True):
    """End the copy, whatever it is doing; answered by Gone, also when there is none."""

    move: str
    task: str


class DropFiles(Struct, frozen=True):
    """The image is not needed any more, nor, with ``log``, the task's log here."""

    move: str
    task: str
    log: bool = False


class ForgetTask(Struct, frozen=True):
    """End the task, drop its record and its log."""

    task: str


class Keep(Struct, frozen=True):
    """The task goes on; what was written of it becomes a snapshot, and its files go."""

    move: str
    task: str
    image: str
    #: When it stopped: CLOCK_MONOTONIC.
    at: float


class Unkept(Struct, frozen=True):
    """Nothing comes of this checkpoint; the task runs on, or has ended."""

    move: str
    code: str
    text: str


Action = (
    Note | Tell | Birth | FreezeCopy | LoadCopy | Thaw | WatchDrain | KillCopy | DropFiles
    | ForgetTask | Keep | Unkept
)
