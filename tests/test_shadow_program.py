"""The program of a shadow, in both its forms: real processes and real signals."""

import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clientd.keeper import processes
from clientd.keeper.shadows import process, program
from tests.real.cluster import eventually

HAS_CODE = platform.machine() in program.CODE
#: All that can be; two of the C library's own, 32 and 33, its functions do not let one block.
CAUGHT = sorted(set(map(int, signal.valid_signals())) - {signal.SIGKILL, signal.SIGSTOP})
FORMS = [
    pytest.param(True, marks=pytest.mark.skipif(not HAS_CODE, reason="no code for this machine")),
    False,
]


@contextmanager
def shadow(small: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int, int]]:
    """Its pid, a pidfd, and the end of its pipe that is read; ended and waited for by the test."""
    if not small:
        monkeypatch.setattr(program, "CODE", {})
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    pid = process.make("t0000001", "n2", f"test{os.getpid()}", None, write)
    os.close(write)
    pidfd = os.pidfd_open(pid)
    try:
        eventually(lambda: _blocks_all(pid), "it blocks all signals")
        yield pid, pidfd, read
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(pidfd)
        os.close(read)


def _blocks_all(pid: int) -> bool:
    """It has a name of its own, which is what it does next."""
    return Path(f"/proc/{pid}/comm").read_text() == "godwit-shadow\n"


def numbers(read: int, count: int) -> list[int]:
    """The signals that it wrote of."""
    eventually(lambda: len(process.peek(read)) >= count, f"{count} records")
    caught = process.peek(read)
    assert [one.count for one in caught] == list(range(1, len(caught) + 1))
    process.drop(read, len(caught))
    assert process.peek(read) == []
    return [one.number for one in caught]


@pytest.mark.parametrize("small", FORMS)
def test_it_tells_of_every_signal_that_can_be_caught(
    small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shadow(small, monkeypatch) as (pid, pidfd, read):
        told = []
        for number in CAUGHT:
            os.kill(pid, number)
            eventually(lambda: bool(process.peek(read)), f"signal {number} is told")
            told += [one.number for one in process.peek(read)]
            process.drop(read, 1)
        assert told == CAUGHT
        process.end(pidfd, 0)
        assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("small", FORMS)
@pytest.mark.parametrize("status", [0, 1 << 8, 125 << 8, 255 << 8, 1, 6, 9, 11, 15, 31, 34])
def test_it_ends_as_it_is_told_and_leaves_no_core(
    small: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shadow(small, monkeypatch) as (pid, pidfd, _):
        process.end(pidfd, status)
        assert os.waitpid(pid, 0)[1] == status  # 0x80 would be a core


@pytest.mark.parametrize("small", FORMS)
def test_one_that_is_stopped_hears_it_too(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with shadow(small, monkeypatch) as (pid, pidfd, read):
        os.kill(pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        assert process.is_stopped(pid)
        os.kill(pid, signal.SIGCONT)
        assert numbers(read, 1) == [signal.SIGCONT]
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        process.end(pidfd, 5 << 8)
        assert os.waitpid(pid, 0)[1] == 5 << 8


@pytest.mark.parametrize("small", FORMS)
def test_its_title_says_where_the_guest_is(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with shadow(small, monkeypatch) as (pid, pidfd, _):
        for node in ("n2", "a-node-with-a-long-name.example", "n3"):
            process.entitle(pid, "t0000001", node)
            title = (b"godwit-shadow", b"t0000001", b"->", node.encode())
            shown = processes.command_line(pid)
            assert shown[:4] == title and not any(shown[4:])
        assert process.kill(pidfd)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL


@pytest.mark.skipif(not HAS_CODE, reason="no code for this machine")
def test_it_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    with shadow(True, monkeypatch) as (pid, pidfd, _):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        (rss,) = (int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))
        assert rss <= 64  # KiB
        assert len(program.image(platform.machine())) <= 512  # bytes
        process.kill(pidfd)
        os.waitpid(pid, 0)


def test_a_keeper_finds_its_shadows_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with shadow(HAS_CODE, monkeypatch) as (pid, pidfd, _):
        found = [(task, one.pid) for task, one in process.strays(f"test{os.getpid()}")]
        assert found == [("t0000001", pid)]
        assert not list(process.strays("other"))
        process.kill(pidfd)
        os.waitpid(pid, 0)


@pytest.mark.skipif(
    not (HAS_CODE and shutil.which("as") and shutil.which("objcopy")),
    reason="no assembler for this machine",
)
def test_the_bytes_are_what_the_source_says(tmp_path: Path) -> None:
    source = Path(program.__file__).with_name(f"{platform.machine()}.S")
    subprocess.run(["as", source, "-o", tmp_path / "o"], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "o", "bin"], cwd=tmp_path, check=True)
    assert (tmp_path / "bin").read_bytes() == program.CODE[platform.machine()]
