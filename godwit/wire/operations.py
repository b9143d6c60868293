"""What an operator (shell, CLI) asks of the master over its Unix socket, and the answers.

Every request has an ``id`` of the client's choosing; every answer repeats it.  A request gets
exactly one final answer (any Reply not in ``ON_THE_WAY``), Problem included.
The master resolves references to nodes and tasks, so that all clients agree on what they mean.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from godwit.errors import MessageError
from godwit.task.record import Task, Usage
from godwit.task.verdict import Verdict
from godwit.wire.messages import Load, Message

VERSION = 1


# ---- what answers are made of --------------------------------------------------------------


class TaskView(Struct, frozen=True, omit_defaults=True):
    """A task and the node it is on.  While that node cannot be heard, its status is unknown."""

    node: str
    task: Task
    #: Seconds between two snapshots that are taken of it by themselves; 0: none are.
    every_s: float = 0.0


class NodeView(Struct, frozen=True, omit_defaults=True):
    """A node as the master sees it."""

    name: str
    address: str
    state: Literal["up", "suspect", "unreachable", "left"]
    load: Load = Load()
    can: tuple[str, ...] = ()
    lacks: dict[str, str] = {}
    system: str = ""
    #: Seconds since its last beat.
    silent_s: float = 0.0
    tasks: tuple[TaskView, ...] = ()


class Fault(Struct, frozen=True, omit_defaults=True):
    """One thing that could not be done; ``about`` is the reference as the user wrote it."""

    about: str
    code: str
    message: str
    hint: str = ""


class Place(Struct, frozen=True, omit_defaults=True):
    """A path on a node; an empty node is the operator's own machine."""

    path: bytes
    node: str = ""


class Event(Struct, frozen=True, omit_defaults=True):
    """One line of the cluster's history."""

    at: float
    level: Literal["config", "info", "warning", "severe"]
    text: str
    node: str = ""
    task: str = ""


# ---- requests ------------------------------------------------------------------------------


class Request(Message, frozen=True):
    """The root of all requests."""

    id: int


class Attach(Request, frozen=True, tag="Attach"):
    """The first request on every connection; answered by Attached."""

    version: int
    #: Send Notice messages (with this request's id) as things happen.
    notices: bool = False


class ListNodes(Request, frozen=True, tag="ListNodes"):
    """Nodes with their tasks; ``nodes`` is a reference: name, @a,b, @web[1-20], all."""

    nodes: str = "all"


class ListTasks(Request, frozen=True, tag="ListTasks"):
    """Tasks by reference: id, unique prefix of one, NODE:PID, pid."""

    tasks: tuple[str, ...]


class Execute(Request, frozen=True, tag="Execute"):
    """Start ``count`` copies of a command on each of the nodes."""

    nodes: str
    argv: tuple[bytes, ...]
    shell: bool = False
    cwd: bytes = b""
    env: dict[bytes, bytes] = {}
    name: str = ""
    user: str = ""
    count: int = 1
    oneoff: bool = False
    #: ``python``: argv is a program and its arguments.
    kind: str = "shell"
    #: The source text of that program, for ``./file.py:Class``.
    source: bytes = b""
    #: Answered by Launched; then Output and OutputEnd for each task as they come, and one Tasks
    #: when all have ended.  Without it: by one Tasks, as soon as all run.
    follow: bool = False
    #: In a pid namespace of its own, where a node can.
    contained: bool = False
    #: What it writes elsewhere is to be in a log at its home, too.
    log_at_home: bool = False
    #: Start from this snapshot, which the node has; ``digest`` is of its program's source.
    snapshot: str = ""
    digest: str = ""


class FollowLogs(Request, frozen=True, tag="FollowLogs"):
    """Stream the logs of tasks; Output and OutputEnd for each, then one Tasks at the end."""

    tasks: tuple[str, ...]
    lines: int | None = None
    since: float = 0.0
    live: bool = False


class Took(Request, frozen=True, tag="Took"):
    """The client has written out ``count`` bytes of ``task``'s stream; no answer."""

    task: str
    count: int


class Cancel(Request, frozen=True, tag="Cancel"):
    """The client no longer wants the answer to request ``id``; no answer."""


class SignalTasks(Request, frozen=True, tag="SignalTasks"):
    """Send a signal; ``whole`` reaches everything the task ever started.  Answered by Tasks."""

    tasks: tuple[str, ...]
    number: int
    whole: bool = False


class PauseTasks(Request, frozen=True, tag="PauseTasks"):
    """Stop tasks where they are, or let them go on.  Answered by Tasks."""

    tasks: tuple[str, ...]
    resume: bool = False


class ForgetTasks(Request, frozen=True, tag="ForgetTasks"):
    """End tasks and drop their records and logs.  Answered by Tasks (as they last were)."""

    tasks: tuple[str, ...]


class CheckpointTask(Request, frozen=True, tag="CheckpointTask"):
    """Keep a snapshot of a running task, and ``keep`` in all, at its node and at one other.

    ``every_s``: and then another each so many seconds, till the task ends.  Answered by
    Snapshots.  ``stop``: no more of these; answered by Ok.
    """

    task: str
    keep: int = 3
    every_s: float = 0.0
    stop: bool = False


class ListSnapshots(Request, frozen=True, tag="ListSnapshots"):
    """Of one task, or of all when none is named.  Answered by Snapshots."""

    task: str


class RestartTask(Request, frozen=True, tag="RestartTask"):
    """Start copies from a snapshot of a task, under new ids; without ``fork`` it must have ended.

    Empty: its last snapshot.  On these nodes, ``count`` on each; none named: on one that has the
    snapshot.  ``lost``: nobody can say whether it has ended, and it is to count as ended: should it
    come back, it is.  Answered by Tasks.
    """

    task: str
    snapshot: str = ""
    fork: bool = False
    count: int = 1
    nodes: tuple[str, ...] = ()
    lost: bool = False


class AwaitTasks(Request, frozen=True, tag="AwaitTasks"):
    """Answered by Tasks when all have ended, or by Problem ``timeout``."""

    tasks: tuple[str, ...]
    timeout_s: float | None = None


class MeasureUsage(Request, frozen=True, tag="MeasureUsage"):
    """Usage of a node and all its tasks, or of one task; empty: everything."""

    about: str = ""


class EraseFile(Request, frozen=True, tag="EraseFile"):
    """Delete a file or folder on a node."""

    place: Place
    recursive: bool = False


class Copy(Request, frozen=True, tag="Copy"):
    """Copy a file or folder; where one side is local, Ticket comes first, then CopyDone."""

    source: Place
    target: Place


class Register(Request, frozen=True, tag="Register"):
    """Adopt a node that waits for a master at host:port."""

    host: str
    port: int
    name: str
    #: The one-time code that the waiting node printed; not needed by a node of ours.
    code: str = ""


class MakeToken(Request, frozen=True, tag="MakeToken"):
    """A token with which ``uses`` machines may join within ``ttl_s`` seconds."""

    uses: int = 1
    ttl_s: float = 3600.0
    #: Only a node of this name; empty: any.
    node: str = ""


class Revoke(Request, frozen=True, tag="Revoke"):
    """From now on this node's certificates are worth nothing here."""

    node: str


class Upgrade(Request, frozen=True, tag="Upgrade"):
    """Start the agents of these nodes anew; Progress for each, then Upgraded."""

    nodes: str


class Deregister(Request, frozen=True, tag="Deregister"):
    """End the tasks of these nodes and the nodes' daemons; Progress for each, then Ok."""

    nodes: str


class MoveTask(Request, frozen=True, tag="MoveTask"):
    """Move a task to another node while it runs.

    Progress on the way, then Moves with the one move, however it went; Problem when it could not
    even begin.  ``source``: refuse unless the task is there (``transfer``).
    """

    task: str
    target: str
    source: str = ""
    #: When it cannot be known whether the destination ran it: ``hold``, or ``resume`` at the
    #: source.
    on_unknown: Literal["hold", "resume"] = "hold"
    #: The longest that it may stand still, ms; 0: as long as it takes.  Refused when no way is
    #: likely to keep to it, unless ``anyway``: then by the way that comes nearest.
    budget_ms: float = 0.0
    anyway: bool = False
    #: From now on what it writes elsewhere is in a log at its home, too.
    log_at_home: bool = False
    #: A snapshot of it is kept at its source first.
    safe: bool = False


class ListMoves(Request, frozen=True, tag="ListMoves"):
    """The newest moves, of one task or node if named, the newest last.  Answered by Moves."""

    about: str = ""
    limit: int = 100


class ResolveMove(Request, frozen=True, tag="ResolveMove"):
    """An operator's word on a held move: which side has the task.  Answered by Moves."""

    move: str
    side: Literal["source", "destination"]


class JudgeMove(Request, frozen=True, tag="JudgeMove"):
    """Can a task move to these nodes as it is, and if not, why not?  Answered by Verdicts.

    Nothing is done to the task.  Of ``all`` its own node is left out.
    """

    task: str
    nodes: str = "all"


class ListPrograms(Request, frozen=True, tag="ListPrograms"):
    """The Python programs that nodes know by name.  Answered by Programs."""

    nodes: str = "all"


class History(Request, frozen=True, tag="History"):
    """The newest ``limit`` events, of one node or task if named; ``live`` goes on."""

    about: str = ""
    limit: int = 100
    live: bool = False


class StopMaster(Request, frozen=True, tag="StopMaster"):
    """Stop the master; with ``deregister`` every node first, Progress for each, then Ok."""

    deregister: bool = False


# ---- replies -------------------------------------------------------------------------------


class Reply(Message, frozen=True):
    """The root of all replies."""

    id: int


class Attached(Reply, frozen=True, tag="Attached"):
    """Who answers."""

    master: str
    address: str
    version: str
    pid: int
    state: str


class Nodes(Reply, frozen=True, tag="Nodes"):
    nodes: tuple[NodeView, ...]


class Tasks(Reply, frozen=True, tag="Tasks"):
    """The tasks acted on, and what could not be done."""

    tasks: tuple[TaskView, ...]
    faults: tuple[Fault, ...] = ()


class Launched(Reply, frozen=True, tag="Launched"):
    """What came of a launch whose output is followed."""

    tasks: tuple[TaskView, ...]
    faults: tuple[Fault, ...] = ()


class Output(Reply, frozen=True, tag="Output"):
    """Bytes of a task's log, starting at ``offset``; to be acknowledged by Took."""

    task: str
    offset: int
    data: bytes
    node: str = ""
    #: So many bytes just before ``offset`` were dropped from the log before they were sent.
    dropped: int = 0


class OutputEnd(Reply, frozen=True, tag="OutputEnd"):
    """No more output of this task; a code says why when it was cut short."""

    task: str
    code: str = ""
    text: str = ""
    node: str = ""


class NodeUsage(Struct, frozen=True):
    """getrusage(RUSAGE_CHILDREN) of a node's keeper."""

    name: str
    children: Usage


class Usages(Reply, frozen=True, tag="Usages"):
    nodes: tuple[NodeUsage, ...]
    tasks: tuple[TaskView, ...]
    faults: tuple[Fault, ...] = ()


class Ticket(Reply, frozen=True, tag="Ticket"):
    """Open a bulk connection to the master's Unix socket and show this."""

    ticket: str
    role: Literal["send", "receive"]


class TokenMade(Reply, frozen=True, tag="TokenMade"):
    """The token, which is kept nowhere."""

    token: str


class Restarted(Struct, frozen=True):
    """A node whose agent started anew, and what that is."""

    name: str
    release: str


class Upgraded(Reply, frozen=True, tag="Upgraded"):
    """The nodes with a new agent, in the order in which they came, and what went wrong."""

    nodes: tuple[Restarted, ...]
    faults: tuple[Fault, ...] = ()


class Progress(Reply, frozen=True, tag="Progress"):
    """Something on the way: a line, or bytes of a transfer."""

    text: str = ""
    done: int = 0
    total: int = 0


class CopyDone(Reply, frozen=True, tag="CopyDone"):
    """The receiving side has everything under its final name."""

    size: int = 0
    files: int = 0
    path: bytes = b""
    warnings: tuple[str, ...] = ()


#: The phases of a move that a report may have, in the order of time.
PHASES = ("reserve", "freeze", "snapshot", "wire", "commit", "restore", "first_output")


class MoveView(Struct, frozen=True, omit_defaults=True):
    """One move: its flight report, as far as it has come."""

    id: str
    task: str
    source: str
    target: str
    kind: str
    #: Empty while it is under way.
    result: Literal["", "done", "aborted", "reverted", "held"] = ""
    #: The master's state of it (masterd.moves).
    state: str = ""
    #: Why, when it was not done; and what a person can do about it.
    code: str = ""
    reason: str = ""
    hint: str = ""
    #: As the task saw it, ms; with ``blackout_is_bound`` no more than that.
    blackout_ms: float = 0.0
    blackout_is_bound: bool = False
    #: Of the snapshot.
    size: int = 0
    #: ``stop-and-copy`` or ``post-copy``, of a task that was moved as it is.
    way: str = ""
    #: What was asked for and promised, if anything was.
    budget_ms: float = 0.0
    predicted_ms: float = 0.0
    #: By the names of PHASES; one that was not reached is not in it.
    phases_ms: dict[str, float] = {}
    #: Of the task as it was before, kept at the source.
    snapshot: str = ""
    #: Wall clock.
    begun_at: float = 0.0
    ended_at: float = 0.0


class Moves(Reply, frozen=True, tag="Moves"):
    moves: tuple[MoveView, ...]


class Verdicts(Reply, frozen=True, tag="Verdicts"):
    """The task, the node it is on, and where it could go."""

    task: str
    node: str
    verdicts: tuple[Verdict, ...]


class NodePrograms(Struct, frozen=True):
    """Name -> one line of what it does and takes."""

    name: str
    programs: dict[str, str]


class Programs(Reply, frozen=True, tag="Programs"):
    nodes: tuple[NodePrograms, ...]


class Events(Reply, frozen=True, tag="Events"):
    events: tuple[Event, ...]
    more: bool = False


class SnapshotView(Struct, frozen=True, omit_defaults=True):
    """One snapshot, and the nodes that have it."""

    id: str
    task: str
    nodes: tuple[str, ...]
    kind: str
    #: When, seconds since 1970.
    at: float
    #: Bytes, of the state and as it is kept.
    size: int
    packed: int
    #: How long the task stood still for it, ms.
    blackout_ms: float = 0.0
    #: Files that the task had open for writing.
    writes: tuple[bytes, ...] = ()


class Snapshots(Reply, frozen=True, tag="Snapshots"):
    """The oldest first; and what a person should know about them, a line each."""

    snapshots: tuple[SnapshotView, ...]
    remarks: tuple[str, ...] = ()
    #: As the schedule has it; 0: there is none.
    every_s: float = 0.0
    keep: int = 0


class Ok(Reply, frozen=True, tag="Ok"):
    text: str = ""


class Problem(Reply, frozen=True, tag="Problem"):
    """The request failed as a whole."""

    code: str
    message: str
    hint: str = ""
    #: 2: asked wrongly; 1: refused; 124: time-out; 125: cannot be known.
    exit_status: int = 1


class Notice(Reply, frozen=True, tag="Notice"):
    """Something happened that a person at a prompt wants to hear."""

    event: Event


Requests = (
    Attach | ListNodes | ListTasks | Execute | FollowLogs | Took | Cancel | SignalTasks
    | PauseTasks | ForgetTasks | AwaitTasks | MeasureUsage | EraseFile | Copy | Register
    | Deregister | History | StopMaster | MakeToken | Revoke | Upgrade | MoveTask | ListMoves
    | ResolveMove | ListPrograms | JudgeMove | CheckpointTask | ListSnapshots | RestartTask
)
Replies = (
    Attached | Nodes | Tasks | Launched | Output | OutputEnd | Usages | Ticket | Progress | CopyDone
    | Events | Ok | Problem | Notice | TokenMade | Upgraded | Moves | Programs
    | Verdicts | Snapshots
)

#: Replies after which the final answer is still to come.
ON_THE_WAY = (Launched, Output, OutputEnd, Ticket, Progress, Notice)

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Requests)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Replies)


def encode(message: Request | Reply) -> bytes:
    """The payload of a frame."""
    return _encoder.encode(message)


def decode_request(payload: bytes) -> Request:
    """Raises MessageError for anything that is no request."""
    try:
        return _requests.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as err:
        raise MessageError(f"not a request of this protocol: {err}") from err


def decode_reply(payload: bytes) -> Reply:
    """Raises MessageError for anything that is no reply."""
    try:
        return _replies.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as err:
        raise MessageError(f"not a reply of this protocol: {err}") from err
