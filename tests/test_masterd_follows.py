"""Following logs: each byte once, in order, to whom it is for; as the master's core sees it."""

import pytest

from godwit.task.lifecycle import Status
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd import events as on
from tests.mastering import OPERATOR, FakeNode, Mastering, task

A, B = "aaaaaaaa", "bbbbbbbb"
ONE, TWO = "t0000001", "t0000002"
ENDED = task(A, Status.EXITED, 3)


def followed(
    *tasks: str, live: bool = True, lines: int | None = None
) -> tuple[Mastering, FakeNode]:
    """A node with these tasks, that request 5 follows as streams 1, 2, ..."""
    world = Mastering()
    node = world.node("n1", *map(task, tasks))
    world.ask(op.FollowLogs(5, tasks, lines=lines, live=live))
    return world, node


def output(offset: int, data: bytes, name: str = A) -> op.Output:
    return op.Output(5, name, offset, data, "n1")


# ---- one log -------------------------------------------------------------------------------


def test_a_log_is_asked_for_passed_on_acknowledged_and_ended() -> None:
    world, node = followed(A, lines=3)
    assert world.last == [do.Send(node.control, m.Follow(1, A, lines=3, live=True))]
    node.say(m.Chunk(1, 70, b"abc"))
    assert world.replies() == [output(70, b"abc")]
    assert world.ask(op.Took(5, A, 3)) == []
    assert world.last == [do.Send(node.stream, m.Credit(1, 3))]
    node.say(m.Changed((ENDED,)))
    assert not world.replies()
    node.say(m.Ended(1, 73))
    assert world.replies() == [
        op.OutputEnd(5, A, node="n1"), op.Tasks(5, (op.TaskView("n1", ENDED),))
    ]
    assert world.is_idle()


def test_the_end_of_the_log_waits_for_the_end_of_the_task() -> None:
    world, node = followed(A)
    node.say(m.Ended(1, 0))
    assert world.replies() == [op.OutputEnd(5, A, node="n1")]
    node.say(m.Changed((ENDED,)))
    assert world.replies() == [op.Tasks(5, (op.TaskView("n1", ENDED),))] and world.is_idle()


def test_a_log_as_it_is_now_does_not_wait_for_its_task() -> None:
    world, node = followed(A, live=False)
    node.say(m.Ended(1, 0))
    assert isinstance(world.replies()[-1], op.Tasks) and world.is_idle()


def test_a_log_that_cannot_be_read_is_not_waited_for() -> None:
    world, node = followed(A)
    node.say(m.Ended(1, 0, "no-log", "gone"))
    assert world.replies()[0] == op.OutputEnd(5, A, "no-log", "gone", "n1")
    assert isinstance(world.replies()[1], op.Tasks) and world.is_idle()


def test_nothing_to_follow_is_answered_at_once() -> None:
    world = Mastering()
    (reply,) = world.ask(op.FollowLogs(5, ("nothing",), live=True))
    assert isinstance(reply, op.Tasks) and reply.faults[0].code == "no-such-task"
    assert world.is_idle()


# ---- bytes that come twice, or not at all --------------------------------------------------


def test_bytes_that_came_before_are_dropped_and_their_credit_given_back() -> None:
    _world, node = followed(A)
    node.say(m.Chunk(1, 0, b"abcd"))
    assert node.say(m.Chunk(1, 0, b"abcd")) == [do.Send(node.stream, m.Credit(1, 4))]
    assert node.say(m.Chunk(1, 2, b"cdef")) == [
        do.Send(node.stream, m.Credit(1, 2)), do.Answer(OPERATOR, output(4, b"ef"))
    ]


def test_after_a_gap_the_rest_is_asked_for_again() -> None:
    world, node = followed(A, lines=3)
    node.say(m.Chunk(1, 10, b"abcd"))
    assert node.say(m.Chunk(1, 20, b"x")) == [
        do.Send(node.control, m.Follow(1, A, offset=14, live=True))
    ]
    assert node.say(m.Ended(1, 21)) == world.last and not world.replies()
    node.say(m.Chunk(1, 14, b"efghijx"))
    node.say(m.Ended(1, 21))
    assert world.replies()[0] == op.OutputEnd(5, A, node="n1")


def test_bytes_that_were_dropped_from_the_log_are_told_of_once_and_in_their_place() -> None:
    world, node = followed(A)
    node.say(m.Chunk(1, 0, b"abcd"))
    gap = op.Output(5, A, 90, b"", "n1", dropped=86)
    assert node.say(m.Chunk(1, 90, b"", 86)) == [do.Answer(OPERATOR, gap)]
    assert node.say(m.Chunk(1, 90, b"", 90)) == []  # again, on another link
    node.say(m.Chunk(1, 90, b"xy"))
    assert world.replies() == [output(90, b"xy")]


def test_a_log_read_from_its_start_begins_with_what_is_missing() -> None:
    world, node = followed(A)
    node.say(m.Chunk(1, 90, b"", 90))
    assert world.replies() == [op.Output(5, A, 90, b"", "n1", dropped=90)]


def test_dropped_bytes_that_leave_a_gap_are_asked_for_again() -> None:
    world, node = followed(A)
    node.say(m.Chunk(1, 0, b"abcd"))
    assert node.say(m.Chunk(1, 90, b"", 10)) == [
        do.Send(node.control, m.Follow(1, A, offset=4, live=True))
    ]
    assert not world.replies()


def test_a_new_stream_link_is_asked_for_what_is_still_wanted() -> None:
    world, node = followed(A, B)
    node.say(m.Chunk(1, 0, b"abcd"))
    node.cut("stream")
    assert world.ask(op.Took(5, A, 4)) == [] and not world.sends(m.Credit)
    node.join("stream")
    assert world.sends(m.Follow) == [m.Follow(1, A, offset=4, live=True), m.Follow(2, B, live=True)]


def test_a_tail_whose_beginning_is_not_known_is_asked_for_as_a_tail_again() -> None:
    world, node = followed(A, lines=2)
    node.cut()
    node.join()
    node.say(m.Report((task(A),)))
    node.join("stream")
    assert world.sends(m.Follow) == [m.Follow(1, A, lines=2, live=True)]


def test_what_nobody_reads_is_called_off() -> None:
    _world, node = followed(A)
    assert node.say(m.Chunk(99, 0, b"x")) == [do.Send(node.control, m.Unfollow(99))]
    assert node.say(m.Ended(99, 5)) == []


def test_a_node_sends_only_its_own_streams() -> None:
    world, _ = followed(A)
    other = world.node("n2")
    assert other.say(m.Chunk(1, 0, b"forged")) == [do.Send(other.control, m.Unfollow(1))]
    assert other.say(m.Ended(1, 0)) == []
    assert not world.is_idle()


@pytest.mark.parametrize("took", [op.Took(5, B, 1), op.Took(6, A, 1)])
def test_credit_is_given_for_what_is_read(took: op.Took) -> None:
    world, _node = followed(A)
    assert world.ask(took) == [] and world.last == []
    world(on.Asked(OPERATOR + 1, op.Attach(0, op.VERSION)))
    assert world.ask(op.Took(5, A, 1), OPERATOR + 1) == [] and world.last == []


# ---- ways to end ---------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [on.OperatorGone(OPERATOR), on.Asked(OPERATOR, op.Cancel(5))])
def test_nobody_reads_any_more(gone: on.Event) -> None:
    world, node = followed(A, B)
    assert world(gone) == [
        do.Send(node.control, m.Unfollow(1)), do.Send(node.control, m.Unfollow(2))
    ]
    assert world.is_idle()


def test_a_removed_task_ends_its_follow() -> None:
    world, node = followed(A)
    node.say(m.Forgotten((A,)))
    assert world.replies() == [
        op.OutputEnd(5, A, "forgotten", "the task was removed", "n1"), op.Tasks(5, ())
    ]
    assert world.is_idle()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("way", ["silent", "goodbye", "deregistered"])
def test_a_follow_outlives_a_node_that_may_return_and_no_other(live: bool, way: str) -> None:
    world, node = followed(A, live=live)
    if way == "silent":
        node.cut()
        world.wait(20)
    elif way == "goodbye":
        node.say(m.Leaving("SIGTERM", 1))
    else:
        world.ask(op.Deregister(9, "n1"))
        node.say(m.Leaving("deregistered"))
    ended = [reply for reply in world.replies() if isinstance(reply, op.OutputEnd | op.Tasks)]
    if live and way != "deregistered":
        assert not ended and not world.is_idle()
        node.join()
        node.say(m.Report((ENDED,)))
        node.join("stream")
        assert world.sends(m.Follow) == [m.Follow(1, A, live=True)]
        node.say(m.Ended(1, 0))
    else:
        assert [type(reply) for reply in ended] == [op.OutputEnd, op.Tasks]
    assert world.is_idle()


@pytest.mark.parametrize(("live", "wait"), [(False, 0), (False, 20), (True, 20)])
def test_logs_on_a_node_that_is_away_are_said_to_be_there(live: bool, wait: int) -> None:
    world = Mastering()
    world.node("n1", task(A), task(B)).cut()
    world.wait(wait)
    replies = world.ask(op.FollowLogs(5, (A, B), live=live))
    assert [type(reply) for reply in replies] == [op.OutputEnd, op.OutputEnd, op.Tasks]
    assert isinstance(replies[0], op.OutputEnd) and replies[0].code == "unreachable"
    assert world.is_idle()


def test_a_task_that_cannot_be_known_any_more_ends_a_follow() -> None:
    world, node = followed(A)
    node.say(m.Ended(1, 0))
    node.say(m.Changed((task(A, Status.UNKNOWN),)))
    assert isinstance(world.replies()[0], op.Tasks) and world.is_idle()


def test_a_request_is_not_begun_twice() -> None:
    world, _ = followed(A)
    (problem,) = world.ask(op.FollowLogs(5, (A,), live=True))
    assert isinstance(problem, op.Problem) and problem.code == "order"
    world.ask(op.Execute(5, "n1", (b"true",), follow=True))
    assert isinstance(world.replies()[0], op.Problem)
    assert set(world.core.registry.where) == {A}


# ---- launches that are followed ------------------------------------------------------------


def launched(count: int = 1) -> tuple[Mastering, FakeNode, int]:
    world = Mastering()
    node = world.node()
    return world, node, world.execute(follow=True, count=count)


def test_a_followed_launch_is_launched_then_output_then_the_tasks() -> None:
    world, node, number = launched()
    assert world.sends(m.Launch)[0].streams == (1,)
    node.say(m.Changed((task(ONE),)))
    assert world.replies() == [op.Launched(number, (op.TaskView("n1", task(ONE)),))]
    node.say(m.Chunk(1, 0, b"x"))
    assert world.replies() == [op.Output(number, ONE, 0, b"x", "n1")]
    node.say(m.Changed((task(ONE, Status.EXITED, 0),)))
    node.say(m.Ended(1, 1))
    assert [type(reply) for reply in world.replies()] == [op.OutputEnd, op.Tasks]
    assert world.is_idle()


def test_what_comes_before_the_answer_waits_for_it() -> None:
    world, node, _number = launched(count=2)
    node.say(m.Changed((task(ONE, Status.EXITED, 0),)))
    node.say(m.Chunk(1, 0, b"x"))
    node.say(m.Ended(1, 1))
    assert not world.replies()
    node.say(m.Changed((task(TWO, Status.EXITED, 0),)))
    assert [type(reply) for reply in world.replies()] == [op.Launched, op.Output, op.OutputEnd]
    node.say(m.Ended(2, 0))
    assert [type(reply) for reply in world.replies()] == [op.OutputEnd, op.Tasks]
    assert world.is_idle()


def test_what_did_not_start_has_no_output() -> None:
    world, node, _number = launched(count=2)
    node.say(m.Rejected((ONE,), "ENOENT", "no"))
    node.say(m.Changed((task(TWO, Status.EXITED, 0),)))
    (answer,) = world.replies()
    assert isinstance(answer, op.Launched) and [v.task.id for v in answer.tasks] == [TWO]
    node.say(m.Ended(2, 0))
    assert [type(reply) for reply in world.replies()] == [op.OutputEnd, op.Tasks]
    assert world.is_idle()


def test_a_launch_that_came_to_nothing_leaves_nothing() -> None:
    world, node, number = launched(count=2)
    node.say(m.Rejected((ONE, TWO), "ENOENT", "no"))
    (answer,) = world.replies()
    assert isinstance(answer, op.Tasks) and answer.id == number and world.is_idle()


def test_a_launch_that_never_arrived_ends_its_follow() -> None:
    world, node, _number = launched()
    world.wait(15, node)
    assert isinstance(world.replies()[0], op.Launched)
    node.join()
    node.say(m.Report(()))
    node.join("stream")
    assert world.sends(m.Follow) == [m.Follow(1, ONE, live=True)]
    node.say(m.Ended(1, 0, "forgotten", "the task was removed"))
    assert [type(reply) for reply in world.replies()] == [op.OutputEnd, op.Tasks]
    assert world.is_idle()


def test_a_launch_refused_after_its_answer_ends_its_follow() -> None:
    world, node, number = launched()
    world.wait(15, node)
    node.say(m.Rejected((ONE,), "ENOENT", "no"))
    assert world.replies() == [
        op.OutputEnd(number, ONE, "ENOENT", "no", "n1"), op.Tasks(number, ())
    ]
    assert world.is_idle()


def test_a_lost_launch_is_followed_when_it_is_sent_again() -> None:
    world, node, _number = launched()
    node.cut()
    node.join()
    node.say(m.Report(()))
    assert world.sends(m.Launch)
    node.join("stream")
    assert world.sends(m.Follow) == [m.Follow(1, ONE, live=True)]
