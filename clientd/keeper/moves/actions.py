"""What the moves' core hears and what it wants done; clientd/keeper/moves/mover.py does it.

A ``copy`` is what a task is on one node while it moves: the runner of a python task, or a tree of
processes.  Whoever freezes, loads and thaws copies of a kind says these events.
"""

from dataclasses import dataclass

from clientd.keeper.orders import Cut, Freeze, Landed, Reserve, Verdict, Word
from clientd.keeper.records import Moved
from godwit.task.record import Task

# ---- events --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ordered:
    """The agent passes on what the master, or the stream of bytes, says."""

    order: Reserve | Freeze | Landed | Cut | Verdict


@dataclass(frozen=True, slots=True)
class Warm:
    """An empty copy waits for its state; its log is there, and its image's file."""

    move: str
    log: str
    #: Where that file is, if not where it was to be.
    image: str = ""


@dataclass(frozen=True, slots=True)
class Grows:
    """A good deal of the image is written, and more is to come."""

    move: str


@dataclass(frozen=True, slots=True)
class StoodStill:
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


@dataclass(frozen=True, slots=True)
class Synced:
    """The image is on the disk."""

    move: str
    phases: dict[str, float]


@dataclass(frozen=True, slots=True)
class Apart:
    """All that is to be kept of the copy is apart from it, which may go on; see Keep."""

    move: str
    #: When it stopped: CLOCK_MONOTONIC of this boot.
    at: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A copy has the frozen state, and stands still."""

    move: str
    pid: int
    start_ticks: int
    phases: dict[str, float]


@dataclass(frozen=True, slots=True)
class WentOn:
    """The copy runs.  ``at`` and ``wall`` are of the end of its first step."""

    move: str
    at: float
    wall: float
    phases: dict[str, float]


@dataclass(frozen=True, slots=True)
class Drained:
    """All memory of the copy is here, or it has ended: the source is not needed any more."""

    move: str


@dataclass(frozen=True, slots=True)
class Drying:
    """What is still missing of the copy's memory will never come: it cannot go on."""

    move: str
    text: str


@dataclass(frozen=True, slots=True)
class Unthawed:
    """The copy is alive and could not be told to run: it stands still, as far as is known."""

    move: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The copy could not be frozen, born or loaded.  One that was to be frozen runs on."""

    move: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The copy's process has ended."""

    move: str


@dataclass(frozen=True, slots=True)
class Unwritten:
    """This durable record could not be written, and is not in force."""

    record: Moved
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent has died, and every stream of bytes with it."""


@dataclass(frozen=True, slots=True)
class Returned:
    """This keeper is new, and a copy of this move is, or is not, alive."""

    move: str
    alive: bool


Event = (
    Ordered | Warm | Grows | StoodStill | Synced | Apart | Loaded | WentOn | Drained | Drying
    | Unthawed | Failed | Gone | Unwritten | AgentLost | Returned
)


# ---- actions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """Put this on record.  ``durable``: what follows is done only once it is on the disk, and
    never if that fails; then Unwritten says so."""

    record: Moved
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    word: Word


@dataclass(frozen=True, slots=True)
class Birth:
    """Make an empty copy; answered by Warm or Failed.

    ``fresh``: its log and its image's file are made, and must not be there yet; else they are.
    """

    move: str
    task: Task
    fresh: bool = False
    source: bytes = b""


@dataclass(frozen=True, slots=True)
class FreezeCopy:
    """Answered by StoodStill, perhaps with Grows before it, and Synced, or by Failed; if it is
    ``kept``, perhaps by Apart."""

    move: str
    task: str
    image: str
    #: Its memory stays in it, and is asked for once it runs elsewhere.
    lazy: bool = False
    #: It goes nowhere: see Keep.
    kept: bool = False


@dataclass(frozen=True, slots=True)
class LoadCopy:
    """Give the image to the empty copy; answered by Loaded or Failed."""

    move: str
    task: str
    image: str
    size: int


@dataclass(frozen=True, slots=True)
class Thaw:
    """Let the copy run; answered by WentOn.  Harmless for one that runs."""

    move: str
    task: str


@dataclass(frozen=True, slots=True)
class WatchDrain:
    """A copy that runs, or is about to, still needs the source; answered by Drained or Drying.

    For a keeper that did not load it; the one that did says either by itself.
    """

    move: str
    task: str


@dataclass(frozen=True, slots=True)
class KillCopy:
    """End the copy, whatever it is doing; answered by Gone, also when there is none."""

    move: str
    task: str


@dataclass(frozen=True, slots=True)
class DropFiles:
    """The image is not needed any more, nor, with ``log``, the task's log here."""

    move: str
    task: str
    log: bool = False


@dataclass(frozen=True, slots=True)
class ForgetTask:
    """End the task, drop its record and its log."""

    task: str


@dataclass(frozen=True, slots=True)
class Keep:
    """The task goes on; what was written of it becomes a snapshot, and its files go."""

    move: str
    task: str
    image: str
    #: When it stopped: CLOCK_MONOTONIC.
    at: float


@dataclass(frozen=True, slots=True)
class Unkept:
    """Nothing comes of this checkpoint; the task runs on, or has ended."""

    move: str
    code: str
    text: str


Action = (
    Note | Tell | Birth | FreezeCopy | LoadCopy | Thaw | WatchDrain | KillCopy | DropFiles
    | ForgetTask | Keep | Unkept
)
