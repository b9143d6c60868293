"""What the master's core wants done; masterd/server.py does it, in this order.

Records come before the messages that depend on them: these come after a ``Commit``, or when the
core has heard of its ``Confirm``.
"""

from dataclasses import dataclass
from typing import Literal

from godwit.task.record import Task
from godwit.wire.messages import Message
from godwit.wire.operations import Event as HistoryEvent
from godwit.wire.operations import Reply
from godwit.wire.preface import Show
from masterd.events import Channel
from masterd.moves.table import Move


@dataclass(frozen=True, slots=True)
class Send:
    link: int
    message: Message
    #: It repeats what is on record: not sent while the record cannot be written.
    recorded: bool = False


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
class KeepLeaves:
    """Record which certificates are a node's (their sha256); none: it has no right here."""

    name: str
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeepToken:
    """Record a join token: the hash of its secret, uses left, wall clock of its end."""

    id: str
    digest: str
    uses: int
    until: float
    #: Only for a node of this name; empty: any.
    node: str


@dataclass(frozen=True, slots=True)
class DropToken:
    id: str


@dataclass(frozen=True, slots=True)
class Admit:
    """Sign the certificate of the machine that asked, as this node; answered by Certified."""

    asked: int
    name: str


@dataclass(frozen=True, slots=True)
class Deny:
    """Tell the machine that asked that it may not join."""

    asked: int
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Hand:
    """The certificate is recorded: hand it out."""

    asked: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Sign the next certificate of a node; answered by Certified; then send it on ``link``."""

    link: int
    name: str
    request: bytes


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take a node that waits for a master; answered by Certified, then Adopted or DialFailed."""

    node: str
    host: str
    port: int
    code: str


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
class KeepMove:
    """Record where a move stands and, in the same write, who has its task from now on."""

    move: Move
    node: str = ""
    task: Task | None = None


@dataclass(frozen=True, slots=True)
class KeepSource:
    """Record the source text of a Python program; ``digest`` is its sha256."""

    digest: str
    text: bytes


@dataclass(frozen=True, slots=True)
class KeepRelay:
    """Record the last signal of a task's shadow, and how far it is."""

    task: str
    id: int
    number: int
    #: The node that may have been told to do it.
    sent: str = ""
    #: Nothing more is to be done about it.
    done: bool = False


@dataclass(frozen=True, slots=True)
class DropRelay:
    task: str


#: What a node that lodges snapshots of a task is to it: the one that each is copied to, another
#: that has some, or one that is to drop what it has.
Lodger = Literal["peer", "more", "gone"]


@dataclass(frozen=True, slots=True)
class KeepLodger:
    """Record that a node may have snapshots of another node's task."""

    task: str
    node: str
    role: Lodger
    #: Of the task's source text; see Spec.
    digest: str = ""


@dataclass(frozen=True, slots=True)
class DropLodger:
    task: str
    node: str


@dataclass(frozen=True, slots=True)
class KeepSchedule:
    """Record that a snapshot of a task is to be taken each ``every_s`` seconds."""

    task: str
    every_s: float
    keep: int


@dataclass(frozen=True, slots=True)
class DropSchedule:
    task: str


@dataclass(frozen=True, slots=True)
class KeepHeir:
    """Record that a task was given up for lost, and which one goes on in its place."""

    task: str
    heir: str


@dataclass(frozen=True, slots=True)
class DropHeir:
    task: str


@dataclass(frozen=True, slots=True)
class DropSource:
    digest: str


@dataclass(frozen=True, slots=True)
class KeepEvent:
    """Record a line of history, and write it to the daemon's log."""

    event: HistoryEvent


@dataclass(frozen=True, slots=True)
class Commit:
    """What follows waits until every record so far is on the disk.

    When they cannot be written it goes on all the same, with the records in memory till they can.
    """


@dataclass(frozen=True, slots=True)
class Confirm:
    """Say whether every record so far is on the disk, by Recorded or Unrecorded; nothing waits."""

    number: int


@dataclass(frozen=True, slots=True)
class DialBulk:
    """Call a node's port for a transfer; answered by BulkOpened or BulkFailed.

    ``leaves`` are the certificates it may show.
    """

    host: str
    port: int
    show: Show
    leaves: tuple[str, ...]


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
    | KeepLeaves | KeepToken | DropToken | Admit | Deny | Hand | Renew | Adopt
    | KeepMove | KeepSource | DropSource | KeepRelay | DropRelay | KeepEvent | Commit | Confirm
    | KeepLodger | DropLodger | KeepSchedule | DropSchedule | KeepHeir | DropHeir
    | DialBulk | Splice | DropBulk | Stop
)
