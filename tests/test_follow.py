"""Following logs, with real files, real inotify and a small loop."""

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from clientd import inotify, logtimes
from clientd.follow import CHUNK, Follower, last_lines
from clientd.inotify import Growth
from clientd.logtimes import LogTimes
from godwit.wire.messages import WINDOW, Chunk, Ended

#: Seconds after which something that should happen has not.
PATIENCE_S = 5.0


class Reader:
    """What a follower sent: bytes in order, and its end."""

    def __init__(self, path: Path, stream: int = 1):
        self.sent: list[Chunk | Ended] = []
        self.closed: list[int] = []
        self._news = asyncio.Event()
        self.follower = Follower(stream, str(path), self._take, self.closed.append)

    def _take(self, message: Chunk | Ended) -> None:
        self.sent.append(message)
        self._news.set()

    @property
    def data(self) -> bytes:
        return b"".join(m.data for m in self.sent if isinstance(m, Chunk))

    @property
    def end(self) -> Ended | None:
        return next((m for m in self.sent if isinstance(m, Ended)), None)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                await self._news.wait()
                self._news.clear()


def run(test: Callable[[Growth], Awaitable[None]]) -> None:
    async def main() -> None:
        growth = Growth()
        try:
            await test(growth)
        finally:
            growth.close()

    asyncio.run(main())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree\n")
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize(("offset", "lines", "data"), [
    (0, None, b"one\ntwo\nthree\n"), (4, None, b"two\nthree\n"), (0, 1, b"three\n"),
    (0, 0, b""), (0, 99, b"one\ntwo\nthree\n"), (8, 2, b"three\n"), (0, 2, b"two\nthree\n"),
    (99, None, b""),
])
def test_what_is_there_is_sent_and_then_the_end(
    log: Path, offset: int, lines: int | None, data: bytes
) -> None:
    async def test(growth: Growth) -> None:
        reader = Reader(log)
        reader.follower.start(growth, offset, lines, live=False)
        assert reader.data == data and reader.end is not None and reader.closed == [1]
        assert reader.end.code == "" and reader.end.offset == max(offset, 14)

    run(test)


def test_a_live_follow_sends_what_is_written_until_the_task_ends(log: Path) -> None:
    async def test(growth: Growth) -> None:
        reader = Reader(log)
        reader.follower.start(growth, 0, None, live=True)
        append(log, b"four\n")
        await reader.until(lambda: reader.data.endswith(b"four\n"))
        append(log, b"five\n")
        reader.follower.finish()
        assert reader.data == b"one\ntwo\nthree\nfour\nfive\n"
        assert reader.end == Ended(1, len(reader.data)) and reader.closed == [1]

    run(test)


def test_a_reader_that_takes_nothing_gets_one_window(log: Path) -> None:
    async def test(growth: Growth) -> None:
        log.write_bytes(os.urandom(3 * WINDOW + 5))
        reader = Reader(log)
        reader.follower.start(growth, 0, None, live=True)
        assert len(reader.data) == WINDOW
        reader.follower.finish()
        assert len(reader.data) == WINDOW and not reader.closed
        for taken in (1, WINDOW - 1, WINDOW, WINDOW):
            reader.follower.grant(taken)
        assert reader.data == log.read_bytes() and reader.end is not None
        sizes = [len(m.data) for m in reader.sent if isinstance(m, Chunk)]
        assert max(sizes) == CHUNK

    run(test)


def test_credit_is_bounded(log: Path) -> None:
    async def test(growth: Growth) -> None:
        reader = Reader(log)
        reader.follower.start(growth, 14, None, live=True)
        for _ in range(10):
            reader.follower.grant(WINDOW)
        log.write_bytes(b"x" * (4 * WINDOW))
        await reader.until(lambda: len(reader.data) >= 2 * WINDOW)
        assert len(reader.data) == 2 * WINDOW
        reader.follower.close()

    run(test)


def test_two_readers_of_one_log_are_each_their_own(log: Path) -> None:
    async def test(growth: Growth) -> None:
        one, other = Reader(log, 1), Reader(log, 2)
        for reader in (one, other):
            reader.follower.start(growth, 14, None, live=True)
        append(log, b"more\n")
        await other.until(lambda: other.data == b"more\n")
        one.follower.close()
        append(log, b"again\n")
        await other.until(lambda: other.data == b"more\nagain\n")
        assert one.data == b"more\n" and one.end is None
        other.follower.close()

    run(test)


def test_a_closed_follower_sends_nothing_more(log: Path) -> None:
    async def test(growth: Growth) -> None:
        reader = Reader(log)
        reader.follower.start(growth, 0, None, live=True)
        reader.follower.close()
        sent = list(reader.sent)
        append(log, b"more")
        reader.follower.grant(5)
        reader.follower.finish()
        reader.follower.close()
        await asyncio.sleep(0)
        assert reader.sent == sent and reader.closed == []

    run(test)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.symlink_to("/etc/passwd")])
def test_a_log_that_cannot_be_read_is_said_to_be(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    async def test(growth: Growth) -> None:
        make(tmp_path / "none")
        reader = Reader(tmp_path / "none")
        reader.follower.start(growth, 0, None, live=True)
        assert reader.end is not None and reader.end.code == "no-log" and reader.closed == [1]

    run(test)


def test_a_file_that_inotify_does_not_watch_is_looked_at(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "POLL_S", 0.005)

    async def test(growth: Growth) -> None:
        growth._libc = type("Libc", (), {"inotify_add_watch": lambda *_: -1})()
        reader = Reader(log)
        reader.follower.start(growth, 14, None, live=True)
        append(log, b"more")
        await reader.until(lambda: reader.data == b"more")
        reader.follower.close()
        assert not growth._polled

    run(test)


def test_every_log_is_looked_at_when_the_kernel_lost_events(log: Path, tmp_path: Path) -> None:
    async def test(growth: Growth) -> None:
        looked: list[str] = []
        other = tmp_path / "other"
        other.touch()
        growth.watch(str(log), lambda: looked.append("log"))
        growth.watch(str(other), lambda: looked.append("other"))
        reading, writing = os.pipe2(os.O_NONBLOCK)
        growth._fd, real = reading, growth._fd
        os.write(writing, struct.pack("iIII", -1, 0x4000, 0, 0))
        growth._read()
        growth._fd = real
        os.close(reading)
        os.close(writing)
        assert sorted(looked) == ["log", "other"]

    run(test)


def test_a_watch_ends_with_its_last_watcher(log: Path) -> None:
    async def test(growth: Growth) -> None:
        one, other = growth.watch(str(log), lambda: None), growth.watch(str(log), print)
        assert len(growth._watched) == 1
        one()
        assert len(growth._watched) == 1
        other()
        other()
        assert not growth._watched

    run(test)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    fds: list[int] = []

    def make(data: bytes) -> int:
        (tmp_path / "lines").write_bytes(data)
        fds.append(os.open(tmp_path / "lines", os.O_RDONLY))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize(("data", "count", "tail"), [
    (b"", 3, b""), (b"a", 1, b"a"), (b"a\n", 1, b"a\n"), (b"a\nb", 1, b"b"), (b"a\nb", 2, b"a\nb"),
    (b"\n\n\n", 2, b"\n\n"), (b"a\n", 0, b""), (b"a\nb\n", -1, b""),
    (b"x" * CHUNK + b"\nlast\n", 1, b"last\n"), (b"a\n" + b"x" * 3 * CHUNK, 1, b"x" * 3 * CHUNK),
    (b"a\n" * CHUNK, CHUNK, b"a\n" * CHUNK), (b"a\n" * CHUNK, CHUNK - 1, b"a\n" * (CHUNK - 1)),
])
def test_the_last_lines_begin_where_they_do(
    opened: Callable[[bytes], int], data: bytes, count: int, tail: bytes
) -> None:
    assert data[last_lines(opened(data), count):] == tail


# ---- when a log had which size -------------------------------------------------------------


def test_since_begins_at_the_size_the_log_had(tmp_path: Path) -> None:
    times, log = LogTimes(str(tmp_path / "times")), tmp_path / "log"
    for wall, size in ((10.0, 5), (12.0, 5), (14.0, 9)):
        log.write_bytes(b"x" * size)
        times.note("a", str(log), wall)
    expected = {0.0: 0, 9.9: 0, 10.0: 5, 13.9: 5, 14.0: 9, 1e12: 9}
    assert {wall: times.offset_at("a", wall) for wall in expected} == expected
    assert (tmp_path / "times" / "a").stat().st_size == 2 * 16  # nothing new, nothing noted


def test_too_many_notes_are_thinned_and_none_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logtimes, "MOST", 64 * 16)
    times, log = LogTimes(str(tmp_path / "times")), tmp_path / "log"
    for wall in range(1, 1000):
        append(log, b"x")
        times.note("a", str(log), float(wall))
        assert (tmp_path / "times" / "a").stat().st_size <= 64 * 16
    offsets = [times.offset_at("a", float(wall)) for wall in range(1, 1000)]
    assert offsets == sorted(offsets) and all(at <= wall for wall, at in enumerate(offsets, 1))
    # As exact as so many notes can be, from the first to the last.
    assert max(wall - at for wall, at in enumerate(offsets, 1)) < 2 * 1000 / 32
    assert list((tmp_path / "times").iterdir()) == [tmp_path / "times" / "a"]


def test_notes_outlive_the_agent_and_a_cut_in_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"12345")
    LogTimes(str(tmp_path)).note("a", str(log), 10.0)
    append(tmp_path / "a", b"half")
    assert LogTimes(str(tmp_path)).offset_at("a", 11.0) == 5


def test_a_task_without_notes_begins_at_its_start(tmp_path: Path) -> None:
    times = LogTimes(str(tmp_path))
    times.note("a", str(tmp_path / "no such log"), 10.0)
    times.drop("a")
    assert times.offset_at("a", 11.0) == 0
