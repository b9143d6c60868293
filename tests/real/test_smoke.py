"""The main job, once through: start, list, watch, wait, end and account for tasks on two nodes."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.real.cluster import Cluster, eventually, hang_up


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master and two nodes for all tests of this file that break nothing."""
    with Cluster(tmp_path_factory.mktemp("two")) as cluster:
        yield cluster


def test_both_nodes_are_listed_up(two: Cluster) -> None:
    nodes = two.json("list", "--json")["nodes"]
    assert [(node["name"], node["state"]) for node in nodes] == [("node1", "up"), ("node2", "up")]
    table = two.godwit("list").stdout
    assert "node1" in table and "node2" in table


def test_a_task_has_an_id_a_pid_and_the_node_it_was_started_on(two: Cluster) -> None:
    task = two.launch("node2", "sleep", "300")
    assert len(task["task"]) == 8 and task["task"].isalnum()
    assert (task["node"], task["home"], task["status"]) == ("node2", "node2", "running")
    assert Path(f"/proc/{task['pid']}/cmdline").read_bytes() == b"sleep\x00300\x00"
    assert two.godwit("sKill", task["task"]).returncode == 0
    assert two.godwit("wait", task["task"]).returncode == 128 + 9
    assert two.shown(task["task"])["signal"] == "SIGKILL"


def test_wait_ends_with_the_exit_code_of_the_task(two: Cluster) -> None:
    task = two.launch("node1", "sh", "-c", "exit 37")
    assert two.godwit("wait", task["task"]).returncode == 37
    assert two.shown(task["task"])["exit_code"] == 37


def test_logs_are_what_the_task_wrote_on_both_streams(two: Cluster) -> None:
    task = two.launch("node1", "sh", "-c", "echo one; echo two >&2; printf three")
    two.godwit("wait", task["task"])
    assert two.godwit("logs", task["task"]).stdout == "one\ntwo\nthree"


def test_a_follower_ends_with_the_task_and_has_all_of_it(two: Cluster) -> None:
    task = two.launch("node1", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    assert two.godwit("logs", "-f", task["task"]).stdout == "1\n2\n3\n"


def test_words_are_passed_as_they_are_and_no_shell_reads_them(two: Cluster) -> None:
    task = two.launch("node1", "printf", "%s\n", "a b", "*", "$HOME", ";", "")
    two.godwit("wait", task["task"])
    assert two.godwit("logs", task["task"]).stdout == "a b\n*\n$HOME\n;\n\n"


def test_a_program_that_is_not_there_is_named_and_leaves_no_task(two: Cluster) -> None:
    before = two.json("list", "--json")["nodes"]
    done = two.godwit("execute", "node1", "no-such-program")
    assert done.returncode == 1
    assert "no-such-program" in done.stderr and "Traceback" not in done.stderr
    tasks = [[task["task"] for task in node["tasks"]] for node in before]
    after = two.json("list", "--json")["nodes"]
    assert [[task["task"] for task in node["tasks"]] for node in after] == tasks


def test_a_paused_task_is_stopped_until_it_is_resumed(two: Cluster) -> None:
    task = two.launch("node1", "sleep", "300")["task"]
    assert two.godwit("pause", task).returncode == 0
    assert two.shown(task)["status"] == "paused"
    assert two.godwit("resume", task).returncode == 0
    assert two.shown(task)["status"] == "running"
    assert two.godwit("kill", task).returncode == 0
    assert two.godwit("wait", task).returncode == 128 + 2


def test_use_of_a_task_is_counted(two: Cluster) -> None:
    task = two.launch("node1", "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    two.godwit("wait", task["task"])
    (used,) = two.json("getrusage", "--json", task["task"])["tasks"]
    assert used["task"] == task["task"]
    assert used["utime_s"] + used["stime_s"] > 0.01
    assert used["maxrss_bytes"] > 100_000


def test_a_file_that_went_up_and_came_down_is_the_same(two: Cluster, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.write_bytes(os.urandom(3_000_000))
    assert two.godwit("copy", str(here), "node1:there").returncode == 0
    assert two.godwit("copy", "node1:there", "node2:over-there").returncode == 0
    assert two.godwit("copy", "node2:over-there", str(tmp_path / "back")).returncode == 0
    back = (tmp_path / "back").read_bytes()
    assert hashlib.sha256(back).digest() == hashlib.sha256(here.read_bytes()).digest()
    assert two.godwit("remove", "node1:there").returncode == 0
    assert two.godwit("copy", "node1:there", str(tmp_path / "again")).returncode == 1


def test_a_line_that_is_no_command_runs_on_every_node(two: Cluster) -> None:
    done = two.godwit("shell", input="echo $((6 * 7))\nexit\n")
    lines = [line for line in done.stdout.splitlines() if "42" in line]
    assert len(lines) == 2
    assert any("node1" in line for line in lines) and any("node2" in line for line in lines)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_person_at_a_terminal_is_answered(two: Cluster, term: str) -> None:
    shell = two.shell(term)
    try:
        shell.expect(r"godwit @ \d+ > ")
        shell.sendline("list")
        shell.expect("node1")
        shell.expect(r"godwit @ \d+ > ")
        shell.sendline("lst")
        shell.expect("list")
        shell.sendline("")
        shell.expect(r"godwit @ \d+ > ")
        # Refused, it is a failure; the shell ends with the status of its last command.
        shell.sendline("exit")
        shell.expect(pexpect.EOF)
    finally:
        hang_up(shell)
    assert shell.exitstatus == 2
    assert two.states() == {"node1": "up", "node2": "up"}


def test_a_killed_master_loses_no_task_and_no_output(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        gate = tmp_path / "gate"
        script = f"echo before; until [ -e {gate} ]; do sleep 0.05; done; echo after; exit 5"
        task = one.launch("node1", "sh", "-c", script)
        one.kill_master()
        gate.touch()
        one.restart_master()
        one.wait_up("node1")
        assert one.godwit("wait", task["task"]).returncode == 5
        assert one.godwit("logs", task["task"]).stdout == "before\nafter\n"


def test_a_killed_node_finds_its_task_again(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        task = one.launch("node1", "sleep", "300")
        one.kill_node("node1")
        assert Path(f"/proc/{task['pid']}").exists()
        one.restart_node("node1")
        eventually(lambda: one.shown(task["task"])["status"] == "running", "found again")
        assert one.shown(task["task"])["pid"] == task["pid"]
        assert one.godwit("sKill", task["task"]).returncode == 0
        eventually(lambda: not Path(f"/proc/{task['pid']}").exists(), "end of the task")
