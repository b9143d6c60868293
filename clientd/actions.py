"""What the agent's core wants done; clientd/agent.py does it."""

from dataclasses import dataclass
from typing import Literal

from clientd.events import Channel
from clientd.keeper.orders import Order
from godwit.log import Level
from godwit.wire.messages import Message, Transfer


@dataclass(frozen=True, slots=True)
class Dial:
    """Call the master; answered by LinkOpened or DialFailed."""

    channel: Channel
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Send:
    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class Open:
    """From the next frame on, read what a welcomed master sends on this channel."""

    link: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class Close:
    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Give the keeper an order."""

    order: Order


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep the name of the master this node belongs to, durably; empty forgets it."""

    master: str


@dataclass(frozen=True, slots=True)
class Install:
    """Use this certificate from the next connection on."""

    certificate: bytes


@dataclass(frozen=True, slots=True)
class TakeLoad:
    """Measure the machine's load, and note the sizes of these tasks' logs."""

    running: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TakeUsage:
    """Measure what these processes and their descendants use; answered by UsageTaken."""

    order: int
    pids: dict[str, int]


@dataclass(frozen=True, slots=True)
class StartFollow:
    """Send this log's bytes as Chunks on ``link``."""

    link: int
    stream: int
    task: str
    path: str
    offset: int
    lines: int | None
    since: float
    live: bool


@dataclass(frozen=True, slots=True)
class FinishFollow:
    """The task has ended: send what is there, then Ended."""

    stream: int


@dataclass(frozen=True, slots=True)
class GrantFollow:
    """The reader took this many bytes."""

    stream: int
    count: int


@dataclass(frozen=True, slots=True)
class DropFollow:
    stream: int


@dataclass(frozen=True, slots=True)
class OpenHomeLog:
    """Find out how far the log of a task that is elsewhere has come here; answered by HomeLogAt.

    Again is as good as once.
    """

    task: str
    path: str


@dataclass(frozen=True, slots=True)
class WriteHomeLog:
    """What comes at this byte of it; answered by HomeLogAt."""

    task: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CloseHomeLog:
    task: str


@dataclass(frozen=True, slots=True)
class StartTransfer:
    """Send or receive files in a thread; ``master`` is the address that "master" stands for."""

    transfer: Transfer
    master: str


@dataclass(frozen=True, slots=True)
class DropTransfer:
    order: int


@dataclass(frozen=True, slots=True)
class EraseFile:
    order: int
    path: bytes
    recursive: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose files travel with a move: the task's, with the rights of its user (empty: ours).

    ``folder`` is its working directory, as a path below the node's files folder.
    """

    task: str
    user: str
    folder: bytes


@dataclass(frozen=True, slots=True)
class StartShip:
    """Call ``address`` and stream a move's log there; answered by CaughtUp, then Shipped; or by
    ShipFailed.  An empty ``log``: there is none.

    Files of the working directory that the process ``pid`` has open are streamed too, and
    ``files``, unless there is no ``owner``: those that ShipImage names are spared the time then.
    """

    move: str
    address: str
    ticket: str
    leaves: tuple[str, ...]
    log: str
    owner: Owner | None = None
    pid: int | None = None
    files: tuple[bytes, ...] = ()
    #: A pager is to be there before CaughtUp.
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class ShipGrowing:
    """Send the snapshot as it is being written; ShipImage follows when it is."""

    move: str
    image: str


@dataclass(frozen=True, slots=True)
class ShipImage:
    """Send what is left of the log, up to ``log_size`` bytes, and the snapshot of ``size``; and
    these files, as they are now."""

    move: str
    image: str
    log_size: int
    size: int
    files: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class AwaitShip:
    """Wait for a ship and write what it brings into these files; answered by ShipAwaited, then
    Landed or ShipFailed.  Without an ``owner`` no further files are taken, and no log if ``log`` is
    empty."""

    move: str
    ticket: str
    leaves: tuple[str, ...]
    log: str
    image: str
    owner: Owner | None = None
    #: Wait for the other node's pager, too.
    lazy: bool = False
    #: Of the image, bytes; None: as many as the other end says.
    size: int | None = None


@dataclass(frozen=True, slots=True)
class SyncLog:
    """Have a task's log on the disk; answered by LogSynced."""

    move: str
    log: str


@dataclass(frozen=True, slots=True)
class DropShip:
    """End this move's ship, if it is not over; no event comes of it."""

    move: str


@dataclass(frozen=True, slots=True)
class DropLogTimes:
    """These tasks are forgotten: drop what is kept about their logs."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """A line in the daemon's log."""

    level: Level
    text: str
    task: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """End the agent after what is queued has been sent."""

    reason: Literal["stopping", "no keeper"]


Action = (
    Dial | Send | Open | Close | Tell | Remember | Install | TakeLoad | TakeUsage | StartFollow
    | FinishFollow | GrantFollow | DropFollow | StartTransfer | DropTransfer | EraseFile
    | StartShip | ShipGrowing | ShipImage | AwaitShip | DropShip | SyncLog | DropLogTimes
    | OpenHomeLog | WriteHomeLog | CloseHomeLog | Say | Exit
)
