"""Upgrades as the master's core sees them: told, waited for, answered once."""

import pytest

from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import events as on
from masterd.upgrades import BACK_S
from tests.mastering import OPERATOR, FakeNode, Mastering, task

ONE = "t0000001"


def upgrade(world: Mastering, nodes: str = "all") -> list[op.Reply]:
    return world.ask(op.Upgrade(5, nodes))


def back(node: FakeNode, agent: str = "another") -> None:
    """Its agent's connections end, and one says Hello."""
    node.cut()
    node.agent = agent
    node.join()


def faults(world: Mastering) -> dict[str, str]:
    (reply,) = [r for r in world.replies() if isinstance(r, op.Upgraded)]
    return {fault.about: fault.code for fault in reply.faults}


def test_an_upgrade_is_done_when_another_agent_says_hello() -> None:
    world = Mastering()
    node = world.node("n1", task(ONE))
    assert upgrade(world) == [] and world.sends(m.Upgrade) == [m.Upgrade(1)]
    assert node.say(m.Done(1)) == []
    back(node)
    told, answer = world.replies()
    assert isinstance(told, op.Progress) and told.text.startswith("n1: the agent has started anew")
    assert answer == op.Upgraded(5, (op.Restarted("n1", ""),)) and world.is_idle()
    assert ONE in world.core.registry.where


def test_the_old_agent_on_a_new_connection_is_no_upgrade() -> None:
    world = Mastering()
    node = world.node()
    upgrade(world)
    back(node, node.agent)
    assert not world.replies()
    back(node)
    assert world.replies()


def test_an_answer_that_was_lost_does_not_matter() -> None:
    world = Mastering()
    node = world.node()
    upgrade(world)
    back(node)
    assert isinstance(world.replies()[-1], op.Upgraded)


def test_each_node_has_its_line_and_its_fault() -> None:
    world = Mastering()
    one, two, three = (world.node(name) for name in ("n1", "n2", "n3"))
    world.node("n4").cut()
    assert upgrade(world) == []
    three.say(m.Done(3, "odd", "it will not"))
    back(two)
    assert [type(reply) for reply in world.replies()] == [op.Progress]
    back(one)
    assert faults(world) == {"n3": "odd", "n4": "unreachable"} and world.is_idle()


def test_a_node_that_does_not_come_back_is_given_up() -> None:
    world = Mastering()
    node = world.node()
    upgrade(world)
    began = world.now
    node.cut()
    while not world.replies():
        world.tick()
    assert world.now == began + BACK_S and faults(world) == {"n1": "timeout"}
    assert world.is_idle()


def test_a_node_that_is_deregistered_meanwhile_is_not_waited_for() -> None:
    world = Mastering()
    node = world.node()
    upgrade(world)
    node.say(m.Done(1))
    world.ask(op.Deregister(6, "n1"))
    node.say(m.Leaving("deregistered"))
    assert faults(world) == {"n1": "left"}


def test_who_left_hears_no_more_of_it() -> None:
    world = Mastering()
    node = world.node()
    upgrade(world)
    world(on.OperatorGone(OPERATOR))
    back(node)
    assert not world.replies()


@pytest.mark.parametrize("nodes", ["nothing", "@n1,nothing"])
def test_a_node_that_is_none_is_refused_and_nobody_told(nodes: str) -> None:
    world = Mastering()
    world.node()
    (reply,) = upgrade(world, nodes)
    assert isinstance(reply, op.Problem) and not world.sends(m.Upgrade)
