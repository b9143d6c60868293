"""What the agent's core wants done; clientd/agent.py does it."""

from typing import Literal

from msgspec import Struct

from clientd.events import Channel
from clientd.keeper.orders import Order
from godwit.log import Level
from godwit.wire.messages import Message, Transfer


class Dial(Struct, frozen=True):
    """Call the master; answered by LinkOpened or DialFailed."""

    channel: Channel
    host: str
    port: int


class Send(Struct, frozen=True):
    link: int
    message: Message


class Open(Struct, frozen=True):
    """From the next frame on, read what a welcomed master sends on this channel."""

    link: int
    channel: Channel


class Close(Struct, frozen=True):
    link: int
    reason: str


class Tell(Struct, frozen=True):
    """Give the keeper an order."""

    order: Order


class Remember(Struct, frozen=True):
    """Keep the name of the master this node belongs to, durably; empty forgets it."""

    master: str


class Install(Struct, frozen=True):
    """Use this certificate from the next connection on."""

    certificate: bytes


class TakeLoad(Struct, frozen=True):
    """Measure the machine's load, and note the sizes of these tasks' logs."""

    running: tuple[str, ...]


class TakeUsage(Struct, frozen=True):
    """Measure what these processes and their descendants use; answered by UsageTaken."""

    order: int
    pids: dict[str, int]


class StartFollow(Struct, frozen=True):
    """Send this log's bytes as Chunks on ``link``."""

    link: int
    stream: int
    task: str
    path: str
    offset: int
    lines: int | None
    since: float
    live: bool


class FinishFollow(Struct, frozen=True):
    """The task has ended: send what is there, then Ended."""

    stream: int


class GrantFollow(Struct, frozen=True):
    """The reader took this many bytes."""

    stream: int
    count: int


class DropFollow(Struct, frozen=True):
    stream: int


class OpenHomeLog(Struct, frozen=True):
    """Find out how far the log of a task that is elsewhere has come here; answered by HomeLogAt.

    Again is as good as once.
    """

    task: str
    path: str


class WriteHomeLog(Struct, frozen=True):
    """What comes at this byte of it; answered by HomeLogAt."""

    task: str
    offset: int
    data: bytes


class CloseHomeLog(Struct, frozen=True):
    task: str


class StartTransfer(Struct, frozen=True):
    """Send or receive files in a thread; ``master`` is the address that "master" stands for."""

    transfer: Transfer
    master: str


class DropTransfer(Struct, frozen=True):
    order: int


class EraseFile(Struct, frozen=True):
    order: int
    path: bytes
    recursive: bool


class Owner(Struct, frozen=True):
    """Whose files travel with a move: the task's, with the rights of its user (empty: ours).

    ``folder`` is its working directory, as a path below the node's files folder.
    """

    task: str
    user: str
    folder: bytes


class StartShip(Struct, frozen=True):
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


class ShipGrowing(Struct, frozen=True):
    """Send the snapshot as it is being written; ShipImage follows when it is."""

    move: str
    image: str


class ShipImage(Struct, frozen=True):
    """Send what is left of the log, up to ``log_size`` bytes, and the snapshot of ``size``; and
    these files, as they are now."""

    move: str
    image: str
    log_size: int
    size: int
    files: tuple[bytes, ...] = ()


class AwaitShip(Struct, frozen=True):
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


class SyncLog(Struct, frozen=True):
    """Have a task's log on the disk; answered by LogSynced."""

    move: str
    log: str


class DropShip(Struct, frozen=True):
    """End this move's ship, if it is not over; no event comes of it."""

    move: str


class DropLogTimes(Struct, frozen=True):
    """These tasks are forgotten: drop what is kept about their logs."""

    tasks: tuple[str, ...]


class Say(Struct, frozen=True):
    """A line in the daemon's log."""

    level: Level
    text: str
    task: str = ""


class Exit(Struct, frozen=True):
    """End the agent after what is queued has been sent."""

    reason: Literal["stopping", "no keeper"]


Action = (
    Dial | Send | Open | Close | Tell | Remember | Install | TakeLoad | TakeUsage | StartFollow
    | FinishFollow | GrantFollow | DropFollow | StartTransfer | DropTransfer | EraseFile
    | StartShip | ShipGrowing | ShipImage | AwaitShip | DropShip | SyncLog | DropLogTimes
    | OpenHomeLog | WriteHomeLog | CloseHomeLog | Say | Exit
)
