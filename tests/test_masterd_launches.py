"""From Execute to tasks that run, each started once: as the master's core sees it."""

import hashlib

import pytest

from godwit.task.lifecycle import Status
from godwit.task.record import Spec
from godwit.wire import frames
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd import events as on
from masterd import launches
from masterd.launches import ANSWER_S, EACH_S, MOST, MOST_BYTES
from masterd.registry import Node
from tests.mastering import OPERATOR, Mastering, task

ONE, TWO = "t0000001", "t0000002"


def answer(world: Mastering) -> op.Tasks | op.Launched:
    (reply,) = [r for r in world.replies() if isinstance(r, op.Tasks | op.Launched)]
    return reply


def statuses(reply: op.Tasks | op.Launched) -> dict[str, Status]:
    return {view.task.id: view.task.status for view in reply.tasks}


def test_a_launch_is_recorded_before_it_is_sent_and_answered_when_it_runs() -> None:
    world = Mastering()
    node = world.node()
    world.ask(op.Execute(5, "n1", (b"echo", b"\xff"), name="x", env={b"A": b"b"}))
    spec = Spec("", (b"echo", b"\xff"), home="n1", name="x", env={b"A": b"b"}, asked_at=1e9 + 100.0)
    kinds = [type(action) for action in world.last]
    assert kinds == [do.KeepTask, do.Confirm, do.Send]
    assert world.last[-1] == do.Send(node.control, m.Launch(spec, (ONE,)))
    node.say(m.Changed((task(ONE),)))
    assert answer(world) == op.Tasks(5, (op.TaskView("n1", task(ONE)),))
    assert world.is_idle() and world.core.deadline() == world.now + 6.0


def test_copies_on_several_nodes_have_ids_of_their_own() -> None:
    world = Mastering()
    nodes = [world.node("n1"), world.node("n2")]
    number = world.execute("all", count=2)
    assert [launch.tasks for launch in world.sends(m.Launch)] == [
        (ONE, TWO), ("t0000003", "t0000004")
    ]
    kept = [kept.task.spec for kept in world.done(do.KeepTask)]
    assert [(spec.home, spec.index) for spec in kept] == [
        ("n1", 0), ("n1", 1), ("n2", 0), ("n2", 1)
    ]
    nodes[0].say(m.Changed((task(ONE), task(TWO))))
    assert not world.replies()
    nodes[1].say(m.Changed((task("t0000003"), task("t0000004", Status.EXITED, 0))))
    assert answer(world).id == number and len(answer(world).tasks) == 4


def test_a_launch_that_is_refused_is_no_task() -> None:
    world = Mastering()
    node = world.node()
    world.execute(count=2)
    dropped = node.say(m.Rejected((ONE,), "ENOENT", "true: No such file"))
    assert do.DropTask(ONE) in dropped and not world.replies()
    node.say(m.Rejected((TWO,), "ENOENT", "true: No such file"))
    assert answer(world).faults == (op.Fault("n1", "ENOENT", "n1: true: No such file"),)
    assert answer(world).tasks == () and not world.core.registry.where and world.is_idle()
    assert node.say(m.Rejected((TWO,), "ENOENT", "again")) == []


def slow_disk() -> Mastering:
    """A master whose disk has not said anything yet."""
    world = Mastering()
    world.records = False
    return world


def full(confirm: do.Confirm) -> on.Unrecorded:
    """The disk says no."""
    return on.Unrecorded(confirm.number, "disk is full")


@pytest.mark.parametrize("follow", [False, True])
def test_a_launch_that_cannot_be_recorded_is_refused_and_was_never_a_task(follow: bool) -> None:
    world = slow_disk()
    world.node("n1")
    world.node("n2")
    number = world.execute("all", follow=follow, count=2)
    (confirm,) = world.done(do.Confirm)
    assert not world.sends(m.Launch)
    world(full(confirm))
    assert len(world.done(do.DropTask)) == 4 and not world.sends(m.Launch)
    refusal = answer(world)
    assert (refusal.id, refusal.tasks) == (number, ())
    assert [(f.about, f.code) for f in refusal.faults] == [
        ("n1", "unrecorded"), ("n2", "unrecorded")
    ]
    assert "(disk is full): nothing was started" in refusal.faults[0].message
    assert world.is_idle() and not world.core.registry.where


@pytest.mark.parametrize("takes", [True, False])
def test_on_a_new_connection_a_launch_is_not_sent_before_it_is_recorded(takes: bool) -> None:
    world = slow_disk()
    node = world.node()
    world.execute()
    (confirm,) = world.done(do.Confirm)
    node.cut()
    node.join()
    node.say(m.Report(()))
    assert not world.sends(m.Launch)
    if takes:
        world(on.Recorded(confirm.number))
        assert [launch.tasks for launch in world.sends(m.Launch)] == [(ONE,)]
        node.say(m.Changed((task(ONE),)))
        assert statuses(answer(world)) == {ONE: Status.RUNNING}
    else:
        world(full(confirm))
        assert answer(world).faults[0].code == "unrecorded" and not world.sends(m.Launch)
    assert world.is_idle()


def test_a_launch_that_was_answered_before_the_disk_said_no_is_answered_once() -> None:
    world = slow_disk()
    node = world.node()
    world.execute()
    (confirm,) = world.done(do.Confirm)
    world.wait(ANSWER_S + 1, node)
    assert [fault.code for reply in world.all if isinstance(reply, do.Answer)
            if isinstance(reply.reply, op.Tasks) for fault in reply.reply.faults] == ["no-answer"]
    world(full(confirm))
    assert not world.replies() and world.done(do.DropTask) and world.is_idle()


def test_of_a_launch_the_tasks_that_went_meanwhile_are_not_sent() -> None:
    world = slow_disk()
    node = world.node()
    world.execute(count=3)
    (confirm,) = world.done(do.Confirm)
    node.say(m.Forgotten((TWO,)))
    world(on.Recorded(confirm.number))
    sent = world.sends(m.Launch)
    assert [(launch.tasks, launch.spec.index) for launch in sent] == [
        ((ONE,), 0), (("t0000003",), 2)
    ]


def test_a_follow_of_a_launch_begins_when_it_is_sent_and_not_before() -> None:
    world = slow_disk()
    node = world.node()
    world.execute(follow=True)
    (confirm,) = world.done(do.Confirm)
    node.cut()
    node.join()
    node.say(m.Report(()))
    node.join("stream")
    assert not world.sends(m.Follow)
    world(on.Recorded(confirm.number))
    (launch,) = world.sends(m.Launch)
    assert launch.streams == (1,)


def test_a_launch_for_which_there_is_no_node_waits_for_no_disk() -> None:
    world = slow_disk()
    world.node().cut()
    world.execute()
    assert answer(world).faults[0].code == "unreachable" and not world.done(do.Confirm)


def test_what_runs_is_not_refused_by_a_late_word() -> None:
    world = Mastering()
    node = world.node()
    world.execute()
    node.say(m.Changed((task(ONE),)))
    assert node.say(m.Rejected((ONE,), "x", "x")) == []
    assert ONE in world.core.registry.where


def test_a_node_that_is_away_is_a_fault_and_the_others_run() -> None:
    world = Mastering()
    world.node("n1").cut()
    node = world.node("n2")
    world.execute("n1,n2")
    node.say(m.Changed((task(ONE),)))
    assert statuses(answer(world)) == {ONE: Status.RUNNING}
    assert [fault.about for fault in answer(world).faults] == ["n1"]


def test_with_no_node_there_the_answer_is_at_once() -> None:
    world = Mastering()
    world.node().cut()
    world.execute(follow=True)
    assert answer(world).tasks == () and world.is_idle() and not world.core.registry.where


@pytest.mark.parametrize(("request_", "code"), [
    (op.Execute(1, "n1", (b"x",), count=0), "bad-count"),
    (op.Execute(1, "n1", (b"x",), count=-1), "bad-count"),
    (op.Execute(1, "n1", (b"x",), count=MOST + 1), "bad-count"),
    (op.Execute(1, "n1", ()), "usage"), (op.Execute(1, "nope", (b"x",)), "no-such-node"),
    (op.Execute(1, "n1", (b"x" * MOST_BYTES, b"y")), "E2BIG"),
    (op.Execute(1, "n1", (b"x",), env={b"A": b"y" * MOST_BYTES}), "E2BIG"),
])
def test_what_cannot_be_launched_is_refused_and_leaves_nothing(
    request_: op.Execute, code: str
) -> None:
    world = Mastering()
    world.node()
    (problem,) = world.ask(request_)
    assert isinstance(problem, op.Problem) and problem.code == code
    assert world.is_idle() and not world.core.registry.where


def test_without_nodes_nothing_is_launched() -> None:
    (problem,) = Mastering().ask(op.Execute(1, "all", (b"x",)))
    assert isinstance(problem, op.Problem) and problem.code == "no-such-node"


def test_the_largest_launch_fits_into_a_frame() -> None:
    world = Mastering()
    world.node()
    world.ask(op.Execute(1, "n1", (b"x" * MOST_BYTES,), count=MOST, follow=True))
    (launch,) = world.sends(m.Launch)
    assert len(m.encode(launch)) < frames.CONTROL_LIMIT


# ---- what may get lost ---------------------------------------------------------------------


def test_a_launch_that_the_node_did_not_get_is_sent_again_once() -> None:
    world = Mastering()
    node = world.node()
    world.execute(count=2)
    node.cut()
    node.join()
    node.say(m.Report((task(ONE),)))
    (again,) = world.sends(m.Launch)
    assert again.tasks == (TWO,) and again.spec.index == 1
    assert node.say(m.Report((task(ONE),))) and not world.core.launches.is_waiting(ONE)
    node.say(m.Changed((task(TWO),)))
    assert statuses(answer(world)) == {ONE: Status.RUNNING, TWO: Status.RUNNING}


def test_a_launch_sent_just_before_the_first_report_is_not_sent_twice() -> None:
    world = Mastering()
    node = world.node()
    node.cut()
    node.join()
    world.execute()
    node.say(m.Report(()))
    assert not world.sends(m.Launch) and world.core.launches.is_waiting(ONE)
    node.say(m.Changed((task(ONE),)))
    assert statuses(answer(world)) == {ONE: Status.RUNNING}


def test_a_report_in_parts_is_whole_with_its_last_part() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"), task("bbbbbbbb"))
    node.join()
    node.say(m.Report((task("bbbbbbbb"),), last=False))
    assert set(world.core.registry.where) == {"aaaaaaaa", "bbbbbbbb"}
    node.say(m.Report(()))
    assert do.DropTask("aaaaaaaa") in world.last
    assert set(world.core.registry.where) == {"bbbbbbbb"}


def test_a_report_cut_in_the_middle_forgets_nothing() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"), task("bbbbbbbb"))
    node.join()
    node.say(m.Report((task("bbbbbbbb"),), last=False))
    node.join()
    node.say(m.Report((task("aaaaaaaa"),)))
    assert set(world.core.registry.where) == {"aaaaaaaa"}


SOURCE = b"class T: ..."
DIGEST = hashlib.sha256(SOURCE).hexdigest()


def test_a_python_task_goes_out_with_its_source_which_is_kept_first() -> None:
    world = Mastering()
    node = world.node()
    world.ask(op.Execute(5, "n1", (b"t.py:T", b"1"), kind="python", source=SOURCE))
    assert [type(action) for action in world.last] == [
        do.KeepTask, do.KeepSource, do.Confirm, do.Send
    ]
    assert world.last[1] == do.KeepSource(DIGEST, SOURCE)
    (sent,) = world.sends(m.Launch)
    assert (sent.spec.kind, sent.spec.digest, sent.source) == ("python", DIGEST, SOURCE)
    world.ask(op.Execute(6, "n1", (b"t.py:T", b"2"), kind="python", source=SOURCE))
    assert not [a for a in world.last if isinstance(a, do.KeepSource)]
    assert do.DropSource(DIGEST) not in node.say(m.Rejected((ONE,), "usage", "usage: T"))
    assert do.DropSource(DIGEST) in node.say(m.Rejected((TWO,), "usage", "usage: T"))


def test_a_python_task_that_the_node_did_not_get_is_sent_again_with_its_source() -> None:
    world = Mastering()
    node = world.node()
    world.ask(op.Execute(5, "n1", (b"t.py:T",), kind="python", source=SOURCE))
    node.cut()
    node.join()
    node.say(m.Report(()))
    (again,) = world.sends(m.Launch)
    assert again.tasks == (ONE,) and again.source == SOURCE


def test_a_node_that_cannot_run_python_is_a_fault() -> None:
    world = Mastering()
    node = world.node()
    node.cut()
    node.can = ("shell",)
    node.join()
    node.say(m.Report(()))
    world.ask(op.Execute(5, "n1", (b"CountProcess", b"1"), kind="python"))
    assert answer(world).faults == (op.Fault("n1", "cannot", "n1 has no python tasks"),)


@pytest.mark.parametrize("request_", [
    op.Execute(5, "n1", (b"x",), kind="criu"), op.Execute(5, "n1", (b"x",), source=b"x"),
    op.Execute(5, "n1", (b"x",), kind="python", source=bytes(MOST_BYTES)),
])
def test_a_launch_of_no_kind_is_refused(request_: op.Execute) -> None:
    world = Mastering()
    world.node()
    world.ask(request_)
    assert isinstance(world.replies()[-1], op.Problem) and not world.sends(m.Launch)


def test_programs_are_what_connected_nodes_say() -> None:
    world = Mastering()
    world.node()
    world.node("n2").cut()
    world.ask(op.ListPrograms(5))
    assert world.replies()[-1] == op.Programs(5, (op.NodePrograms("n1", {"P": "X: does"}),))


def test_silent_nodes_are_not_waited_for_and_what_they_started_counts() -> None:
    world = Mastering()
    node = world.node()
    number = world.execute()
    world.wait(ANSWER_S, node)
    assert answer(world).id == number and statuses(answer(world)) == {ONE: Status.STARTING}
    assert [fault.code for fault in answer(world).faults] == ["no-answer"]
    assert world.is_idle()
    node.say(m.Changed((task(ONE),)))
    assert not world.replies() and ONE in world.core.registry.where


def test_what_its_node_has_no_record_of_is_unknown_and_not_waited_for() -> None:
    world = Mastering()
    node = world.node()
    world.execute()
    world.wait(ANSWER_S, node)
    world.ask(op.AwaitTasks(9, (ONE,)))
    node.cut()
    node.join()
    node.say(m.Report(()))
    assert statuses(answer(world)) == {ONE: Status.UNKNOWN} and answer(world).id == 9
    assert world.is_idle()
    world.ask(op.ForgetTasks(10, (ONE,)))
    node.say(m.Done(world.sends(m.Forget)[0].order, "no-task", "no such task on this node"))
    assert not answer(world).faults and not world.core.registry.where


def test_what_is_kept_from_before_a_restart_and_never_got_there_is_unknown() -> None:
    world = Mastering()
    known = Node("n1", "id of n1")
    world.core.registry.nodes["n1"] = known
    world.core.registry.put(known, task(ONE, Status.STARTING))
    world.core.registry.put(known, task(TWO, Status.STARTING))
    world.node("n1", task(TWO))
    where = world.core.registry.where
    assert where[ONE].tasks[ONE].status is Status.UNKNOWN
    assert where[TWO].tasks[TWO].status is Status.RUNNING


@pytest.mark.parametrize("end", ["forgotten", "left", "refused late"])
def test_a_launch_whose_task_goes_is_answered(end: str) -> None:
    world = Mastering()
    node = world.node()
    number = world.execute()
    if end == "forgotten":
        node.say(m.Forgotten((ONE,)))
    elif end == "refused late":
        node.say(m.Changed((task(ONE, Status.STARTING),)))
        node.say(m.Rejected((ONE,), "ENOENT", "no"))
    else:
        world.ask(op.Deregister(9, "n1"))
        node.say(m.Leaving("deregistered"))
    reply = answer(world)
    assert reply.id == number and not reply.tasks and reply.faults
    assert world.is_idle()
    world.wait(ANSWER_S)


def test_an_operator_that_goes_leaves_a_launch_that_goes_on() -> None:
    world = Mastering()
    node = world.node()
    world.execute(follow=True)
    world(on.OperatorGone(OPERATOR))
    assert world.sends(m.Unfollow) == [m.Unfollow(1)]
    node.say(m.Changed((task(ONE),)))
    assert ONE in world.core.registry.where and world.is_idle()


def test_launches_are_late_in_their_order() -> None:
    world = Mastering()
    node = world.node()
    numbers = []
    for _ in range(3):
        numbers.append(world.execute())
        world.wait(2, node)
    late = []
    for _ in range(30):
        world.wait(0.5, node)
        late += [reply.id for reply in world.replies()]
    assert late == numbers


def test_a_launch_of_many_has_more_time_than_one_that_is_begun_later() -> None:
    world = Mastering()
    node = world.node()
    many = world.execute(count=101)
    one = world.execute()
    world.wait(ANSWER_S, node)
    assert [reply.id for reply in world.replies()] == [one]
    world.wait(100 * EACH_S - 0.1, node)
    assert not world.replies()
    world.wait(0.1, node)
    assert [reply.id for reply in world.replies()] == [many] and world.is_idle()


def test_a_thousand_tasks_cost_one_look_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    real = launches.Launches._answer_if_complete

    def count(self: launches.Launches, launch: launches.Launch) -> object:
        nonlocal looks
        looks += 1
        return real(self, launch)

    monkeypatch.setattr(launches.Launches, "_answer_if_complete", count)
    world = Mastering()
    node = world.node()
    world.execute(count=1000)
    for name in list(world.core.registry.where):
        node.say(m.Changed((task(name),)))
    assert len(answer(world).tasks) == 1000 and looks == 1000


def test_a_process_is_adopted_once_on_one_node() -> None:
    world = Mastering()
    node = world.node("n1")
    node.can = ("shell", "adopted")
    node.join()
    world.node("n2")
    for request in (
        op.Execute(1, "all", (b"7",), kind="adopted"),
        op.Execute(1, "n1", (b"7",), kind="adopted", count=2),
    ):
        (problem,) = world.ask(request)
        assert isinstance(problem, op.Problem) and problem.code == "bad-count"
    world.ask(op.Execute(1, "n1", (b"7",), kind="adopted"))
    (launch,) = world.sends(m.Launch)
    assert (launch.spec.kind, launch.spec.argv) == ("adopted", (b"7",))


def test_a_node_that_adopts_nothing_says_so() -> None:
    world = Mastering()
    world.node("n1")
    (reply,) = world.ask(op.Execute(1, "n1", (b"7",), kind="adopted"))
    assert isinstance(reply, op.Tasks) and reply.faults[0].message == "n1 has no adopted tasks"
