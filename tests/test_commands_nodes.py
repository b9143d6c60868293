"""use, register, dereg, exit, detach, stop."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from masterd.commands.context import Leave
from tests.scripted import GONE, Desk, Scripted, exited, node, view


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        master.says(op.ListNodes, op.Nodes(0, (
            node("a", view("t1"), view("t2"), exited("t3")), node("b"),
        )))
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


def test_upgrade_has_a_line_for_each_node_and_one_for_what_went_wrong(
    master: Scripted, desk: Desk
) -> None:
    fault = op.Fault("b", "unreachable", "b: b is unreachable")
    done = op.Upgraded(0, (op.Restarted("a", "godwit 1"),), (fault,))
    master.says(op.Upgrade, op.Progress(0, "a: the agent has started anew"), done)
    assert desk.run("upgrade", "all") == 1
    assert desk.noted == ["a: the agent has started anew", "b: b is unreachable"]
    assert not desk.said and master.got(op.Upgrade)[0].nodes == "all"
    assert desk.run("upgrade", "all", "--json") == 1
    (document,) = map(json.loads, desk.said)
    assert document["nodes"] == [{"name": "a", "release": "godwit 1"}]
    assert document["error"]["code"] == "unreachable"


def test_use_chooses_nodes_that_are_there(master: Scripted) -> None:
    with Desk(master, in_shell=True) as desk:
        assert desk.run("use", "@a,b") == 0
        assert desk.context.chosen == "@a,b"
        master.says(op.ListNodes, op.Problem(0, "no-such-node", "no node 'x'"))
        assert desk.run("use", "x") == 1
        assert desk.context.chosen == "@a,b"
        assert desk.run("use") == 0
        assert desk.noted == ["use: no node 'x'", "lines run on: @a,b"]


def test_outside_of_a_shell_a_choice_would_not_last(desk: Desk) -> None:
    assert desk.run("use", "a") == 2
    assert desk.noted == [
        "use: a choice of nodes lasts within a shell only (godwit on NODES CMD...)"
    ]


@pytest.mark.parametrize(("words", "host", "port", "name"), [
    (["10.0.0.7", "15441", "web7"], "10.0.0.7", 15441, "web7"),
    (["10.0.0.7:15441", "web7"], "10.0.0.7", 15441, "web7"),
    (["[::1]:15441", "web7"], "::1", 15441, "web7"),
    (["::1", "15441", "web7"], "::1", 15441, "web7"),
])
def test_register_takes_host_port_and_name(
    master: Scripted, desk: Desk, words: list[str], host: str, port: int, name: str
) -> None:
    master.says(op.Register, op.Ok(0))
    assert desk.run("register", *words) == 0
    assert master.got(op.Register) == [op.Register(2, host, port, name)]
    assert desk.noted == ["web7 is registered"]


@pytest.mark.parametrize("words", [
    ["h", "0", "n"], ["h", "65536", "n"], ["h", "x", "n"], ["h", "٣", "n"], ["h", "n"],
    [":1", "n"], ["h:1", ""], ["h"], [], ["h", "-1", "n"],
])
def test_register_refuses_what_is_no_address(
    master: Scripted, desk: Desk, words: list[str]
) -> None:
    assert desk.run("register", *words) == 2
    assert len(desk.noted) == 1
    assert master.asked == []


def test_dereg_asks_a_person_and_tells_each_step(master: Scripted) -> None:
    master.says(op.Deregister, op.Progress(0, "a: 2 tasks ended"), op.Ok(0, "2 nodes left"))
    with Desk(master, "y", interactive=True) as desk:
        assert desk.run("dereg", "all") == 0
        assert desk.asked == ["End a, b and 2 running tasks? [y/N] "]
        assert desk.noted == ["a: 2 tasks ended", "2 nodes left"]


def test_dereg_does_nothing_on_a_no_or_a_dry_run(master: Scripted) -> None:
    with Desk(master, "", interactive=True) as desk:
        assert desk.run("dereg", "all") == 1
        assert desk.run("dereg", "all", "--dry-run") == 0
        assert desk.noted == [
            "nothing was done",
            "would end a and 2 running tasks", "would end b and no running task",
        ]
    assert master.got(op.Deregister) == []


def test_a_script_is_not_asked(master: Scripted, desk: Desk) -> None:
    master.says(op.Deregister, op.Ok(0))
    assert desk.run("dereg", "all", "--json") == 0
    assert json.loads(desk.said[0]) == {"nodes": ["a", "b"]}
    assert desk.asked == []


@pytest.mark.parametrize("word", ["exit", "quit", "detach"])
def test_outside_of_a_shell_there_is_nothing_to_leave(
    master: Scripted, desk: Desk, word: str
) -> None:
    assert desk.run(word) == 1
    assert desk.noted == [
        f"{word}: there is nothing to leave: this is no shell (`godwit stop` stops the master)"
    ]
    assert master.asked == []


@pytest.mark.parametrize("word", ["exit", "quit"])
def test_exit_of_an_attached_shell_only_leaves(master: Scripted, word: str) -> None:
    with Desk(master, in_shell=True) as desk, pytest.raises(Leave) as left:
        desk.run(word)
    assert (left.value.status, left.value.detach) == (0, False)
    assert master.asked == []


def test_detach_leaves_everything_running(master: Scripted) -> None:
    with Desk(master, in_shell=True, owns_master=True) as desk, pytest.raises(Leave) as left:
        desk.run("detach")
    assert left.value.detach
    assert master.asked == []


def test_exit_of_the_masters_own_shell_ends_everything(master: Scripted) -> None:
    master.says(op.StopMaster, op.Progress(0, "a left"), op.Progress(0, "b left"), op.Ok(0))
    with Desk(master, "y", in_shell=True, owns_master=True, interactive=True) as desk:
        with pytest.raises(Leave):
            desk.run("exit")
        assert desk.asked == ["End 2 running tasks, every node and the master? [y/N] "]
        assert desk.noted == ["a left", "b left"]
    assert [asked.deregister for asked in master.got(op.StopMaster)] == [True]


@pytest.mark.parametrize("answers", [[""], ["n"], []])
def test_the_default_is_to_stay(master: Scripted, answers: list[str]) -> None:
    with Desk(master, *answers, in_shell=True, owns_master=True, interactive=True) as desk:
        assert desk.run("exit") == 1
        assert desk.noted == ["nothing was done; detach leaves everything running"]
    assert master.got(op.StopMaster) == []


def test_nobody_is_asked_when_nothing_runs(master: Scripted) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("a", exited("t")),)))
    master.says(op.StopMaster, GONE)
    with Desk(master, in_shell=True, owns_master=True, interactive=True) as desk:
        with pytest.raises(Leave):
            desk.run("exit")
        assert desk.asked == []
        assert desk.noted == ["the master has stopped"]


def test_a_refused_exit_keeps_the_shell(master: Scripted) -> None:
    master.says(op.StopMaster, op.Problem(0, "busy", "a cannot be reached"))
    with Desk(master, in_shell=True, owns_master=True) as desk:
        assert desk.run("exit") == 1
        assert desk.noted == ["exit: a cannot be reached"]


@pytest.mark.parametrize(("words", "deregister"), [(["stop"], False), (["stop", "--dereg"], True)])
def test_stop_works_from_anywhere(
    master: Scripted, desk: Desk, words: list[str], deregister: bool
) -> None:
    master.says(op.StopMaster, op.Ok(0, "bye"))
    assert desk.run(*words) == 0
    assert [asked.deregister for asked in master.got(op.StopMaster)] == [deregister]


def test_a_shell_ends_with_the_master_it_stops(master: Scripted) -> None:
    master.says(op.StopMaster, op.Ok(0))
    with Desk(master, "n", "y", in_shell=True, interactive=True) as desk:
        assert desk.run("stop") == 1
        with pytest.raises(Leave):
            desk.run("stop")
        assert desk.asked == ["Stop the master? [y/N] "] * 2
