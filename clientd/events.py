"""What can happen to the agent, as its core sees it."""

from dataclasses import dataclass
from typing import Literal

from clientd.keeper.orders import Word
from godwit.task.record import Usage
from godwit.wire.messages import Load, Message

Channel = Literal["control", "stream"]


@dataclass(frozen=True, slots=True)
class KeeperTold:
    """The keeper said something."""

    word: Word


@dataclass(frozen=True, slots=True)
class HomeLogAt:
    """The log here of a task that is elsewhere is whole up to a byte."""

    task: str
    offset: int


@dataclass(frozen=True, slots=True)
class HomeLogFailed:
    """It cannot be written for now."""

    task: str
    text: str


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """Our call to the master was answered."""

    link: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class RequestMade:
    """A request for this node's next certificate."""

    request: bytes


@dataclass(frozen=True, slots=True)
class LinkAccepted:
    """Somebody called the port we listen on."""

    link: int
    peer: str


@dataclass(frozen=True, slots=True)
class DialFailed:
    """Our call to the master was not answered."""

    channel: Channel
    reason: str


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """A connection ended."""

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message came in."""

    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class LoadTaken:
    """The load of this machine, as asked for by TakeLoad."""

    load: Load


@dataclass(frozen=True, slots=True)
class UsageTaken:
    """The usage of running tasks, as asked for by TakeUsage."""

    order: int
    children: Usage
    tasks: dict[str, Usage]


@dataclass(frozen=True, slots=True)
class FollowEnded:
    """A follower has sent all there was, or could not read on."""

    stream: int


@dataclass(frozen=True, slots=True)
class WorkProgressed:
    """A transfer got on."""

    order: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class PortOpened:
    """A transfer waits for its peer here."""

    order: int
    port: int


@dataclass(frozen=True, slots=True)
class Copied:
    """A transfer went well."""

    order: int
    size: int
    files: int
    path: bytes
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkEnded:
    """A transfer failed, or a deletion ended; an empty code is success."""

    order: int
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ShipAwaited:
    """The ship of a move is expected here, on this port."""

    move: str
    port: int


@dataclass(frozen=True, slots=True)
class ShipProgressed:
    """A ship at its source got on with what is streamed before the freeze, bytes."""

    move: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The destination has written the log, but for a last bit: now is the time to freeze."""

    move: str


@dataclass(frozen=True, slots=True)
class Landed:
    """Log and snapshot are here."""

    move: str
    #: Of the snapshot, bytes.
    size: int
    #: Milliseconds from the source's word that it sends the snapshot.
    wire_ms: float


@dataclass(frozen=True, slots=True)
class Shipped:
    """The other end has all that this one had to send."""

    move: str


@dataclass(frozen=True, slots=True)
class LogSynced:
    """The log that came with a move is on the disk; or why it could not be put there."""

    move: str
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ShipFailed:
    """A ship ended, at either end, before all was at the destination."""

    move: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline that the core named has come."""


Event = (
    KeeperTold | RequestMade | LinkOpened | LinkAccepted | DialFailed | LinkClosed | Received
    | LoadTaken | UsageTaken | FollowEnded | WorkProgressed | Copied | PortOpened | WorkEnded
    | ShipAwaited | ShipProgressed | CaughtUp | Landed | Shipped | LogSynced | ShipFailed
    | HomeLogAt | HomeLogFailed | Tick
)
