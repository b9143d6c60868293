"""A move whose memory follows the task: how it is chosen, and what the master makes of it."""

import pytest
from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.task.verdict import Place, Traits
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd.moves.budget import FIRST, LATER, STOP
from masterd.moves.here import REPEAT_S
from masterd.moves.silence import HELD_S
from tests.mastering import FakeNode, Mastering

ID = "t1234567"
TASK = Task(Spec(ID, (b"sleep", b"9"), home="n1", contained=True), Status.RUNNING, pid=7, log="/l")
CAN = ("shell", "apart", "criu=4.1.1", "lazy")
PLACE = Place("n2", "x86_64", CAN)
GIB = 1 << 30


class Flying(Mastering):
    """Two nodes, a task as it is on the first, and an operator with little time."""

    def __init__(self, can: tuple[str, ...] = CAN, memory: int = GIB) -> None:
        super().__init__()
        self.source, self.target = self.node("n1", TASK), self.node("n2")
        for node in (self.source, self.target):
            node.say(m.Able(can, {} if "lazy" in can else {"lazy": "no userfaultfd"}))
        self.memory = memory

    def move(self, budget_ms: float, **more: object) -> list[op.Reply]:
        self.ask(op.MoveTask(
            self.id(), ID, "n2", budget_ms=budget_ms, **more  # type: ignore[arg-type]
        ))
        (order,) = self.sends(m.Describe)
        self.source.say(m.Described(order.order, Traits("x86_64", memory_bytes=self.memory)))
        (survey,) = self.sends(m.Survey)
        self.target.say(m.Surveyed(survey.order, PLACE))
        return self.replies()

    def says(
        self, node: FakeNode, state: m.MoveState, epoch: int = 1, **more: object
    ) -> list[do.Action]:
        (view,) = self.core.moves.listed("", 10)
        return node.say(m.Standing(view.id, ID, epoch, state, **more))  # type: ignore[arg-type]

    def draining(self, **more: object) -> None:
        self.move(400.0, **more)
        self.says(self.target, "reserved", 2, port=99)
        self.says(self.source, "frozen", size=10, at=1.0, wall=101.0, boot="b")
        self.says(self.target, "prepared", 2)
        self.says(self.target, "draining", 2, at=1.25, wall=101.25, boot="b")

    def verdicts(self) -> list[tuple[str, int]]:
        return [(v.verdict, v.epoch) for v in self.sends(m.Verdict)]

    @property
    def shown(self) -> op.MoveView:
        (view,) = self.core.moves.listed("", 10)
        return view


def test_the_prediction_comes_first_and_both_ends_are_told_which_way() -> None:
    world = Flying()
    predicted = FIRST[LATER].ms(GIB)
    (told,) = world.move(400.0)
    assert isinstance(told, op.Progress)
    assert told.text == (
        f"{ID}: predicted to stand still for {predicted:.0f} ms by post-copy; the budget is 400 ms"
    )
    (reserve,) = world.sends(m.Reserve)
    assert reserve.lazy
    world.says(world.target, "reserved", 2, port=99)
    (freeze,) = world.sends(m.Freeze)
    assert freeze.lazy
    assert (world.shown.way, world.shown.predicted_ms) == (LATER, predicted)


def test_a_budget_that_the_safe_way_keeps_to_is_moved_by_that() -> None:
    world = Flying(memory=1 << 20)
    world.move(400.0)
    (reserve,) = world.sends(m.Reserve)
    assert (reserve.lazy, world.shown.way) == (False, STOP)


def test_what_cannot_be_kept_to_is_refused_before_anybody_is_asked_for_room() -> None:
    world = Flying()
    (refused,) = world.move(1.0)
    assert isinstance(refused, op.Problem)
    assert refused.code == "budget"
    assert "--anyway" in refused.hint
    assert not world.sends(m.Reserve) and not world.core.moves.is_moving(ID)
    (refused,) = (without := Flying(tuple(word for word in CAN if word != "lazy"))).move(400.0)
    assert isinstance(refused, op.Problem)
    assert "n1: no userfaultfd" in refused.hint
    assert not without.sends(m.Reserve)
    world = Flying()
    world.move(1.0, anyway=True)
    (reserve,) = world.sends(m.Reserve)
    assert reserve.lazy


def test_a_source_hears_nothing_while_it_is_needed_and_ends_its_copy_afterwards() -> None:
    world = Flying()
    world.draining()
    (kept,) = world.done(do.KeepMove)
    assert kept.move.state == "draining"
    assert world.verdicts() == []
    assert world.core.registry.where[ID].name == "n2"
    assert world.shown.result == ""
    # Whatever it repeats, and whenever it comes back.
    world.says(world.source, "frozen", size=10)
    assert world.verdicts() == []
    world.says(world.target, "running", 2, at=1.25, wall=101.25, boot="b")
    assert world.verdicts() == [("finish", 2)]
    world.says(world.source, "finished")
    (reply,) = [r for r in world.replies() if isinstance(r, op.Moves)]
    (view,) = reply.moves
    assert (view.result, view.way, view.blackout_ms) == ("done", LATER, 250.0)


def test_what_lost_its_memory_is_held_and_a_person_can_have_it_back() -> None:
    world = Flying()
    world.draining()
    world.says(world.target, "lost", 2, code="pages", text="cut")
    (reply,) = [r for r in world.replies() if isinstance(r, op.Moves)]
    assert (reply.moves[0].result, reply.moves[0].state) == ("held", "draining")
    assert reply.moves[0].reason == "it ran on n2: cut"
    assert "where it stood still" in reply.moves[0].hint
    assert ID in world.core.registry.held
    world.ask(op.ResolveMove(world.id(), world.shown.id, "source"))
    assert sorted(world.verdicts()) == [("end", 3), ("resume", 3)]
    assert world.core.registry.where[ID].name == "n1"
    world.says(world.target, "discarded", 3)
    world.says(world.source, "resumed", 3)
    assert world.shown.result == "reverted"


def test_or_it_is_back_by_itself_when_that_was_said_beforehand() -> None:
    world = Flying()
    world.draining(on_unknown="resume")
    world.says(world.target, "lost", 2, code="pages", text="cut")
    assert sorted(world.verdicts()) == [("end", 3), ("resume", 3)]


def test_a_person_can_give_up_what_the_source_has() -> None:
    world = Flying()
    world.draining()
    world.says(world.target, "lost", 2, code="pages", text="cut")
    world.ask(op.ResolveMove(world.id(), world.shown.id, "destination"))
    assert ("finish", 2) in world.verdicts()
    world.says(world.source, "finished")
    assert world.shown.state == "done"


def test_nothing_is_resolved_while_both_ends_are_well() -> None:
    world = Flying()
    world.draining()
    (problem,) = world.ask(op.ResolveMove(world.id(), world.shown.id, "source"))
    assert isinstance(problem, op.Problem)
    assert problem.code == "not-held"


def test_a_destination_that_is_not_heard_is_held_and_goes_on_when_it_is() -> None:
    world = Flying()
    world.draining()
    world.wait(2 * HELD_S, world.source, world.target)
    assert not world.core.registry.held  # it is heard: it has all the time there is
    world.target.cut()
    world.wait(HELD_S + 2 * REPEAT_S, world.source)
    assert "cannot be reached" in world.core.registry.held[ID]
    world.target.join()
    world.target.say(m.Report((replace(TASK, spec=replace(TASK.spec, epoch=2)),)))
    world.says(world.target, "draining", 2)
    assert not world.core.registry.held
    world.says(world.target, "running", 2)
    assert ("finish", 2) in world.verdicts()


@pytest.mark.parametrize("ends", ["running", "lost"])
def test_a_master_that_starts_goes_on_with_a_drain(ends: m.MoveState) -> None:
    world = Flying()
    world.draining()
    (kept,) = world.done(do.KeepMove)
    world.core.moves.load([kept.move], 0.0)
    assert world.shown.state == "draining"
    world.says(world.target, ends, 2)
    assert world.shown.result == {"running": "done", "lost": "held"}[ends]
    assert world.shown.blackout_ms == 250.0
