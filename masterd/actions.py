"""What the master's core wants done; masterd/server.py does it, in this order.

Records come before the messages that depend on them: after a ``Commit`` nothing is done before
every record up to it is on the disk.
"""

from dataclasses import dataclass

from godwit.task.record import Task
from godwit.wire.messages import Message
from godwit.wire.operations import Event as HistoryEvent
from godwit.wire.operations import Reply
from godwit.wire.preface import Show
from masterd.events import Channel


@dataclass(frozen=True, slots=True)
class Send:
    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class Open:
    """From the next frame on, read what a welcomed node sends on this channel."""

    link: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class Close:
    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dial:
    """Call a node that waits for its master; answered by LinkOpened or DialFailed."""

    node: str
    channel: Channel
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    operator: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class KeepFact:
    """Record something about the master itself."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class KeepNode:
    """Record where a node is; an empty host is a node that calls by itself."""

    name: str
    node: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DropNode:
    name: str


@dataclass(frozen=True, slots=True)
class KeepTask:
    node: str
    task: Task


@dataclass(frozen=True, slots=True)
class DropTask:
    task: str


@dataclass(frozen=True, slots=True)
class KeepEvent:
    """Record a line of history, and write it to the daemon's log."""

    event: HistoryEvent


@dataclass(frozen=True, slots=True)
class Commit:
    """What follows waits until every record so far is on the disk."""


@dataclass(frozen=True, slots=True)
class DialBulk:
    """Call a node's port for a transfer; answered by BulkOpened or BulkFailed."""

    host: str
    port: int
    show: Show


@dataclass(frozen=True, slots=True)
class Splice:
    """Relay bytes between two bulk connections until both have ended."""

    one: int
    other: int


@dataclass(frozen=True, slots=True)
class DropBulk:
    bulk: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the master after what is queued has been sent."""


Action = (
    Send | Open | Close | Dial | Answer | KeepFact | KeepNode | DropNode | KeepTask | DropTask
    | KeepEvent | Commit | DialBulk | Splice | DropBulk | Stop
)
