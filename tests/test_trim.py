"""Trimming logs, on real files: what is dropped is given back and told of, the rest stays."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from clientd import __main__ as main
from clientd.follow import CHUNK, last_lines
from clientd.inotify import Growth
from clientd.keeper import trim
from clientd.keeper.trim import BLOCK, begin_of, marker
from godwit.errors import TaskError, UsageError
from godwit.task.record import Spec, Task
from godwit.wire.messages import WINDOW, Chunk
from tests.test_follow import Reader, run

MOST = 256 * 1024


@pytest.fixture
def log(tmp_path: Path) -> Path:
    if why := trim.objection(str(tmp_path)):
        pytest.skip(why)
    return tmp_path / "t.log"


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last))


def trimmed(path: Path, most: int = MOST, at_once: int = trim.SLICE) -> int:
    """Trims until there is nothing more to be dropped; where the log then begins."""
    fd = os.open(path, os.O_RDWR)
    try:
        while trim.trim(fd, most, at_once):
            pass
        return begin_of(fd)
    finally:
        os.close(fd)


def test_what_is_left_of_a_log_stays_where_it_was_and_begins_with_a_whole_line(log: Path) -> None:
    data = lines(0, 200_000)
    log.write_bytes(data)
    inode = log.stat().st_ino
    begin = trimmed(log)
    found = log.read_bytes()
    assert found[begin:] == data[begin:] and data[begin - 1 : begin] == b"\n"
    assert MOST // 2 < len(data) - begin <= MOST
    assert (log.stat().st_ino, log.stat().st_size) == (inode, len(data))
    assert log.stat().st_blocks * 512 <= MOST + 2 * BLOCK


def test_a_person_who_reads_the_file_sees_how_much_is_missing(log: Path) -> None:
    log.write_bytes(lines(0, 100_000))
    begin = trimmed(log)
    before = log.read_bytes()[:begin]
    assert before.endswith(marker(begin)) and not before[: -len(marker(begin))].strip(b"\0")
    assert str(begin) in marker(begin).decode()


def test_a_log_that_is_trimmed_again_has_one_marker_with_the_sum(log: Path) -> None:
    log.write_bytes(lines(0, 100_000))
    first = trimmed(log)
    with log.open("ab") as file:
        file.write(lines(100_000, 200_000))
    second = trimmed(log)
    found = log.read_bytes()
    assert second > first and found.count(b"[godwit: ") == 1 and marker(second) in found
    assert found[second:] == lines(0, 200_000)[second:]


def test_a_log_within_its_bound_is_left_alone(log: Path) -> None:
    log.write_bytes(b"x" * MOST)
    assert trimmed(log) == 0 and log.read_bytes() == b"x" * MOST


def test_a_large_log_goes_in_slices(log: Path) -> None:
    log.write_bytes(lines(0, 300_000))
    fd = os.open(log, os.O_RDWR)
    assert trim.trim(fd, MOST, 512 * 1024) is True
    assert abs(begin_of(fd) - 512 * 1024) < trim.LINE
    os.close(fd)
    trimmed(log, at_once=512 * 1024)
    assert log.read_bytes().endswith(b"line 299999\n")
    assert log.stat().st_blocks * 512 <= MOST + 2 * BLOCK


def test_a_line_that_does_not_end_is_cut(log: Path) -> None:
    log.write_bytes(b"x" * (4 * MOST))
    begin = trimmed(log)
    assert begin == 4 * MOST - MOST * 3 // 4
    assert log.read_bytes()[begin:] == b"x" * (MOST * 3 // 4)


def test_a_log_that_its_task_cut_off_is_whole_again(log: Path) -> None:
    log.write_bytes(lines(0, 100_000))
    trimmed(log)
    os.truncate(log, 0)
    log.write_bytes(b"anew\n")
    assert trimmed(log) == 0


def test_a_task_that_writes_meanwhile_loses_nothing_of_what_is_left(log: Path) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write() -> None:
        for number in range(0, 400_000, 100):
            os.write(fd, lines(number, number + 100))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        trimmed(log)
    writer.join()
    os.close(fd)
    begin = trimmed(log)
    assert begin > 0 and log.read_bytes()[begin:] == lines(0, 400_000)[begin:]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_file_system_that_cannot_is_named_and_why(tmp_path: Path) -> None:
    plain = tmp_path / "ramfs"
    plain.mkdir()
    assert subprocess.run(["mount", "-t", "ramfs", "none", plain], check=False).returncode == 0
    try:
        assert str(plain) in trim.objection(str(plain))
        assert os.listdir(plain) == []
    finally:
        subprocess.run(["umount", plain], check=True)


def test_a_folder_that_is_not_there_is_an_objection(tmp_path: Path) -> None:
    assert "No such file" in trim.objection(str(tmp_path / "none"))


@pytest.mark.parametrize("value", [b"", b"-1", b"abc", b"9" * 19, b"1 2"])
def test_an_attribute_that_is_no_number_means_nothing(log: Path, value: bytes) -> None:
    log.write_bytes(b"some")
    os.setxattr(log, trim.BEGIN, value)
    assert trimmed(log) == 0


# ---- readers -------------------------------------------------------------------------------


def test_a_follower_from_the_start_is_told_what_is_missing_and_gets_the_rest(log: Path) -> None:
    async def test(growth: Growth) -> None:
        data = lines(0, 100_000)
        log.write_bytes(data)
        begin = trimmed(log)
        reader = Reader(log)
        reader.follower.start(growth, 0, None, live=False)
        assert reader.sent[0] == Chunk(1, begin, b"", begin)
        reader.follower.grant(WINDOW)
        assert reader.data == data[begin:]

    run(test)


def test_a_follower_that_falls_behind_is_told_how_much_it_missed(log: Path) -> None:
    async def test(growth: Growth) -> None:
        data = lines(0, 400_000)
        log.write_bytes(data[: 2 * WINDOW])
        reader = Reader(log)
        reader.follower.start(growth, 0, None, live=True)
        assert reader.data == data[:WINDOW]
        with log.open("ab") as file:
            file.write(data[2 * WINDOW :])
        begin = trimmed(log)
        reader.follower.grant(2 * WINDOW)
        (gap,) = [m for m in reader.sent if isinstance(m, Chunk) and m.dropped]
        assert gap == Chunk(1, begin, b"", begin - WINDOW)
        assert reader.data == data[:WINDOW] + data[begin:]
        reader.follower.close()

    run(test)


def test_what_was_read_of_a_hole_in_the_making_is_not_sent(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = lines(0, 100_000)
    log.write_bytes(data)
    real = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        """Between the reader's look at the file and its look at the attribute, the hole is made."""
        found = real(fd, count, offset)
        if count == CHUNK:
            trimmed(log)
        return found

    async def test(growth: Growth) -> None:
        reader = Reader(log)
        monkeypatch.setattr(os, "pread", pread)
        reader.follower.start(growth, 0, None, live=False)
        monkeypatch.undo()
        reader.follower.grant(WINDOW)
        first = reader.sent[0]
        assert isinstance(first, Chunk) and first.dropped == first.offset > 0 and not first.data
        assert reader.data == data[first.offset :]

    run(test)


@pytest.mark.parametrize("count", [3, 100_000])
def test_the_last_lines_are_looked_for_in_what_is_left(log: Path, count: int) -> None:
    data = lines(0, 100_000)
    log.write_bytes(data)
    trimmed(log)
    with log.open("rb") as file:
        assert last_lines(file.fileno(), count) == (len(data) - 3 * 11 if count == 3 else 0)


# ---- the option ----------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "most"), [
    ("none", 0), ("64K", 65536), ("65536", 65536), ("64m", 64 << 20), ("2G", 2 << 30),
])
def test_a_size_is_bytes_or_has_a_unit(text: str, most: int) -> None:
    assert main.log_max(text) == most


@pytest.mark.parametrize("text", ["", "0", "63K", "-1", "1.5G", "64MB", "G", "٣G", "1" * 13])
def test_what_is_no_size_or_too_small_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        main.log_max(text)
    assert caught.value.exit_status == 2 and "64M" in caught.value.hint


# ---- the keeper's looks --------------------------------------------------------------------


class Kept:
    """What a Trimmer has to do with: a loop that stands still, tasks by name, and their logs."""

    def __init__(self, folder: Path, *tasks: str):
        self.folder = folder
        self.tasks = {task: Task(Spec(task, ()), log=str(folder / task)) for task in tasks}
        self.writing: list[str] = []
        self.said: list[str] = []
        self.pauses: list[float] = []
        for task in tasks:
            (folder / task).write_bytes(b"")
        self.trimmer = trim.Trimmer(self, self, MOST, lambda: self.writing)  # type: ignore[arg-type]

    def known(self, task: str) -> Task:
        if task not in self.tasks:
            raise TaskError("no-task", task)
        return self.tasks[task]

    def log(self, level: str, text: str, **about: object) -> None:
        self.said.append(text)

    def alarm(self, name: str, after_s: float, ring: object) -> None:
        self.pauses.append(after_s)

    def write(self, task: str, count: int) -> None:
        with (self.folder / task).open("ab") as file:
            file.write(b"x\n" * count)

    def looks(self) -> float:
        """One look; seconds till the next."""
        self.trimmer.look()
        return self.pauses[-1]

    def taken(self, task: str) -> int:
        return (self.folder / task).stat().st_blocks * 512


def test_only_logs_of_tasks_with_a_process_are_looked_at_and_once_after_that(log: Path) -> None:
    kept = Kept(log.parent, "a", "b")
    assert kept.looks() == trim.LOOK_S
    kept.looks()
    for task in ("a", "b"):
        kept.write(task, MOST)
    kept.writing = ["a"]
    assert kept.looks() == trim.LOOK_AGAIN_S
    assert kept.taken("a") < MOST + 3 * BLOCK and kept.taken("b") > MOST
    kept.write("a", MOST)
    kept.writing = []
    assert kept.looks() == trim.LOOK_AGAIN_S and kept.taken("a") < MOST + 3 * BLOCK
    assert kept.looks() == kept.looks() == trim.LOOK_S
    kept.write("a", MOST)
    assert kept.looks() == trim.LOOK_S and kept.taken("a") > MOST


def test_a_log_that_its_task_cut_off_begins_anew_for_readers(log: Path) -> None:
    kept = Kept(log.parent, "a")
    kept.writing = ["a"]
    kept.write("a", 2 * MOST)
    kept.looks()
    kept.looks()
    assert os.getxattr(log.parent / "a", trim.BEGIN) != b"0"
    os.truncate(log.parent / "a", 0)
    kept.write("a", 10)
    with (log.parent / "a").open("rb") as file:
        assert begin_of(file.fileno()) == 0
    kept.looks()
    assert trim.BEGIN not in os.listxattr(log.parent / "a")


def test_an_ended_tasks_long_log_is_trimmed_to_the_end(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(log.parent, "a")
    kept.write("a", 10 * MOST)
    monkeypatch.setattr(trim.trim, "__defaults__", (MOST,))
    looks = 0
    while kept.looks() == trim.LOOK_AGAIN_S:
        looks += 1
    assert looks > 5 and kept.taken("a") < MOST + 3 * BLOCK


def test_a_log_that_cannot_be_trimmed_is_told_of_once(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    kept = Kept(log.parent, "a", "gone")
    kept.writing = ["a", "gone", "never"]
    kept.write("a", MOST)
    os.unlink(log.parent / "gone")
    monkeypatch.setattr(trim, "_punch", refuse)
    for _ in range(3):
        kept.write("a", MOST)
        kept.looks()
    assert kept.said == ["the log of a cannot be trimmed: Operation not supported"]


def test_no_link_is_followed_to_a_file_that_is_no_log(log: Path) -> None:
    kept = Kept(log.parent, "a")
    precious = log.parent / "precious"
    precious.write_bytes(b"x" * 2 * MOST)
    (log.parent / "a").unlink()
    (log.parent / "a").symlink_to(precious)
    kept.writing = ["a"]
    assert kept.looks() == trim.LOOK_S
    assert precious.read_bytes() == b"x" * 2 * MOST
