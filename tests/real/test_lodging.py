"""Snapshots on a second node: they get there, they last, and tasks go on from them."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import eventually
from tests.real.moving import Moving


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Moving]:
    with Moving(tmp_path, nodes=("node1", "node2", "node3")) as cluster:
        yield cluster


def lodged(cluster: Moving, node: str) -> set[str]:
    """Ids of the whole snapshots there."""
    return {path.stem for path in (cluster.top / node / "lodged").glob("*.gz")}


def left_in(cluster: Moving, node: str) -> list[str]:
    """What lies where only parcels under way do."""
    folder = cluster.top / node / "agent" / "parcels"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def kill_whole(cluster: Moving, node: str) -> None:
    """The machine is gone: its keeper, its agent and all of its tasks."""
    pids = [view["pid"] for view in cluster.json("list", "--json", "--all")["nodes"]
            for view in view["tasks"] if view["node"] == node and view["status"] == "running"]
    cluster.kill_node(node)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_each_snapshot_is_copied_to_one_other_node_and_as_many_are_kept_there(
    three: Moving,
) -> None:
    task = three.counting()
    first = three.checkpoint(task, "--keep", "2")
    peer = first["nodes"][1]
    assert first["nodes"][0] == "node1" and peer in ("node2", "node3")
    later = [three.checkpoint(task, "--keep", "2") for _ in range(3)]
    assert all(one["nodes"] == ["node1", peer] for one in later)
    kept = {one["id"] for one in later[-2:]}
    assert lodged(three, peer) == kept
    folder = three.top / peer / "lodged"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 4
    for one in kept:
        assert (folder / f"{one}.gz").read_bytes() == (
            three.top / "node1" / "kept" / f"{one}.gz"
        ).read_bytes()
    listed = three.json("snapshots", "--json", task)["snapshots"]
    assert [(one["id"], one["nodes"]) for one in listed] == [
        (one["id"], ["node1", peer]) for one in later[-2:]
    ]
    assert left_in(three, "node1") == left_in(three, peer) == []
    assert three.godwit("remove", task).returncode == 0
    eventually(lambda: not list(folder.iterdir()), "they go with their task")


def test_a_task_of_a_machine_that_died_goes_on_at_its_peer_from_where_it_was(
    three: Moving,
) -> None:
    task = three.counting()
    peer = three.checkpoint(task)["nodes"][1]
    other = next(name for name in ("node2", "node3") if name != peer)
    three.counts_on("node1", task)
    kill_whole(three, "node1")
    eventually(lambda: three.states()["node1"] != "up", "it is missed", within_s=40.0)
    eventually(lambda: three.shown(task)["status"] == "unknown", "nobody knows", within_s=40.0)
    refused = three.godwit("restart", task)
    assert refused.returncode == 1 and "--lost" in refused.stderr
    (again,) = three.json("restart", "--json", "--lost", task)["tasks"]
    assert again["node"] == peer and again["task"] != task
    numbers = three.counts_on(peer, again["task"])
    before = three.numbers("node1", task)
    assert 0 < numbers[0] <= before[-1]
    # And at a node that has no copy: that gets it from the peer, and keeps none.
    (third,) = three.json("restart", "--json", "--lost", task, other)["tasks"]
    assert third["node"] == other
    assert three.counts_on(other, third["task"])[0] == numbers[0]
    eventually(lambda: lodged(three, other) == set(), "what was fetched is dropped")


def test_forks_start_on_several_nodes_at_once(three: Moving) -> None:
    task = three.counting()
    three.checkpoint(task)
    answer = three.json("fork", "--json", task, "all", "--count", "2")
    forks = {(view["node"], view["task"]) for view in answer["tasks"]}
    assert sorted(node for node, _ in forks) == sorted(["node1", "node2", "node3"] * 2)
    firsts = {three.counts_on(node, fork)[0] for node, fork in forks}
    assert len(firsts) == 1
    three.counts_on("node1", task)
    three.kill_node("node3")
    eventually(lambda: three.states()["node3"] != "up", "it is missed", within_s=40.0)
    partly = three.godwit("fork", task, "node2", "node3")
    assert partly.returncode == 1 and "on node2: started" in partly.stdout
    assert "node3" in partly.stderr and len(partly.stderr.splitlines()) == 1
