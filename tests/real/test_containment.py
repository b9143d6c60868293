"""Nothing that a task started outlives its sKill, whatever it did to get away."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import Cluster, eventually

#: Each leaves its parent, its session or its mark behind, writes its pid to $1 and sleeps.
ESCAPES = {
    "double fork": "(sh -c 'echo $$ > '$1'; exec sleep 300' &)",
    "setsid": "setsid sh -c 'echo $$ > '$1'; exec sleep 300' &",
    "double fork and setsid": "(setsid sh -c 'echo $$ > '$1'; exec sleep 300' &)",
    "deaf": "(setsid sh -c 'trap \"\" INT TERM HUP; echo $$ > '$1'; while :; do sleep 1; done' &)",
    "no environment": "(env -i setsid sh -c 'echo $$ > '$1'; exec sleep 300' &)",
    "daemon": "(setsid sh -c '(setsid sh -c \"echo \\$\\$ > '$1'; exec sleep 300\" &)' &)",
    "stopped": "(setsid sh -c 'echo $$ > '$1'; kill -STOP $$; exec sleep 300' &)",
}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("one"), nodes=["node1"]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def contained(one: Cluster) -> bool:
    return "contain" in one.json("list", "--json")["nodes"][0]["can"]


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def escaped(one: Cluster, tmp_path: Path, how: str, then: str) -> tuple[str, int]:
    """A task from which a process gets away by ``how``, and that goes on with ``then``."""
    file = tmp_path / "pid"
    task = one.launch("--plain", "node1", "sh", "-c", f"{ESCAPES[how]}\n{then}", "sh", str(file))
    eventually(lambda: file.exists() and file.read_text().endswith("\n"), f"escape by {how}")
    return str(task["task"]), int(file.read_text())


@pytest.mark.parametrize("how", ESCAPES)
def test_what_got_away_from_a_running_task_ends_with_it(
    one: Cluster, contained: bool, tmp_path: Path, how: str
) -> None:
    if how == "no environment" and not contained:
        pytest.skip("this machine gives us no cgroup: such a process can get away")
    task, pid = escaped(one, tmp_path, how, "exec sleep 300")
    assert runs(pid)
    assert one.godwit("sKill", task).returncode == 0
    # The answer comes when nothing is left; a zombie may wait for its reaper.
    eventually(lambda: not runs(pid), "end of what got away")
    assert one.shown(task)["signal"] == "SIGKILL"


def test_what_an_ended_task_left_behind_is_told_and_ends_with_skill(
    one: Cluster, tmp_path: Path
) -> None:
    task, pid = escaped(one, tmp_path, "double fork and setsid", "exit 3")
    assert one.godwit("wait", task).returncode == 3
    eventually(lambda: one.shown(task)["reason"] == "1 process it started still runs", "told")
    assert runs(pid)
    assert one.godwit("sKill", task).returncode == 0
    eventually(lambda: not runs(pid), "end of what was left")
    # What it exited with stays true.
    shown = one.shown(task)
    assert (shown["status"], shown["exit_code"], shown["reason"]) == ("exited", 3, None)


def test_a_fork_bomb_of_a_hundred_ends_at_once(one: Cluster, tmp_path: Path) -> None:
    program = (
        "import os, time\n"
        "for _ in range(100):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        os.fork()\n"
        "        time.sleep(300)\n"
        "print('ready', flush=True)\n"
        "time.sleep(300)\n"
    )
    launched = one.launch(
        "--plain", "-e", f"BOMB={tmp_path}", "node1", sys.executable, "-c", program
    )
    eventually(lambda: one.godwit("logs", launched["task"]).stdout == "ready\n", "all forked")
    eventually(lambda: len(marked(f"BOMB={tmp_path}")) == 201, "all there")
    assert one.godwit("sKill", launched["task"]).returncode == 0
    eventually(lambda: not marked(f"BOMB={tmp_path}"), "end of all")


def marked(word: str) -> list[int]:
    """Pids of processes with this in their environment."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            found.append(int(name))
    return found


def test_a_paused_task_stops_with_all_it_started(
    one: Cluster, contained: bool, tmp_path: Path
) -> None:
    if not contained:
        pytest.skip("without a cgroup only the process group is stopped")
    counter = tmp_path / "counter"
    script = f"(setsid sh -c 'while :; do echo >> {counter}; sleep 0.01; done' &); exec sleep 300"
    task = one.launch("node1", "sh", "-c", script)["task"]
    eventually(counter.exists, "it counts")
    assert one.godwit("pause", task).returncode == 0
    size = counter.stat().st_size
    # As long as it takes to ask twice, nothing more is counted.
    assert one.shown(task)["status"] == one.shown(task)["status"] == "paused"
    assert counter.stat().st_size == size
    assert one.godwit("resume", task).returncode == 0
    eventually(lambda: counter.stat().st_size > size, "it goes on")
    assert one.godwit("sKill", task).returncode == 0


def test_a_deregistered_node_leaves_nothing_of_its_tasks(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as cluster:
        _, pid = escaped(cluster, tmp_path, "double fork and setsid", "exec sleep 300")
        assert cluster.godwit("dereg", "node1").returncode == 0
        eventually(lambda: not runs(pid), "end of what got away")


def test_skill_reaches_what_a_task_of_a_dead_keeper_started(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as cluster:
        task, pid = escaped(cluster, tmp_path, "double fork and setsid", "exec sleep 300")
        cluster.kill_node("node1")
        assert runs(pid)
        cluster.restart_node("node1")
        assert cluster.godwit("sKill", task).returncode == 0
        eventually(lambda: not runs(pid), "end of what got away")
        assert cluster.godwit("wait", task).returncode in (128 + signal.SIGKILL, 125)
