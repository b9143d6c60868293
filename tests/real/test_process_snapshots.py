"""Snapshots of programs that know nothing of godwit: as they were, with the files they had open."""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import traits
from clientd.keeper.apart import init_of
from clientd.keeper.criu import inside
from clientd.keeper.processes import tree
from tests.real.cluster import eventually
from tests.real.moving import MovingProcesses, numbers_in
from tests.real.specimens import PROGRAMS, compiled
from tests.real.test_full_disk import Small

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="CRIU needs root"),
]

#: Counts into its log and into a file that it keeps open.
WRITER = ("sh", "-c", "exec 3>>out; i=0; while :; do echo $i >&3; echo $i; i=$((i+1)); "
          "sleep 0.005; done")

PEER = """
import itertools, socket, sys, time
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
for n in itertools.count():
    print(n, flush=True)
    time.sleep(0.005)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovingProcesses]:
    with MovingProcesses(tmp_path_factory.mktemp("alone"), nodes=("node1",)) as cluster:
        yield cluster


def ended(cluster: MovingProcesses, task: str, by: str = "KILL") -> int:
    """Its status, once it was sent a signal."""
    assert cluster.godwit("signal", task, by).returncode == 0
    return cluster.godwit("wait", "--timeout", "60", task).returncode


def nothing_is_left(cluster: MovingProcesses, *snapshots: str) -> None:
    """Of snapshots and starts, but for these, on node1's disk."""
    state = cluster.top / "node1"

    def left() -> set[str]:
        return {
            str(path.relative_to(state)) for name in ("snapshots", "starts", "kept", "agent/moves")
            for path in (state / name).glob("*")
        }

    kept = {f"kept/{name}.{end}" for name in snapshots for end in ("zst", "json")}
    eventually(lambda: left() == kept, f"nothing is left: {left() ^ kept}")


def test_programs_of_all_sorts_go_on_and_start_again_from_where_they_were(
    alone: MovingProcesses, tmp_path: Path
) -> None:
    programs = {name: PROGRAMS[name] for name in ("sh pipeline", "python")}
    if shutil.which("gcc"):  # its heap is checked at its end
        programs["C with threads"] = (compiled(tmp_path), "32")
    for argv in programs.values():
        task = alone.counter("node1", *argv)
        pid = alone.shown(task)["pid"]
        one = alone.checkpoint(task)
        assert (one["kind"], one["nodes"], one["writes"]) == ("shell", ["node1"], [])
        assert one["blackout_ms"] > 0 and 0 < one["kept_bytes"] < one["bytes"]
        assert alone.counts_on("node1", task)[0] == 0
        assert alone.shown(task)["pid"] == pid
        assert ended(alone, task) == 128 + signal.SIGKILL
        whole = alone.numbers("node1", task)
        (again,) = alone.started("restart", "--json", task)
        counted = alone.counts_on("node1", again)
        assert again != task and 0 < counted[0] < whole[-1]
        assert alone.numbers("node1", task) == whole
        assert ended(alone, again, "TERM") == 7
        assert alone.shown(again)["signal"] is None
        assert alone.godwit("remove", task, again).returncode == 0
    nothing_is_left(alone)


def test_forks_are_tasks_of_their_own_beside_each_other(tmp_path: Path) -> None:
    with MovingProcesses(tmp_path, nodes=("node1",)) as one:
        task = one.counter("node1", *PROGRAMS["sh pipeline"])
        # The last of them is a sleep(1), of which there are many.
        pids = sorted(inside(pid) for pid in tree(init_of(one.shown(task)["pid"])))[:5]
        one.checkpoint(task)
        forks = one.started("fork", "--json", "--count", "3", task)
        roots = [one.shown(fork)["pid"] for fork in forks]
        assert len({task, *forks}) == 4 and len(set(roots)) == 3
        assert len({one.counts_on("node1", fork)[0] for fork in forks}) == 1
        for root in roots:
            assert {inside(pid) for pid in tree(init_of(root))} >= set(pids)
        one.goes_on("node1", task)
        # They carry the mark of the first task and are none of its processes: whoever ends or
        # forgets it knows that, and a keeper that finds them.
        assert ended(one, task) == 128 + signal.SIGKILL
        one.kill_node("node1")
        one.restart_node("node1")
        assert (one.shown(task)["status"], one.shown(task)["reason"]) == ("exited", None)
        assert one.godwit("remove", task).returncode == 0
        for fork, root in zip(forks, roots, strict=True):
            assert (one.shown(fork)["status"], one.shown(fork)["pid"]) == ("running", root)
            one.counts_on("node1", fork)
        assert one.tasks().keys() == set(forks)
        # 125: its status went to who adopted it, on a kernel that does not tell it twice.
        assert ended(one, forks[0], "TERM") in (7, 125)
        nothing_is_left(one)


def test_what_was_started_from_a_snapshot_is_kept_as_any_task(alone: MovingProcesses) -> None:
    task = alone.counter("node1", *PROGRAMS["perl"])
    alone.checkpoint(task)
    (fork,) = alone.started("fork", "--json", task)
    alone.counts_on("node1", fork)
    alone.checkpoint(fork)
    assert ended(alone, fork) == 128 + signal.SIGKILL
    (again,) = alone.started("restart", "--json", fork)
    assert alone.counts_on("node1", again)[0] > alone.numbers("node1", fork)[0]
    for each in (task, fork, again):
        assert alone.godwit("remove", each).returncode == 0
    nothing_is_left(alone)


# ---- files -------------------------------------------------------------------------------------


def test_a_file_that_it_writes_is_as_it_was_and_what_came_later_is_kept_beside_it(
    alone: MovingProcesses,
) -> None:
    folder = alone.files("node1") / "w"
    folder.mkdir()
    out = folder / "out"
    task = str(alone.launch("--cwd", "w", "node1", "--", *WRITER)["task"])
    eventually(lambda: len(alone.numbers("node1", task)) > 3, f"{task} counts")
    one = alone.checkpoint(task)
    assert one["writes"] == ["out"]
    alone.goes_on("node1", task)
    refused = alone.godwit("fork", task)
    assert refused.returncode == 1
    assert "had out open for writing" in refused.stderr
    ended(alone, task)
    whole = numbers_in(out)
    out.chmod(0o640)
    (again,) = alone.started("restart", "--json", task)
    counted = alone.counts_on("node1", again)
    assert counted[0] <= whole[-1]
    assert numbers_in(folder / f"out.before-{again}") == whole
    busy = alone.godwit("restart", task)
    assert busy.returncode == 1
    assert "out: another process has it open for writing" in busy.stderr
    ended(alone, again)
    # The file ends a number before or with the log: that is what was between two writes.
    now, told = numbers_in(out), alone.numbers("node1", again)
    assert now == list(range(len(now))) and now[-1] - told[-1] in (0, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["out", f"out.before-{again}"]
    assert out.stat().st_mode & 0o777 == 0o644
    for each in (task, again):
        assert alone.godwit("remove", each).returncode == 0
    nothing_is_left(alone)


def test_a_big_file_and_one_that_it_only_reads_are_in_the_snapshot(
    alone: MovingProcesses,
) -> None:
    """More than what the keeper copies by itself; they are removed, and are there again."""
    folder = alone.files("node1") / "b" / "in"
    folder.mkdir(parents=True)
    content = os.urandom(1 << 20) + bytes(5 << 20) + b"end"
    for name in ("read", "written"):
        (folder / name).write_bytes(content)
    program = "exec 3<in/read 4>>in/written; " + PROGRAMS["handler"][2]
    task = str(alone.launch("--cwd", "b", "node1", "--", "sh", "-c", program)["task"])
    eventually(lambda: len(alone.numbers("node1", task)) > 3, f"{task} counts")
    assert alone.checkpoint(task)["writes"] == ["in/written"]
    ended(alone, task)
    shutil.rmtree(folder)
    (again,) = alone.started("restart", "--json", task)
    alone.counts_on("node1", again)
    assert {path.name: path.read_bytes() == content for path in folder.iterdir()} == {
        "read": True, "written": True,
    }
    for each in (task, again):
        assert alone.godwit("remove", each).returncode == 0


# ---- what is refused ---------------------------------------------------------------------------


def test_what_cannot_be_kept_is_refused_and_goes_on(
    alone: MovingProcesses, tmp_path: Path
) -> None:
    plain = str(alone.launch("--plain", "node1", "--", *PROGRAMS["perl"])["task"])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        peer = alone.counter(
            "node1", sys.executable, "-I", "-S", "-c", PEER, str(tmp_path / "s")
        )
        link, _ = listener.accept()
        paused = alone.counter("node1", *PROGRAMS["perl"])
        assert alone.godwit("pause", paused).returncode == 0
        with link:
            for task, why in ((plain, "no pid namespace of its own"), (peer, "socket"),
                              (paused, "is paused")):
                refused = alone.godwit("checkpoint", task)
                assert refused.returncode == 1 and why in refused.stderr, refused.stderr
            assert alone.godwit("resume", paused).returncode == 0
            for task in (plain, peer, paused):
                alone.counts_on("node1", task)
    for task in (plain, peer, paused):
        assert alone.godwit("remove", task).returncode == 0
    nothing_is_left(alone)


def test_a_snapshot_that_does_not_fit_leaves_the_task_running(tmp_path: Path) -> None:
    disk = Small(tmp_path / "node1")
    try:
        with MovingProcesses(tmp_path, nodes=("node1",)) as one:
            big = one.counter("node1", sys.executable, "-I", "-S", "-c",
                              "heap = bytearray(b'x' * (16 << 20))\n" + PROGRAMS["python"][-1])
            refused = one.godwit("checkpoint", big)
            assert refused.returncode == 1 and "the memory of" in refused.stderr
            one.goes_on("node1", big)
            # As much as its memory is free, and no more.
            task = one.counter("node1", *PROGRAMS["perl"])
            needed = traits.memory(one.shown(task)["pid"]) + (64 << 10)
            disk.fill(leave=needed)
            refused = one.godwit("checkpoint", task)
            assert refused.returncode == 1, refused.stdout
            assert "no room" in refused.stderr or "space" in refused.stderr, refused.stderr
            one.goes_on("node1", task)
            nothing_is_left(one)
            disk.empty()
            kept = one.checkpoint(task)
            nothing_is_left(one, kept["id"])
    finally:
        disk.unmount()
