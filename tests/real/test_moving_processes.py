"""Programs that know nothing of godwit move between real nodes: one log, one life, a true end."""

import gzip
import os
import random
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper.apart import init_of
from clientd.keeper.criu import inside
from clientd.keeper.processes import tree
from tests.real.cluster import descendants, eventually
from tests.real.hosts import Hosts, hosts_here
from tests.real.moving import MovingProcesses
from tests.real.moving_hosts import MovingHosts
from tests.real.specimens import PROGRAMS, SQLITE, compiled
from tests.real.test_moving import PHASES, WHEN

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="CRIU needs root"),
]
__all__ = ["hosts_here"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovingProcesses]:
    with MovingProcesses(tmp_path_factory.mktemp("pair")) as cluster:
        yield cluster


def pids_inside(cluster: MovingProcesses, task: str) -> set[int]:
    return {inside(pid) for pid in tree(init_of(int(cluster.shown(task)["pid"])))}


def ends_with_7(cluster: MovingProcesses, task: str) -> None:
    """By SIGTERM, which it handles; and its log has each number once."""
    node = str(cluster.shown(task)["node"])
    assert cluster.godwit("signal", task, "TERM").returncode == 0
    assert cluster.godwit("wait", "--timeout", "60", task).returncode == 7
    # A shell says there, too, that its child was terminated.
    told = cluster.log_of(node, task).read_text().split()
    counted = [int(word) for word in told if word.isdigit()]
    assert counted == list(range(len(counted)))


def test_programs_of_all_sorts_move_away_back_home_and_away_again(
    pair: MovingProcesses, tmp_path: Path
) -> None:
    programs = dict(PROGRAMS)
    if shutil.which("gcc"):
        programs["C with threads"] = (compiled(tmp_path), "32")
    tasks = {name: pair.counter("node1", *argv) for name, argv in programs.items()}
    stays = {name: pids_inside(pair, tasks[name]) for name in ("python", "perl")}
    for target, where in (("node2", "node2"), ("home", "node1"), ("node2", "node2")):
        moves = pair.json("move", "--json", *tasks.values(), target)["moves"]
        assert [move["result"] for move in moves] == ["done"] * len(tasks), moves
        for task in tasks.values():
            pair.goes_on(where, task)
    assert {name: pids_inside(pair, tasks[name]) for name in stays} == stays
    for task in tasks.values():
        ends_with_7(pair, task)


def test_a_task_arrives_after_ten_hops_with_its_flight_report(pair: MovingProcesses) -> None:
    task = pair.counter("node1", *PROGRAMS["perl"])
    for hop in range(10):
        report = pair.move(task, ("node2", "node1")[hop % 2])
        assert report["kind"] == "shell"
        assert report["blackout_ms"] > 0 < report["bytes"]
        assert set(report["phases_ms"]) == PHASES
        assert report["phases_ms"]["restore"] > 0 < report["phases_ms"]["snapshot"]
    assert pair.shown(task)["home"] == "node1"
    ends_with_7(pair, task)
    assert not pair.log_of("node2", task).exists()


def test_a_signal_ends_it_where_it_went_and_that_is_its_status(pair: MovingProcesses) -> None:
    task = pair.counter("node1", *PROGRAMS["perl"])
    pair.move(task, "node2")
    assert pair.godwit("kill", task).returncode == 0
    assert pair.godwit("wait", "--timeout", "60", task).returncode == 128 + signal.SIGINT
    assert pair.shown(task)["signal"] == "SIGINT"
    assert pair.numbers("node2", task)


def test_what_it_found_open_and_what_it_computed_are_as_they_were(
    pair: MovingProcesses, tmp_path: Path
) -> None:
    """find(1) with children in a tree of files: it tells what it tells without a move."""
    top = tmp_path / "tree"
    for number in range(600):
        folder = top / f"d{number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").touch()
    gate = tmp_path / "gate"
    # At one file in sixty it waits: so it is on its way until both moves are done.
    script = f'case $1 in */f59?) until [ -e {gate} ]; do sleep 0.01; done;; *) sleep 0.005; esac'
    words = ("find", str(top), "-type", "f", "-exec", "sh", "-c", script, "sh", "{}", ";", "-print")
    task = str(pair.launch("node1", "--", *words)["task"])
    for target in ("node2", "node1"):
        pair.move(task, target)
    gate.touch()
    assert pair.godwit("wait", "--timeout", "90", task).returncode == 0
    told = pair.log_of(str(pair.shown(task)["node"]), task).read_text().splitlines()
    assert sorted(told) == sorted(str(path) for path in top.glob("*/*"))


BIG = """
import itertools, os, time
gone = open("gone", "wb")
gone.write(bytes(8 << 20))
gone.flush()
os.unlink("gone")
for n in itertools.count():
    print(n, flush=True)
    time.sleep(0.005)
"""


def test_what_criu_refuses_goes_on_where_it_was_and_the_reason_is_told(
    pair: MovingProcesses,
) -> None:
    """The verdict can only say "if": what is small enough, CRIU decides."""
    task = pair.counter("node1", sys.executable, "-I", "-S", "-c", BIG)
    refused = pair.godwit("move", task, "node2")
    assert refused.returncode == 1
    assert f"{task} stays on node1: it has a big file open that was deleted" in refused.stderr
    pair.goes_on("node1", task)
    eventually(lambda: not pair.log_of("node2", task).exists(), "node2 dropped its log")
    assert pair.godwit("sKill", task).returncode == 0


def test_what_the_verdict_forbids_is_refused_in_its_words(pair: MovingProcesses) -> None:
    task = str(pair.launch("--plain", "node1", "--", *PROGRAMS["perl"])["task"])
    verdict = pair.godwit("why", "--json", task, "node2")
    assert verdict.returncode == 1
    refused = pair.godwit("move", task, "node2")
    assert refused.returncode == 1
    assert "it has no pid namespace of its own" in verdict.stdout
    assert "it has no pid namespace of its own" in refused.stderr
    pair.goes_on("node1", task)
    assert pair.godwit("sKill", task).returncode == 0


def test_sigcont_does_not_let_a_frozen_copy_run(tmp_path: Path) -> None:
    """The destination stands still before it votes: meanwhile the source's copy is poked at."""
    with MovingProcesses(tmp_path) as cluster:
        task = cluster.counter("node1", *PROGRAMS["sh pipeline"])
        init = init_of(int(cluster.shown(task)["pid"]))
        mover = cluster.stop_in_a_move(task, "move.prepared.before")
        size = cluster.log_of("node1", task).stat().st_size
        for pid in tree(init):
            os.kill(pid, signal.SIGCONT)

        def none_runs() -> bool:
            ticks = [cpu_time(pid) for pid in tree(init)]
            assert cluster.godwit("on", "node1", "--", "sleep", "0.3").returncode == 0
            return [cpu_time(pid) for pid in tree(init)] == ticks

        # A signal wakes a frozen task for as long as it takes the kernel to freeze it again.
        eventually(none_runs, "what was woken stands still again")
        assert cluster.log_of("node1", task).stat().st_size == size
        cluster.nodes["node2"].send(signal.SIGCONT)
        mover.communicate(timeout=60)
        where = cluster.settle(task)
        cluster.goes_on(where, task)
        ends_with_7(cluster, task)


def cpu_time(pid: int) -> str:
    """What it has run, in ns."""
    return Path(f"/proc/{pid}/schedstat").read_text().split()[0]


def test_a_move_that_fails_before_the_commit_resumes_at_the_source(tmp_path: Path) -> None:
    """The destination has restored the copy, and cannot put its vote on record."""
    with MovingProcesses(tmp_path) as cluster:
        task = cluster.counter("node1", *PROGRAMS["sh pipeline"])
        pid = cluster.shown(task)["pid"]
        cluster.kill_node("node2")
        cluster.start_failing("node2", "move.prepared.before:errno:ENOSPC")
        keeper = cluster.nodes["node2"].pid
        failed = cluster.godwit("move", task, "node2")
        assert failed.returncode == 1
        assert "stays on node1" in failed.stderr
        assert cluster.settle(task) == "node1"
        cluster.goes_on("node1", task)
        assert cluster.shown(task)["pid"] == pid
        eventually(
            lambda: not any(map(criu_is_init, descendants(keeper))), "nothing is left at node2"
        )
        assert not cluster.log_of("node2", task).exists()
        ends_with_7(cluster, task)


def criu_is_init(pid: int) -> bool:
    return inside(pid) == 1


#: Durable writes of a move that is done, by the side whose keeper does them: what is on the way of
#: every move is walked in whole by test_moving.py.
WRITES = {"node1": ("freezing", "frozen", "finishing"), "node2": ("prepared", "consumed")}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("side", WRITES)
def test_a_keeper_killed_at_any_write_of_a_move_leaves_one_copy(
    tmp_path: Path, side: str
) -> None:
    with MovingProcesses(tmp_path) as cluster:
        for name in [f"move.{part}.{when}" for part in WRITES[side] for when in WHEN]:
            task = cluster.counter("node1")
            cluster.goes_on(cluster.die_in_a_move(task, side, name), task)
            assert cluster.godwit("sKill", task).returncode == 0


# ---- on hosts of their own ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, hosts_here: None) -> Iterator[MovingHosts]:
    with (
        Hosts("master", "node1", "node2") as hosts,
        MovingHosts(tmp_path_factory.mktemp("apart"), hosts) as cluster,
    ):
        yield cluster


def test_a_database_that_is_written_travels_with_its_task(apart: MovingHosts) -> None:
    task = apart.counter("node1", *SQLITE)
    for target in ("node2", "node1", "node2"):
        apart.move(task, target)
        apart.goes_on(target, task)
    ends_with_7(apart, task)
    told = apart.numbers("node2", task)
    with sqlite3.connect(apart.files("node2") / "rows.db") as rows:
        assert rows.execute("pragma integrity_check").fetchone() == ("ok",)
        kept = [n for n, in rows.execute("select n from rows order by n")]
        assert {len(text) for text, in rows.execute("select text from rows")} == {500}
    rows.close()
    assert kept == told, "no row was lost"


def test_gzip_goes_on_in_files_that_came_along(apart: MovingHosts) -> None:
    source = apart.files("node1") / "in"
    # Of two letters by chance: what takes gzip the longest, some seconds for each MiB.
    letters = bytes(b"ab"[i & 1] for i in range(256))
    source.write_bytes(random.Random(1).randbytes(1 << 19).translate(letters))
    # In the middle of its input it waits: so it is at work until it has moved three times.
    half = "head -c 200000; until [ -e gate ]; do sleep 0.02; done; cat"
    task = str(apart.launch("--shell", "node1", f"{{ {half}; }} < in | gzip -9 > out")["task"])
    for target in ("node2", "node1", "node2"):
        apart.move(task, target)
    (apart.files("node2") / "gate").touch()
    assert apart.godwit("wait", "--timeout", "90", task).returncode == 0
    packed = apart.files("node2") / "out"
    assert gzip.decompress(packed.read_bytes()) == source.read_bytes()
    left = (apart.files("node1") / "out").stat().st_size
    assert left < packed.stat().st_size, "it moved on its way"


def test_a_file_elsewhere_has_to_be_the_same_there(apart: MovingHosts, tmp_path: Path) -> None:
    """Below /run each host has its own; below the test's folder both have the same."""
    both = tmp_path / "both"
    both.write_text("shared")
    program = f"exec 5<{both} 6</run/mine; " + PROGRAMS["handler"][2]
    for host in ("node1", "node2"):
        apart.hosts[host].run("sh", "-c", "echo same > /run/mine")
    apart.hosts["node2"].run("rm", "/run/mine")
    task = apart.counter("node1", "sh", "-c", program)
    refused = apart.godwit("move", task, "node2")
    assert refused.returncode == 1
    assert "/run/mine is not on node2" in refused.stderr
    apart.hosts["node2"].run("sh", "-c", "echo another > /run/mine")
    refused = apart.godwit("move", task, "node2")
    assert "/run/mine is another on node2" in refused.stderr
    apart.goes_on("node1", task)
    apart.hosts["node2"].run("sh", "-c", "echo same > /run/mine")
    apart.move(task, "node2")
    apart.goes_on("node2", task)
    assert apart.godwit("sKill", task).returncode == 0
