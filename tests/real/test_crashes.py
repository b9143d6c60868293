"""Daemons that are killed, stopped and started again while tasks run: nothing is lost or doubled.

Every test has a cluster of its own, for it breaks it.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.cluster import PYTHON, Cluster, Daemon, eventually

#: Writes numbered lines until the file $1 is there, then one more, and ends with status 5.
WRITER = """
i=0
until [ -e "$1" ]; do echo line $i; i=$((i+1)); sleep 0.01; done
echo end $i
exit 5
"""
#: Longer than a node's silence takes to be called unreachable.
UNREACHABLE_S = 40.0


class Follow:
    """``godwit logs -f TASK`` in the background, its output in a file."""

    def __init__(self, cluster: Cluster, task: dict[str, Any]):
        self.path = cluster.top / f"followed-{task['task']}"
        self._log = Path(task["log"])
        with self.path.open("wb") as output:
            self.process = subprocess.Popen(
                [*PYTHON, "masterd.cli", "--state", cluster.state, "logs", "-f",
                 str(task["task"])],
                stdout=output, stderr=output, env=cluster.environment(),
            )

    def lines(self) -> int:
        return self.path.read_bytes().count(b"\n")

    def sees_more(self) -> None:
        """Waits until what the task writes now has come."""
        before = self._log.read_bytes().count(b"\n")
        eventually(lambda: self.lines() >= before + 20, "20 more lines")


@pytest.fixture
def follow() -> Iterator[Callable[[Cluster, dict[str, Any]], Follow]]:
    """Starts follows, and ends what the test left running."""
    begun: list[Follow] = []

    def begin(cluster: Cluster, task: dict[str, Any]) -> Follow:
        begun.append(Follow(cluster, task))
        return begun[-1]

    yield begin
    for each in begun:
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()
        each.process.wait()


def written(log: str) -> str:
    """A whole log of WRITER's, checked to have every line once and in order."""
    text = Path(log).read_text()
    *lines, end = text.splitlines()
    assert end == f"end {len(lines)}"
    assert lines == [f"line {number}" for number in range(len(lines))]
    return text


def test_a_follow_outlives_the_agent_and_the_keeper(
    tmp_path: Path, follow: Callable[[Cluster, dict[str, Any]], Follow]
) -> None:
    gate = tmp_path / "gate"
    with Cluster(tmp_path, nodes=["node1"]) as one:
        task = one.launch("node1", "sh", "-c", WRITER, "writer", str(gate))
        reader = follow(one, task)
        reader.sees_more()

        agent = one.agent("node1")
        os.kill(agent, signal.SIGKILL)
        reader.sees_more()
        assert one.agent("node1") != agent

        one.kill_node("node1")
        assert Path(f"/proc/{task['pid']}").exists()
        one.restart_node("node1")
        reader.sees_more()
        assert one.shown(task["task"])["pid"] == task["pid"]

        gate.touch()
        reader.process.wait(60)
        assert reader.path.read_text() == written(task["log"])
        shown = one.shown(task["task"])
        # Its status is told truly, or, where the kernel no longer knows it, as unknown.
        assert (shown["status"], shown["exit_code"]) in (("exited", 5), ("unknown", None)), shown
        status = one.godwit("wait", task["task"]).returncode
        assert status == (5 if shown["status"] == "exited" else 125)


def test_an_agent_that_is_killed_loses_no_task_and_no_status(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Cluster(tmp_path, nodes=["node1"]) as one:
        task = one.launch("node1", "sh", "-c", WRITER, "writer", str(gate))
        agent = one.agent("node1")
        os.kill(agent, signal.SIGSTOP)  # so that it cannot tell of the end
        gate.touch()
        eventually(lambda: not Path(f"/proc/{task['pid']}").exists(), "end of the task")
        os.kill(agent, signal.SIGKILL)
        assert one.godwit("wait", task["task"]).returncode == 5
        written(task["log"])
        # The node was there all the time: same keeper, and tasks go on as before.
        assert one.godwit("execute", "--wait", "node1", "true").returncode == 0


def test_what_ended_while_the_keeper_was_dead_is_unknown_and_never_guessed(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Cluster(tmp_path, nodes=["node1"]) as one:
        task = one.launch("node1", "sh", "-c", WRITER, "writer", str(gate))
        one.kill_node("node1")
        gate.touch()
        eventually(lambda: not Path(f"/proc/{task['pid']}").exists(), "end of the task")
        one.restart_node("node1")
        assert one.godwit("wait", task["task"]).returncode == 125
        shown = one.shown(task["task"])
        assert (shown["status"], shown["exit_code"], shown["signal"]) == ("unknown", None, None)
        assert "while clientd was not running" in shown["reason"]
        # Its output is whole all the same.
        assert one.godwit("logs", task["task"]).stdout == written(task["log"])


def test_a_keeper_that_is_killed_in_the_middle_of_launches_starts_each_once(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        marks = tmp_path / "marks"
        marks.mkdir()
        command = [
            *PYTHON, "masterd.cli", "--state", one.state, "execute", "--count", "300", "node1",
            "sh", "-c", f"echo >> {marks}/$GODWIT_INDEX; exec sleep 300",
        ]
        with (tmp_path / "launched").open("wb") as told:
            launch = subprocess.Popen(command, stdout=told, stderr=told, env=one.environment())
        eventually(lambda: len(os.listdir(marks)) >= 20, "the first tasks")
        one.kill_node("node1")
        one.restart_node("node1")
        launch.wait(100)
        eventually(lambda: all(t["status"] != "starting" for t in one.tasks().values()), "settled")
        tasks = one.tasks()
        running = [task for task in tasks.values() if task["status"] == "running"]

        def marked() -> bool:
            """By all that run; a shell makes the file before it writes to it."""
            texts = [path.read_text() for path in marks.iterdir()]
            return len(texts) >= len(running) and all(texts)

        eventually(marked, "marks of all that run")
        # No index was started twice, and what is said to run does run.
        assert {path.read_text() for path in marks.iterdir()} == {"\n"}
        for task in running:
            assert Path(f"/proc/{task['pid']}").exists()
        assert one.godwit("sKill", "-q", *(task["task"] for task in running)).returncode == 0


def test_a_master_that_is_killed_forgets_nothing_it_acknowledged(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Cluster(tmp_path) as two:
        writers = [
            two.launch(node, "sh", "-c", WRITER, "writer", str(gate))
            for node in ("node1", "node2", "node1")
        ]
        ended = two.launch("node2", "sh", "-c", "echo out; exit 9")
        assert two.godwit("wait", ended["task"]).returncode == 9
        last = two.launch("node1", "sleep", "300")
        two.kill_master()
        # Nobody is there to be asked, and that is said in one line.
        asked = two.godwit("list")
        assert asked.returncode == 1 and asked.stderr.count("\n") == 1, asked.stderr
        killed = writers.pop()
        os.kill(killed["pid"], signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{killed['pid']}").exists(), "its end")
        two.restart_master()
        two.wait_up("node1", "node2")
        # The map is built anew from what the nodes report.
        eventually(lambda: two.shown(killed["task"])["status"] == "exited", "its end is told")
        tasks = two.tasks()
        assert set(tasks) == {t["task"] for t in [*writers, killed, ended, last]}
        assert {tasks[t["task"]]["pid"] for t in writers} == {t["pid"] for t in writers}
        assert tasks[last["task"]]["status"] == "running"
        assert tasks[killed["task"]]["signal"] == "SIGKILL"
        assert tasks[ended["task"]]["exit_code"] == 9
        gate.touch()
        for writer in writers:
            assert two.godwit("wait", writer["task"]).returncode == 5
            assert two.godwit("logs", writer["task"]).stdout == written(writer["log"])
        assert two.godwit("logs", ended["task"]).stdout == "out\n"


def test_a_node_that_falls_silent_is_suspect_then_unreachable_then_back(tmp_path: Path) -> None:
    with Cluster(tmp_path) as two:
        task = two.launch("node1", "sleep", "300")["task"]
        other = two.launch("node2", "sleep", "300")["task"]
        agent = two.agent("node1")
        os.kill(agent, signal.SIGSTOP)
        try:
            eventually(lambda: two.states()["node1"] == "suspect", "suspect", UNREACHABLE_S)
            assert two.shown(task)["status"] == "running"
            assert two.godwit("health").returncode == 1
            eventually(lambda: two.states()["node1"] == "unreachable", "lost", UNREACHABLE_S)
            shown = two.shown(task)
            assert shown["status"] == "unknown" and "unreachable" in shown["reason"]
            assert two.shown(other)["status"] == "running"
            refused = two.godwit("execute", "node1", "true")
            assert refused.returncode == 1 and "node1 is unreachable" in refused.stderr
        finally:
            os.kill(agent, signal.SIGCONT)
        eventually(lambda: two.states()["node1"] == "up", "back")
        eventually(lambda: two.shown(task)["status"] == "running", "the task is known again")
        events = [each["text"] for each in two.json("events", "--json", "node1")["events"]]
        for said in ("node1 is suspect", "node1 is unreachable", "node1 is back"):
            assert len([text for text in events if text.startswith(said)]) == 1, events
        assert two.godwit("sKill", task, other).returncode == 0


def test_a_node_that_is_told_to_end_leaves_its_tasks_and_says_so(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        task = one.launch("node1", "sleep", "300")
        one.nodes["node1"].end(signal.SIGTERM)
        assert Path(f"/proc/{task['pid']}").exists()
        eventually(lambda: one.states()["node1"] == "unreachable", "said at once", 5)
        assert "stopped (SIGTERM)" in one.shown(task["task"])["reason"]
        one.restart_node("node1")
        eventually(lambda: one.shown(task["task"])["status"] == "running", "found again")
        assert one.godwit("dereg", "node1").returncode == 0
        assert not Path(f"/proc/{task['pid']}").exists()


def test_a_deregistered_node_has_left_with_its_tasks(tmp_path: Path) -> None:
    with Cluster(tmp_path) as two:
        task = two.launch("node2", "sleep", "300")
        done = two.godwit("dereg", "node2")
        assert done.returncode == 0
        assert "node2: deregistered, 1 task ended" in done.stderr
        assert not Path(f"/proc/{task['pid']}").exists()
        eventually(lambda: two.nodes["node2"].ended, "end of the daemon")
        assert two.states() == {"node1": "up"}
        (left,) = two.json("list", "node2", "--json")["nodes"]
        assert left["state"] == "left"
        # The name is free for another start on the same state.
        two.restart_node("node2")
        assert two.godwit("execute", "--wait", "node2", "true").returncode == 0


@pytest.mark.parametrize("policy, lives", [("keep", True), ("kill=3", False)])
def test_the_tasks_of_an_orphan_do_as_the_policy_says(
    tmp_path: Path, policy: str, lives: bool
) -> None:
    with Cluster(tmp_path, nodes=["node1"], options=["--orphans", policy]) as one:
        task = one.launch("node1", "sleep", "300")
        one.kill_master()
        if lives:
            eventually(lambda: "the master is away" in one.nodes["node1"].text(), "noticed")
            assert Path(f"/proc/{task['pid']}").exists()
        else:
            eventually(lambda: one.nodes["node1"].ended, "end of the node")
            assert not Path(f"/proc/{task['pid']}").exists()
            assert "no master for 3 s" in one.nodes["node1"].text()
        one.restart_master()
        if lives:
            one.wait_up("node1")
            assert one.godwit("sKill", task["task"]).returncode == 0


def test_a_node_that_waits_belongs_to_the_first_master_that_registers_it(tmp_path: Path) -> None:
    second_top = tmp_path / "second"
    second_top.mkdir()
    with Cluster(tmp_path, nodes=[]) as one, Cluster(second_top, nodes=[]) as second:
        host, port = one.start_waiting_node("web7")
        code = ("--code-file", one.code_file("web7"))
        without = one.godwit("register", host, port, "web7")
        assert without.returncode == 1 and "its code is needed" in without.stderr
        wrong = one.godwit("register", *code, host, port, "other")
        assert wrong.returncode == 1 and "web7" in wrong.stderr
        done = one.godwit("register", *code, host, port, "web7")
        assert (done.returncode, done.stderr) == (0, "web7 is registered\n")
        task = one.launch("web7", "sleep", "300")

        refused = second.godwit("register", *code, host, port, "web7")
        assert refused.returncode == 1 and "belongs to another master" in refused.stderr
        assert second.states() == {}
        warning = "belongs to another master already"
        eventually(lambda: warning in one.nodes["web7"].text(), "a warning")
        again = one.godwit("register", host, port, "web7")
        assert again.returncode == 1 and "web7 is a node already" in again.stderr

        # A master that was killed calls its node again.
        one.kill_master()
        one.restart_master()
        eventually(lambda: one.states().get("web7") == "up", "called again")
        eventually(lambda: one.shown(task["task"])["status"] == "running", "its task")
        # So it does when the agent was killed: another one listens on the same port.
        os.kill(one.agent("web7"), signal.SIGKILL)
        eventually(lambda: one.godwit("pause", task["task"]).returncode == 0, "called again")
        assert one.godwit("dereg", "web7").returncode == 0
        eventually(lambda: one.nodes["web7"].ended, "end of the daemon")


def test_registering_where_nobody_listens_is_refused(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=[]) as one:
        code = tmp_path / "code"
        code.write_text(f"gwo1.{'0' * 64}.{'0' * 32}")
        done = one.godwit("register", "--code-file", str(code), "127.0.0.1", "1", "web7")
        assert done.returncode == 1 and "127.0.0.1:1" in done.stderr
        assert one.states() == {}


def test_a_second_copy_on_the_same_state_is_refused_by_name(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        assert one.master
        for first, named in ((one.master, "masterd"), (one.nodes["node1"], "clientd")):
            second = subprocess.run(
                first.argv, env=one.environment(), capture_output=True, text=True, timeout=60
            )
            assert second.returncode == 1
            assert named in second.stderr and str(first.pid) in second.stderr
            assert second.stderr.count("\n") == 1
        assert one.states() == {"node1": "up"}


def test_a_second_node_of_the_same_name_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        task = one.launch("node1", "sleep", "300")["task"]
        argv = [str(tmp_path / "twin") if word == str(tmp_path / "node1") else word
                for word in one.nodes["node1"].argv]
        twin = Daemon(argv, tmp_path / "twin.err", one.environment())
        try:
            eventually(lambda: "another node is called node1" in twin.text(), "the refusal")
        finally:
            twin.end()
            twin.close(expect_empty=True)
        assert one.states() == {"node1": "up"}
        assert one.shown(task)["status"] == "running"
        assert one.godwit("sKill", task).returncode == 0


def test_daemons_end_in_order_when_told(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        assert one.master
        one.master.end(signal.SIGTERM)
        assert one.master.init.wait(30) == 0
        one.master.close(expect_empty=True)
        assert not list((tmp_path / "master").glob("*.sock"))
        one.restart_master()
        one.wait_up("node1")
