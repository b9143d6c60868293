"""Python tasks that move between real nodes: one log, one copy, whatever dies meanwhile."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper.moves.table import Part
from tests.real.cluster import eventually
from tests.real.moving import Moving

PHASES = {"reserve", "freeze", "snapshot", "wire", "commit", "restore", "first_output"}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Moving]:
    with Moving(tmp_path) as cluster:
        yield cluster


def test_a_task_moves_there_and_back_with_its_log(pair: Moving) -> None:
    task = pair.counting()
    pid = pair.shown(task)["pid"]
    report = pair.move(task, "node2")
    assert (report["from"], report["to"], report["kind"]) == ("node1", "node2", "python")
    assert report["blackout_ms"] > 0 and report["bytes"] > 0
    assert set(report["phases_ms"]) == PHASES
    shown = pair.shown(task)
    assert (shown["node"], shown["status"], shown["home"]) == ("node2", "running", "node1")
    assert shown["pid"] != pid and not os.path.exists(f"/proc/{pid}")
    pair.goes_on("node2", task)
    assert not pair.log_of("node1", task).exists()
    pair.move(task, "home")
    pair.goes_on("node1", task)
    assert not pair.log_of("node2", task).exists()


def test_its_end_after_a_move_is_the_kernels(pair: Moving) -> None:
    may_end = pair.top / "may-end"
    task = pair.counting_till(may_end)
    pair.move(task, "node2")
    pair.goes_on("node2", task)
    may_end.touch()
    assert pair.godwit("wait", "--timeout", "60", task).returncode == 0
    numbers = pair.numbers("node2", task)
    assert numbers and numbers == list(range(len(numbers)))
    (used,) = pair.json("getrusage", "--json", task)["tasks"]
    assert used["utime_s"] + used["stime_s"] > 0


def test_a_follower_sees_every_number_once_across_moves(pair: Moving) -> None:
    task = pair.counting()
    follower = pair.begin("logs", "-f", task)
    for target in ("node2", "node1", "node2"):
        pair.move(task, target)
    pair.goes_on("node2", task)
    assert pair.godwit("kill", task).returncode == 0
    out, err = follower.communicate(timeout=60)
    assert [int(line) for line in out.split()] == pair.numbers("node2", task), err


def test_what_cannot_move_is_refused_in_one_line(pair: Moving) -> None:
    task = pair.counting()
    plain = str(pair.launch("--plain", "node1", "sleep", "60")["task"])
    for words, reason in (
        ((task, "node1"), "is on node1 already"),
        ((task, "node3"), "node3"),
        ((plain, "node2"), "cannot move"),
    ):
        refused = pair.godwit("move", *words)
        assert refused.returncode in (1, 2) and reason in refused.stderr, refused.stderr
        assert len(refused.stderr.strip().splitlines()) <= 2
    pair.godwit("sKill", task)
    eventually(lambda: pair.shown(task)["status"] == "exited", "it has ended")
    ended = pair.godwit("move", task, "node2")
    assert ended.returncode == 1 and "has ended" in ended.stderr


def test_a_node_that_is_down_is_no_destination(pair: Moving) -> None:
    task = pair.counting()
    pair.kill_node("node2")
    eventually(lambda: pair.states()["node2"] != "up", "node2 is missed")
    refused = pair.godwit("move", task, "node2")
    assert refused.returncode == 1 and "node2" in refused.stderr
    pair.goes_on("node1", task)
    pair.restart_node("node2")


def test_a_signal_acts_where_the_task_goes_on(pair: Moving) -> None:
    task = pair.counting()
    mover = pair.begin("move", task, "node2")
    assert pair.godwit("kill", task).returncode == 0
    mover.communicate(timeout=60)
    pair.godwit("wait", "--timeout", "30", task)
    shown = pair.shown(task)
    assert shown["signal"] == "SIGINT"
    counted = pair.numbers(shown["node"], task)
    assert counted == list(range(len(counted)))


STUCK = """
import socket, time
from godwit import Migratable

class Stuck(Migratable):
    def __init__(self):
        self.n = 0
        self.conn = socket.socket()

    def step(self):
        print(self.n)
        self.n += 1
        time.sleep(0.002)
        return True
"""


def test_what_cannot_travel_is_named_and_the_task_goes_on(pair: Moving, tmp_path: Path) -> None:
    program = tmp_path / "stuck.py"
    program.write_text(STUCK)
    task = pair.run("node1", f"{program}:Stuck")
    eventually(lambda: len(pair.numbers("node1", task)) > 3, "it counts")
    refused = pair.godwit("move", task, "node2")
    assert refused.returncode == 1 and "self.conn" in refused.stderr, refused.stderr
    pair.goes_on("node1", task)
    eventually(lambda: not pair.log_of("node2", task).exists(), "nothing is left at node2")


def test_fifty_tasks_move_at_once_and_none_is_lost(pair: Moving) -> None:
    shown = pair.json("run", "--json", "--count", "50", "node1", "CountProcess", "9999999", "0.01")
    tasks = [str(task["task"]) for task in shown["tasks"]]
    done = pair.json("move", "--json", *tasks, "node2")["moves"]
    assert [move["result"] for move in done] == ["done"] * 50
    for task in tasks:
        pair.goes_on("node2", task)


@pytest.mark.parametrize("side", ["node1", "node2"])
def test_an_agent_that_dies_does_a_move_no_harm(pair: Moving, side: str) -> None:
    task = pair.counting()
    for target in ("node2", "node1", "node2"):
        mover = pair.begin("move", task, target)
        os.kill(pair.agent(side), signal.SIGKILL)
        mover.communicate(timeout=60)
        pair.goes_on(pair.settle(task), task)
        pair.wait_answered(side)


def test_a_master_that_dies_does_a_move_no_harm(pair: Moving) -> None:
    task = pair.counting()
    for target in ("node2", "node1", "node2"):
        mover = pair.begin("move", task, target)
        pair.kill_master()
        mover.communicate(timeout=60)
        pair.restart_master()
        pair.wait_up("node1", "node2")
        pair.goes_on(pair.settle(task), task)


#: What is on the way of a move that is done, by the side whose keeper writes it.
WRITES = {
    "node1": (Part.FREEZING, Part.FROZEN, Part.FINISHING, Part.FINISHED),
    "node2": (Part.RESERVED, Part.PREPARED, Part.CONSUMED, Part.RUNNING),
}
WHEN = ("before", "after")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("side", WRITES)
def test_a_keeper_killed_at_any_write_of_a_move_leaves_one_copy(
    tmp_path: Path, side: str
) -> None:
    with Moving(tmp_path) as cluster:
        names = [f"move.{part.value}.{when}" for part in WRITES[side] for when in WHEN]
        for name in names:
            task = cluster.counting()
            cluster.goes_on(cluster.die_in_a_move(task, side, name), task)
            assert cluster.godwit("sKill", task).returncode == 0


#: Copies, but does not end before it may.
LASTING = """
import os
from godwit.programs.copying import CopyProcess

class Lasting(CopyProcess):
    def __init__(self, lines, may_end, *args):
        super().__init__(*args)
        self.lines, self.may_end = int(lines), may_end

    def step(self):
        if self.number == self.lines - 1 and not os.path.exists(self.may_end):
            self.sleep(0.05)
            return True
        return super().step()
"""


def test_the_files_that_a_task_has_open_travel_with_it(pair: Moving) -> None:
    here, there = (pair.files(node) for node in ("node1", "node2"))
    lines = [f"line {number}" for number in range(400_000)]
    (here / "in").write_text("\n".join(lines) + "\n")
    program, may_end = pair.top / "lasting.py", pair.top / "may-end"
    program.write_text(LASTING)
    task = pair.run(
        "node1", f"{program}:Lasting", str(len(lines)), str(may_end), "sig", "in", "./out"
    )
    eventually(lambda: (here / "out").exists(), "it copies")
    for target in ("node2", "node1", "node2"):
        pair.move(task, target)
    may_end.touch()
    assert pair.godwit("wait", "--timeout", "90", task, within_s=100).returncode == 0
    copied = [f"{number} sig {line}" for number, line in enumerate(lines, 1)]
    assert (there / "out").read_text().splitlines() == copied
    assert (there / "in").read_bytes() == (here / "in").read_bytes()
    assert len((here / "out").read_text().splitlines()) < len(copied), "it moved on its way"


def test_a_move_that_would_replace_anothers_file_is_refused(pair: Moving) -> None:
    (pair.files("node2") / "out").write_text("precious")
    task = pair.run("node1", "StatProcess", "1000", "out")
    refused = pair.godwit("move", task, "node2")
    assert refused.returncode == 1 and "out: another file" in refused.stderr, refused.stderr
    assert pair.settle(task) == "node1"
    assert (pair.files("node2") / "out").read_text() == "precious"
