"""Whether a task can move, as the master's core finds it out: who is asked, and what is told."""

import pytest
from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.task.verdict import Binary, OpenFile, Place, Traits, Verdict
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd import events as on
from masterd.moves import objections, places
from masterd.moves.table import Move
from masterd.orders import ANSWER_S
from tests.mastering import OPERATOR, FakeNode, Mastering

T = "aaaaaaaa"
PYTHON = Task(Spec(T, (b"P", b"1"), kind="python", home="n1"), Status.RUNNING, pid=7)
SHELL = Task(Spec(T, (b"sleep", b"9"), home="n1", contained=True), Status.RUNNING, pid=7)
TRAITS = Traits("x86_64", files=(OpenFile(b"/etc/conf", 9), OpenFile(b"/w/out", 1, carried=True)))
CAN = ("python", "apart", "criu=4.1.1")
PLACE = Place("n2", "x86_64", CAN, programs=frozenset({"P"}))


def world_with(task: Task, *others: str) -> tuple[Mastering, FakeNode, list[FakeNode]]:
    world = Mastering()
    nodes = [world.node("n1", task), *(world.node(name) for name in others)]
    for node in nodes:
        node.say(m.Able(CAN))
    return world, nodes[0], nodes[1:]


def described(world: Mastering, source: FakeNode, traits: Traits = TRAITS) -> list[m.Survey]:
    """The task's node tells; what is asked then."""
    (order,) = world.sends(m.Describe)
    source.say(m.Described(order.order, traits))
    return world.sends(m.Survey)


def verdicts(world: Mastering) -> tuple[Verdict, ...]:
    (answer,) = world.replies()
    assert isinstance(answer, op.Verdicts), answer
    assert world.is_idle()
    return answer.verdicts


@pytest.fixture
def as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks can be moved as they are."""
    monkeypatch.setitem(objections.WAYS, "shell", "criu")


# ---- why -----------------------------------------------------------------------------------


def test_the_tasks_node_is_asked_first_and_then_all_others_for_what_it_needs() -> None:
    world, source, others = world_with(PYTHON, "n2", "n3")
    assert world.ask(op.JudgeMove(5, T)) == []
    assert world.sends(m.Describe) == [m.Describe(1, T)]
    surveys = described(world, source)
    assert [(each.spec, each.paths) for each in surveys] == 2 * [(PYTHON.spec, (b"/etc/conf",))]
    others[1].say(m.Surveyed(surveys[1].order, PLACE))
    assert not world.replies()
    others[0].say(m.Surveyed(surveys[0].order, replace(PLACE, files={})))
    told = verdicts(world)
    # It speaks only for itself, whatever name it gives.
    assert [(each.node, each.verdict, each.kind) for each in told] == [
        ("n2", "no", "python"), ("n3", "no", "python"),
    ]
    assert [reason.code for reason in told[0].reasons] == ["file-missing"]


def test_what_a_task_runs_on_is_asked_for_when_it_moves_as_it_is(as_it_is: None) -> None:
    world, source, (other,) = world_with(SHELL, "n2")
    world.ask(op.JudgeMove(5, T, "n2"))
    traits = replace(TRAITS, binaries=(Binary(b"/bin/sleep", 5),), cwd=b"/w")
    (survey,) = described(world, source, traits)
    assert survey.paths == (b"/bin/sleep", b"/etc/conf", b"/w")
    other.say(m.Surveyed(survey.order, PLACE))
    (told,) = verdicts(world)
    assert [reason.code for reason in told.reasons] == ["file-missing", "cwd", "file-missing"]


def test_a_kind_that_cannot_move_yet_is_told_beside_what_else_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(objections.WAYS, "shell")
    world, source, (other,) = world_with(SHELL, "n2")
    world.ask(op.JudgeMove(5, T, "n2"))
    (survey,) = described(world, source, Traits("x86_64", contained=False))
    other.say(m.Surveyed(survey.order, PLACE))
    (told,) = verdicts(world)
    assert [reason.code for reason in told.reasons] == ["kind", "plain"]


def test_a_node_that_cannot_be_asked_has_that_for_a_reason() -> None:
    world, source, (other,) = world_with(PYTHON, "n2")
    other.cut()
    world.ask(op.JudgeMove(5, T))
    assert described(world, source) == []
    (told,) = verdicts(world)
    assert (told.verdict, [reason.code for reason in told.reasons]) == ("no", ["unreachable"])


@pytest.mark.parametrize("who", ["source", "target"])
@pytest.mark.parametrize("end", ["cut", "late", "failed", "nonsense"])
def test_who_does_not_answer_is_told_as_a_no(who: str, end: str) -> None:
    world, source, (other,) = world_with(PYTHON, "n2")
    world.ask(op.JudgeMove(5, T))
    order, node = 1, source
    if who == "target":
        (survey,) = described(world, source)
        order, node = survey.order, other
    if end == "cut":
        node.cut()
    elif end == "late":
        world.wait(ANSWER_S, source, other)
    elif end == "failed":
        node.say(m.Done(order, "timeout", "looking took more than 8 s"))
    else:
        node.say(m.Done(order))
    (told,) = verdicts(world)
    assert told.verdict == "no" and told.blackout_ms is None
    codes = {"cut": "lost", "late": "timeout", "failed": "timeout", "nonsense": "bad-answer"}
    assert codes[end] in [reason.code for reason in told.reasons]


@pytest.mark.parametrize(("status", "code"), [
    (Status.EXITED, "ended"), (Status.PAUSED, "paused"), (Status.FROZEN, "moving"),
])
def test_how_the_task_is_counts_too(status: Status, code: str) -> None:
    world, _, _ = world_with(replace(PYTHON, status=status), "n2")
    world.ask(op.JudgeMove(5, T))
    (order,) = world.sends(m.Describe)
    world(on.Received(1, m.Done(order.order, "ended", "it does not run")))
    (told,) = verdicts(world)
    assert told.reasons[0].code == code


def test_alone_it_has_nowhere_to_go() -> None:
    world, _, _ = world_with(PYTHON)
    world.ask(op.JudgeMove(5, T))
    assert verdicts(world) == ()


@pytest.mark.parametrize(("task", "nodes", "code"), [
    (T, "n1", "there"), (T, "home", "there"), (T, "nothing", "no-such-node"),
    ("nothing", "n2", "no-such-task"),
])
def test_what_makes_no_sense_is_refused(task: str, nodes: str, code: str) -> None:
    world, _, _ = world_with(PYTHON, "n2")
    (answer,) = world.ask(op.JudgeMove(5, task, nodes))
    assert isinstance(answer, op.Problem) and answer.code == code
    assert world.is_idle()


def test_who_has_left_is_told_nothing() -> None:
    world, source, (other,) = world_with(PYTHON, "n2")
    world.ask(op.JudgeMove(5, T))
    (survey,) = described(world, source)
    world(on.Asked(OPERATOR, op.Cancel(5)))
    assert world.is_idle() or world.core.judging._waiting == set()
    other.say(m.Surveyed(survey.order, PLACE))
    assert not world.replies() and world.is_idle()


# ---- move ----------------------------------------------------------------------------------


def test_a_python_task_is_moved_without_asking_anybody_first() -> None:
    world, _, _ = world_with(PYTHON, "n2")
    assert world.ask(op.MoveTask(5, T, "n2")) == []
    assert not world.sends(m.Describe) and len(world.sends(m.Reserve)) == 1


def test_a_python_task_is_refused_at_once_for_what_is_known_by_heart() -> None:
    world, _, (other,) = world_with(replace(PYTHON, spec=Spec(T, (b"Q",), kind="python")), "n2")
    (answer,) = world.ask(op.MoveTask(5, T, "n2"))
    assert isinstance(answer, op.Problem)
    assert (answer.code, answer.message) == ("no-program", "n2 has no program Q")
    other.say(m.Able(("shell",), {"python": "its policy lets 1 template run"}))
    (answer,) = world.ask(op.MoveTask(6, T, "n2"))
    assert isinstance(answer, op.Problem) and answer.code == "python"
    assert "its policy lets 1 template run" in answer.message
    assert not world.done(do.Send)


def test_a_task_is_judged_before_it_moves_as_it_is(as_it_is: None) -> None:
    world, source, (other,) = world_with(SHELL, "n2")
    assert world.ask(op.MoveTask(5, T, "n2")) == []
    assert not world.sends(m.Reserve)
    (survey,) = described(world, source, Traits("x86_64"))
    other.say(m.Surveyed(survey.order, PLACE))
    assert [each.move for each in world.sends(m.Reserve)] == ["mabababab"]


def test_a_task_that_cannot_move_as_it_is_is_refused_with_the_verdicts_reason(
    as_it_is: None
) -> None:
    world, source, (other,) = world_with(SHELL, "n2")
    world.ask(op.MoveTask(5, T, "n2"))
    obstacles = (("tty", "/dev/pts/3"), ("device", "/dev/kvm"), ("pipe-unseen", "5"))
    (survey,) = described(world, source, Traits("x86_64", obstacles=obstacles))
    other.say(m.Surveyed(survey.order, PLACE))
    (answer,) = world.replies()
    assert answer == op.Problem(
        5, "tty", "it has a terminal: /dev/pts/3; and 1 more: `why` tells",
        "start it with execute: tasks have none",
    )
    assert not world.core.moves.is_moving(T) and world.is_idle()


@pytest.mark.parametrize("how", ["ended", "forgotten", "cancelled", "left"])
def test_what_changes_while_it_is_judged_ends_the_move_in_one_answer(
    as_it_is: None, how: str
) -> None:
    world, source, (other,) = world_with(SHELL, "n2")
    world.ask(op.MoveTask(5, T, "n2"))
    (survey,) = described(world, source, Traits("x86_64"))
    if how == "ended":
        source.say(m.Changed((replace(SHELL, status=Status.EXITED, exit_code=0),)))
    elif how == "forgotten":
        source.say(m.Forgotten((T,)))
    elif how == "cancelled":
        world(on.Asked(OPERATOR, op.Cancel(5)))
    else:
        world(on.OperatorGone(OPERATOR))
    other.say(m.Surveyed(survey.order, PLACE))
    assert not world.sends(m.Reserve) and world.is_idle()
    codes = {"ended": ["ended"], "forgotten": ["no-such-task"]}.get(how, [])
    told = [each for each in world.replies() if isinstance(each, op.Problem)]
    assert [each.code for each in told] == codes


# ---- what moves have taken -----------------------------------------------------------------


def flown(task: str, source: str, target: str, ms: float, size: int = 0, kind: str = "python"
          ) -> Move:
    return Move("m", task, source, target, kind, 1, blackout_ms=ms, size=size)


def test_an_estimate_is_of_the_nearest_moves_there_were() -> None:
    every = [flown("b", "n3", "n4", 90.0), flown("c", "n3", "n4", 50.0), flown("d", "n5", "n4", 70)]
    assert places.blackout_ms(T, "n1", "n2", []) is None
    assert places.blackout_ms(T, "n1", "n2", [flown(T, "n1", "n2", 500, kind="criu")]) is None
    assert places.blackout_ms(T, "n1", "n2", every) == 70
    between = [*every, flown("b", "n2", "n1", 9.0)]
    assert places.blackout_ms(T, "n1", "n2", between) == 9
    assert places.blackout_ms(T, "n1", "n2", [*between, flown(T, "n8", "n9", 0.2)]) == 1


def test_a_rate_is_of_big_moves_alone() -> None:
    small = flown("b", "n1", "n2", 100.0, 1000, "criu")
    assert places.rate("n1", "n2", [small]) == 0.0
    big = flown("b", "n2", "n1", 1090.0, 100 << 20, "criu")
    elsewhere = flown("b", "n3", "n4", 590.0, 100 << 20, "criu")
    assert places.rate("n1", "n2", [small, elsewhere]) == pytest.approx(200 << 20)
    assert places.rate("n1", "n2", [elsewhere, big]) == pytest.approx(100 << 20)


@pytest.mark.parametrize(("system", "kernel", "machine"), [
    ("Linux 6.18.5 x86_64", "6.18.5", "x86_64"), ("", "", ""), ("Linux", "", ""),
])
def test_kernel_and_machine_are_what_its_hello_said(
    system: str, kernel: str, machine: str
) -> None:
    world = Mastering()
    world.node("n1")
    node = world.core.registry.nodes["n1"]
    node.system = system
    assert (places.place(node).kernel, places.place(node).machine) == (kernel, machine)
