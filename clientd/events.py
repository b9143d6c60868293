"""What can happen to the agent, as its core sees it."""

from typing import Literal

from msgspec import Struct

from clientd.keeper.orders import Word
from godwit.task.record import Usage
from godwit.wire.messages import Load, Message

Channel = Literal["control", "stream"]


class KeeperTold(Struct, frozen=True):
    """The keeper said something."""

    word: Word


class HomeLogAt(Struct, frozen=True):
    """The log here of a task that is elsewhere is whole up to a byte."""

    task: str
    offset: int


class HomeLogFailed(Struct, frozen=True):
    """It cannot be written for now."""

    task: str
    text: str


class LinkOpened(Struct, frozen=True):
    """Our call to the master was answered."""

    link: int
    channel: Channel


class RequestMade(Struct, frozen=True):
    """A request for this node's next certificate."""

    request: bytes


class LinkAccepted(Struct, frozen=True):
    """Somebody called the port we listen on."""

    link: int
    peer: str


class DialFailed(Struct, frozen=True):
    """Our call to the master was not answered."""

    channel: Channel
    reason: str


class LinkClosed(Struct, frozen=True):
    """A connection ended."""

    link: int
    reason: str


class Received(Struct, frozen=True):
    """A whole message came in."""

    link: int
    message: Message


class LoadTaken(Struct, frozen=True):
    """The load of this machine, as asked for by TakeLoad."""

    load: Load


class UsageTaken(Struct, frozen=True):
    """The usage of running tasks, as asked for by TakeUsage."""

    order: int
    children: Usage
    tasks: dict[str, Usage]


class FollowEnded(Struct, frozen=True):
    """A follower has sent all there was, or could not read on."""

    stream: int


class WorkProgressed(Struct, frozen=True):
    """A transfer got on."""

    order: int
    done: int
    total: int


class PortOpened(Struct, frozen=True):
    """A transfer waits for its peer here."""

    order: int
    port: int


class Copied(Struct, frozen=True):
    """A transfer went well."""

    order: int
    size: int
    files: int
    path: bytes
    warnings: tuple[str, ...]


class WorkEnded(Struct, frozen=True):
    """A transfer failed, or a deletion ended; an empty code is success."""

    order: int
    code: str = ""
    text: str = ""


class ShipAwaited(Struct, frozen=True):
    """The ship of a move is expected here, on this port."""

    move: str
    port: int


class ShipProgressed(Struct, frozen=True):
    """A ship at its source got on with what is streamed before the freeze, bytes."""

    move: str
    done: int
    total: int


class CaughtUp(Struct, frozen=True):
    """The destination has written the log, but for a last bit: now is the time to freeze."""

    move: str


class Landed(Struct, frozen=True):
    """Log and snapshot are here."""

    move: str
    #: Of the snapshot, bytes.
    size: int
    #: Milliseconds from the source's word that it sends the snapshot.
    wire_ms: float


class Shipped(Struct, frozen=True):
    """The other end has all that this one had to send."""

    move: str


class LogSynced(Struct, frozen=True):
    """The log that came with a move is on the disk; or why it could not be put there."""

    move: str
    trouble: str = ""


class ShipFailed(Struct, frozen=True):
    """A ship ended, at either end, before all was at the destination."""

    move: str
    code: str
    text: str


class Tick(Struct, frozen=True):
    """The deadline that the core named has come."""


Event = (
    KeeperTold | RequestMade | LinkOpened | LinkAccepted | DialFailed | LinkClosed | Received
    | LoadTaken | UsageTaken | FollowEnded | WorkProgressed | Copied | PortOpened | WorkEnded
    | ShipAwaited | ShipProgressed | CaughtUp | Landed | Shipped | LogSynced | ShipFailed
    | HomeLogAt | HomeLogFailed | Tick
)
