"""Disks that are full: new work is refused, old work goes on, and room is all it takes to recover.

Each test has a small file system of its own.
"""

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from godwit.wire import operations as op
from tests.real.cluster import Cluster, eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root"),
]
#: More launches than fit into the rest of a page.
MANY = 300


class Small:
    """A file system of a few megabytes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._filler = folder / "filler"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", folder], check=True)

    def fill(self, leave: int = 0) -> None:
        """To the last byte, or but for so many; also what becomes free meanwhile."""
        with self._filler.open("ab", buffering=0) as file:
            while self._free() > leave:
                with suppress(OSError):
                    while self._free() > leave or not leave:
                        file.write(b"x" * 4096)

    def _free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def empty(self) -> None:
        self._filler.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


@pytest.fixture
def small() -> Iterator[Callable[[Path], Small]]:
    made: list[Small] = []

    def make(folder: Path) -> Small:
        made.append(Small(folder))
        return made[-1]

    yield make
    for each in made:
        each.unmount()


def launched_until_refused(one: Cluster, marks: Path) -> tuple[list[str], str]:
    """Ids that were acknowledged, and why the first other was refused; each marks its start."""
    known = []
    request = op.Execute(0, "node1", (f"echo >> {marks}/$GODWIT_TASK".encode(),), shell=True)
    with one.client() as client:
        for _ in range(MANY):
            answer = client.ask(request, op.Tasks)
            if answer.faults:
                assert not answer.tasks
                return known, answer.faults[0].message
            known.append(answer.tasks[0].task.id)
    raise AssertionError(f"{MANY} launches on a full disk")


def all_end_well(one: Cluster, tasks: list[str]) -> bool:
    """The master hears of their ends."""
    with one.client() as client:
        ended = client.ask(op.AwaitTasks(0, tuple(tasks)), op.Tasks) if tasks else None
    return ended is None or all(view.task.exit_code == 0 for view in ended.tasks)


def test_a_node_with_a_full_disk_refuses_launches_and_forgets_nothing(
    tmp_path: Path, small: Callable[[Path], Small]
) -> None:
    disk, marks, gate = small(tmp_path / "node1"), tmp_path / "marks", tmp_path / "gate"
    marks.mkdir()
    with Cluster(tmp_path, nodes=["node1"]) as one:
        keeper = one.nodes["node1"].pid
        old = one.launch("--shell", "node1", f"until [ -e {gate} ]; do sleep 0.01; done; exit 5")
        disk.fill()
        acknowledged, why = launched_until_refused(one, marks)
        assert os.strerror(errno.ENOSPC) in why

        # Those that run go on, and so does the node, whatever of it has to start anew.
        agent = one.agent("node1")
        os.kill(agent, signal.SIGKILL)
        eventually(lambda: one.log("node1").read_text().count("joined the master") > 1, "anew")
        gate.touch()
        assert one.godwit("wait", old["task"]).returncode == 5
        assert all_end_well(one, acknowledged)
        assert one.godwit("execute", "node1", "true").returncode == 1

        disk.empty()
        eventually(lambda: one.godwit("execute", "--wait", "node1", "true").returncode == 0, "room")
        assert one.nodes["node1"].pid == keeper and not one.nodes["node1"].ended
        # What ended meanwhile is on record: the next keeper knows it.
        one.kill_node("node1")
        one.restart_node("node1")
        shown = one.tasks()
        assert (shown[old["task"]]["status"], shown[old["task"]]["exit_code"]) == ("exited", 5)
        assert {shown[task]["exit_code"] for task in acknowledged} <= {0}
        assert sorted(path.name for path in marks.iterdir()) == sorted(acknowledged)


def test_a_keeper_that_starts_on_a_full_disk_finds_what_runs(
    tmp_path: Path, small: Callable[[Path], Small]
) -> None:
    disk, gate = small(tmp_path / "node1"), tmp_path / "gate"
    with Cluster(tmp_path, nodes=["node1"]) as one:
        old = one.launch("--shell", "node1", f"until [ -e {gate} ]; do sleep 0.01; done; exit 5")
        disk.fill()
        one.kill_node("node1")
        disk.fill()
        one.restart_node("node1")
        shown = one.shown(old["task"])
        assert (shown["pid"], shown["status"]) == (old["pid"], "running")
        gate.touch()
        # A process that is not its child: newer kernels tell its status all the same.
        assert one.godwit("wait", old["task"]).returncode in (5, 125)
        disk.empty()
        eventually(lambda: one.godwit("execute", "--wait", "node1", "true").returncode == 0, "room")


def test_a_master_with_a_full_disk_refuses_launches_and_forgets_nothing(
    tmp_path: Path, small: Callable[[Path], Small]
) -> None:
    disk, marks, gate = small(tmp_path / "master"), tmp_path / "marks", tmp_path / "gate"
    marks.mkdir()
    with Cluster(tmp_path, nodes=["node1"]) as one:
        assert one.master
        old = one.launch("--shell", "node1", f"until [ -e {gate} ]; do sleep 0.01; done; exit 5")
        disk.fill()
        acknowledged, why = launched_until_refused(one, marks)
        assert "full" in why and "nothing was started" in why

        # It still shows, follows, signals and hears of ends; and starts anew if it has to.
        one.kill_master()
        disk.fill()
        one.restart_master()
        one.wait_up("node1")
        pid = one.master.pid
        assert {old["task"], *acknowledged} <= one.tasks().keys()
        gate.touch()
        assert one.godwit("wait", old["task"]).returncode == 5
        token = one.godwit("token")
        assert token.returncode == 1 and "no token was made" in token.stderr

        disk.empty()
        eventually(lambda: one.godwit("execute", "--wait", "node1", "true").returncode == 0, "room")
        assert one.master.pid == pid and not one.master.ended
        assert all_end_well(one, acknowledged)
        # What came in meanwhile is on its disk: with the node gone, only that can tell.
        one.kill_node("node1")
        one.kill_master()
        one.restart_master()
        shown = one.tasks()
        assert (shown[old["task"]]["status"], shown[old["task"]]["exit_code"]) == ("exited", 5)
        assert {shown[task]["exit_code"] for task in acknowledged} <= {0}
        assert sorted(path.name for path in marks.iterdir()) == sorted(acknowledged)
        one.restart_node("node1")
