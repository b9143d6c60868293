"""Orders to nodes: each is answered once, whatever happens; as the master's core sees it."""

import pytest

from godwit.task.lifecycle import Status
from godwit.task.record import Usage
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd import events as on
from masterd.orders import ANSWER_S, Orders
from masterd.registry import Node
from tests.mastering import FAR, OPERATOR, FakeNode, Mastering, task

A, B = "aaaaaaaa", "bbbbbbbb"

REQUESTS: list[tuple[op.Request, type[m.Message]]] = [
    (op.SignalTasks(5, (A, B), 15, whole=True), m.Signal),
    (op.PauseTasks(5, (A, B), resume=True), m.Pause),
    (op.ForgetTasks(5, (A, B)), m.Forget),
]


def world_of_two() -> tuple[Mastering, FakeNode, FakeNode]:
    world = Mastering()
    return world, world.node("n1", task(A)), world.node("n2", task(B))


@pytest.mark.parametrize(("request_", "kind"), REQUESTS)
def test_an_order_goes_to_each_task_and_one_answer_comes_of_all(
    request_: op.Request, kind: type[m.Message]
) -> None:
    world, one, other = world_of_two()
    assert world.ask(request_) == []
    assert [type(a.message) for a in world.done(do.Send)] == [kind, kind]
    other.say(m.Done(2, "EPERM", "not yours"))
    assert not world.replies()
    one.say(m.Done(1))
    (answer,) = world.replies()
    assert isinstance(answer, op.Tasks)
    assert [view.task.id for view in answer.tasks] == [A]
    assert answer.faults == (op.Fault(B, "EPERM", f"{B} on n2: not yours"),)
    assert world.is_idle() and one.say(m.Done(1)) == []


@pytest.mark.parametrize("end", ["cut", "silence", "timeout", "goodbye", "replaced"])
@pytest.mark.parametrize("request_", [
    *(request for request, _ in REQUESTS), op.MeasureUsage(5),
    op.EraseFile(5, op.Place(b"/x", "n1")),
])
def test_an_order_is_answered_however_its_node_ends(end: str, request_: op.Request) -> None:
    world, one, other = world_of_two()
    world.ask(request_)
    for order in [a.message for a in world.done(do.Send) if a.link == other.control]:
        good = m.Measured(2, Usage()) if isinstance(order, m.Measure) else m.Done(2)
        other.say(good)
    if end == "cut":
        one.cut()
    elif end == "silence":
        world.wait(20, other)
    elif end == "timeout":
        world.wait(600 if isinstance(request_, op.EraseFile) else ANSWER_S, one, other)
    elif end == "goodbye":
        one.say(m.Leaving("SIGTERM"))
    else:
        one.join()
    (answer,) = [a.reply for a in world.all if isinstance(a, do.Answer) and a.reply.id == 5]
    code = "timeout" if end == "timeout" or (
        end == "silence" and not isinstance(request_, op.EraseFile)
    ) else "lost"
    if isinstance(answer, op.Tasks | op.Usages):
        assert [fault.code for fault in answer.faults] == [code]
    else:
        assert isinstance(answer, op.Problem) and answer.code == code
    assert world.is_idle()


def test_a_node_answers_only_its_own_orders() -> None:
    world, _, other = world_of_two()
    world.ask(op.SignalTasks(5, (A,), 15))
    assert other.say(m.Done(1)) == [] and not world.is_idle()


def test_a_node_that_is_away_is_a_fault_at_once() -> None:
    world, one, _ = world_of_two()
    one.cut()
    (answer,) = world.ask(op.SignalTasks(5, (A,), 15))
    assert isinstance(answer, op.Tasks) and answer.faults[0].code == "unreachable"


def test_a_good_answer_of_the_wrong_kind_is_a_fault() -> None:
    world, one, other = world_of_two()
    world.ask(op.MeasureUsage(5))
    one.say(m.Done(1))
    other.say(m.Copied(2, 1, 1, b""))
    (answer,) = world.replies()
    assert isinstance(answer, op.Usages)
    assert [fault.code for fault in answer.faults] == ["bad-answer", "bad-answer"]


def test_tasks_that_are_not_there_are_faults_and_the_others_are_acted_on() -> None:
    world, one, _ = world_of_two()
    world.ask(op.SignalTasks(5, ("nothing", A, "n1:7"), 15))
    assert len(world.sends(m.Signal)) == 1
    one.say(m.Done(1))
    (answer,) = world.replies()
    assert isinstance(answer, op.Tasks) and [f.about for f in answer.faults] == ["nothing"]


def test_a_removed_task_is_shown_as_it_last_was() -> None:
    world, one, _ = world_of_two()
    world.ask(op.ForgetTasks(5, (A,)))
    one.say(m.Forgotten((A,)))
    one.say(m.Done(1))
    (answer,) = world.replies()
    assert isinstance(answer, op.Tasks) and answer.tasks == (op.TaskView("n1", task(A)),)


@pytest.mark.parametrize("why", ["unknown there", "its node left"])
def test_what_only_the_master_knows_of_can_be_removed(why: str) -> None:
    world, one, _ = world_of_two()
    if why == "its node left":
        one.cut()
        world.ask(op.Deregister(4, "n1"))
    world.ask(op.ForgetTasks(5, (A,)))
    if why == "unknown there":
        one.say(m.Done(1, "no-task", "no such task on this node"))
    answer = world.replies()[-1]
    assert isinstance(answer, op.Tasks) and not answer.faults and len(answer.tasks) == 1
    assert A not in world.core.registry.where


def test_usage_is_live_for_what_runs_and_recorded_for_what_ended() -> None:
    world = Mastering()
    ended = task(B, Status.EXITED, 0)
    node = world.node("n1", task(A), ended)
    world.ask(op.MeasureUsage(5))
    node.say(m.Measured(1, Usage(minflt=9), {A: Usage(minflt=3), "forged": Usage()}))
    (answer,) = world.replies()
    assert isinstance(answer, op.Usages) and answer.nodes == (op.NodeUsage("n1", Usage(minflt=9)),)
    assert {v.task.id: v.task.usage for v in answer.tasks} == {A: Usage(minflt=3), B: None}
    world.ask(op.MeasureUsage(6, A))
    assert world.sends(m.Measure) == [m.Measure(2, (A,))]
    world.ask(op.MeasureUsage(7, "nothing"))
    assert isinstance(world.replies()[0], op.Problem)


def test_erasing_is_told_of_and_answered() -> None:
    world, one, _ = world_of_two()
    world.ask(op.EraseFile(5, op.Place(b"/x\xff", "n1"), recursive=True))
    assert world.sends(m.Erase) == [m.Erase(1, b"/x\xff", recursive=True)]
    one.say(m.Done(1))
    assert world.replies() == [op.Ok(5)]
    assert world.done(do.KeepEvent)[0].event.text == "removed n1:/x\\xff"


def test_an_answer_that_makes_another_order_unwanted_is_no_mistake() -> None:
    orders, node = Orders(), Node("n1", control=1)
    heard: list[m.Message] = []

    def then(answer: m.Message) -> object:
        heard.append(answer)
        orders.forget(2)
        return iter(())

    for number in (1, 2):
        list(orders.send(node, m.Erase(number, b""), number, 0.0, then))  # type: ignore[arg-type]
    assert list(orders.lost(node)) == [] and len(heard) == 1


def test_deadlines_are_those_of_orders_that_wait() -> None:
    orders, node = Orders(), Node("n1", control=1)
    for number, within in ((1, 5.0), (2, 3.0), (3, FAR)):
        list(orders.send(
            node, m.Erase(number, b""), number, 10.0, lambda _: iter(()), within_s=within
        ))
    assert orders.deadline() == 13.0
    orders.forget(2)
    assert orders.deadline() == 15.0
    orders.extend(node, 1, 20.0, 1.0)
    assert orders.deadline() == 21.0
    list(orders.answered(node, 1, m.Done(1)))
    assert orders.deadline() == FAR
    list(orders.late(1e9))
    assert orders.deadline() == FAR


# ---- before anything else ------------------------------------------------------------------


def test_attach_comes_first_and_of_the_right_version() -> None:
    world = Mastering()
    (problem,) = world.ask(op.ListNodes(1), OPERATOR + 1)
    assert isinstance(problem, op.Problem) and problem.code == "order"
    (problem,) = world.ask(op.Attach(2, 99), OPERATOR + 1)
    assert isinstance(problem, op.Problem) and problem.code == "version"
    (attached,) = world.ask(op.Attach(3, op.VERSION), OPERATOR + 1)
    assert attached == op.Attached(3, "M", "hub:15440", "0", 1, "/state")
    world(on.OperatorGone(OPERATOR + 1))
    (problem,) = world.ask(op.ListNodes(4), OPERATOR + 1)
    assert isinstance(problem, op.Problem)


def test_a_node_does_not_speak_for_anothers_task() -> None:
    world, _one, other = world_of_two()
    other.say(m.Changed((task(A, Status.EXITED, 0),)))
    assert world.core.registry.view(A) == op.TaskView("n1", task(A))
    assert "not believed" in world.done(do.KeepEvent)[0].event.text
    assert other.say(m.Forgotten((A,))) == [] and other.say(m.Rejected((A,), "x", "x")) == []
    other.say(m.Report((task(A, Status.EXITED, 0), task(B))))
    assert world.core.registry.view(A).task.status is Status.RUNNING


def test_a_lists_nodes_and_tasks_by_reference() -> None:
    world, _, _ = world_of_two()
    (nodes,) = world.ask(op.ListNodes(5, "@n2"))
    assert isinstance(nodes, op.Nodes) and [node.name for node in nodes.nodes] == ["n2"]
    (tasks,) = world.ask(op.ListTasks(6, (A, "bbb", "x")))
    assert isinstance(tasks, op.Tasks) and [v.task.id for v in tasks.tasks] == [A, B]
    (problem,) = world.ask(op.ListNodes(7, "n3"))
    assert isinstance(problem, op.Problem)
