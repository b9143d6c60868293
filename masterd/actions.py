"""What the master's core wants done; masterd/server.py does it, in this order.

Records come before the messages that depend on them: these come after a ``Commit``, or when the
core has heard of its ``Confirm``.
"""

from typing import Literal

from msgspec import Struct

from godwit.task.record import Task
from godwit.wire.messages import Message
from godwit.wire.operations import Event as HistoryEvent
from godwit.wire.operations import Reply
from godwit.wire.preface import Show
from masterd.events import Channel
from masterd.moves.table import Move


class Send(Struct, frozen=True):
    link: int
    message: Message
    #: It repeats what is on record: not sent while the record cannot be written.
    recorded: bool = False


class Open(Struct, frozen=True):
    """From the next frame on, read what a welcomed node sends on this channel."""

    link: int
    channel: Channel


class Close(Struct, frozen=True):
    link: int
    reason: str


class Dial(Struct, frozen=True):
    """Call a node that waits for its master; answered by LinkOpened or DialFailed."""

    node: str
    channel: Channel
    host: str
    port: int


class Answer(Struct, frozen=True):
    operator: int
    reply: Reply


class KeepFact(Struct, frozen=True):
    """Record something about the master itself."""

    name: str
    value: str


class KeepNode(Struct, frozen=True):
    """Record where a node is; an empty host is a node that calls by itself."""

    name: str
    node: str
    host: str
    port: int


class KeepLeaves(Struct, frozen=True):
    """Record which certificates are a node's (their sha256); none: it has no right here."""

    name: str
    leaves: tuple[str, ...]


class KeepToken(Struct, frozen=True):
    """Record a join token: the hash of its secret, uses left, wall clock of its end."""

    id: str
    digest: str
    uses: int
    until: float
    #: Only for a node of this name; empty: any.
    node: str


class DropToken(Struct, frozen=True):
    id: str


class Admit(Struct, frozen=True):
    """Sign the certificate of the machine that asked, as this node; answered by Certified."""

    asked: int
    name: str


class Deny(Struct, frozen=True):
    """Tell the machine that asked that it may not join."""

    asked: int
    code: str
    text: str


class Hand(Struct, frozen=True):
    """The certificate is recorded: hand it out."""

    asked: int


class Renew(Struct, frozen=True):
    """Sign the next certificate of a node; answered by Certified; then send it on ``link``."""

    link: int
    name: str
    request: bytes


class Adopt(Struct, frozen=True):
    """Take a node that waits for a master; answered by Certified, then Adopted or DialFailed."""

    node: str
    host: str
    port: int
    code: str


class DropNode(Struct, frozen=True):
    name: str


class KeepTask(Struct, frozen=True):
    node: str
    task: Task


class DropTask(Struct, frozen=True):
    task: str


class KeepMove(Struct, frozen=True):
    """Record where a move stands and, in the same write, who has its task from now on."""

    move: Move
    node: str = ""
    task: Task | None = None


class KeepSource(Struct, frozen=True):
    """Record the source text of a Python program; ``digest`` is its sha256."""

    digest: str
    text: bytes


class KeepRelay(Struct, frozen=True):
    """Record the last signal of a task's shadow, and how far it is."""

    task: str
    id: int
    number: int
    #: The node that may have been told to do it.
    sent: str = ""
    #: Nothing more is to be done about it.
    done: bool = False


class DropRelay(Struct, frozen=True):
    task: str


#: What a node that lodges snapshots of a task is to it: the one that each is copied to, another
#: that has some, or one that is to drop what it has.
Lodger = Literal["peer", "more", "gone"]


class KeepLodger(Struct, frozen=True):
    """Record that a node may have snapshots of another node's task."""

    task: str
    node: str
    role: Lodger
    #: Of the task's source text; see Spec.
    digest: str = ""


class DropLodger(Struct, frozen=True):
    task: str
    node: str


class KeepSchedule(Struct, frozen=True):
    """Record that a snapshot of a task is to be taken each ``every_s`` seconds."""

    task: str
    every_s: float
    keep: int


class DropSchedule(Struct, frozen=True):
    task: str


class KeepHeir(Struct, frozen=True):
    """Record that a task was given up for lost, and which one goes on in its place."""

    task: str
    heir: str


class DropHeir(Struct, frozen=True):
    task: str


class DropSource(Struct, frozen=True):
    digest: str


class KeepEvent(Struct, frozen=True):
    """Record a line of history, and write it to the daemon's log."""

    event: HistoryEvent


class Commit(Struct, frozen=True):
    """What follows waits until every record so far is on the disk.

    When they cannot be written it goes on all the same, with the records in memory till they can.
    """


class Confirm(Struct, frozen=True):
    """Say whether every record so far is on the disk, by Recorded or Unrecorded; nothing waits."""

    number: int


class DialBulk(Struct, frozen=True):
    """Call a node's port for a transfer; answered by BulkOpened or BulkFailed.

    ``leaves`` are the certificates it may show.
    """

    host: str
    port: int
    show: Show
    leaves: tuple[str, ...]


class Splice(Struct, frozen=True):
    """Relay bytes between two bulk connections until both have ended."""

    one: int
    other: int


class DropBulk(Struct, frozen=True):
    bulk: int


class Stop(Struct, frozen=True):
    """End the master after what is queued has been sent."""


Action = (
    Send | Open | Close | Dial | Answer | KeepFact | KeepNode | DropNode | KeepTask | DropTask
    | KeepLeaves | KeepToken | DropToken | Admit | Deny | Hand | Renew | Adopt
    | KeepMove | KeepSource | DropSource | KeepRelay | DropRelay | KeepEvent | Commit | Confirm
    | KeepLodger | DropLodger | KeepSchedule | DropSchedule | KeepHeir | DropHeir
    | DialBulk | Splice | DropBulk | Stop
)
