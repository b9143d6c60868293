"""The menu: what it asks, and which commands come of the answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from godwit.wire import operations as op
from masterd import commands
from tests.scripted import GONE, Desk, Scripted, exited, node, view

MENU = [
    "", "  1  launch   start a program or a shell command on a node",
    "  2  remove   end a task and forget it", "  3  migrate  move a running task to another node",
    "  4  list     show nodes and their tasks", "  0  quit",
]
WHERE = "On which node? "
WHAT = "Program with its arguments, or a shell command: "
PROGRAMS = {"CopyProcess": "SIGNATURE IN OUT\nmore", "CountProcess": "N [PAUSE_S]"}


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        master.says(op.ListNodes, op.Nodes(0, (
            node("node1", view("k3f9a2xq"), exited("old00000")),
            node("node2", view("oneoff00", "node2", oneoff=True)), node("gone", state="left"),
        )))
        master.says(op.ListPrograms, op.Programs(0, (op.NodePrograms("node1", PROGRAMS),)))
        yield master


class Ran:
    """Stands in for the commands that the menu runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.lines: list[list[str]] = []
        self.statuses: list[int] = []
        self._real = commands.dispatch
        monkeypatch.setattr(commands, "dispatch", self._dispatch)

    def _dispatch(self, context: Any, words: list[str]) -> int:
        self.lines.append(words)
        return self.statuses.pop(0) if self.statuses else 0

    def menu(self, master: Scripted, *answers: str) -> tuple[int, Desk]:
        with Desk(master, *answers) as desk:
            return self._real(desk.context, ["menu"]), desk


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    return Ran(monkeypatch)


QUITS = [["0"], ["q"], ["quit\n"], [" EXIT "], [], ["", "\n", "0"]]


@pytest.mark.parametrize("answers", QUITS, ids=str)
def test_it_is_left_by_a_choice_or_by_the_end_of_input(
    answers: list[str], master: Scripted, ran: Ran
) -> None:
    status, desk = ran.menu(master, *answers)
    assert (status, ran.lines) == (0, [])
    assert desk.said == MENU


CHOICES: list[tuple[list[str], list[str]]] = [
    (["4"], ["list"]),
    (["list"], ["list"]),
    (["1", "1", "CountProcess 100 0.001"], ["run", "--", "node1", "CountProcess", "100", "0.001"]),
    (["1", "node2", "CopyProcess '# ' a b"], ["run", "--", "node2", "CopyProcess", "# ", "a", "b"]),
    (["1", "1", "2", "100"], ["run", "--", "node1", "CountProcess", "100"]),
    (["launch", "1", "./my.py:Mine x"], ["run", "--", "node1", "./my.py:Mine", "x"]),
    (["1", "1", "my.module:Mine"], ["run", "--", "node1", "my.module:Mine"]),
    (["1", "2", "ls | wc -l"], ["execute", "--shell", "--", "node2", "ls | wc -l"]),
    (["1", "2", "echo it's"], ["execute", "--shell", "--", "node2", "echo it's"]),
    (["1", "2", "3"], ["execute", "--shell", "--", "node2", "3"]),
    (["1", "@node1,node2", "true"], ["execute", "--shell", "--", "@node1,node2", "true"]),
    (["2", "1"], ["remove", "--", "k3f9a2xq"]),
    (["2", "2"], ["remove", "--", "old00000"]),
    (["2", "node1:7"], ["remove", "--", "node1:7"]),
    (["3", "1", "1"], ["move", "--", "k3f9a2xq", "node2"]),
    (["migrate", "k3f", "node2"], ["move", "--", "k3f", "node2"]),
]


@pytest.mark.parametrize(("answers", "words"), CHOICES, ids=str)
def test_answers_become_a_command(
    answers: list[str], words: list[str], master: Scripted, ran: Ran
) -> None:
    status, desk = ran.menu(master, *answers, "0")
    assert (status, ran.lines, desk.noted) == (0, [words], [])


BACK = [["1", ""], ["1", "1", " "], ["2", ""], ["3", ""], ["3", "1", ""]]


@pytest.mark.parametrize("answers", BACK, ids=str)
def test_an_empty_answer_goes_back(answers: list[str], master: Scripted, ran: Ran) -> None:
    status, desk = ran.menu(master, *answers, "list", "0")
    assert (status, ran.lines) == (0, [["list"]])
    assert desk.asked.count("Choice: ") == 3


@pytest.mark.parametrize("answers", [["1"], ["1", "1"], ["2"], ["3", "1"]], ids=str)
def test_the_end_of_input_leaves_it_anywhere(
    answers: list[str], master: Scripted, ran: Ran
) -> None:
    status, _ = ran.menu(master, *answers)
    assert (status, ran.lines) == (0, [])


@pytest.mark.parametrize("answer", ["5", "-1", "99999", "lst", "٣", "\x1b"])
def test_a_choice_that_there_is_not_is_asked_again(
    answer: str, master: Scripted, ran: Ran
) -> None:
    _, desk = ran.menu(master, answer, "list", "0")
    assert desk.noted == [f"no choice {answer!r}: a number from 0 to 4"]
    assert ran.lines == [["list"]]


@pytest.mark.parametrize("number", ["3", "0", "7", "47110815", "٣"])
def test_a_number_that_is_not_in_the_list_is_asked_again_and_no_pid(
    number: str, master: Scripted, ran: Ran
) -> None:
    _, desk = ran.menu(master, "2", number, "1", "0")
    assert desk.noted == [f"no number {number} here: 1 to 2"]
    assert ran.lines == [["remove", "--", "k3f9a2xq"]]


def test_what_can_be_chosen_is_shown_with_numbers(master: Scripted, ran: Ran) -> None:
    _, desk = ran.menu(master, "1", "1", "", "3", "1", "", "0")
    said = [line for line in desk.said if line not in MENU]
    assert said == [
        "  1  node1  up  1 running task", "  2  node2  up  1 running task",
        "Programs:", "  1  CopyProcess   SIGNATURE IN OUT", "  2  CountProcess  N [PAUSE_S]",
        "  1  k3f9a2xq  node1  running  sleep 60",
        "  1  node2  up  1 running task",
    ]
    assert desk.asked[1:3] == [WHERE, WHAT]


def test_a_name_that_is_a_number_is_the_name(master: Scripted, ran: Ran) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("2"), node("1"))))
    ran.menu(master, "1", "2", "true", "0")
    assert ran.lines == [["execute", "--shell", "--", "2", "true"]]


def test_with_nothing_to_choose_from_it_says_so(master: Scripted, ran: Ran) -> None:
    master.says(op.ListNodes, op.Nodes(0, ()))
    _, desk = ran.menu(master, "1", "2", "3", "0")
    assert desk.noted == ["there is no node for it", *["there is no task for it"] * 2]


def test_without_programs_a_shell_command_can_be_launched(master: Scripted, ran: Ran) -> None:
    master.says(op.ListPrograms, op.Problem(0, "unreachable", "node1 cannot be heard"))
    _, desk = ran.menu(master, "1", "1", "uptime", "0")
    assert ran.lines == [["execute", "--shell", "--", "node1", "uptime"]]
    assert "Programs:" not in desk.said


def test_the_status_is_that_of_the_last_thing_done(master: Scripted, ran: Ran) -> None:
    ran.statuses = [0, 3]
    assert ran.menu(master, "4", "4", "1", "", "0")[0] == 3


def test_a_master_that_goes_away_is_a_line_and_the_menu_goes_on(
    master: Scripted, ran: Ran
) -> None:
    master.says(op.ListNodes, GONE)
    status, desk = ran.menu(master, "2", "4", "0")
    assert desk.noted == ["the master went away"]
    assert (status, ran.lines) == (0, [["list"]])
    assert ran.menu(master, "3", "0")[0] == 1


def test_the_commands_of_the_menu_are_those_of_the_table(master: Scripted) -> None:
    master.says(op.MoveTask, op.Problem(0, "no-room", "node2 has no room"))
    with Desk(master, "3", "1", "1", "4", "0") as desk:
        assert desk.run("menu") == 0
        assert master.got(op.MoveTask)[0].task == "k3f9a2xq"
        assert desk.noted == ["move: node2 has no room"]
        assert any(line.startswith("NAME") for line in desk.said)
