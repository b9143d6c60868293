"""Nodes coming, being heard, falling silent, leaving: as the master's core sees it."""

import pytest

from godwit.task.lifecycle import Status
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd import events as on
from masterd import nodes as nodes_
from masterd.registry import Node, State
from tests.mastering import FAR, OPERATOR, FakeNode, Mastering, task


def texts(world: Mastering) -> list[str]:
    return [kept.event.text for kept in world.done(do.KeepEvent)]


def refusals(world: Mastering) -> list[str]:
    return [refusal.code for refusal in world.sends(m.Refuse)]


# ---- a node calls --------------------------------------------------------------------------


def test_a_node_joins_with_hello_and_welcome() -> None:
    world = Mastering()
    assert world.core.deadline() == FAR
    node = FakeNode(world, "n1", "id")
    done = node.join()
    assert done[:3] == [
        do.KeepNode("n1", "id", "", 0), do.Open(1, "control"), do.Send(1, m.Welcome("M"))
    ]
    assert texts(world) == ["n1 joined from 10.0.0.1:1"] and node.state is State.UP
    node.join("stream")
    assert world.last == [do.Open(2, "stream"), do.Send(2, m.Welcome("M"))]


def test_a_node_that_found_out_more_is_known_by_that() -> None:
    world = Mastering()
    node = world.node("n1")
    node.say(m.Able(("shell", "criu=4.1.1"), {"lazy": "no"}))
    known = world.core.registry.nodes["n1"]
    assert (known.can, known.lacks) == (("shell", "criu=4.1.1"), {"lazy": "no"})


@pytest.mark.parametrize("hello", [
    m.Hello(99, "n1", "id", "run"),
    m.Hello(m.VERSION, "all", "id", "run"), m.Hello(m.VERSION, "../x", "id", "run"),
    m.Hello(m.VERSION, "", "id", "run"),
    m.Hello(m.VERSION, "n1", "id", "run", "stream"),
    m.Hello(m.VERSION, "taken", "other id", "run"),
    m.Hello(m.VERSION, "taken", "id of taken", "older run", "stream"),
])
def test_a_wrong_hello_is_refused_and_changes_nothing(hello: m.Hello) -> None:
    world = Mastering()
    taken = world.node("taken")
    link = world.link()
    world.accepted(link, name=hello.name)
    done = world(on.Received(link, hello))
    (refusal,) = world.sends(m.Refuse)
    assert done[1] == do.Close(link, refusal.text) and taken.state is State.UP
    assert [*world.core.registry.nodes] == ["taken"]
    assert not world.core.nodes.is_opening(link)


@pytest.mark.parametrize("message", [m.Welcome("M"), m.Adopt(1, "M", "n1"), m.Refuse("x", "y")])
def test_what_is_no_hello_ends_a_connection(message: m.Message) -> None:
    world = Mastering()
    world.accepted(1)
    reason = f"{type(message).__name__} is not how a node begins"
    assert world(on.Received(1, message))[0] == do.Close(1, reason)
    assert texts(world) == [f"refused a node at 10.0.0.9:5: {reason}"]
    assert world(on.LinkClosed(1, "closed")) == []


def test_who_says_no_hello_is_not_waited_for() -> None:
    world = Mastering()
    world.accepted(1)
    assert world.tick()[0] == do.Close(1, "said no hello")
    assert world.now == 100.0 + nodes_.OPENING_S and world.core.deadline() == FAR
    assert world(on.LinkClosed(1, "said no hello")) == []


def test_openings_are_bounded_and_forgotten() -> None:
    world = Mastering()
    for link in range(nodes_.OPENING_MOST):
        assert world.accepted(link) == []
    assert world.accepted(9999) == [do.Close(9999, "too many callers")]
    world(on.LinkClosed(0, "gone"))
    assert world.accepted(10000) == []


def test_a_newer_connection_of_a_node_replaces_the_older() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"))
    world.ask(op.SignalTasks(1, ("aaaaaaaa",), 15))
    old, stream = node.control, node.stream
    done = node.join()
    assert done[:2] == [
        do.Close(old, "replaced by a newer connection"),
        do.Close(stream, "replaced by a newer connection"),
    ]
    (answer,) = world.replies()
    assert isinstance(answer, op.Tasks) and answer.faults[0].code == "lost"
    assert world(on.LinkClosed(old, "closed")) == world(on.LinkClosed(stream, "closed")) == []
    assert world(on.Received(old, m.Forgotten(("aaaaaaaa",)))) == []
    assert "aaaaaaaa" in world.core.registry.where and world.is_idle()


def test_a_second_hello_on_a_link_is_nobodys() -> None:
    node = Mastering().node()
    assert node.say(node.hello()) == []


# ---- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["connected", "just cut", "unreachable", "stopped", "restarted"])
def test_a_name_is_not_free_while_tasks_of_its_node_may_run(gone: str) -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"))
    if gone == "restarted":
        world = Mastering()
        known = Node("n1", "id of n1")
        world.core.registry.nodes["n1"] = known
        world.core.registry.put(known, task("aaaaaaaa"))
    elif gone == "stopped":
        node.say(m.Leaving("SIGTERM", 1))
    elif gone != "connected":
        node.cut()
    if gone == "unreachable":
        world.wait(20)
    FakeNode(world, "n1", "another").join()
    assert refusals(world) == ["taken"] and "aaaaaaaa" in world.core.registry.where


def test_an_idle_nodes_name_goes_to_another_machine_when_it_is_away() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa", Status.EXITED, 0))
    node.cut()
    FakeNode(world, "n1", "another").join()
    assert refusals(world) == ["taken"]
    world.wait(20)
    FakeNode(world, "n1", "another").join()
    assert do.DropTask("aaaaaaaa") in world.last and not world.core.registry.where
    assert "n1 is another machine than before: its tasks are forgotten" in texts(world)


def test_deregistering_frees_the_name() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"))
    node.cut()
    world.wait(20)
    assert isinstance(world.ask(op.Deregister(1, "n1"))[-1], op.Ok)
    other = FakeNode(world, "n1", "another")
    other.join()
    assert not refusals(world)
    other.say(m.Report(()))
    assert "aaaaaaaa" not in world.core.registry.where


# ---- silence -------------------------------------------------------------------------------


def test_silence_is_told_of_once_and_taken_back() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"))
    world.tick()
    assert world.now == 106.0 and texts(world) == ["n1 is suspect: silent for 6 s"]
    assert world.core.registry.view("aaaaaaaa").task.status is Status.RUNNING
    world.tick()
    assert world.now == 115.0 and texts(world) == [
        "n1 is unreachable: silent for 15 s; its one running task is unknown"
    ]
    assert do.Close(node.control, "silent for 15 s") in world.last
    assert do.Close(node.stream, "silent for 15 s") in world.last
    assert world.core.registry.view("aaaaaaaa").task.status is Status.UNKNOWN
    assert world.core.deadline() == FAR
    node.join()
    assert texts(world) == ["n1 is back"] and node.state is State.UP
    assert world.core.registry.view("aaaaaaaa").task.status is Status.RUNNING


def test_a_beat_takes_a_suspicion_back() -> None:
    world = Mastering()
    node = world.node()
    world.tick()
    node.say(m.Beat(m.Load(cpus=4)))
    assert texts(world) == ["n1 is back"] and world.sends(m.Heard) == [m.Heard()]
    assert world.core.registry.nodes["n1"].load.cpus == 4
    assert world.core.deadline() == world.now + 6.0


def test_a_lost_connection_is_no_silence_yet() -> None:
    world = Mastering()
    node = world.node()
    stream = node.stream
    assert node.cut()[1:] == [do.Close(stream, "the control connection is gone")]
    assert texts(world) == ["n1 lost its connection (reset)"] and node.state is State.UP
    node.join()
    assert texts(world) == ["n1 connected again"]


def test_a_node_that_leaves_is_not_waited_for() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"))
    world.ask(op.SignalTasks(1, ("aaaaaaaa",), 15))
    node.say(m.Leaving("SIGTERM", 1))
    assert texts(world) == ["n1 stopped (SIGTERM), 1 tasks go on"]
    assert node.state is State.UNREACHABLE and world.is_idle()
    assert world.core.registry.view("aaaaaaaa").task.reason == "n1 stopped (SIGTERM)"
    assert node.say(m.Beat(m.Load())) == [] and node.say(m.Chunk(1, 0, b"x")) == []
    assert node.state is State.UNREACHABLE and world.core.deadline() == FAR


# ---- nodes that are called -----------------------------------------------------------------


def called(world: Mastering) -> FakeNode:
    """A node that was registered and is there, with both links."""
    world.register()
    node = FakeNode(world, "n1", "id of n1")
    channels: tuple[on.Channel, ...] = ("control", "stream")
    for channel in channels:
        setattr(node, channel, link := world.link())
        world.opened(link, "n1", channel)
        world(on.Received(link, node.hello(channel)))
    return node


def test_a_node_that_waits_is_called_greeted_and_taken() -> None:
    world = Mastering()
    assert world.register() == [] and world.last == [do.Dial("n1", "control", "10.0.0.7", 5)]
    assert world.opened(7, "n1", "control") == [
        do.Send(7, m.Adopt(m.VERSION, "M", "n1"))
    ]
    done = world(on.Received(7, FakeNode(world, "n1", "id").hello()))
    assert do.KeepNode("n1", "id", "10.0.0.7", 5) in done
    assert world.replies() == [op.Ok(1, "n1 is registered")]
    assert do.Dial("n1", "stream", "10.0.0.7", 5) in done


def fail(world: Mastering, how: str, channel: on.Channel, *others: FakeNode) -> None:
    """The master's call to n1 comes to nothing."""
    if how == "no answer":
        world(on.DialFailed("n1", channel, "refused"))
        return
    world.opened(77, "n1", channel)
    if how == "closed":
        world(on.LinkClosed(77, "reset"))
    elif how == "silent":
        world.wait(nodes_.OPENING_S, *others)
    else:
        world(on.Received(77, SAID[how]))


#: What may be heard instead of the right Hello.
SAID: dict[str, m.Message] = {
    "taken": m.Refuse("taken", "no"),
    "other name": m.Hello(m.VERSION, "n2", "id", "run"),
    "no hello": m.Welcome("M"),
}
FAILURES = ["no answer", "closed", "silent", *SAID]


@pytest.mark.parametrize("failure", FAILURES)
def test_whatever_fails_registering_is_answered_and_leaves_nothing(failure: str) -> None:
    world = Mastering()
    world.register()
    fail(world, failure, "control")
    (problem,) = world.replies()
    assert isinstance(problem, op.Problem)
    assert problem.code == ("taken" if failure == "taken" else "no-answer")
    assert not world.core.registry.nodes and world.core.deadline() == FAR
    assert world.register(2) == [] and world.done(do.Dial)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("channel", ["control", "stream"])
def test_whatever_fails_a_registered_node_is_called_again(
    failure: str, channel: on.Channel
) -> None:
    world = Mastering()
    node = called(world)
    there = [node] if channel == "stream" else []
    node.cut(channel)
    dial = do.Dial("n1", channel, "10.0.0.7", 5)
    assert world.done(do.Dial) == [dial]
    fail(world, failure, channel, *there)
    while dial not in world.last:
        world.wait(1.0, *there)
    assert world.now < 130.0


def test_failed_calls_are_told_of_once_for_each_reason() -> None:
    world = Mastering()
    node = called(world)
    world.wait(1.0)
    node.cut()
    told: list[str] = []
    for reason in ["refused"] * 5 + ["timeout"]:
        world(on.DialFailed("n1", "control", reason))
        told += [text for text in texts(world) if "called" in text]
        while not world.done(do.Dial):
            world.tick()
    assert told == [
        "n1 cannot be called (refused); trying on", "n1 cannot be called (timeout); trying on",
    ]


def test_a_control_link_lost_while_the_stream_is_called_leaves_one_call_each() -> None:
    world = Mastering()
    world.register()
    node = FakeNode(world, "n1", "id")
    node.control = 7
    world.opened(7, "n1", "control")
    world(on.Received(7, node.hello()))
    world.opened(8, "n1", "stream")
    node.cut()
    assert world.done(do.Dial) == [do.Dial("n1", "control", "10.0.0.7", 5)]
    world(on.Received(8, m.Refuse("order", "the control connection comes first")))
    assert not world.done(do.Dial)
    world.opened(9, "n1", "control")
    world(on.Received(9, node.hello()))
    dials = world.done(do.Dial)
    while not dials:
        node.control = 9
        world.wait(0.5, node)
        dials = world.done(do.Dial)
    assert dials == [do.Dial("n1", "stream", "10.0.0.7", 5)] and world.now < 102.0


@pytest.mark.parametrize("known", ["registering", "registered", "up", "unreachable"])
def test_a_known_name_is_not_registered_again(known: str) -> None:
    world = Mastering()
    if known == "registering":
        world.register()
    elif known == "registered":
        called(world)
    else:
        world.node("n1", task("aaaaaaaa"))
    if known == "unreachable":
        world.wait(20)
    before = set(world.core.registry.where)
    (problem,) = world.register(2)
    assert isinstance(problem, op.Problem) and problem.code == "exists"
    assert set(world.core.registry.where) == before and "n1" in world.core.registry.nodes


@pytest.mark.parametrize(
    ("name", "port"), [("a b", 5), ("", 5), ("all", 5), ("n1", 0), ("n1", 70000)]
)
def test_what_is_no_name_or_port_is_not_registered(name: str, port: int) -> None:
    world = Mastering()
    (problem,) = world.ask(op.Register(1, "h", port, name))
    assert isinstance(problem, op.Problem) and problem.exit_status == 2
    assert not world.core.registry.nodes


def test_a_name_that_left_may_be_registered_and_keeps_its_tasks_if_that_fails() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa", Status.EXITED, 0))
    world.ask(op.Deregister(1, "n1"))
    node.say(m.Leaving("deregistered"))
    assert node.state is State.LEFT
    world.register(2)
    world(on.DialFailed("n1", "control", "refused"))
    assert isinstance(world.replies()[0], op.Problem)
    assert world.core.registry.view("aaaaaaaa").node == "n1" and world.core.deadline() == FAR


def test_deregistering_what_is_being_registered_answers_both() -> None:
    world = Mastering()
    world.register(1)
    replies = world.ask(op.Deregister(2, "n1"))
    assert {reply.id for reply in replies if isinstance(reply, op.Problem | op.Ok)} == {1, 2}
    assert world.opened(7, "n1", "control") == [do.Close(7, "no longer registered")]
    assert world.core.deadline() == FAR


# ---- leaving -------------------------------------------------------------------------------


def test_deregistering_ends_the_tasks_and_the_node() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"))
    assert world.ask(op.Deregister(1, "n1")) == []
    assert world.sends(m.Dismiss) == [m.Dismiss(1)]
    node.say(m.Changed((task("aaaaaaaa", Status.EXITED),)))
    node.say(m.Leaving("deregistered"))
    assert world.replies() == [op.Progress(1, "n1: deregistered, 1 task ended"), op.Ok(1)]
    assert do.DropNode("n1") in world.last and node.state is State.LEFT
    assert node.say(m.Beat(m.Load())) == [] and node.say(m.Ended(1, 0)) == []
    assert node.state is State.LEFT and world.core.deadline() == FAR
    assert world.ask(op.ListNodes(2)) == [op.Nodes(2, ())]


def test_a_node_that_does_not_stop_in_time_is_taken_off_the_list() -> None:
    world = Mastering()
    node = world.node("n1", task("aaaaaaaa"))
    world.ask(op.Deregister(1, "n1"))
    while not world.replies():
        world.tick()
    (progress, ok) = world.replies()
    assert isinstance(progress, op.Progress) and "did not stop in time" in progress.text
    assert "1 of its tasks may run on" in progress.text and isinstance(ok, op.Ok)
    assert do.Close(node.control, "deregistered") in world.last and node.state is State.LEFT


def test_two_operators_may_deregister_one_node() -> None:
    world = Mastering()
    node = world.node()
    world(on.Asked(OPERATOR + 1, op.Attach(0, op.VERSION)))
    world.ask(op.Deregister(1, "n1"))
    world.ask(op.Deregister(1, "n1"), OPERATOR + 1)
    node.say(m.Leaving("deregistered"))
    for operator in (OPERATOR, OPERATOR + 1):
        assert isinstance(world.replies(operator)[-1], op.Ok)
    assert world.is_idle()


def test_stopping_with_deregister_is_a_line_for_each_and_a_stop() -> None:
    world = Mastering()
    one, _ = world.node("n1"), world.node("n2").cut()
    world.ask(op.StopMaster(1, deregister=True))
    assert [type(reply) for reply in world.replies()] == [op.Progress]
    done = one.say(m.Leaving("deregistered"))
    assert done[-3:] == [do.Commit(), do.Answer(OPERATOR, op.Ok(1)), do.Stop()]
