"""bin/demo as a user starts it; whatever ends it, nothing of it is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest
from tests.real.cluster import PYTHON, eventually

#: Longer than the orphan policy of the demonstration's nodes.
ORPHANS_END_S = 40


def demo(top: Path, *args: str, lines: str = "") -> "subprocess.CompletedProcess[str]":
    """One demonstration that reads ``lines``; its scratch folder is in ``top``."""
    return subprocess.run(
        [*PYTHON, "masterd.demo", *args], input=lines, env=environment(top),
        capture_output=True, text=True, timeout=100,
    )


def environment(top: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(top), "HOME": str(top)}


def begin(top: Path) -> "subprocess.Popen[bytes]":
    """A demonstration with a task that runs, waiting for more to be typed."""
    begun = subprocess.Popen(
        [*PYTHON, "masterd.demo"], env=environment(top),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    assert begun.stdin and begun.stdout
    begun.stdin.write(b"execute node1 sleep 300\necho begun\n")
    begun.stdin.flush()
    for line in begun.stdout:
        if b"begun" in line:
            return begun
    raise AssertionError("the demonstration ended early")


def end(begun: "subprocess.Popen[bytes]") -> int:
    """Its exit status."""
    assert begun.stdin and begun.stdout
    begun.stdin.close()
    begun.stdout.close()
    return begun.wait(60)


def test_lines_in_a_pipe_are_obeyed_and_nothing_is_left(tmp_path: Path) -> None:
    done = demo(tmp_path, lines="list\nuname -a\nexit\n")
    assert done.returncode == 0, done.stderr
    assert "node1" in done.stdout and "node2" in done.stdout
    assert done.stdout.count(os.uname().release) == 2
    assert not list(tmp_path.glob("godwit-demo-*"))


def test_its_daemons_log_in_its_scratch_folder_only(tmp_path: Path) -> None:
    done = demo(tmp_path, "--nodes", "1", lines="on node1 'ls ../../logs'\nexit\n")
    assert done.stdout.split() == [
        "node1", "|", "audit.log", "node1", "|", "masterd.log", "node1", "|", "node1",
    ]


def test_the_end_of_the_input_ends_it(tmp_path: Path) -> None:
    done = demo(tmp_path, lines="list\n")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("godwit-demo-*"))


def test_it_needs_no_stdin_at_all(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -P -m masterd.demo --nodes 1 <&-"
    done = subprocess.run(["sh", "-c", command], env=environment(tmp_path), timeout=100)
    assert done.returncode == 0


def test_it_has_as_many_nodes_as_asked_for(tmp_path: Path) -> None:
    done = demo(tmp_path, "--nodes", "3", lines="list\nexit\n")
    assert all(f"node{n}" in done.stdout for n in (1, 2, 3)) and "node4" not in done.stdout


@pytest.mark.parametrize("wrong", [["--nodes", "0"], ["--nodes", "٣"], ["--nodes"], ["list"]])
def test_what_it_cannot_do_is_one_line(tmp_path: Path, wrong: list[str]) -> None:
    done = demo(tmp_path, *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("demo: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.orphans
def test_a_signal_ends_all_of_it(tmp_path: Path, number: signal.Signals) -> None:
    begun = begin(tmp_path)
    begun.send_signal(number)
    # It ends although nobody closes its stdin; end() finds it ended.
    assert begun.wait(60) == 128 + number
    end(begun)
    assert not list(tmp_path.glob("godwit-demo-*"))


@pytest.mark.orphans
def test_a_killed_demonstration_leaves_no_daemon_and_no_task(tmp_path: Path) -> None:
    before = conftest.children()
    begun = begin(tmp_path)
    begun.kill()
    assert end(begun) == -signal.SIGKILL
    # Its daemons are our children now.
    left = conftest.children() - before
    assert left
    eventually(
        lambda: all(conftest.describe(pid)[1] in "Z?" for pid in conftest.children() - before),
        "end of the daemons", ORPHANS_END_S,
    )
