"""The harness itself: what stands in for init(1), and what finds leftovers."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import conftest
from tests.real.cluster import Daemon, descendants, eventually

#: Double fork: the grandchild outlives its parent and ignores SIGTERM.
ORPHAN = "trap '' TERM; (sleep 300 & echo started) ; exec sleep 300"


def daemon(script: str, top: Path) -> Daemon:
    return Daemon(["/bin/sh", "-c", script], top / "told", dict(os.environ))


def test_an_init_ends_with_the_last_process_below_it(tmp_path: Path) -> None:
    ended = daemon("exit 7", tmp_path)
    assert ended.init.wait(10) == 7
    assert ended.close(expect_empty=True) == []


def test_an_init_kills_and_reaps_orphans_of_a_killed_daemon(tmp_path: Path) -> None:
    one = daemon(ORPHAN, tmp_path)
    eventually(lambda: "started" in one.text(), "the orphan")
    one.end(signal.SIGKILL)
    # The shell between them says that it is started, and then goes.
    eventually(lambda: len(descendants(one.init.pid)) == 1, "the orphan is alone")
    below = descendants(one.init.pid)
    assert one.close(expect_empty=False) == []
    assert not Path(f"/proc/{below[0]}").exists()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left here does not end by itself, however long it is given."""
    monkeypatch.setattr(conftest, "GRACE_S", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_process_left_running_is_named_and_killed() -> None:
    before = conftest.children()
    left = subprocess.Popen(["sleep", "300"], start_new_session=True)
    assert conftest.strays(before) == [f"process {left.pid} (sleep 300)"]
    left.returncode = -9  # reaped above; keeps Popen from warning of it


@pytest.mark.usefixtures("impatient")
def test_an_orphan_of_an_orphan_is_found() -> None:
    before = conftest.children()
    subprocess.run(["/bin/sh", "-c", "(setsid sleep 300 &) & wait"], check=True)

    def commands() -> list[str]:
        return [conftest.describe(pid)[0] for pid in conftest.children() - before]

    eventually(lambda: commands() == ["sleep 300"], "it has come to us, and is what it will be")
    named = conftest.strays(before)
    assert len(named) == 1 and named[0].endswith("(sleep 300)"), named


def test_a_zombie_is_named_and_reaped() -> None:
    before = conftest.children()
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert conftest.strays(before) == [f"zombie {pid} (true)"]
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_an_open_descriptor_is_named() -> None:
    before = set(conftest.descriptors())
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        assert conftest.leaked(before) == [f"descriptor {fd} on /dev/null"]
    finally:
        os.close(fd)
    assert conftest.leaked(before) == []
