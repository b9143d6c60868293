"""Snapshots, as the master's core has them: what is asked of nodes, refused and started."""

import pytest

from godwit.task.lifecycle import Status
from godwit.task.record import Snapshot, Spec, Task
from godwit.wire import messages as m
from godwit.wire import operations as op
from tests.mastering import FakeNode, Mastering

T = "aaaaaaaa"
SPEC = Spec(T, (b"P", b"1"), kind="python", home="n1", env={b"A": b"b"}, digest="d" * 64)
OLD = Snapshot("ssssss01", SPEC, 1.0, 100, 50)
NEW = Snapshot("ssssss02", SPEC, 2.0, 200, 60)


def world_with(status: Status) -> tuple[Mastering, FakeNode]:
    world = Mastering()
    node = world.node("n1", Task(SPEC, status, pid=7))
    node.say(m.Able(("python",)))
    return world, node


def launched(
    world: Mastering, node: FakeNode, request: op.RestartTask, *found: Snapshot
) -> list[m.Launch]:
    assert world.ask(request) == []
    (asked,) = world.sends(m.ListSnapshots)
    node.say(m.Snapshots(asked.order, found))
    return world.sends(m.Launch)


def test_a_checkpoint_is_asked_of_the_tasks_node_and_told_as_it_is_kept() -> None:
    world, node = world_with(Status.RUNNING)
    assert world.ask(op.CheckpointTask(5, "aaa", 4)) == []
    (order,) = world.sends(m.Checkpoint)
    assert (order.task, order.keep, len(order.snapshot)) == (T, 4, 8)
    node.say(m.Snapshots(order.order, (NEW,)))
    (answer,) = world.replies()
    assert answer == op.Snapshots(
        5, (op.SnapshotView(NEW.id, T, "n1", "python", 2.0, 200, 60),)
    )


def test_why_a_checkpoint_failed_is_told() -> None:
    world, node = world_with(Status.RUNNING)
    world.ask(op.CheckpointTask(5, T))
    (order,) = world.sends(m.Checkpoint)
    node.say(m.Done(order.order, "cannot-travel", "self.x: a lock"))
    (answer,) = world.replies()
    assert answer == op.Problem(5, "cannot-travel", "n1: self.x: a lock")


@pytest.mark.parametrize("request_", [
    op.CheckpointTask(5, T, 0), op.CheckpointTask(5, T, 101),
    op.RestartTask(5, T, fork=True, count=0),
])
def test_a_count_out_of_bounds_is_wrong_usage(request_: op.Request) -> None:
    world, _ = world_with(Status.RUNNING)
    (answer,) = world.ask(request_)
    assert isinstance(answer, op.Problem) and answer.exit_status == 2


@pytest.mark.parametrize("status", [
    Status.RUNNING, Status.PAUSED, Status.FROZEN, Status.UNKNOWN,
])
def test_only_what_has_ended_for_certain_is_started_again(status: Status) -> None:
    world, _ = world_with(status)
    (answer,) = world.ask(op.RestartTask(5, T))
    assert isinstance(answer, op.Problem) and answer.code == "not-ended"
    assert world.sends(m.ListSnapshots) == []


def test_a_start_is_from_the_last_snapshot_and_under_a_new_id() -> None:
    world, node = world_with(Status.EXITED)
    (launch,) = launched(world, node, op.RestartTask(5, T), OLD, NEW)
    spec = launch.spec
    assert (spec.snapshot, spec.argv, spec.env, spec.digest) == (
        NEW.id, SPEC.argv, SPEC.env, SPEC.digest
    )
    assert T not in launch.tasks and len(launch.tasks) == 1 and launch.source == b""


def test_forks_of_a_running_task_are_from_the_snapshot_that_was_named() -> None:
    world, node = world_with(Status.RUNNING)
    request = op.RestartTask(5, T, OLD.id, fork=True, count=3)
    (launch,) = launched(world, node, request, OLD, NEW)
    assert launch.spec.snapshot == OLD.id and len(set(launch.tasks)) == 3


@pytest.mark.parametrize("found", [(), (OLD,)])
def test_a_snapshot_that_is_not_there_starts_nothing(found: tuple[Snapshot, ...]) -> None:
    world, node = world_with(Status.EXITED)
    assert launched(world, node, op.RestartTask(5, T, NEW.id), *found) == []
    (answer,) = world.replies()
    assert isinstance(answer, op.Problem) and answer.code == "no-snapshot"
