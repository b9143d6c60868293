"""Snapshots on a second node: they get there, they last, and tasks go on from them."""

import contextlib
import json
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
    return {path.stem for path in (cluster.top / node / "lodged").glob("*.zst")}


def left_in(cluster: Moving, node: str) -> list[str]:
    """What lies where only parcels under way do."""
    folder = cluster.top / node / "agent" / "parcels"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def wait_no_parcels(cluster: Moving, *nodes: str) -> None:
    """The sender is answered before its keeper has dropped what it lent."""
    for node in nodes:
        eventually(lambda node=node: left_in(cluster, node) == [],  # type: ignore[misc]
                   f"no parcels at {node}")


def kill_whole(cluster: Moving, node: str) -> None:
    """The machine is gone: its keeper, its agent and all of its tasks."""
    pids = [view["pid"] for view in cluster.json("list", "--json", "--all")["nodes"]
            for view in view["tasks"] if view["node"] == node and view["status"] == "running"]
    cluster.kill_node(node)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
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
        assert (folder / f"{one}.zst").read_bytes() == (
            three.top / "node1" / "kept" / f"{one}.zst"
        ).read_bytes()
    listed = three.json("snapshots", "--json", task)["snapshots"]
    assert [(one["id"], one["nodes"]) for one in listed] == [
        (one["id"], ["node1", peer]) for one in later[-2:]
    ]
    wait_no_parcels(three, "node1", peer)
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
    eventually(lambda: "--lost" in three.godwit("restart", task).stderr, "it may be alive")
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
    eventually(lambda: three.godwit("on", "node3", "true").returncode != 0, "it is missed")
    partly = three.godwit("fork", task, "node2", "node3")
    assert partly.returncode == 1 and "on node2: started" in partly.stdout
    assert "node3" in partly.stderr and len(partly.stderr.splitlines()) == 1
    three.restart_node("node3")


def count_of(cluster: Moving, node: str) -> int:
    return len(list((cluster.top / node / "kept").glob("*.zst")))


def newest(cluster: Moving, task: str) -> tuple[str, list[str]]:
    """The last snapshot, and who has it; nothing while nobody can be asked."""
    shown = cluster.godwit("snapshots", "--json", task)
    found = json.loads(shown.stdout)["snapshots"] if shown.returncode == 0 else []
    return (found[-1]["id"], found[-1]["nodes"]) if found else ("", [])


def test_a_schedule_goes_on_over_moves_and_masters_and_ends_with_its_task(three: Moving) -> None:
    task = three.counting()
    answer = three.json("checkpoint", "--json", task, "--every", "1", "--keep", "2")
    assert (answer["every_s"], answer["keep"]) == (1.0, 2)
    first = answer["snapshots"][0]["id"]

    def has_another() -> bool:
        name, nodes = newest(three, task)
        return name not in ("", first) and len(nodes) == 2

    eventually(has_another, "another is taken by itself")
    assert three.shown(task)["snapshot_every_s"] == 1.0
    assert "each 1s" in three.godwit("inspect", task).stdout
    three.move(task, "node2")
    eventually(lambda: newest(three, task)[1][:1] == ["node2"], "it is taken where the task is")
    three.kill_master()
    three.restart_master()
    three.wait_up("node1", "node2", "node3")
    before = newest(three, task)[0]
    eventually(lambda: newest(three, task)[0] not in ("", before), "the next master goes on")
    # A next one is there before the oldest goes.
    eventually(lambda: count_of(three, "node2") <= 2, "no more are kept")
    assert three.godwit("checkpoint", task, "--stop").returncode == 0
    assert three.shown(task)["snapshot_every_s"] is None
    told = three.godwit("events", task).stdout
    assert "snapshot" not in told, told  # what goes well is told to nobody
    assert three.godwit("checkpoint", "-q", task, "--every", "1").returncode == 0
    assert three.godwit("sKill", task).returncode == 0
    assert three.shown(task)["status"] == "exited"
    assert three.godwit("checkpoint", task, "--stop").returncode == 1


def test_snapshots_stay_where_they_were_taken_when_their_task_has_moved(three: Moving) -> None:
    task = three.counting()
    first = three.checkpoint(task)
    three.kill_node(first["nodes"][1])
    target = next(name for name in ("node2", "node3") if name != first["nodes"][1])
    three.move(task, target)
    eventually(lambda: newest(three, task) == (first["id"], ["node1"]), "it is found there")
    (fork,) = three.json("fork", "--json", task, target)["tasks"]
    assert fork["node"] == target
    three.counts_on(target, fork["task"])
    # The next copy goes there, for it has some already.
    assert three.checkpoint(task)["nodes"] == [target, "node1"]


def test_a_task_that_was_given_up_is_ended_when_its_machine_comes_back(three: Moving) -> None:
    task = three.counting()
    three.checkpoint(task)
    pid = int(str(three.shown(task)["pid"]))
    three.kill_node("node1")  # nobody hears of its tasks, which run on
    eventually(lambda: "--lost" in three.godwit("restart", task).stderr, "nobody knows")
    (again,) = three.json("restart", "--json", "--lost", task)["tasks"]
    three.kill_master()
    three.restart_master()
    assert Path(f"/proc/{pid}").exists()
    three.restart_node("node1")
    eventually(lambda: three.shown(task)["status"] == "exited", "it is ended")
    assert three.shown(task)["signal"] == "SIGKILL"
    assert f"{again['task']} goes on in its place" in three.godwit("events", task).stdout
    three.counts_on(again["node"], again["task"])


def test_a_peer_that_dies_as_it_gets_a_copy_has_the_next_one(tmp_path: Path) -> None:
    with Moving(tmp_path, nodes=("node1",)) as cluster:
        cluster.start_failing("node2", "lodge.before:kill")
        task = cluster.counting()
        alone = cluster.godwit("checkpoint", task)
        assert alone.returncode == 0 and "kept on node1 only" in alone.stderr, alone
        eventually(lambda: cluster.nodes["node2"].ended, "it dies")
        cluster.restart_node("node2")
        assert cluster.checkpoint(task)["nodes"] == ["node1", "node2"]
        wait_no_parcels(cluster, "node1", "node2")
        cluster.counts_on("node1", task)


def test_a_sender_that_dies_leaves_its_peer_without_pieces(tmp_path: Path) -> None:
    with Moving(tmp_path, nodes=("node2",)) as cluster:
        cluster.start_failing("node1", "parcel.lent:kill")
        task = cluster.counting()
        eventually(lambda: not whole(cluster, task), "it dies")
        cluster.kill_node("node1")
        cluster.restart_node("node1")
        assert cluster.checkpoint(task)["nodes"] == ["node1", "node2"]
        wait_no_parcels(cluster, "node1", "node2")
        folder = cluster.top / "node2" / "lodged"
        assert {path.stem for path in folder.iterdir()} == lodged(cluster, "node2")


def whole(cluster: Moving, task: str) -> bool:
    """A checkpoint went well."""
    return cluster.godwit("checkpoint", "--json", task).returncode == 0
