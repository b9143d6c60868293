"""Moves as the master's core decides them: exact messages, and what is recorded before them."""

import pytest

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd.moves.here import QUIET_S, REPEAT_S
from masterd.moves.silence import HELD_S
from masterd.moves.table import State
from tests.mastering import FakeNode, Mastering

ID = "t1234567"
TASK = Task(
    Spec(ID, (b"P", b"9"), kind="python", home="n1"), Status.RUNNING, pid=7, log="/l"
)


class Flying(Mastering):
    """Two nodes, a task on the first, and an operator who asks for its move."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = self.node("n1", TASK), self.node("n2")

    def move(self, target: str = "n2", **more: object) -> list[op.Reply]:
        return self.ask(op.MoveTask(self.id(), ID, target, **more))  # type: ignore[arg-type]

    @property
    def id_(self) -> str:
        """Of the one move there is."""
        (view,) = self.core.moves.listed("", 10)
        return view.id

    def says(
        self, node: FakeNode, state: m.MoveState, epoch: int = 1, **more: object
    ) -> list[do.Action]:
        return node.say(m.Standing(self.id_, ID, epoch, state, **more))  # type: ignore[arg-type]

    def prepared(self) -> None:
        """Both have voted."""
        self.move()
        self.says(self.target, "reserved", 2, port=99)
        self.says(self.source, "frozen", size=10)
        self.says(self.target, "prepared", 2)

    def verdicts(self) -> list[tuple[str, int]]:
        return [(v.verdict, v.epoch) for v in self.sends(m.Verdict)]

    def owner(self) -> tuple[str, int]:
        node = self.core.registry.where[ID]
        return node.name, node.tasks[ID].spec.epoch

    def result(self) -> op.MoveView:
        (reply,) = [r for r in self.replies() if isinstance(r, op.Moves)]
        return reply.moves[0]


def test_a_move_asks_freezes_commits_and_finishes_each_after_its_record() -> None:
    world = Flying()
    world.move()
    assert [type(a) for a in world.last] == [do.KeepMove, do.Commit, do.Send]
    (reserve,) = world.sends(m.Reserve)
    assert (reserve.task.id, reserve.epoch) == (ID, 2)
    world.says(world.target, "reserved", 2, port=99)
    (freeze,) = world.sends(m.Freeze)
    assert (freeze.task, freeze.epoch, freeze.ticket) == (ID, 1, reserve.ticket)
    assert freeze.address.endswith(":99")
    assert world.says(world.source, "frozen", size=10) == []
    world.says(world.target, "prepared", 2)
    assert [type(a) for a in world.last] == [do.KeepMove, do.Commit, do.Send]
    (kept,) = world.done(do.KeepMove)
    assert kept.node == "n2" and kept.task is not None and kept.task.spec.epoch == 2
    assert world.verdicts() == [("commit", 2)] and world.owner() == ("n2", 2)
    world.says(world.target, "running", 2)
    assert world.verdicts() == [("finish", 2)] and world.replies() == []
    world.says(world.source, "finished")
    assert world.result().result == "done"
    assert world.core.moves.listed(ID, 1)[0].state == "done"


@pytest.mark.parametrize(("target", "code"), [("n1", "there"), ("n3", "no-such-node")])
def test_where_it_cannot_go_is_refused_and_nothing_recorded(target: str, code: str) -> None:
    world = Flying()
    (problem,) = world.move(target)
    assert isinstance(problem, op.Problem) and problem.code == code
    assert not world.done(do.KeepMove)


def test_a_second_move_of_a_task_is_refused_while_the_first_is_under_way() -> None:
    world = Flying()
    world.move()
    (problem,) = world.move()
    assert isinstance(problem, op.Problem) and problem.code == "moving"


def test_what_is_not_where_it_is_said_to_be_is_not_transferred() -> None:
    world = Flying()
    (problem,) = world.move(source="n2")
    assert isinstance(problem, op.Problem) and problem.code == "elsewhere"


def test_a_destination_that_refuses_ends_the_move_before_the_source_hears_of_it() -> None:
    world = Flying()
    world.move()
    world.says(world.target, "refused", 2, code="full", text="no room")
    assert world.verdicts() == [] and world.owner() == ("n1", 1)
    shown = world.result()
    assert (shown.result, shown.code, shown.reason) == ("aborted", "full", "n2: no room")


def test_a_source_that_refuses_has_the_destination_discard_what_it_made() -> None:
    world = Flying()
    world.move()
    world.says(world.target, "reserved", 2, port=99)
    world.says(world.source, "unfrozen", code="pickle", text="self.conn: a socket cannot travel")
    assert world.verdicts() == [("abort", 1)]
    assert world.result().reason == "self.conn: a socket cannot travel"
    assert world.says(world.target, "discarded", 2)[0] == do.KeepMove(
        world.core.moves.past[world.id_]
    )


def test_one_vote_is_no_commit_and_silence_then_aborts_at_both() -> None:
    world = Flying()
    world.move()
    world.says(world.target, "reserved", 2, port=99)
    world.says(world.source, "frozen", size=10)
    world.wait(QUIET_S + 1, world.source, world.target)
    told = [a.message for a in world.all if isinstance(a, do.Send)]
    assert {"abort"} == {v.verdict for v in told if isinstance(v, m.Verdict)}
    assert world.owner() == ("n1", 1)


def test_a_vote_that_comes_after_the_abort_is_answered_by_it() -> None:
    world = Flying()
    world.move()
    world.says(world.target, "reserved", 2, port=99)
    world.says(world.source, "unfrozen", code="x", text="x")
    world.says(world.target, "prepared", 2)
    assert world.verdicts() == [("abort", 1)] and world.owner() == ("n1", 1)


def test_a_destination_that_renounces_gives_it_back_under_a_later_epoch() -> None:
    world = Flying()
    world.prepared()
    world.says(world.target, "renounced", 2, code="load", text="cannot be loaded")
    assert world.verdicts() == [("resume", 3)] and world.owner() == ("n1", 3)
    world.says(world.source, "resumed", 3)
    assert world.result().result == "reverted"


def test_a_commit_is_repeated_and_then_the_task_is_held_not_taken_back() -> None:
    world = Flying()
    world.prepared()
    done = world.wait(HELD_S + REPEAT_S + 1, world.source, world.target)
    told = [a.message for a in done if isinstance(a, do.Send)]
    repeated = [v.verdict for v in told if isinstance(v, m.Verdict)]
    assert set(repeated) == {"commit"} and len(repeated) > 2
    assert world.owner() == ("n2", 2)
    (answer,) = [a.reply for a in done if isinstance(a, do.Answer)
                 and isinstance(a.reply, op.Moves)]
    assert answer.moves[0].result == "held" and "resolve" in answer.moves[0].hint
    (listed,) = world.ask(op.ListTasks(world.id(), (ID,)))
    assert isinstance(listed, op.Tasks) and listed.tasks[0].task.status is Status.HELD


def held(world: Flying) -> None:
    world.prepared()
    world.wait(HELD_S + REPEAT_S + 1, world.source, world.target)


@pytest.mark.parametrize("request_", [
    op.SignalTasks(900, (ID,), 15), op.ForgetTasks(900, (ID,)), op.PauseTasks(900, (ID,)),
])
def test_nothing_is_done_to_a_held_task_but_to_resolve_it(request_: op.Request) -> None:
    world = Flying()
    held(world)
    (answer,) = world.ask(request_)
    assert isinstance(answer, op.Tasks) and not world.sends(m.Signal)
    (fault,) = answer.faults
    assert fault.code == "held" and "resolve" in fault.hint


def test_a_held_move_resolved_for_the_source_resumes_it_and_ends_the_other() -> None:
    world = Flying()
    held(world)
    world.ask(op.ResolveMove(901, world.id_, "source"))
    assert sorted(world.verdicts()) == [("end", 3), ("resume", 3)]
    assert world.owner() == ("n1", 3)


def test_a_held_move_goes_on_by_itself_when_its_destination_speaks() -> None:
    world = Flying()
    held(world)
    world.says(world.target, "running", 2)
    assert world.verdicts() == [("finish", 2)] and ID not in world.core.registry.held


def test_a_signal_that_meets_a_task_standing_still_is_sent_where_it_goes_on() -> None:
    world = Flying()
    world.move()
    world.says(world.target, "reserved", 2, port=99)
    world.ask(op.SignalTasks(902, (ID,), 2))
    (signal,) = world.sends(m.Signal)
    world.source.say(m.Done(signal.order, "moving", "stands still"))
    world.says(world.source, "frozen", size=10)
    world.says(world.target, "prepared", 2)
    assert not world.sends(m.Signal)
    world.says(world.target, "running", 2)
    (again,) = [a for a in world.last if isinstance(a, do.Send) and isinstance(a.message, m.Signal)]
    assert again.link == world.target.control


def test_a_task_that_ends_before_it_froze_ends_its_move() -> None:
    world = Flying()
    world.move()
    ended = Task(TASK.spec, Status.EXITED, pid=7, exit_code=0, log="/l")
    world.source.say(m.Changed((ended,)))
    assert world.core.moves.listed("", 1)[0].result == "aborted"


def test_followers_are_asked_for_at_the_destination_from_the_next_byte_on() -> None:
    world = Flying()
    world.ask(op.FollowLogs(903, (ID,), live=True))
    (follow,) = world.sends(m.Follow)
    world.source.say(m.Chunk(follow.stream, 0, b"0\n1\n"))
    world.prepared()
    world.says(world.target, "running", 2)
    (again,) = [a for a in world.last if isinstance(a, do.Send) and isinstance(a.message, m.Follow)]
    assert again.link == world.target.control and again.message.offset == 4  # type: ignore[attr-defined]


def test_a_stale_copy_ends_on_contact() -> None:
    world = Flying()
    world.prepared()
    world.says(world.target, "running", 2)
    world.says(world.source, "finished")
    world.source.say(m.Changed((TASK,)))
    assert world.verdicts() == [("end", 2)]


def test_a_master_that_starts_repeats_what_it_has_on_record() -> None:
    world = Flying()
    world.prepared()
    world.target.cut()
    world.target.join()
    world.target.say(m.Report(()))
    assert ("commit", 2) in world.verdicts() and world.owner() == ("n2", 2)


def test_the_report_has_the_gap_that_the_task_saw_by_one_clock() -> None:
    world = Flying()
    world.move()
    world.says(world.target, "reserved", 2, port=99)
    world.says(world.source, "frozen", size=10, at=50.0, boot="b", phases={"freeze": 0.5})
    world.says(world.target, "prepared", 2)
    world.says(world.target, "running", 2, at=50.008, boot="b", phases={"restore": 0.25})
    view = world.core.moves.listed("", 1)[0]
    assert (view.blackout_ms, view.blackout_is_bound, view.size) == (8.0, False, 10)
    assert view.phases_ms["freeze"] == 0.5 and view.phases_ms["restore"] == 0.25
    assert view.state == State.RAN.value
