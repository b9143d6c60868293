"""What the shadows' core hears and what it wants done; clientd/keeper/shadows/shell.py does it."""

from dataclasses import dataclass

from clientd.keeper.orders import Word
from clientd.keeper.records import Shadow
from godwit.log import Level
from godwit.wire.messages import Guest

# ---- events --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """The master says where a task of this home is, or how it ended."""

    guest: Guest


@dataclass(frozen=True, slots=True)
class Listed:
    """The master has told of all: there are no others."""

    tasks: frozenset[str]


@dataclass(frozen=True, slots=True)
class Made:
    """The process is there, in the place of an earlier one."""

    task: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Unmade:
    task: str
    text: str


@dataclass(frozen=True, slots=True)
class Due:
    """It is time to make the process, again."""

    task: str


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal came to the process; ``count`` is its own number for it, 0: it did not see it."""

    task: str
    number: int
    count: int = 0
    #: Wall clock.
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Died:
    """The process has ended; ``status`` is as wait(2) has it, None when nobody tells."""

    task: str
    status: int | None
    #: Wall clock.
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Took:
    """The master has this signal of the task, and all before it."""

    task: str
    id: int


@dataclass(frozen=True, slots=True)
class Arrives:
    """The task is about to run here."""

    task: str


@dataclass(frozen=True, slots=True)
class Returned:
    """This keeper is new, and the process is, or is not, there."""

    task: str
    alive: bool


@dataclass(frozen=True, slots=True)
class Leaves:
    """This node stops for good: nothing stays."""


Event = (
    Told | Listed | Made | Unmade | Due | Signalled | Died | Took | Arrives | Returned | Leaves
)


# ---- actions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """Put this on record.  ``durable``: what follows is done only once it is on the disk."""

    shadow: Shadow
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    word: Word


@dataclass(frozen=True, slots=True)
class Make:
    """Answered by Made or Unmade."""

    shadow: Shadow


@dataclass(frozen=True, slots=True)
class MakeLater:
    """Answered by Due."""

    task: str


@dataclass(frozen=True, slots=True)
class Entitle:
    """The process is to show where the guest is now."""

    shadow: Shadow


@dataclass(frozen=True, slots=True)
class Finish:
    """The process is to end with this status; answered by Died."""

    shadow: Shadow


@dataclass(frozen=True, slots=True)
class Kill:
    """It is gone when this is done, if its kernel can do it; Died comes, too."""

    shadow: Shadow


@dataclass(frozen=True, slots=True)
class KeepLog:
    """There is to be a log here, which the agent writes on."""

    task: str


@dataclass(frozen=True, slots=True)
class LeaveLog:
    """The agent writes no more to it; ``drop``: nor is it needed."""

    task: str
    drop: bool


@dataclass(frozen=True, slots=True)
class Say:
    level: Level
    text: str
    task: str


Action = Note | Tell | Make | MakeLater | Entitle | Finish | Kill | KeepLog | LeaveLog | Say
