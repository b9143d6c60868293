"""completion: the scripts, and what the shells ask by them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from masterd.commands import completing
from tests.scripted import GONE, Desk, Scripted, node, view


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        master.says(op.ListNodes, op.Nodes(0, (node("node1", view("k3f9a2xq")),)))
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


@pytest.mark.parametrize("shell", completing.SCRIPTS)
def test_a_script_is_printed_without_a_master(shell: str, tmp_path: Path) -> None:
    with Desk(str(tmp_path)) as desk:
        assert desk.run("completion", shell) == 0
        assert desk.out.getvalue() == completing.SCRIPTS[shell]
        assert desk.noted == []


def test_another_shell_is_refused_by_name(master: Scripted, desk: Desk) -> None:
    assert desk.run("completion", "csh") == 2
    assert desk.noted == ["completion: no completion for 'csh' (bash or zsh)"]
    assert master.asked == []


def test_tasks_are_those_of_the_moment(master: Scripted, desk: Desk) -> None:
    assert desk.run("completion", "bash", "godwit kill k", "k") == 0
    master.says(op.ListNodes, op.Nodes(0, (node("node1", view("k4new000")),)))
    desk.run("completion", "bash", "godwit kill k", "k")
    assert desk.said == ["k3f9a2xq ", "k4new000 "]


def test_an_open_quote_is_closed_for_zsh_alone(master: Scripted, desk: Desk) -> None:
    desk.run("completion", "bash", "godwit kill 'k", "k")
    desk.run("completion", "zsh", "godwit kill 'k", "k")
    assert desk.said == ["k3f9a2xq", "k3f9a2xq' "]


def test_the_master_of_the_line_is_asked(master: Scripted, tmp_path: Path) -> None:
    with Desk("/nowhere") as desk:
        line = f"godwit --state {tmp_path} kill k"
        assert desk.run("completion", "bash", line, "k") == 0
        assert desk.said == ["k3f9a2xq "]


def test_without_an_answer_there_are_no_offers_and_no_words(
    master: Scripted, desk: Desk
) -> None:
    for reply in (op.Problem(0, "no", "not now"), GONE):
        master.says(op.ListNodes, reply)
        assert desk.run("completion", "bash", "godwit kill k", "k") == 0
    with Desk("/nowhere") as lost:
        assert lost.run("completion", "bash", "godwit kill k", "k") == 0
    assert desk.said == desk.noted == lost.said == lost.noted == []


def test_a_master_that_hangs_does_not_hold_up_tab(
    master: Scripted, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "PATIENCE_S", 0.01)
    goes_on = threading.Event()

    def answer(asked: op.ListNodes) -> list[op.Reply]:
        goes_on.wait(30)
        return [op.Nodes(asked.id, (node("node1", view("k3f9a2xq")),))]

    master.answers[op.ListNodes] = answer
    try:
        assert desk.run("completion", "bash", "godwit kill k", "k") == 0
        assert not goes_on.is_set()
    finally:
        goes_on.set()
        for thread in threading.enumerate():
            if thread.name == "completion":
                thread.join()
    assert desk.said == []
