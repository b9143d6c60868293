"""What the agent orders and what the keeper tells, over their Unix socket pair.

The agent may die between any two messages; a new one gets Facts first and then knows all.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from godwit.errors import MessageError
from godwit.log import Level
from godwit.task.record import Snapshot, Spec, Task, Usage
from godwit.task.verdict import Place, Traits
from godwit.wire.messages import Guest, MoveState


class Order(Struct, frozen=True, tag_field="is", omit_defaults=True):
    """The root of what the agent sends."""


class Start(Order, frozen=True, tag="Start"):
    """Start these; an id that the journal knows is not started again, but told of again."""

    specs: tuple[Spec, ...]
    #: The source text of a Python program, if the master sent it; its sha256 is spec.digest.
    source: bytes = b""


class Signal(Order, frozen=True, tag="Signal"):
    """To each task's process group; ``whole`` to everything it ever started, SIGKILL only."""

    order: int
    tasks: tuple[str, ...]
    number: int
    whole: bool = False
    #: Not 0: it was sent to the task's shadow, and is done once, however often it is ordered.
    relay: int = 0


class Pause(Order, frozen=True, tag="Pause"):
    """Freeze (cgroup freezer, or SIGSTOP to the group) or let go on."""

    order: int
    tasks: tuple[str, ...]
    resume: bool = False


class Forget(Order, frozen=True, tag="Forget"):
    """End all of each task, then drop its record and log."""

    order: int
    tasks: tuple[str, ...]


class Measure(Order, frozen=True, tag="Measure"):
    """Tell the usage of all children that ended."""


class Settled(Order, frozen=True, tag="Settled"):
    """The agent is at work; ``text`` says at what, for the supervisor."""

    text: str


class Restart(Order, frozen=True, tag="Restart"):
    """End the agent that says so and start another, whose code may be newer."""


class Reserve(Order, frozen=True, tag="Reserve"):
    """Make room for a task that may move here.  Answered by Landing, or Standing ``refused``."""

    move: str
    #: As it is at its source.
    task: Task
    #: That it will have here.
    epoch: int
    source: bytes = b""
    #: The source's name.
    peer: str = ""
    #: Its memory comes while it runs here already.
    lazy: bool = False


class Freeze(Order, frozen=True, tag="Freeze"):
    """Freeze a task and snapshot it.  Answered by Shipping, then Standing ``frozen``; or by
    Standing ``unfrozen``."""

    move: str
    task: str
    #: That it has here.
    epoch: int
    #: The destination's name.
    peer: str = ""
    #: Its memory stays here, and goes while it runs there already.
    lazy: bool = False
    #: There is no destination: the snapshot is kept here, and the task runs on.
    kept: bool = False


class Checkpoint(Order, frozen=True, tag="Checkpoint"):
    """Keep a snapshot of a task, which runs on, and ``keep`` of it in all.  Answered by
    Snapshots, or Acted."""

    order: int
    task: str
    snapshot: str
    keep: int


class ListSnapshots(Order, frozen=True, tag="ListSnapshots"):
    """Answered by Snapshots."""

    order: int
    task: str


class Lodge(Order, frozen=True, tag="Lodge"):
    """Make room for a snapshot of another node's task, and keep ``keep`` of that task's in all.
    Answered by Berth, or Acted."""

    order: int
    snapshot: Snapshot
    keep: int


class Stow(Order, frozen=True, tag="Stow"):
    """All of it is in the file that Berth named.  Answered by Snapshots, or Acted."""

    order: int
    parcel: str


class Give(Order, frozen=True, tag="Give"):
    """A snapshot that is here is to be sent.  Answered by Packed, or Acted."""

    order: int
    task: str
    snapshot: str


class DropParcel(Order, frozen=True, tag="DropParcel"):
    """The file that Berth or Packed named is not needed any more."""

    parcel: str


class Unlodge(Order, frozen=True, tag="Unlodge"):
    """Drop what is lodged of these tasks, and these snapshots.  Answered by Acted."""

    order: int
    tasks: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()


class Landed(Order, frozen=True, tag="Landed"):
    """Snapshot and log of a move are here, whole, where Landing said."""

    move: str
    #: Of the snapshot, bytes.
    size: int


class Cut(Order, frozen=True, tag="Cut"):
    """The stream of a move failed: whoever has not voted refuses."""

    move: str
    code: str
    text: str


class Verdict(Order, frozen=True, tag="Verdict"):
    """What the master has decided and recorded (godwit.wire.messages.Verdict)."""

    move: str
    task: str
    epoch: int
    verdict: Literal["commit", "abort", "resume", "finish", "end", "ask"]


class Describe(Order, frozen=True, tag="Describe"):
    """What of this task decides where it can go?  Answered by Described, or Acted."""

    order: int
    task: str


class Survey(Order, frozen=True, tag="Survey"):
    """What is there here for a task that may come?  Answered by Surveyed, or Acted."""

    order: int
    spec: Spec
    paths: tuple[bytes, ...] = ()


class Guests(Order, frozen=True, tag="Guests"):
    """Where tasks of this home are (godwit.wire.messages.Guests)."""

    guests: tuple[Guest, ...]
    sync: Literal["", "more", "last"] = ""


class Took(Order, frozen=True, tag="Took"):
    """The master has done with what was told by Caught."""

    task: str
    id: int


class Stop(Order, frozen=True, tag="Stop"):
    """Stop clientd; with ``end_tasks`` after ending everything that runs."""

    end_tasks: bool = False
    reason: str = ""


class Say(Order, frozen=True, tag="Say"):
    """Write a line into the daemon's log, which an agent of another user cannot do itself."""

    level: Level
    text: str
    task: str = ""


class Word(Struct, frozen=True, tag_field="is", omit_defaults=True):
    """The root of what the keeper tells."""


class Facts(Word, frozen=True, tag="Facts"):
    """The first word to an agent: how this node was started, and what it can do."""

    name: str
    state: str
    logs: str
    boot: str
    #: "HOST:PORT" to dial, or empty.
    master: str = ""
    #: "HOST:PORT" to listen on, or empty.
    listen: str = ""
    #: Seconds of a silent master after which all tasks are ended; 0: never.
    orphans_kill_s: float = 0.0
    can: tuple[str, ...] = ()
    lacks: dict[str, str] = {}
    #: Folders open to copies and removals besides the files folder.
    roots: tuple[bytes, ...] = ()
    #: Folders that other nodes see under the same path.
    shared: tuple[bytes, ...] = ()
    #: The node's policy file, which may not be there.
    config: str = ""
    #: The agent runs as another user: the log is written for it, the token is read for it.
    demoted: bool = False
    token: str = ""
    #: File with a join token, or empty.
    token_file: str = ""
    #: Python programs that are known by name: what each takes and does.
    programs: dict[str, str] = {}
    #: The least level that goes to stderr.
    stderr: Level = "info"


class Able(Word, frozen=True, tag="Able"):
    """Another ``can`` and ``lacks`` than the Facts had."""

    can: tuple[str, ...]
    lacks: dict[str, str] = {}


class Known(Word, frozen=True, tag="Known"):
    """All tasks, in as many words as it takes; ``last`` ends it."""

    tasks: tuple[Task, ...]
    last: bool = True


class Changed(Word, frozen=True, tag="Changed"):
    """Tasks that are new or not as last told."""

    tasks: tuple[Task, ...]


class Rejected(Word, frozen=True, tag="Rejected"):
    """A launch that came to nothing: the program could not be executed, the disk is full, ..."""

    task: str
    code: str
    text: str


class Forgotten(Word, frozen=True, tag="Forgotten"):
    tasks: tuple[str, ...]


class Acted(Word, frozen=True, tag="Acted"):
    """The answer to a numbered order; an empty code is success."""

    order: int
    code: str = ""
    text: str = ""


class Described(Word, frozen=True, tag="Described"):
    order: int
    traits: Traits


class Surveyed(Word, frozen=True, tag="Surveyed"):
    order: int
    place: Place


class Snapshots(Word, frozen=True, tag="Snapshots"):
    order: int
    found: tuple[Snapshot, ...]


class Berth(Word, frozen=True, tag="Berth"):
    """There is room for a snapshot: its ``size`` bytes are to be written into this file, which
    exists, belongs to the agent's user and is empty."""

    order: int
    snapshot: str
    parcel: str
    path: str
    size: int


class Packed(Word, frozen=True, tag="Packed"):
    """A snapshot's ``size`` bytes are in this file, which the agent's user can read."""

    order: int
    snapshot: str
    parcel: str
    path: str
    size: int


class Lodging(Word, frozen=True, tag="Lodging"):
    """Tasks of other nodes of which snapshots are here: all of them, whenever that changes."""

    tasks: tuple[str, ...]


class Measured(Word, frozen=True, tag="Measured"):
    children: Usage


class Stopping(Word, frozen=True, tag="Stopping"):
    """clientd was told to stop (SIGTERM): say goodbye to the master and exit within a second."""

    reason: str
    tasks_left: int = 0


class Standing(Word, frozen=True, tag="Standing"):
    """Where a move stands, from the journal (godwit.wire.messages.Standing)."""

    move: str
    task: str
    epoch: int
    state: MoveState
    code: str = ""
    text: str = ""
    size: int = 0
    phases: dict[str, float] = {}
    at: float = 0.0
    wall: float = 0.0
    peer: str = ""


class Landing(Word, frozen=True, tag="Landing"):
    """There is room for a move: its log and its snapshot are to be written into these files,
    which exist, belong to the agent's user and are empty."""

    move: str
    log: str
    image: str


class Growing(Word, frozen=True, tag="Growing"):
    """The task stands still and its snapshot is being written: what there is of it may be sent."""

    move: str
    image: str


class Shipping(Word, frozen=True, tag="Shipping"):
    """The task stands still and its snapshot is written, though not yet on the disk: send it,
    and what is left of the log."""

    move: str
    log: str
    image: str
    #: Bytes of either.
    log_size: int
    size: int
    #: Files that the task has open, relative to its working directory, to be sent too.
    files: tuple[bytes, ...] = ()


class Caught(Word, frozen=True, tag="Caught"):
    """A task's shadow caught a signal; told again to each agent till it was taken."""

    task: str
    id: int
    number: int


class HomeLog(Word, frozen=True, tag="HomeLog"):
    """What this task writes elsewhere goes into this file, too, after what it has; told to each
    agent.  An empty path: no more."""

    task: str
    path: str


Orders = (
    Start | Signal | Pause | Forget | Measure | Settled | Restart | Stop | Say | Reserve | Freeze
    | Landed | Cut | Verdict | Describe | Survey | Guests | Took | Checkpoint
    | ListSnapshots | Lodge | Stow | Give | DropParcel | Unlodge
)
Words = (
    Facts | Known | Changed | Rejected | Forgotten | Acted | Measured | Stopping | Standing
    | Landing | Growing | Shipping | Able | Described | Surveyed | Caught | HomeLog
    | Snapshots | Berth | Packed | Lodging
)

_encoder = msgspec.msgpack.Encoder()
_orders: msgspec.msgpack.Decoder[Orders] = msgspec.msgpack.Decoder(Orders)
_words: msgspec.msgpack.Decoder[Words] = msgspec.msgpack.Decoder(Words)


def encode(message: Order | Word) -> bytes:
    """The payload of a frame."""
    return _encoder.encode(message)


def decode_order(payload: bytes) -> Order:
    """Raises MessageError for anything that is no order."""
    try:
        return _orders.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as err:
        raise MessageError(f"not an order: {err}") from err


def decode_word(payload: bytes) -> Word:
    """Raises MessageError for anything that is no word of the keeper's."""
    try:
        return _words.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as err:
        raise MessageError(f"not a word of the keeper's: {err}") from err
