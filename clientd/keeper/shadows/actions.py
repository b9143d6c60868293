"""What the shadows' core hears and what it wants done; clientd/keeper/shadows/shell.py does it."""

from msgspec import Struct

from clientd.keeper.orders import Word
from clientd.keeper.records import Shadow
from godwit.log import Level
from godwit.wire.messages import Guest

# ---- events --------------------------------------------------------------------------------


class Told(Struct, frozen=True):
    """The master says where a task of this home is, or how it ended."""

    guest: Guest


class Listed(Struct, frozen=True):
    """The master has told of all: there are no others."""

    tasks: frozenset[str]


class Made(Struct, frozen=True):
    """The process is there, in the place of an earlier one."""

    task: str
    pid: int
    start_ticks: int


class Unmade(Struct, frozen=True):
    task: str
    text: str


class Due(Struct, frozen=True):
    """It is time to make the process, again."""

    task: str


class Signalled(Struct, frozen=True):
    """A signal came to the process; ``count`` is its own number for it, 0: it did not see it."""

    task: str
    number: int
    count: int = 0
    #: Wall clock.
    at: float = 0.0


class Died(Struct, frozen=True):
    """The process has ended; ``status`` is as wait(2) has it, None when nobody tells."""

    task: str
    status: int | None
    #: Wall clock.
    at: float = 0.0


class Took(Struct, frozen=True):
    """The master has this signal of the task, and all before it."""

    task: str
    id: int


class Arrives(Struct, frozen=True):
    """The task is about to run here."""

    task: str


class Returned(Struct, frozen=True):
    """This keeper is new, and the process is, or is not, there."""

    task: str
    alive: bool


class Leaves(Struct, frozen=True):
    """This node stops for good: nothing stays."""


Event = (
    Told | Listed | Made | Unmade | Due | Signalled | Died | Took | Arrives | Returned | Leaves
)


# ---- actions -------------------------------------------------------------------------------


class Note(Struct, frozen=True):
    """Put this on record.  ``durable``: what follows is done only once it is on the disk."""

    shadow: Shadow
    durable: bool = False


class Tell(Struct, frozen=True):
    word: Word


class Make(Struct, frozen=True):
    """Answered by Made or Unmade."""

    shadow: Shadow


class MakeLater(Struct, frozen=True):
    """Answered by Due."""

    task: str


class Entitle(Struct, frozen=True):
    """The process is to show where the guest is now."""

    shadow: Shadow


class Finish(Struct, frozen=True):
    """The process is to end with this status; answered by Died."""

    shadow: Shadow


class Kill(Struct, frozen=True):
    """It is gone when this is done, if its kernel can do it; Died comes, too."""

    shadow: Shadow


class KeepLog(Struct, frozen=True):
    """There is to be a log here, which the agent writes on."""

    task: str


class LeaveLog(Struct, frozen=True):
    """The agent writes no more to it; ``drop``: nor is it needed."""

    task: str
    drop: bool


class Say(Struct, frozen=True):
    level: Level
    text: str
    task: str


Action = Note | Tell | Make | MakeLater | Entitle | Finish | Kill | KeepLog | LeaveLog | Say
