"""What the journal says, and what follows from it.  Pure: no files, no clock, no processes.

The keeper changes what it knows of tasks in one way only: a record is written, then applied here.
So what a restarted keeper reads back is what the old one knew.
"""

from collections.abc import Container, Iterable, Iterator
from itertools import islice
from typing import assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from clientd.keeper.moves.table import Part
from clientd.keeper.shadows.table import Phase
from godwit.errors import TaskError
from godwit.task.lifecycle import Cause, Status, advance
from godwit.task.record import Spec, Task, Usage

#: Ended tasks kept, newest: of remote commands typed at the prompt (True), and of all others.
ENDED_KEPT = {False: 2000, True: 200}
#: Refused launches and forgotten ids kept, newest, so that a late double is known for one.
TRACES_KEPT = 4096

DAMAGED = "its record was damaged"


class Record(Struct, frozen=True, tag_field="is", omit_defaults=True):
    """The root of what the journal holds."""


class Accepted(Record, frozen=True, tag="A"):
    """These will be started; durable before the first of them is."""

    specs: tuple[Spec, ...]


class Refused(Record, frozen=True, tag="R"):
    """No task came of this launch."""

    task: str
    code: str
    text: str


class Started(Record, frozen=True, tag="S"):
    task: str
    pid: int
    start_ticks: int
    boot: str
    log: str
    #: Wall clock.
    at: float


class Stepped(Record, frozen=True, tag="C"):
    """Paused, resumed, lost, found."""

    task: str
    cause: Cause
    reason: str = ""
    at: float = 0.0


class Exited(Record, frozen=True, tag="E"):
    """The kernel told how it ended: ``status`` is as wait(2) has it."""

    task: str
    status: int
    at: float
    usage: Usage | None = None
    reason: str = ""


class Noted(Record, frozen=True, tag="N"):
    """Another reason is shown with the same status."""

    task: str
    reason: str


class Forgotten(Record, frozen=True, tag="F"):
    tasks: tuple[str, ...]


class Kept(Record, frozen=True, tag="K"):
    """A task as it is, in one record: from a compaction, or found without any record."""

    task: Task


class Based(Record, frozen=True, tag="B"):
    """Tasks have been contained below this cgroup folder."""

    path: str


class Moved(Record, frozen=True, tag="M"):
    """All that this node has on record of one move, after each of its steps."""

    move: str
    task: str
    #: The task's: here, at the source; as it will be here, at the destination.
    epoch: int
    part: Part
    code: str = ""
    text: str = ""
    #: The node at the other end.
    peer: str = ""
    #: The task as it came, at the destination.
    incoming: Task | None = None
    image: str = ""
    #: Of the image, bytes.
    size: int = 0
    #: The copy, once it has been loaded here.
    pid: int | None = None
    start_ticks: int = 0
    boot: str = ""
    #: When it stopped, or went on.
    at: float = 0.0
    wall: float = 0.0
    phases: dict[str, float] = {}
    #: Its memory goes from the source while it runs at the destination already.
    lazy: bool = False
    #: No move: its snapshot is kept here, and the task runs on.
    kept: bool = False


class Trace(Record, frozen=True, tag="T"):
    """A move as it stands, from a compaction: what it changed is in the tasks already."""

    moved: Moved


class Left(Record, frozen=True, tag="L"):
    """The highest epoch under which a task was here, for a task that is here no more."""

    task: str
    epoch: int


class Waiting(Struct, frozen=True):
    """A signal that a shadow caught and that the master has not taken yet."""

    #: Grows with each of a task's, over all of its shadows.
    id: int
    number: int


class Shadow(Struct, frozen=True, omit_defaults=True):
    """What stays at home of one task that left."""

    task: str
    user: str = ""
    #: Where the guest is, and under which epoch.
    node: str = ""
    epoch: int = 0
    phase: Phase = Phase.WANTED
    #: The process, if there is one.
    pid: int | None = None
    start_ticks: int = 0
    boot: str = ""
    #: The process's own number of the last signal that was taken from it.
    taken: int = 0
    #: The highest id of a signal so far.
    last: int = 0
    waiting: tuple[Waiting, ...] = ()
    #: What it ends, or ended, with, as wait(2) has it.
    status: int = 0
    #: What the guest writes is in a log here, too.
    log: bool = False


class Shadowed(Record, frozen=True, tag="H"):
    """All that this node has on record of one shadow, after each of its steps."""

    shadow: Shadow


class Relayed(Record, frozen=True, tag="I"):
    """A signal that came by a task's shadow is about to be sent to it, for the only time."""

    task: str
    id: int


Records = (
    Accepted | Refused | Started | Stepped | Exited | Noted | Forgotten | Kept | Based | Moved
    | Left | Trace | Shadowed | Relayed
)

#: Records that may speak of a task that is not here.
_ALONE = (Refused, Moved, Left, Relayed)

encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Records] = msgspec.msgpack.Decoder(Records)


def decode(payload: bytes) -> Records | None:
    """The record, or None for one that this version does not understand."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return None


class Ledger:
    """All that is known of tasks."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.refused: dict[str, Refused] = {}
        self.forgotten: dict[str, None] = {}
        self.bases: dict[str, None] = {}
        #: Moves by id, the one that changed last at the end; settled ones are traces.
        self.moves: dict[str, Moved] = {}
        #: Task id -> the highest epoch under which it was here: it comes back under a higher one.
        self.epochs: dict[str, int] = {}
        #: Of tasks that left this home.
        self.shadows: dict[str, Shadow] = {}
        #: Task id -> the last signal that came to it, here, by its shadow.
        self.relayed: dict[str, int] = {}
        #: Tasks that have ended or are lost, in that order; apart by ``oneoff``.
        self._ended: dict[bool, dict[str, None]] = {False: {}, True: {}}

    def replay(self, records: Iterable[Records | None]) -> int:
        """Applies what a journal held; how many records made no sense (after damage) is told.

        A task whose Accepted was damaged stays known by what else was written of it: its id is
        never started again.
        """
        senseless = 0
        for record in records:
            if record is None:
                senseless += 1
                continue
            task = getattr(record, "task", None)
            if isinstance(task, str) and task not in self.tasks and not isinstance(record, _ALONE):
                self.tasks[task] = Task(Spec(task, ()), reason=DAMAGED)
            try:
                self.apply(record)
            except TaskError:
                senseless += 1
        return senseless

    def apply(self, record: Records) -> None:
        """Raises TaskError for a step that the life-cycle table does not have."""
        match record:
            case Accepted(specs):
                for spec in specs:
                    self.tasks[spec.task] = Task(spec)
            case Started():
                self._started(record)
            case Exited():
                self._exited(record)
            case Stepped():
                self._stepped(record)
            case Noted(task, reason):
                self.tasks[task] = replace(self.tasks[task], reason=reason)
            case Refused(task):
                self.tasks.pop(task, None)
                self.refused[task] = record
                _trim(self.refused)
            case Forgotten(tasks):
                for task in tasks:
                    self._forget(task)
            case Kept(task=task):
                self._put(task)
            case Based(path):
                self.bases[path] = None
            case Moved():
                self._moved(record)
            case Trace(moved):
                self.moves[moved.move] = moved
            case Left(task, epoch):
                self._leave(task, epoch)
            case Shadowed(Shadow(phase=Phase.OVER, waiting=(), log=False) as shadow):
                self.shadows.pop(shadow.task, None)
            case Shadowed(shadow):
                self.shadows[shadow.task] = shadow
            case Relayed(task, number):
                self.relayed.pop(task, None)
                self.relayed[task] = number
                _trim(self.relayed)
            case _:
                assert_never(record)

    def _put(self, task: Task) -> None:
        self.tasks[task.id] = task
        ended = self._ended[task.spec.oneoff]
        if task.status.ended or task.status is Status.UNKNOWN:
            ended[task.id] = None
        else:
            ended.pop(task.id, None)

    def _started(self, record: Started) -> None:
        task = self.tasks[record.task]
        self._put(replace(
            task, status=advance(task.status, Cause.STARTED), pid=record.pid,
            start_ticks=record.start_ticks, boot=record.boot, log=record.log, started_at=record.at,
        ))

    def _exited(self, record: Exited) -> None:
        task = self.tasks[record.task]
        code, signal, dumped = told_by(record.status)
        self._put(replace(
            task, status=advance(task.status, Cause.ENDED), exit_code=code, signal=signal,
            core_dumped=dumped, reason=record.reason, usage=record.usage, ended_at=record.at,
        ))

    def _stepped(self, record: Stepped) -> None:
        task = self.tasks[record.task]
        status = advance(task.status, record.cause)
        ended_at = record.at if record.cause is Cause.LOST else 0.0
        self._put(replace(task, status=status, reason=record.reason, ended_at=ended_at))

    def _forget(self, task: str) -> None:
        known = self.tasks.pop(task, None)
        if known:
            self._ended[known.spec.oneoff].pop(task, None)
        self.forgotten[task] = None
        _trim(self.forgotten)

    # ---- moves -----------------------------------------------------------------------------

    def _moved(self, record: Moved) -> None:
        before = self.moves.pop(record.move, None)
        self.moves[record.move] = record
        if before is not None and before.part is record.part:
            return  # the same step, with more that is known of it
        if len(self.moves) > TRACES_KEPT:
            self._trim_moves()
        task = self.tasks.get(record.task)
        match record.part:
            case Part.FREEZING if task:
                self._put(replace(task, status=advance(task.status, Cause.FROZE)))
            case Part.UNFROZEN | Part.RESUMED if before and task and task.status is Status.FROZEN:
                self._put(self._thawed(task, record))
            case Part.RESUMING if task:
                self._put(replace(task, spec=replace(task.spec, epoch=record.epoch)))
            case Part.CONSUMED:
                self._arrived(record)
            case Part.LOST if task:
                self._put(replace(task, status=Status.UNKNOWN, reason=record.text))
            case Part.FINISHED | Part.DISCARDED if task and task.spec.epoch <= record.epoch:
                self._leave(record.task, record.epoch)

    @staticmethod
    def _thawed(task: Task, record: Moved) -> Task:
        """At the source; ``record`` has another process if it was restored from its image."""
        if record.code:
            return replace(task, status=Status.UNKNOWN, reason=record.text)
        if record.pid is not None:
            task = replace(
                task, pid=record.pid, start_ticks=record.start_ticks, boot=record.boot
            )
        return replace(task, status=advance(task.status, Cause.THAWED))

    def _arrived(self, record: Moved) -> None:
        assert record.incoming is not None
        incoming = record.incoming
        self.forgotten.pop(record.task, None)
        self._put(replace(
            incoming, spec=replace(incoming.spec, epoch=record.epoch), status=Status.RUNNING,
            pid=record.pid, start_ticks=record.start_ticks, boot=record.boot,
        ))

    def _leave(self, task: str, epoch: int) -> None:
        known = self.tasks.pop(task, None)
        if known:
            self._ended[known.spec.oneoff].pop(task, None)
        self.epochs[task] = max(epoch, self.epochs.pop(task, 0))
        if len(self.epochs) > TRACES_KEPT:
            del self.epochs[next(iter(self.epochs))]

    def _trim_moves(self) -> None:
        settled = next((m for m, record in self.moves.items() if record.part.settled), None)
        if settled is not None:
            del self.moves[settled]

    def surplus(self, spared: Container[str] = ()) -> list[str]:
        """The oldest ended tasks over what is kept; those ``spared`` stay for now."""
        return [
            task
            for oneoff, most in ENDED_KEPT.items()
            if (over := len(self._ended[oneoff]) - most) > 0
            for task in islice(self._ended[oneoff], over)
            if task not in spared
        ]

    def snapshot(self) -> Iterator[Records]:
        """The fewest records that say the same."""
        yield from map(Based, self.bases)
        yield from self.refused.values()
        yield from (Left(task, epoch) for task, epoch in self.epochs.items())
        yield Forgotten(tuple(self.forgotten))
        ended = self._ended[False] | self._ended[True]
        yield from (Kept(self.tasks[task]) for task in ended)
        yield from (Kept(task) for name, task in self.tasks.items() if name not in ended)
        yield from map(Trace, self.moves.values())
        yield from map(Shadowed, self.shadows.values())
        yield from (Relayed(task, number) for task, number in self.relayed.items())


def told_by(status: int) -> tuple[int | None, int | None, bool]:
    """Exit code, signal number, core dumped: what wait(2)'s status word says."""
    signal = status & 0x7F
    if signal:
        return None, signal, bool(status & 0x80)
    return status >> 8 & 0xFF, None, False


def _trim(traces: dict[str, Refused] | dict[str, None] | dict[str, int]) -> None:
    """Drops the oldest over the bound."""
    while len(traces) > TRACES_KEPT:
        del traces[next(iter(traces))]
