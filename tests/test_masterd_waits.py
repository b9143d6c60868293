"""Waiting for tasks to end, and the cluster's history; as the master's core sees it."""

import pytest

from godwit.task.lifecycle import Status
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import events as on
from masterd.waits import TIMEOUT_STATUS
from tests.mastering import FAR, OPERATOR, FakeNode, Mastering, task

A, B = "aaaaaaaa", "bbbbbbbb"


def waiting(timeout: float | None = None) -> tuple[Mastering, FakeNode]:
    """Request 5 waits for A and B."""
    world = Mastering()
    node = world.node("n1", task(A), task(B))
    assert world.ask(op.AwaitTasks(5, (A, B, A), timeout)) == []
    return world, node


def test_a_wait_is_answered_when_the_last_task_has_ended() -> None:
    world, node = waiting()
    node.say(m.Changed((task(B, Status.EXITED, 0),)))
    assert not world.replies()
    node.say(m.Changed((task(A, Status.PAUSED),)))
    assert not world.replies()
    node.say(m.Changed((task(A, Status.EXITED, 3),)))
    (answer,) = world.replies()
    assert isinstance(answer, op.Tasks) and [v.task.exit_code for v in answer.tasks] == [3, 0]
    assert world.is_idle()


def test_what_has_ended_is_not_waited_for() -> None:
    world = Mastering()
    world.node("n1", task(A, Status.EXITED, 0), task(B, Status.UNKNOWN))
    assert len(world.ask(op.AwaitTasks(5, (A, B)))) == 1 and world.is_idle()


@pytest.mark.parametrize("timeout", [0.0, 2.5])
def test_a_wait_ends_in_time(timeout: float) -> None:
    world, _node = waiting(timeout)
    world.tick()
    (problem,) = world.replies()
    assert isinstance(problem, op.Problem) and problem.code == "timeout"
    assert problem.exit_status == TIMEOUT_STATUS and "2 tasks still running" in problem.message
    assert world.now == 100.0 + timeout and world.is_idle()


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), -FAR])
def test_what_is_no_time_is_refused(timeout: float) -> None:
    world = Mastering()
    world.node("n1", task(A))
    (problem,) = world.ask(op.AwaitTasks(5, (A,), timeout))
    assert isinstance(problem, op.Problem) and problem.exit_status == 2
    assert world.is_idle() and world.core.deadline() == world.now + 6.0


def test_a_wait_outlives_its_node_being_away() -> None:
    world, node = waiting()
    node.cut()
    world.wait(30)
    assert not world.replies()
    node.join()
    node.say(m.Report((task(A, Status.EXITED, 0), task(B, Status.EXITED, 1))))
    assert isinstance(world.replies()[0], op.Tasks) and world.is_idle()


@pytest.mark.parametrize("way", ["left", "removed", "not reported"])
def test_a_wait_for_what_is_gone_is_answered(way: str) -> None:
    world, node = waiting()
    if way == "left":
        node.cut()
        world.ask(op.Deregister(6, "n1"))
    elif way == "removed":
        node.say(m.Forgotten((A, B)))
    else:
        node.join()
        node.say(m.Report(()))
    assert 5 in [reply.id for reply in world.replies()] and world.is_idle()


@pytest.mark.parametrize("gone", [on.OperatorGone(OPERATOR), on.Asked(OPERATOR, op.Cancel(5))])
def test_a_wait_that_nobody_wants_is_dropped(gone: on.Event) -> None:
    world, node = waiting(10.0)
    world(gone)
    assert world.is_idle()
    node.say(m.Changed((task(A, Status.EXITED, 0), task(B, Status.EXITED, 0))))
    assert not world.replies()


def test_waiting_for_nothing_known_is_refused() -> None:
    world = Mastering()
    (problem,) = world.ask(op.AwaitTasks(5, ("nothing",)))
    assert isinstance(problem, op.Problem) and problem.code == "no-such-task"


# ---- history -------------------------------------------------------------------------------


def lines(reply: op.Reply) -> list[str]:
    assert isinstance(reply, op.Events)
    return [event.text for event in reply.events]


def test_history_is_the_newest_of_what_it_is_about() -> None:
    world = Mastering()
    node = world.node("n1", task(A))
    world.node("n2")
    node.say(m.Changed((task(A, Status.EXITED, 3),)))
    assert lines(world.ask(op.History(5, A))[0]) == [
        f"{A} runs on n1 as pid 7: true", f"{A} on n1 exited 3: true"
    ]
    assert lines(world.ask(op.History(6, "n2"))[0]) == ["n2 joined from 10.0.0.1:3"]
    assert lines(world.ask(op.History(7, limit=1))[0]) == [f"{A} on n1 exited 3: true"]
    assert lines(world.ask(op.History(8, limit=0))[0]) == []
    assert isinstance(world.ask(op.History(9, "nothing"))[0], op.Problem)


@pytest.mark.parametrize("gone", [on.OperatorGone(OPERATOR), on.Asked(OPERATOR, op.Cancel(5))])
def test_live_history_goes_on_until_it_is_called_off(gone: on.Event) -> None:
    world = Mastering()
    assert world.ask(op.History(5, live=True)) == [op.Events(5, (), more=True)]
    node = world.node("n1")
    node.say(m.Changed((task(A),)))
    assert lines(world.replies()[0]) == [f"{A} runs on n1 as pid 7: true"]
    world(gone)
    node.say(m.Changed((task(A, Status.EXITED, 0),)))
    assert not world.replies() and not world.core.history._followers


def test_notices_are_for_those_at_a_prompt() -> None:
    world = Mastering()
    node = world.node("n1", task(A))
    world.ask(op.Attach(9, op.VERSION, notices=True), OPERATOR + 1)
    node.say(m.Changed((task(A, Status.EXITED, 0),)))
    assert not world.replies()
    (notice,) = world.replies(OPERATOR + 1)
    assert isinstance(notice, op.Notice) and notice.id == 9 and notice.event.task == A
    world(on.OperatorGone(OPERATOR + 1))
    assert not world.core.history._listeners
