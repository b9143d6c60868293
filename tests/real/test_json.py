"""The JSON that scripts read: the shapes of the issue, field by field, and errors as JSON."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.cluster import Cluster, eventually

TASK = {
    "task", "node", "home", "kind", "command", "pid", "status", "exit_code", "signal", "reason",
    "epoch", "log",
}
STATUSES = {"starting", "running", "paused", "frozen", "held", "exited", "failed", "unknown"}
USAGE = {"utime_s", "stime_s", "maxrss_bytes", "minflt", "majflt", "nvcsw", "nivcsw"}
LOAD = {"cpus", "cpu_percent", "memory_bytes", "memory_free_bytes", "tasks", "users",
        "keyboard_idle_s"}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("two")) as cluster:
        yield cluster


def check_task(task: dict[str, Any]) -> None:
    """A TASK of the documented shape, types included."""
    assert task.keys() >= TASK
    assert len(task["task"]) == 8 and task["task"].isalnum() and task["task"].isascii()
    for field in ("node", "home", "kind", "command", "status"):
        assert isinstance(task[field], str) and task[field]
    for field in ("pid", "exit_code"):
        assert task[field] is None or type(task[field]) is int
    for field in ("signal", "reason", "log"):
        assert task[field] is None or isinstance(task[field], str)
    assert task["status"] in STATUSES and task["kind"] == "shell" and task["epoch"] == 1


def test_execute_tells_of_its_tasks(two: Cluster) -> None:
    told = two.json("execute", "--json", "--count", "2", "all", "sleep", "300")
    assert told.keys() == {"tasks"}
    assert [task["node"] for task in told["tasks"]] == ["node1", "node1", "node2", "node2"]
    for task in told["tasks"]:
        check_task(task)
        assert (task["status"], task["command"]) == ("running", "sleep 300")
        assert os.path.isabs(task["log"]) and task["log"].endswith(f"{task['task']}.log")
        assert f"/{task['node']}/" in task["log"]
    killed = two.json("sKill", "--json", *(task["task"] for task in told["tasks"]))
    assert [t["task"] for t in killed["tasks"]] == [t["task"] for t in told["tasks"]]


def test_list_has_nodes_and_all_their_tasks(two: Cluster) -> None:
    task = two.launch("node2", "sh", "-c", "exit 3")["task"]
    assert two.godwit("wait", task).returncode == 3

    told: dict[str, Any] = {}

    def measured() -> bool:
        told.update(two.json("list", "--json"))
        # A node that was late for once is up again with its next beat.
        return all(node["load"]["cpus"] and node["state"] == "up" for node in told["nodes"])

    eventually(measured, "a beat of each node")
    assert len(told["nodes"]) == 2
    assert told.keys() == {"nodes"}
    for node in told["nodes"]:
        assert node.keys() >= {"name", "address", "state", "load", "can", "tasks"}
        assert "shell" in node["can"]
        host, _, port = node["address"].rpartition(":")
        assert host == "127.0.0.1" and port.isdigit()
        assert node["load"].keys() >= LOAD
        assert 0 < node["load"]["memory_free_bytes"] <= node["load"]["memory_bytes"]
        for each in node["tasks"]:
            check_task(each)
    ended = next(t for n in told["nodes"] for t in n["tasks"] if t["task"] == task)
    assert (ended["status"], ended["exit_code"], ended["signal"]) == ("exited", 3, None)


def test_pid_has_every_task_with_its_pid(two: Cluster) -> None:
    task = two.launch("node1", "sleep", "300")
    told = two.json("pid", "node1", "--json")
    assert told.keys() == {"tasks"}
    for each in told["tasks"]:
        check_task(each)
        assert each["node"] == "node1"
    assert task["pid"] in [each["pid"] for each in told["tasks"]]
    paused = two.json("pause", "--json", task["task"])["tasks"][0]
    check_task(paused)
    assert paused["status"] == "paused"
    assert two.godwit("sKill", task["task"]).returncode == 0


def test_getrusage_has_nodes_and_tasks(two: Cluster) -> None:
    running = two.launch("node1", "sleep", "300")["task"]
    told = two.json("getrusage", "--json")
    assert told.keys() == {"nodes", "tasks"}
    for node in told["nodes"]:
        assert node.keys() == {"name", "children"} and node["children"].keys() >= USAGE
    by_task = {each["task"]: each for each in told["tasks"]}
    for usage in by_task.values():
        assert usage.keys() >= {"task", *USAGE}
        assert isinstance(usage["utime_s"], float) and isinstance(usage["maxrss_bytes"], int)
    assert running in by_task
    (one,) = two.json("getrusage", "--json", running)["tasks"]
    assert one["task"] == running
    assert two.godwit("sKill", running).returncode == 0


@pytest.mark.parametrize("words, code, status", [
    (["list", "--json", "nowhere"], "no-such-node", 1),
    (["pid", "--json", "nowhere"], "no-such-node", 1),
    (["list", "--json", "--frob"], "usage", 2),
    (["execute", "--json", "nowhere", "true"], "no-such-node", 1),
    (["execute", "--json", "node1"], "usage", 2),
    (["execute", "--json", "node1", "no-such-program"], "ENOENT", 1),
    (["execute", "--json", "--count", "0", "node1", "true"], "usage", 2),
    (["kill", "--json", "0"], "no-such-task", 1),
    (["kill", "--json"], "usage", 2),
    (["getrusage", "--json", "nothing"], "no-such-task", 1),
    (["copy", "--json", "/no/such", "node1:x"], "not-found", 1),
    (["wait", "--json", "nothing"], "no-such-task", 1),
    (["inspect", "--json", "nothing"], "no-such-task", 1),
    (["remove", "--json", "nothing"], "no-such-task", 1),
    (["move", "--json", "nothing", "node2"], "no-such-task", 1),
    (["transfer", "--json", "nothing", "node1"], "usage", 2),
    (["moves", "--json", "nothing"], "no-such-task", 1),
    (["resolve", "--json", "nothing", "--source"], "no-such-move", 1),
    (["register", "--json", "a", "b", "c"], "usage", 2),
    (["dereg", "--json", "nowhere"], "no-such-node", 1),
    (["lst", "--json"], "no-command", 2),
])
def test_errors_are_json_on_stdout_and_one_line_on_stderr(
    two: Cluster, words: list[str], code: str, status: int
) -> None:
    done = two.godwit(*words)
    assert done.returncode == status, done
    assert done.stderr.count("\n") == 1
    error = json.loads(done.stdout)["error"]
    assert error.keys() == {"code", "message", "hint"}
    assert error["code"] == code and error["message"] in done.stderr


def test_without_a_master_the_error_is_json_too(two: Cluster) -> None:
    done = two.godwit("--state", str(two.top / "nowhere"), "list", "--json")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["error"]["code"]


def test_of_many_some_fail_and_all_is_told(two: Cluster) -> None:
    task = two.launch("node1", "sleep", "300")["task"]
    done = two.godwit("sKill", "--json", task, "nothing", "0")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert [each["task"] for each in told["tasks"]] == [task]
    assert [fault["about"] for fault in told["faults"]] == ["nothing", "0"]
    assert told["error"]["code"] == "no-such-task"


def test_output_is_one_object_a_line(two: Cluster) -> None:
    done = two.godwit("on", "--json", "all", "printf 'a\\nb'")
    *lines, last = map(json.loads, done.stdout.splitlines())
    assert sorted((each["node"], each["line"]) for each in lines) == [
        ("node1", "a"), ("node1", "b"), ("node2", "a"), ("node2", "b"),
    ]
    assert [task["exit_code"] for task in last["tasks"]] == [0, 0]
    logged = two.godwit("logs", "--json", last["tasks"][0]["task"]).stdout.splitlines()
    assert [json.loads(line)["line"] for line in logged] == ["a", "b"]


def test_every_other_command_answers_in_json(two: Cluster) -> None:
    task = two.launch("node1", "sh", "-c", "exit 2")["task"]
    waited = two.godwit("wait", "--json", task)
    assert waited.returncode == 2 and json.loads(waited.stdout)["tasks"][0]["exit_code"] == 2
    (inspected,) = two.json("inspect", "--json", task)["tasks"]
    check_task(inspected)
    assert any(task in event["text"] for event in inspected["events"])
    assert inspected["moves"] == [] and two.json("moves", "--json", task) == {"moves": []}
    eventually(
        lambda: json.loads(two.godwit("health", "--json").stdout)["healthy"] is True, "health"
    )
    assert two.json("version", "--json")["godwit"] == two.json("version", "--json")["master"]
    assert {"list", "execute"} <= {c["name"] for c in two.json("help", "--json")["commands"]}
    assert two.json("events", "--json", "-n", "3")["events"]
    removed = two.json("remove", "--json", task)
    assert [each["task"] for each in removed["tasks"]] == [task] and removed["files"] == []
    assert task not in two.tasks()


def test_lines_of_other_forms_are_for_pipes(two: Cluster) -> None:
    task = two.launch("node1", "sh", "-c", "exit 0")["task"]
    two.godwit("wait", task)
    assert task in two.godwit("list", "-q").stdout.split()
    assert f"task/{task}" in two.godwit("list", "-o", "name").stdout.split()
    assert "node/node1" in two.godwit("list", "-o", "name").stdout.split()
    names = [json.loads(x)["name"] for x in two.godwit("list", "-o", "jsonl").stdout.splitlines()]
    assert names == ["node1", "node2"]
    assert two.godwit("list", "--no-headers").stdout.startswith("node1 ")
