"""Every message between a node and its master, one typed struct each.

A connection opens with a Hello on one of two channels.  *control* carries small messages only.
*stream* carries what tasks wrote, in chunks, with credit: so output never delays a heartbeat.
A third kind of connection, *bulk*, is opened by ticket for one transfer (godwit.bulk).

To add a message: define it here, add it to the union of those who may send it, at the end;
tests/test_messages.py wants an example of it.  Fields this version does not know are
ignored, messages it does not know are refused.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from godwit.errors import MessageError
from godwit.task.record import Snapshot, Spec, Task, Usage
from godwit.task.verdict import Place, Traits

#: Raised when an old peer could no longer understand a new one.
VERSION = 1


class Load(Struct, frozen=True, omit_defaults=True):
    """How busy a node is."""

    cpus: int = 0
    #: Share of all cores in use since the last report, 0..100.
    cpu_percent: float = 0.0
    load1: float = 0.0
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    tasks: int = 0
    users: int = 0
    #: Seconds since somebody last typed on this machine; None when that cannot be known.
    keyboard_idle_s: float | None = None


#: What a node can say of a move.  Source: streaming, frozen (its vote), unfrozen (refused before
#: its vote), resumed, finished.  Destination: reserved, refused, prepared (its vote), discarded,
#: draining (it runs, and some of its memory is still at the source), running, renounced (refused
#: after its vote, for ever), lost (it may have run).
MoveState = Literal[
    "streaming", "frozen", "unfrozen", "resumed", "finished",
    "reserved", "refused", "prepared", "discarded", "draining", "running", "renounced", "lost",
]


class Guest(Struct, frozen=True, omit_defaults=True):
    """A task that was started at this home, and is elsewhere; or how it ended there."""

    task: str
    #: Whom its shadow runs as; empty: whoever clientd runs as.
    user: str
    node: str
    epoch: int
    #: ``lost``: nobody can say what became of it; ``removed``: it was, with what it had.
    state: Literal["away", "ended", "lost", "removed"] = "away"
    exit_code: int | None = None
    signal: int | None = None
    #: What it writes is to be in a log at home, too.
    log: bool = False


class Message(Struct, frozen=True, tag_field="is", omit_defaults=True):
    """The root of all messages; the tag is the struct's name."""


# ---- opening -------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="Hello"):
    """A node's first words, whoever dialled."""

    version: int
    name: str
    #: Random, made at the node's first start, kept in its state folder.
    node: str
    #: Random, made at each start of the agent: a newer connection of the same agent replaces an
    #: older one, which a half-open TCP connection may be.
    agent: str
    channel: Literal["control", "stream"] = "control"
    #: The master this node belongs to already, if any.
    master: str = ""
    boot: str = ""
    #: What this node can do, each a word; what it cannot, in ``lacks`` with the reason.
    can: tuple[str, ...] = ()
    lacks: dict[str, str] = {}
    system: str = ""
    #: Python programs that it knows by name: what each takes and does.
    programs: dict[str, str] = {}
    #: What the agent is: "godwit 0.1.0".
    release: str = ""


class Adopt(Message, frozen=True, tag="Adopt"):
    """A master's first words to a node that waits for one; the node answers with its Hello."""

    version: int
    master: str
    name: str
    channel: Literal["control", "stream"] = "control"


class Welcome(Message, frozen=True, tag="Welcome"):
    """The master takes the node."""

    master: str
    beat_s: float = 2.0


class Refuse(Message, frozen=True, tag="Refuse"):
    """Either end declines; the connection ends."""

    code: str
    text: str


# ---- node to master, control ---------------------------------------------------------------


class Report(Message, frozen=True, tag="Report"):
    """The node's whole pid map, in as many messages as it takes; ``last`` ends it."""

    tasks: tuple[Task, ...]
    last: bool = True


class Changed(Message, frozen=True, tag="Changed"):
    """Tasks that are new or not as last reported."""

    tasks: tuple[Task, ...]


class Rejected(Message, frozen=True, tag="Rejected"):
    """These launches were refused by the node or the kernel; no task came of them."""

    tasks: tuple[str, ...]
    code: str
    text: str


class Forgotten(Message, frozen=True, tag="Forgotten"):
    """The node no longer keeps these tasks, nor their logs."""

    tasks: tuple[str, ...]


class Beat(Message, frozen=True, tag="Beat"):
    """I am here, and this busy."""

    load: Load
    children: Usage = Usage()


class Done(Message, frozen=True, tag="Done"):
    """The answer to a numbered order; an empty code is success."""

    order: int
    code: str = ""
    text: str = ""


class Copied(Message, frozen=True, tag="Copied"):
    """The answer to a Transfer that went well."""

    order: int
    size: int
    files: int
    path: bytes
    warnings: tuple[str, ...] = ()


class Measured(Message, frozen=True, tag="Measured"):
    """The answer to Measure: usage of tasks that run, and of all children that ended."""

    order: int
    children: Usage
    tasks: dict[str, Usage] = {}


class Renew(Message, frozen=True, tag="Renew"):
    """My certificate grows old: here is a request for the next one (PEM)."""

    request: bytes


class Leaving(Message, frozen=True, tag="Leaving"):
    """This node stops now, on purpose; its tasks go on or have been ended, as it says."""

    reason: str
    tasks_left: int = 0


class Able(Message, frozen=True, tag="Able"):
    """What this node can and lacks, instead of what its Hello said: it took a while to find out."""

    can: tuple[str, ...]
    lacks: dict[str, str] = {}


class Described(Message, frozen=True, tag="Described"):
    """The answer to Describe."""

    order: int
    traits: Traits


class Surveyed(Message, frozen=True, tag="Surveyed"):
    """The answer to Survey."""

    order: int
    place: Place


class Snapshots(Message, frozen=True, tag="Snapshots"):
    """The answer to Checkpoint, ListSnapshots and Lodge: the oldest first."""

    order: int
    found: tuple[Snapshot, ...]


class Lodging(Message, frozen=True, tag="Lodging"):
    """Tasks of other nodes of which snapshots are here: all of them, whenever that changes, and on
    each connection after the Report."""

    tasks: tuple[str, ...]


class Standing(Message, frozen=True, tag="Standing"):
    """Where a move stands at this node: said when it changes, and again on each connection.

    It repeats what the node has on record (``streaming`` apart), so a late or doubled one is
    still true.  ``epoch`` is the task's as long as this node has or had it.
    """

    move: str
    task: str
    epoch: int
    state: MoveState
    #: Why, for what went wrong.
    code: str = ""
    text: str = ""
    #: With ``reserved``: where the source is to call.
    port: int = 0
    #: Bytes: of the snapshot with ``frozen``, so far and in all with ``streaming``.
    size: int = 0
    total: int = 0
    #: Milliseconds that parts of the move took here.
    phases: dict[str, float] = {}
    #: When the task stopped (``frozen``) or went on (``running``): seconds on the clock of the
    #: boot ``boot``, CLOCK_MONOTONIC, and since 1970.
    at: float = 0.0
    wall: float = 0.0
    boot: str = ""
    #: The node at the other end of the move, for a master that has no record of it.
    peer: str = ""


class Caught(Message, frozen=True, tag="Caught"):
    """A signal was sent to the shadow of a task that left this node, its home.

    Said again on each connection, till Took; the next of that task only then.
    """

    task: str
    #: Grows with each of a task's.
    id: int
    number: int


# ---- master to node, control ---------------------------------------------------------------


class Launch(Message, frozen=True, tag="Launch"):
    """Start one spec once for each task id; an id seen before is not started again."""

    spec: Spec
    tasks: tuple[str, ...]
    #: One stream number for each task, when its output is to be followed from the start.
    streams: tuple[int, ...] = ()
    #: The source text of a Python program that the node may not have; spec.digest names it.
    source: bytes = b""


class Signal(Message, frozen=True, tag="Signal"):
    """Send a signal to each task's process group; ``whole`` reaches all it ever started."""

    order: int
    tasks: tuple[str, ...]
    number: int
    whole: bool = False
    #: Not 0: the id of a Caught; the node does it once, however often it is told.
    relay: int = 0


class Pause(Message, frozen=True, tag="Pause"):
    """Stop tasks where they are, or let them go on."""

    order: int
    tasks: tuple[str, ...]
    resume: bool = False


class Forget(Message, frozen=True, tag="Forget"):
    """End these tasks if they run, then drop their records and logs."""

    order: int
    tasks: tuple[str, ...]


class Measure(Message, frozen=True, tag="Measure"):
    """What do these tasks use now?  None named: all that run."""

    order: int
    tasks: tuple[str, ...] = ()


class Erase(Message, frozen=True, tag="Erase"):
    """Delete a file or folder."""

    order: int
    path: bytes
    recursive: bool = False


class Transfer(Message, frozen=True, tag="Transfer"):
    """Send or receive a file or folder over a bulk connection that shows this ticket.

    ``address`` is whom to dial: ``HOST:PORT``, or ``master``; empty waits for the other side's
    call, on a port that the node names in Listening.
    """

    order: int
    ticket: str
    role: Literal["send", "receive"]
    path: bytes
    address: str = ""
    #: sha256 of each certificate that the other end may show (two while it renews); none: it is
    #: the master, which shows its own.
    leaves: tuple[str, ...] = ()


class Listening(Message, frozen=True, tag="Listening"):
    """Where this node waits for the bulk connection of a transfer."""

    order: int
    port: int


class Moved(Message, frozen=True, tag="Moved"):
    """How far a transfer is, in bytes; at most a few a second."""

    order: int
    done: int
    total: int


class Abandon(Message, frozen=True, tag="Abandon"):
    """The transfer with this order number is no longer wanted."""

    order: int


class Follow(Message, frozen=True, tag="Follow"):
    """Stream a task's log from byte ``offset``, or its last ``lines``, or what came ``since``."""

    stream: int
    task: str
    offset: int = 0
    lines: int | None = None
    #: Wall clock, seconds since 1970; 0: from the start.
    since: float = 0.0
    #: Also what is written from now on, until the task ends.
    live: bool = False


class Unfollow(Message, frozen=True, tag="Unfollow"):
    """Nobody reads this stream any more."""

    stream: int


class Dismiss(Message, frozen=True, tag="Dismiss"):
    """Deregistered: end all tasks, say Done, and stop."""

    order: int


class Upgrade(Message, frozen=True, tag="Upgrade"):
    """Start the agent anew, with the code that is on the disk now; Done says it is about to."""

    order: int


class Renewed(Message, frozen=True, tag="Renewed"):
    """The next certificate (PEM); the one in use is good until it has been shown."""

    certificate: bytes


class Heard(Message, frozen=True, tag="Heard"):
    """The master got the Beat; so a node knows that its master is there."""


class Reserve(Message, frozen=True, tag="Reserve"):
    """A task may move here: check that it can, make room, start a warm runner, listen.

    Answered by a Standing, ``reserved`` or ``refused``.
    """

    move: str
    #: The task as it is at its source.
    task: Task
    #: The epoch that it will have here.
    epoch: int
    #: What the source shows on the bulk connection, and which certificates it may have.
    ticket: str
    leaves: tuple[str, ...]
    #: The source text of a Python program that this node may not have; the spec's digest names it.
    source: bytes = b""
    #: The source's name, so that each end can tell of both.
    peer: str = ""
    #: Its memory comes while it runs here already.
    lazy: bool = False


class Freeze(Message, frozen=True, tag="Freeze"):
    """Stream the task's log to ``address``, then freeze the task, snapshot it and ship that.

    Answered by a Standing, ``frozen`` or ``unfrozen``.
    """

    move: str
    task: str
    #: The epoch that it has here.
    epoch: int
    address: str
    ticket: str
    leaves: tuple[str, ...]
    #: The destination's name.
    peer: str = ""
    #: Its memory stays here, and goes while it runs there already.
    lazy: bool = False


class Verdict(Message, frozen=True, tag="Verdict"):
    """What has been decided of a move, and is on the master's record.

    ``commit`` to the destination: the task is yours, let it run.  ``abort`` to both: it never
    left.  ``resume`` to the source: it is yours again, under ``epoch``.  ``finish`` to the
    source: it runs elsewhere, end the frozen copy.  ``end`` to a node whose copy has an epoch
    below ``epoch``: another node owns the task.  ``ask`` decides nothing: where does it stand?
    """

    move: str
    task: str
    #: The owner's, as of the verdict.
    epoch: int
    verdict: Literal["commit", "abort", "resume", "finish", "end", "ask"]


class Describe(Message, frozen=True, tag="Describe"):
    """What of this task decides where it can go?  It runs on meanwhile."""

    order: int
    task: str


class Checkpoint(Message, frozen=True, tag="Checkpoint"):
    """Keep a snapshot of a task, which runs on; the oldest over ``keep`` are dropped."""

    order: int
    task: str
    snapshot: str
    keep: int


class ListSnapshots(Message, frozen=True, tag="ListSnapshots"):
    """Which snapshots of a task are there, kept and lodged?"""

    order: int
    task: str


class Lodge(Message, frozen=True, tag="Lodge"):
    """Take in a snapshot of another node's task, which is to come by a bulk connection that shows
    this ticket; of that task's the oldest over ``keep`` are dropped.

    Answered by Listening, then Snapshots; or by Done.
    """

    order: int
    #: What is kept beside it here, whatever the node that sends it may say.
    snapshot: Snapshot
    keep: int
    ticket: str
    #: Certificates of the node that has it.
    leaves: tuple[str, ...]


class Give(Message, frozen=True, tag="Give"):
    """Send a snapshot that is here to a node that was told to Lodge it, and waits at ``address``.

    Answered by Done once it has arrived.
    """

    order: int
    task: str
    snapshot: str
    address: str
    ticket: str
    leaves: tuple[str, ...]


class Unlodge(Message, frozen=True, tag="Unlodge"):
    """Drop what is lodged of these tasks, and these snapshots."""

    order: int
    tasks: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()


class Survey(Message, frozen=True, tag="Survey"):
    """What does this node have for a task that may come, and which of these paths?"""

    order: int
    spec: Spec
    paths: tuple[bytes, ...] = ()


class Guests(Message, frozen=True, tag="Guests"):
    """Where tasks of this home are: what is new, or with ``sync`` all of them, ``last`` ends it."""

    guests: tuple[Guest, ...]
    sync: Literal["", "more", "last"] = ""


class Took(Message, frozen=True, tag="Took"):
    """A Caught has been done with, and all of that task's before it."""

    task: str
    id: int


# ---- stream --------------------------------------------------------------------------------


class Chunk(Message, frozen=True, tag="Chunk"):
    """Bytes of a log, starting at ``offset``."""

    stream: int
    offset: int
    data: bytes
    #: So many bytes just before ``offset`` are not in the log any more.
    dropped: int = 0


class Ended(Message, frozen=True, tag="Ended"):
    """The stream is complete up to ``offset``; a code says why when it was cut short."""

    stream: int
    offset: int
    code: str = ""
    text: str = ""


class Kept(Message, frozen=True, tag="Kept"):
    """The log at home of a task that is elsewhere is whole up to ``offset``: Log from there on.

    The first on a connection asks for it; the others are credit.
    """

    task: str
    offset: int


class Log(Message, frozen=True, tag="Log"):
    """What a task of this home wrote elsewhere, from byte ``offset`` of its log on."""

    task: str
    offset: int
    data: bytes
    #: So many bytes just before ``offset`` are not in the log any more.
    dropped: int = 0


class Credit(Message, frozen=True, tag="Credit"):
    """The reader took this many bytes; as many more may be sent."""

    stream: int
    count: int


#: Bytes that may be under way on one stream before its reader has taken them.
WINDOW = 256 * 1024

Opening = Hello | Adopt | Welcome | Refuse
FromNode = (
    Report | Changed | Rejected | Forgotten | Beat | Done | Measured | Leaving | Listening | Moved
    | Copied | Renew | Standing | Able | Described | Surveyed | Caught | Snapshots | Lodging
)
FromMaster = (
    Launch | Signal | Pause | Forget | Measure | Erase | Transfer | Abandon | Follow | Unfollow
    | Dismiss | Heard | Renewed | Upgrade | Reserve | Freeze | Verdict | Describe | Survey
    | Guests | Took | Checkpoint | ListSnapshots | Lodge | Give | Unlodge
)
StreamFromNode = Chunk | Ended | Kept
StreamFromMaster = Credit | Log

_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """The payload of a frame."""
    return _encoder.encode(message)


class Decoder:
    """Decodes the messages of one union and refuses all others."""

    def __init__(self, union: object):
        self._decoder = msgspec.msgpack.Decoder(union)

    def __call__(self, payload: bytes) -> Message:
        """Raises MessageError, naming the place, for anything that is no such message."""
        try:
            message = self._decoder.decode(payload)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as err:
            raise MessageError(f"not a message of this protocol: {err}") from err
        assert isinstance(message, Message)
        return message


decode_opening = Decoder(Opening)
decode_from_node = Decoder(FromNode | Refuse)
decode_from_master = Decoder(FromMaster | Refuse)
decode_stream_from_node = Decoder(StreamFromNode)
decode_stream_from_master = Decoder(StreamFromMaster)
