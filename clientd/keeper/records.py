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


Records = Accepted | Refused | Started | Stepped | Exited | Noted | Forgotten | Kept | Based

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
            if isinstance(task, str) and task not in self.tasks and not isinstance(record, Refused):
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
        yield Forgotten(tuple(self.forgotten))
        ended = self._ended[False] | self._ended[True]
        yield from (Kept(self.tasks[task]) for task in ended)
        yield from (Kept(task) for name, task in self.tasks.items() if name not in ended)


def told_by(status: int) -> tuple[int | None, int | None, bool]:
    """Exit code, signal number, core dumped: what wait(2)'s status word says."""
    signal = status & 0x7F
    if signal:
        return None, signal, bool(status & 0x80)
    return status >> 8 & 0xFF, None, False


def _trim(traces: dict[str, Refused] | dict[str, None]) -> None:
    """Drops the oldest over the bound."""
    while len(traces) > TRACES_KEPT:
        del traces[next(iter(traces))]
