"""What the master knows of nodes and tasks, and how it shows it."""

import itertools

import pytest

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from masterd.registry import (
    SUSPECT_S,
    TABLE,
    UNREACHABLE_S,
    Cause,
    Node,
    Registry,
    State,
)

STEPS = {
    Cause.HEARD: dict.fromkeys(State, State.UP),
    Cause.SILENT: {State.UP: State.SUSPECT},
    Cause.LOST: {State.UP: State.UNREACHABLE, State.SUSPECT: State.UNREACHABLE},
    Cause.DISMISSED: dict.fromkeys(set(State) - {State.LEFT}, State.LEFT),
}


def task(name: str, status: Status = Status.RUNNING) -> Task:
    return Task(Spec(name, (b"true",)), status, pid=5)


def known(*names: str, state: State = State.UP) -> Registry:
    registry = Registry()
    for name in names:
        registry.nodes[name] = Node(name, address=f"{name}:1", state=state, heard_at=100.0)
    return registry


@pytest.mark.parametrize(("state", "cause"), [*itertools.product(State, Cause)])
def test_a_nodes_step_is_in_the_table_or_refused(state: State, cause: Cause) -> None:
    node = Node("n1", state=state)
    if state in STEPS[cause]:
        node.advance(cause)
        assert node.state is STEPS[cause][state]
    else:
        with pytest.raises(KeyError):
            node.advance(cause)
        assert node.state is state and cause not in TABLE[state]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("status", Status)
def test_a_task_is_shown_unknown_while_its_node_is_not_heard(state: State, status: Status) -> None:
    registry = known("n1", state=state)
    node = registry.nodes["n1"]
    registry.put(node, task("abcd1234", status))
    shown = registry.view("abcd1234").task
    if status.ended or state in (State.UP, State.SUSPECT):
        assert shown == node.tasks["abcd1234"]
    else:
        assert shown.status is Status.UNKNOWN and shown.reason == f"n1 is {state.value}"
    assert node.tasks["abcd1234"].status is status


def test_a_node_that_said_goodbye_is_the_reason() -> None:
    registry = known("n1", state=State.UNREACHABLE)
    registry.nodes["n1"].goodbye = "SIGTERM"
    registry.put(registry.nodes["n1"], task("abcd1234"))
    assert registry.view("abcd1234").task.reason == "n1 stopped (SIGTERM)"


def test_tasks_go_with_their_node() -> None:
    registry = known("n1", "n2")
    registry.put(registry.nodes["n1"], task("aaaaaaaa"))
    registry.put(registry.nodes["n2"], task("bbbbbbbb"))
    registry.connect(registry.nodes["n1"], "control", 7)
    registry.drop_node("n1")
    assert [*registry.where] == [*registry.all_tasks()] == ["bbbbbbbb"]
    assert registry.by_link(7) is None
    registry.drop("bbbbbbbb")
    registry.drop("bbbbbbbb")
    assert not registry.where and not registry.nodes["n2"].tasks


def test_a_link_belongs_to_one_node_and_channel_till_replaced() -> None:
    registry = known("n1")
    node = registry.nodes["n1"]
    registry.connect(node, "control", 1)
    registry.connect(node, "stream", 2)
    assert registry.by_link(1) == (node, "control") and registry.by_link(2) == (node, "stream")
    registry.connect(node, "control", 3)
    assert registry.by_link(1) is None and node.control == 3
    assert registry.disconnect(node, "control") == 3
    assert registry.disconnect(node, "control") is None
    assert not node.connected and node.stream == 2


@pytest.mark.parametrize("heard", [0.0, 100.0, 0.1 + 0.2, 1e6 / 3])
def test_silence_is_told_of_at_the_second_that_was_named(heard: float) -> None:
    registry = known("n1")
    node = registry.nodes["n1"]
    node.heard_at = heard
    assert registry.next_silence() == heard + SUSPECT_S
    assert not [*registry.silent(heard)]
    assert [*registry.silent(registry.next_silence())] == [(node, Cause.SILENT)]
    node.advance(Cause.SILENT)
    assert registry.next_silence() == heard + UNREACHABLE_S
    assert [*registry.silent(registry.next_silence())] == [(node, Cause.LOST)]
    node.advance(Cause.LOST)
    assert registry.next_silence() == float("inf") and not [*registry.silent(heard + 1e6)]


def test_a_long_silence_is_one_step() -> None:
    registry = known("n1")
    assert [cause for _, cause in registry.silent(100.0 + UNREACHABLE_S)] == [Cause.LOST]


@pytest.mark.parametrize(("node", "host"), [
    (Node("n", address="10.0.0.1:5"), "10.0.0.1"), (Node("n", address="[fe80::1]:5"), "fe80::1"),
    (Node("n", address="10.0.0.1:5", host="web", port=3), "web"),
])
def test_a_node_is_seen_at_its_host(node: Node, host: str) -> None:
    assert node.peer_host == host
