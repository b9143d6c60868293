"""Logs at home as the agent writes them: each byte in its place, however often it comes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd import events as on
from clientd.homelogs import HomeLogs

TASK = "t0000001"


class Written:
    """A log with a few bytes in it, and what was heard of it."""

    def __init__(self, top: Path):
        self.path = top / "log"
        self.path.write_bytes(b"abc")
        self.heard: list[on.HomeLogAt | on.HomeLogFailed] = []
        self.logs = HomeLogs(self.heard.append)

    def open(self) -> None:
        self.logs.open(TASK, str(self.path))

    def last(self) -> on.HomeLogAt | on.HomeLogFailed:
        return self.heard[-1]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    written = Written(tmp_path)
    yield written
    written.logs.close_all()


def test_it_goes_on_where_the_file_ends(written: Written) -> None:
    written.open()
    assert written.last() == on.HomeLogAt(TASK, 3)
    written.logs.write(TASK, 3, b"def")
    assert written.last() == on.HomeLogAt(TASK, 6)
    assert written.path.read_bytes() == b"abcdef"


def test_what_comes_twice_changes_nothing(written: Written) -> None:
    written.open()
    written.logs.write(TASK, 3, b"def")
    written.logs.write(TASK, 3, b"def")
    written.open()
    assert written.last() == on.HomeLogAt(TASK, 6)
    assert written.path.read_bytes() == b"abcdef"


def test_what_is_missing_is_a_hole(written: Written) -> None:
    written.open()
    written.logs.write(TASK, 6, b"")
    written.logs.write(TASK, 6, b"g")
    assert written.path.read_bytes() == b"abc\0\0\0g"


def test_what_comes_too_late_is_not_written(written: Written) -> None:
    written.open()
    written.logs.close(TASK)
    written.logs.write(TASK, 3, b"x")
    assert written.path.read_bytes() == b"abc" and len(written.heard) == 1


@pytest.mark.parametrize("kind", ["missing", "link", "folder", "fifo"])
def test_what_is_no_log_is_not_written(written: Written, kind: str) -> None:
    other = written.path.with_name("other")
    other.write_bytes(b"precious")
    written.path.unlink()
    if kind == "link":
        written.path.symlink_to(other)
    elif kind == "folder":
        written.path.mkdir()
    elif kind == "fifo":
        os.mkfifo(written.path)
    written.open()
    assert isinstance(written.last(), on.HomeLogFailed)
    written.logs.write(TASK, 0, b"x")
    assert other.read_bytes() == b"precious"
