"""The journal: whole, torn and damaged; and what is kept of it in memory."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clientd.keeper import records, replay
from clientd.keeper.journal import Journal
from clientd.keeper.records import (
    Accepted,
    Exited,
    Forgotten,
    Kept,
    Ledger,
    Noted,
    Refused,
    Started,
    Stepped,
)
from godwit.errors import TaskError
from godwit.task.lifecycle import Cause, Status
from godwit.task.record import Spec, Task, Usage

A, B = "aaaaaaaa", "bbbbbbbb"
PAYLOADS = [b"one", b"", b"\xf5gwj" * 3, bytes(range(256)) * 5]
WHOLE = b"".join(map(replay.pack, PAYLOADS))


def started(task: str) -> Started:
    return Started(task, 7, 1234, "boot", f"/logs/{task}.log", 10.0)


LIFE: list[records.Records] = [
    Accepted((Spec(A, (b"true",)), Spec(B, (b"nothing",), oneoff=True))),
    started(A),
    Refused(B, "ENOENT", "no such program"),
    Stepped(A, Cause.PAUSED),
    Stepped(A, Cause.RESUMED),
    Exited(A, 3 << 8, 11.0, Usage(utime_s=0.5), "2 processes it started still run"),
    Noted(A, ""),
]


def told(ledger: Ledger) -> tuple[object, ...]:
    return ledger.tasks, ledger.refused, ledger.forgotten, ledger.bases, ledger.surplus()


def ledger_of(*life: records.Records) -> Ledger:
    ledger = Ledger()
    for record in life:
        ledger.apply(record)
    return ledger


def reread(path: Path) -> tuple[list[records.Records | None], str]:
    journal = Journal(str(path))
    try:
        return journal.load()
    finally:
        journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that holds LIFE."""
    path = tmp_path / "journal"
    journal = Journal(str(path))
    assert journal.load() == ([], "")
    for record in LIFE:
        journal.append(record)
    journal.close()
    return path


# ---- bytes ----------------------------------------------------------------------------------


def test_what_was_packed_is_read() -> None:
    assert replay.read(WHOLE) == replay.Reading(PAYLOADS, len(WHOLE), False)


def test_a_torn_end_costs_the_record_it_tore_and_is_no_damage() -> None:
    ends = [0]
    for payload in PAYLOADS:
        ends.append(ends[-1] + len(replay.pack(payload)))
    for length in range(len(WHOLE)):
        whole = sum(end <= length for end in ends) - 1
        expected = replay.Reading(PAYLOADS[:whole], ends[whole], False)
        assert replay.read(WHOLE[:length]) == expected, f"cut at {length}"


def test_a_flipped_bit_costs_its_record_and_no_other() -> None:
    for at in range(len(WHOLE) - len(replay.pack(PAYLOADS[-1]))):
        bad = bytearray(WHOLE)
        bad[at] ^= 0x10
        reading = replay.read(bytes(bad))
        assert reading.damaged and reading.good <= at
        assert len(reading.payloads) == len(PAYLOADS) - 1
        assert all(payload in PAYLOADS for payload in reading.payloads), f"bit of byte {at}"


def test_junk_is_read_as_nothing() -> None:
    assert replay.read(b"not a journal") == replay.Reading([], 0, False)


# ---- the file -------------------------------------------------------------------------------


def test_records_come_back_as_they_were_written(path: Path) -> None:
    assert reread(path) == (LIFE, "")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_end_is_cut_off_and_said(path: Path) -> None:
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(replay.pack(b"x" * 100)[:50])
    found, wrong = reread(path)
    assert found == LIFE and "torn" in wrong and "50 bytes" in wrong
    assert path.stat().st_size == whole


def test_a_damaged_journal_is_kept_and_what_can_be_read_is_used(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    journal = Journal(str(path))
    found, wrong = journal.load()
    assert found == LIFE[1:] and "damaged at byte 0" in wrong
    ledger = Ledger()
    ledger.replay(found)
    journal.compact(ledger.snapshot())
    journal.close()
    assert (path.parent / "journal.damaged").read_bytes() == data
    assert reread(path)[1] == ""


def test_after_damage_every_id_that_can_be_read_stays_known() -> None:
    """The Accepted record is gone: no second copy may be started."""
    ledger = Ledger()
    assert ledger.replay(LIFE[1:]) == 0
    task = ledger.tasks[A]
    assert (task.status, task.exit_code, task.spec.argv) == (Status.EXITED, 3, ())
    assert B in ledger.refused


def test_a_record_that_makes_no_sense_is_skipped_and_counted() -> None:
    ledger = Ledger()
    assert ledger.replay([*LIFE, Stepped(A, Cause.PAUSED), None]) == 2
    assert told(ledger) == told(ledger_of(*LIFE))


def test_a_record_of_a_later_version_is_none() -> None:
    assert records.decode(b"\x81\xa2is\xa1?") is None


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk, writes fail beyond ``size`` bytes: EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_what_must_be_durable_and_keeps_the_rest_for_later(path: Path) -> None:
    journal = Journal(str(path))
    journal.load()
    size = path.stat().st_size
    late = Exited(B, 0, 12.0)
    with files_of_at_most(size + 5):
        with pytest.raises(OSError, match="too large"):
            journal.commit(LIFE[0])
        assert path.stat().st_size == size
        journal.append(late)
        assert isinstance(journal.flush(), OSError)
        assert path.stat().st_size == size
        with pytest.raises(OSError, match="too large"):
            journal.commit(LIFE[0])
    assert journal.flush() is None
    journal.close()
    assert reread(path) == ([*LIFE, late], "")


def test_a_compaction_that_fails_leaves_the_journal_as_it_was(path: Path) -> None:
    journal = Journal(str(path))
    journal.load()
    with files_of_at_most(5), pytest.raises(OSError, match="too large"):
        journal.compact(ledger_of(*LIFE).snapshot())
    journal.append(Noted(A, "later"))
    journal.close()
    assert reread(path) == ([*LIFE, Noted(A, "later")], "")


def test_a_compaction_says_the_same_in_less(path: Path) -> None:
    journal = Journal(str(path))
    journal.load()
    journal.append(Noted(A, "already in the snapshot"))
    before = path.stat().st_size
    journal.compact(ledger_of(*LIFE).snapshot())
    journal.close()
    assert path.stat().st_size < before and os.listdir(path.parent) == ["journal"]
    again = Ledger()
    assert again.replay(reread(path)[0]) == 0
    assert told(again) == told(ledger_of(*LIFE))


# ---- the ledger -----------------------------------------------------------------------------


def test_a_life_is_what_its_records_say() -> None:
    ledger = ledger_of(*LIFE)
    assert ledger.tasks == {
        A: Task(
            Spec(A, (b"true",)), Status.EXITED, pid=7, start_ticks=1234, boot="boot", exit_code=3,
            log=f"/logs/{A}.log", started_at=10.0, ended_at=11.0, usage=Usage(utime_s=0.5),
        )
    }
    assert list(ledger.refused) == [B]


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (0, (0, None, False)), (255 << 8, (255, None, False)), (9, (None, 9, False)),
        (11 | 0x80, (None, 11, True)), (64, (None, 64, False)),
    ],
)
def test_a_wait_status_is_a_code_or_a_signal(
    status: int, meaning: tuple[int | None, int | None, bool]
) -> None:
    assert records.told_by(status) == meaning


def test_a_step_that_the_life_cycle_does_not_have_changes_nothing() -> None:
    ledger = ledger_of(*LIFE)
    for record in (started(A), Stepped(A, Cause.PAUSED), Exited(A, 0, 1.0)):
        with pytest.raises(TaskError):
            ledger.apply(record)
    assert told(ledger) == told(ledger_of(*LIFE))


def test_a_lost_task_that_is_found_has_not_ended() -> None:
    ledger = ledger_of(*LIFE[:2], Stepped(A, Cause.LOST, "gone", 5.0), Stepped(A, Cause.FOUND))
    task = ledger.tasks[A]
    assert (task.status, task.reason, task.ended_at) == (Status.RUNNING, "", 0.0)


def test_the_oldest_ended_tasks_are_surplus_apart_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "ENDED_KEPT", {False: 2, True: 1})
    names = [f"task{i:04}" for i in range(8)]
    ledger = Ledger()
    for number, name in enumerate(names):
        spec = Spec(name, (b"true",), oneoff=number % 2 == 1)
        ledger.apply(Kept(Task(spec, Status.RUNNING, pid=7)))
    assert ledger.surplus() == []
    for name in reversed(names):
        ledger.apply(Exited(name, 0, 1.0))
    # Plain ones end 6, 4, 2, 0; one-off ones 7, 5, 3, 1.
    assert ledger.surplus() == [names[6], names[4], names[7], names[5], names[3]]
    assert ledger.surplus(spared={names[4], names[7]}) == [names[6], names[5], names[3]]
    ledger.apply(Forgotten((names[6], names[4], names[7], names[5], names[3])))
    assert ledger.surplus() == [] and names[6] in ledger.forgotten


def test_traces_of_what_is_gone_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "TRACES_KEPT", 3)
    ledger = Ledger()
    for number in range(5):
        ledger.apply(Refused(f"r{number}", "EIO", ""))
        ledger.apply(Forgotten((f"f{number}",)))
    assert list(ledger.refused) == ["r2", "r3", "r4"]
    assert list(ledger.forgotten) == ["f2", "f3", "f4"]


def test_a_snapshot_keeps_the_order_in_which_tasks_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "ENDED_KEPT", {False: 0, True: 0})
    running = [Kept(Task(Spec(f"t{i}", ()), Status.RUNNING, pid=7)) for i in range(4)]
    ledger = ledger_of(*running, *(Exited(f"t{i}", 0, 1.0) for i in (3, 0, 2)))
    again = ledger_of(*ledger.snapshot())
    assert again.surplus() == ledger.surplus() == ["t3", "t0", "t2"]
