"""Snapshots, as the master's core has them: what is asked of nodes, refused and started."""

import hashlib

import pytest
from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Snapshot, Spec, Task
from godwit.task.verdict import Traits
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import events as on
from tests.mastering import OPERATOR, FakeNode, Mastering

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
    node.say(m.Snapshots(order.order, (replace(NEW, id=order.snapshot),)))
    (answer,) = world.replies()
    assert answer == op.Snapshots(
        5, (op.SnapshotView(order.snapshot, T, ("n1",), "python", 2.0, 200, 60),),
        ("kept on n1 only: no other node is up",),
    )


def test_why_a_checkpoint_failed_is_told() -> None:
    world, node = world_with(Status.RUNNING)
    world.ask(op.CheckpointTask(5, T))
    (order,) = world.sends(m.Checkpoint)
    node.say(m.Done(order.order, "cannot-travel", "self.x: a lock"))
    (answer,) = world.replies()
    assert answer == op.Problem(5, "cannot-travel", "n1: self.x: a lock")


@pytest.mark.parametrize("answer", ["kept", "refused", "lost"])
def test_a_move_begins_once_a_snapshot_for_which_the_task_stands_still_is_taken(
    answer: str,
) -> None:
    world, node = world_with(Status.RUNNING)
    other = world.node("n2")
    other.say(m.Able(("python",)))
    world.ask(op.CheckpointTask(5, T))
    (order,) = world.sends(m.Checkpoint)
    node.say(m.Changed((Task(SPEC, Status.FROZEN, pid=7),)))
    assert world.ask(op.MoveTask(6, T, "n2")) == []
    assert world.ask(op.MoveTask(7, T, "n2")) == []
    world(on.Asked(OPERATOR, op.Cancel(7)))
    node.say(m.Changed((Task(SPEC, Status.RUNNING, pid=7),)))
    assert world.sends(m.Reserve) == []
    if answer == "kept":
        node.say(m.Snapshots(order.order, (replace(NEW, id=order.snapshot),)))
    elif answer == "refused":
        node.say(m.Done(order.order, "cannot-travel", "a lock"))
    else:
        node.cut()
        told = [reply for reply in world.replies() if reply.id == 6]
        assert [type(reply) for reply in told] == [op.Problem]
        return
    (reserve,) = world.sends(m.Reserve)
    assert reserve.task.id == T


@pytest.mark.parametrize("request_", [
    op.CheckpointTask(5, T, 0), op.CheckpointTask(5, T, 101),
    op.RestartTask(5, T, fork=True, count=0),
])
def test_a_count_out_of_bounds_is_wrong_usage(request_: op.Request) -> None:
    world, _ = world_with(Status.RUNNING)
    (answer,) = world.ask(request_)
    assert isinstance(answer, op.Problem) and answer.exit_status == 2


@pytest.mark.parametrize("status", [
    Status.RUNNING, Status.PAUSED, Status.FROZEN,
])
def test_only_what_has_ended_for_certain_is_started_again(status: Status) -> None:
    world, _ = world_with(status)
    (answer,) = world.ask(op.RestartTask(5, T))
    assert isinstance(answer, op.Problem) and answer.code == "not-ended"
    assert world.sends(m.ListSnapshots) == []


def test_what_is_lost_for_certain_is_started_again() -> None:
    """Its node says so: unknown is only how it ended."""
    world, node = world_with(Status.UNKNOWN)
    assert len(launched(world, node, op.RestartTask(5, T), OLD)) == 1


def test_of_what_is_lost_and_cannot_be_heard_nobody_knows() -> None:
    world, node = world_with(Status.UNKNOWN)
    node.cut()
    (answer,) = world.ask(op.RestartTask(5, T))
    assert isinstance(answer, op.Problem) and answer.code == "not-ended"


def test_a_start_is_from_the_last_snapshot_and_under_a_new_id() -> None:
    world, node = world_with(Status.EXITED)
    (launch,) = launched(world, node, op.RestartTask(5, T), OLD, NEW)
    spec = launch.spec
    assert (spec.snapshot, spec.argv, spec.env, spec.digest) == (
        NEW.id, SPEC.argv, SPEC.env, SPEC.digest
    )
    assert T not in launch.tasks and len(launch.tasks) == 1 and launch.source == b""


def test_the_source_that_came_with_a_task_goes_with_what_is_started_from_its_snapshot() -> None:
    world, node = world_with(Status.EXITED)
    text = b"class P: ..."
    digest = hashlib.sha256(text).hexdigest()
    world.core.sources.texts[digest] = text
    kept = replace(NEW, spec=replace(SPEC, digest=digest))
    (launch,) = launched(world, node, op.RestartTask(5, T), kept)
    assert (launch.source, launch.spec.digest) == (text, digest)


def test_forks_of_a_running_task_are_from_the_snapshot_that_was_named() -> None:
    world, node = world_with(Status.RUNNING)
    request = op.RestartTask(5, T, OLD.id, fork=True, count=3)
    (launch,) = launched(world, node, request, OLD, NEW)
    assert launch.spec.snapshot == OLD.id and len(set(launch.tasks)) == 3


def test_copies_that_would_write_the_same_files_are_not_started() -> None:
    world, node = world_with(Status.RUNNING)
    writing = replace(NEW, writes=(b"a", b"b", b"c", b"d"))
    assert launched(world, node, op.RestartTask(5, T, fork=True), OLD, writing) == []
    (answer,) = world.replies()
    assert isinstance(answer, op.Problem) and answer.code == "writes"
    assert "a, b, c and 1 more" in answer.message


def test_one_that_writes_files_is_started_again_once_it_has_ended() -> None:
    world, node = world_with(Status.EXITED)
    assert len(launched(world, node, op.RestartTask(5, T), replace(NEW, writes=(b"a",)))) == 1


# ---- of processes as they are --------------------------------------------------------------


def shell_world() -> tuple[Mastering, FakeNode]:
    world = Mastering()
    spec = replace(SPEC, kind="shell", digest="", shell=True, contained=True)
    node = world.node("n1", Task(spec, Status.RUNNING, pid=7))
    node.say(m.Able(("shell", "apart", "criu=4.1.1")))
    return world, node


def described(world: Mastering, node: FakeNode, *obstacles: tuple[str, str]) -> None:
    (asked,) = world.sends(m.Describe)
    node.say(m.Described(asked.order, Traits("x86_64", obstacles=obstacles)))


def test_processes_are_looked_at_before_they_stand_still() -> None:
    world, node = shell_world()
    assert world.ask(op.CheckpointTask(5, T)) == []
    assert world.sends(m.Checkpoint) == []
    described(world, node)
    (order,) = world.sends(m.Checkpoint)
    assert order.task == T


def test_what_cannot_be_saved_is_refused_as_it_is_for_a_move() -> None:
    world, node = shell_world()
    world.ask(op.CheckpointTask(5, T))
    described(world, node, ("io-uring", "io_uring"))
    (answer,) = world.replies()
    assert isinstance(answer, op.Problem) and answer.code == "io-uring"
    assert world.sends(m.Checkpoint) == []


def test_a_task_that_cannot_be_looked_at_is_not_kept() -> None:
    world, node = shell_world()
    world.ask(op.CheckpointTask(5, T))
    (asked,) = world.sends(m.Describe)
    node.say(m.Done(asked.order, "ended", "it has ended"))
    (answer,) = world.replies()
    assert answer == op.Problem(5, "ended", "n1: it has ended")


def test_processes_are_launched_from_a_snapshot_as_they_were() -> None:
    world, node = shell_world()
    kept = Snapshot("ssssss03", replace(SPEC, kind="shell", digest="", shell=True, contained=True),
                    3.0, 300, 70)
    (launch,) = launched(world, node, op.RestartTask(5, T, fork=True), kept)
    spec = launch.spec
    assert (spec.kind, spec.shell, spec.contained, spec.snapshot) == ("shell", True, True, kept.id)


@pytest.mark.parametrize("found", [(), (OLD,)])
def test_a_snapshot_that_is_not_there_starts_nothing(found: tuple[Snapshot, ...]) -> None:
    world, node = world_with(Status.EXITED)
    assert launched(world, node, op.RestartTask(5, T, NEW.id), *found) == []
    (answer,) = world.replies()
    assert isinstance(answer, op.Problem) and answer.code == "no-snapshot"
