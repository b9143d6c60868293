"""Lines on stderr: whole, in order, and nobody waits for who does not read them."""

import os
import pty
import re
import socket
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import pytest

from godwit import stderr
from godwit.stderr import Lines


@contextmanager
def on(fd: int) -> Iterator[None]:
    """Descriptor 2 is this one meanwhile."""
    kept = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def pipe() -> tuple[int, int]:
    return os.pipe()


def sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def terminal() -> tuple[int, int]:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return ours, theirs


def drained(fd: int) -> bytes:
    """What is there to be read."""
    os.set_blocking(fd, False)
    found = b""
    with suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 16):
            found += piece
    return found


@pytest.mark.parametrize("make", [pipe, sockets, terminal])
def test_what_nobody_reads_is_dropped_and_counted_and_lines_stay_whole(
    make: Callable[[], tuple[int, int]]
) -> None:
    reader, writer = make()
    lines = Lines()
    many = [f"line {number} {'x' * 100}" for number in range(5_000)]
    with on(writer):
        for line in many:
            lines.write(f"{line}\n")
        first = drained(reader)
        lines.write("after\n")
        second = drained(reader)
        lines.write("last\n")
        assert os.get_blocking(2) and os.get_blocking(writer)
    third = drained(reader)
    os.close(reader)
    os.close(writer)
    shown = (first + second + third).decode().splitlines()
    # The kernel passes a terminal's bytes on in its own time: there may be room again meanwhile.
    gaps, expected = 0, iter([*many, "after", "last"])
    for line in shown:
        if told := re.fullmatch(r"\((\d+) lines were not shown\)", line):
            gaps += 1
            assert len(list(islice(expected, int(told[1])))) == int(told[1])
        else:
            assert line == next(expected)
    assert shown[0] == many[0] and shown[-2:] == ["after", "last"]
    assert gaps and list(expected) == []


def test_a_file_is_written_in_the_order_of_all_who_share_it(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "f", os.O_WRONLY | os.O_CREAT)
    lines = Lines()
    with on(fd):
        os.write(2, b"one\n")
        lines.write("two\n")
        os.write(2, b"three\n")
    os.close(fd)
    assert (tmp_path / "f").read_text() == "one\ntwo\nthree\n"


def test_a_terminal_that_cannot_be_opened_is_written_when_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "no")

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    lines = Lines()
    with on(writer):
        monkeypatch.setattr(os, "open", refuse)
        lines.write("one\n")
        with suppress(BlockingIOError):
            while os.write(writer, b"x" * 4096):
                pass
        assert stderr._write_if_ready(b"lost\n") == 0
        monkeypatch.undo()
    assert drained(reader).strip(b"x") == b"one\n"
    os.close(reader)
    os.close(writer)


def test_a_stderr_that_is_closed_or_broken_is_nobodys_concern() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with on(writer):
        Lines().write("x\n")
        os.close(2)
        Lines().write("x\n")
    os.close(writer)
