"""What the master forgets by itself: by stated rules, and nothing else."""

import pytest
from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd import pruning
from tests.mastering import Mastering, task


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "LEFT_KEPT", 2)
    monkeypatch.setattr(pruning, "LOST_KEPT", 2)


def test_what_a_node_forgets_the_master_forgets_at_once() -> None:
    world = Mastering()
    node = world.node("n1", task("t0000001", Status.EXITED, 0), task("t0000002"))
    node.say(m.Forgotten(("t0000001",)))
    assert world.done(do.DropTask) == [do.DropTask("t0000001")]
    assert list(world.core.registry.where) == ["t0000002"]


def test_what_a_node_forgot_unheard_goes_at_its_next_report() -> None:
    world = Mastering()
    node = world.node("n1", task("t0000001", Status.EXITED, 0), task("t0000002"))
    node.cut()
    node.join()
    node.say(m.Report((task("t0000002"),)))
    assert world.done(do.DropTask) == [do.DropTask("t0000001")]


def test_of_nodes_that_left_the_last_heard_are_remembered() -> None:
    world = Mastering()
    for number in range(1, 5):
        node = world.node(f"n{number}", task(f"t000000{number}", Status.EXITED, 0))
        world.now += 1
        node.say(m.Beat(m.Load()))
        world.ask(op.Deregister(9, node.name))
        node.say(m.Leaving("deregistered"))
    world.node("n5")
    assert list(world.core.registry.nodes) == ["n3", "n4", "n5"]
    assert list(world.core.registry.where) == ["t0000003", "t0000004"]
    dropped = [action.task for action in world.all if isinstance(action, do.DropTask)]
    assert dropped == ["t0000001", "t0000002"]


def test_of_launches_that_nobody_has_a_record_of_the_newest_are_remembered() -> None:
    world = Mastering()
    node = world.node()
    for number in range(4):
        known = task(f"t000000{number}", Status.UNKNOWN)
        lost = replace(known, pid=None, spec=replace(known.spec, asked_at=float(number)))
        world.core.registry.put(world.core.registry.nodes["n1"], lost)
    node.say(m.Report((task("t0000009", Status.UNKNOWN),)))
    assert list(world.core.registry.where) == ["t0000002", "t0000003", "t0000009"]
