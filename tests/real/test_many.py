"""A thousand tasks at once on one node: listed, ended, told of truly, and no trace left."""

import collections
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from tests.real.cluster import Cluster, descendants, eventually

MANY = 1000


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("one"), nodes=["node1"]) as cluster:
        yield cluster


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_thousand_tasks_run_at_once_and_end_when_told(one: Cluster) -> None:
    keeper = one.nodes["node1"].pid
    open_before = descriptors(keeper)
    done = one.json("execute", "--json", "--count", str(MANY), "node1", "sleep", "300")
    ids = [task["task"] for task in done["tasks"]]
    assert len(set(ids)) == MANY
    assert {task["status"] for task in done["tasks"]} == {"running"}

    listed = one.json("list", "--json")["nodes"][0]
    assert {task["task"] for task in listed["tasks"]} == set(ids)
    by_pid = one.json("pid", "node1", "--json")["tasks"]
    assert len({task["pid"] for task in by_pid}) == MANY
    pids = {task["pid"] for task in by_pid}
    # The kernel may leave out some of many children when another ends meanwhile.
    eventually(lambda: pids <= set(descendants(keeper)), "all are below the keeper")

    half = MANY // 2
    assert one.godwit("kill", "-q", *ids[:half]).stdout.split() == ids[:half]
    assert one.godwit("sKill", "-q", *ids[half:]).stdout.split() == ids[half:]
    assert one.godwit("wait", *ids).returncode == 128 + 2
    ended = one.tasks()
    told = collections.Counter(ended[task]["signal"] for task in ids)
    assert told == {"SIGINT": half, "SIGKILL": half}
    assert {ended[task]["status"] for task in ids} == {"exited"}
    eventually(lambda: descriptors(keeper) <= open_before, "descriptors closed")
    assert not set(descendants(keeper)) & pids


def test_a_thousand_short_tasks_leave_a_thousand_logs(one: Cluster) -> None:
    with one.client() as client:
        argv = (b"sh", b"-c", b"echo task $GODWIT_INDEX; exit $((GODWIT_INDEX % 7))")
        request = op.Execute(0, "node1", argv=argv, count=MANY)
        launched = client.ask(request, op.Tasks)
        ids = tuple(view.task.id for view in launched.tasks)
        ended = client.ask(op.AwaitTasks(0, ids, 60.0), op.Tasks)
    assert not launched.faults and len(ended.tasks) == MANY
    for view in ended.tasks:
        index = view.task.spec.index
        assert view.task.exit_code == index % 7
        assert Path(view.task.log).read_text() == f"task {index}\n"
    assert {view.task.spec.index for view in ended.tasks} == set(range(MANY))


def test_the_output_of_two_hundred_tasks_is_followed_at_once(one: Cluster) -> None:
    done = one.godwit(
        "execute", "-f", "--count", "200", "node1",
        "sh", "-c", "echo $GODWIT_INDEX; sleep 0.1; echo x",
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" | ")[1] for line in done.stdout.splitlines()]
    assert collections.Counter(lines) == {"x": 200, **{str(n): 1 for n in range(200)}}
