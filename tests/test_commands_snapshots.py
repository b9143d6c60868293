"""checkpoint, snapshots, restart and fork: what is asked of the master, and what is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from tests.scripted import Desk, Scripted, view

ONE = op.SnapshotView(
    "k2m9x1qa", "k3f9a2xq", ("node1", "node2"), "python", 0.0, 2048, 1024, 41.2, (b"out",)
)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


def test_a_checkpoint_keeps_three_unless_told(master: Scripted, desk: Desk) -> None:
    master.says(op.CheckpointTask, op.Snapshots(0, (ONE,)))
    assert desk.run("checkpoint", "-q", "k3f") == 0
    assert desk.said == ["k2m9x1qa"]
    assert desk.run("checkpoint", "k3f", "--keep", "7") == 0
    asked = master.got(op.CheckpointTask)
    assert [(each.task, each.keep) for each in asked] == [("k3f", 3), ("k3f", 7)]


def test_a_row_for_each_snapshot(master: Scripted, desk: Desk) -> None:
    master.says(op.ListSnapshots, op.Snapshots(0, (ONE,)))
    assert desk.run("snapshots", "k3f") == 0
    heads, row = desk.said
    assert heads.split() == ["SNAPSHOT", "TASK", "TAKEN", "KIND", "SIZE", "KEPT", "STILL", "NODES"]
    words = row.split()
    assert (words[0], words[1], words[4:]) == (
        "k2m9x1qa", "k3f9a2xq", ["python", "2.0K", "1.0K", "41", "ms", "node1,", "node2"]
    )


def test_no_snapshots_are_an_empty_answer(master: Scripted, desk: Desk) -> None:
    master.says(op.ListSnapshots, op.Snapshots(0, ()))
    assert (desk.run("snapshots"), desk.said, desk.noted) == (0, [], ["no snapshots"])


def test_snapshots_as_json(master: Scripted, desk: Desk) -> None:
    master.says(op.ListSnapshots, op.Snapshots(0, (ONE,)))
    assert desk.run("snapshots", "--json", "k3f") == 0
    assert json.loads(desk.said[0]) == {"snapshots": [{
        "id": "k2m9x1qa", "task": "k3f9a2xq", "at": 0.0, "kind": "python", "bytes": 2048,
        "kept_bytes": 1024, "blackout_ms": 41.2, "writes": ["out"], "nodes": ["node1", "node2"],
    }], "every_s": None, "keep": None, "remarks": []}


def test_what_is_amiss_and_the_schedule_are_noted_beside_the_table(
    master: Scripted, desk: Desk
) -> None:
    remark = "kept on node1 only: no other node is up"
    master.says(op.CheckpointTask, op.Snapshots(0, (ONE,), (remark,), 60.0, 5))
    assert desk.run("checkpoint", "k3f", "--every", "1m", "--keep", "5") == 0
    assert desk.noted == [remark, "one each 1m, the last 5 are kept"]
    assert desk.run("checkpoint", "-q", "k3f", "--every", "90") == 0
    asked = master.got(op.CheckpointTask)
    assert [(each.every_s, each.keep) for each in asked] == [(60.0, 5), (90.0, 3)]


def test_a_schedule_is_stopped(master: Scripted, desk: Desk) -> None:
    master.says(op.CheckpointTask, op.Ok(0, "no more"))
    assert desk.run("checkpoint", "k3f", "--stop") == 0
    assert desk.noted == ["no more"]
    assert [(each.stop, each.every_s) for each in master.got(op.CheckpointTask)] == [(True, 0.0)]


def test_without_a_task_those_of_all_are_listed(master: Scripted, desk: Desk) -> None:
    master.says(op.ListSnapshots, op.Snapshots(0, (ONE,)))
    assert desk.run("snapshots") == 0
    assert master.got(op.ListSnapshots)[0].task == ""


def test_restart_and_fork_pass_on_where_to(master: Scripted, desk: Desk) -> None:
    master.says(op.RestartTask, op.Tasks(
        0, (view("n3w00001"),), (op.Fault("node3", "unreachable", "node3 is unreachable"),)
    ))
    assert desk.run("restart", "k3f", "node2", "--lost") == 1
    assert desk.run("fork", "k3f", "node2", "@web[1-2]") == 1
    first, second = master.got(op.RestartTask)
    assert (first.nodes, first.lost, second.nodes, second.lost) == (
        ("node2",), True, ("node2", "@web[1-2]"), False
    )
    assert desk.noted == ["node3 is unreachable"] * 2


def test_restart_and_fork_tell_where_the_new_tasks_are(master: Scripted, desk: Desk) -> None:
    master.says(op.RestartTask, op.Tasks(0, (view("n3w00001"),)))
    assert desk.run("restart", "k3f", "--from", "k2m9x1qa") == 0
    assert desk.run("fork", "k3f", "--count", "2") == 0
    assert desk.said == ["n3w00001 on node1: started"] * 2
    first, second = master.got(op.RestartTask)
    assert (first.snapshot, first.fork, first.count) == ("k2m9x1qa", False, 1)
    assert (second.snapshot, second.fork, second.count) == ("", True, 2)


@pytest.mark.parametrize("words", [
    ("checkpoint", "k3f", "--keep", "0"), ("checkpoint", "k3f", "--keep", "-1"),
    ("fork", "k3f", "--count", "many"), ("checkpoint", "k3f", "--every", "0"),
    ("checkpoint", "k3f", "--every", "often"), ("checkpoint", "k3f", "--every", "5", "--stop"),
    ("checkpoint",), ("fork", "k3f", "--count", "9999999"),
])
def test_wrong_words_ask_nothing(master: Scripted, desk: Desk, words: tuple[str, ...]) -> None:
    assert desk.run(*words) == 2
    assert master.got(op.CheckpointTask) == [] and master.got(op.RestartTask) == []
