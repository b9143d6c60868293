"""move, transfer, moves, resolve: what is asked of the master, and what is told of its answers."""

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from godwit.wire import operations as op
from masterd.commands import asjson, flights
from tests.scripted import GONE, Desk, Scripted, view

DONE = op.MoveView(
    "mv000001", "k4moj6rn", "node1", "node2", "python", "done", state="done", blackout_ms=8.0,
    size=1 << 20, phases_ms={"freeze": 0.5, "wire": 4.0}, begun_at=100.0, ended_at=100.041,
)
ABORTED = op.MoveView(
    "mv000002", "k4moj6rn", "node1", "node2", "python", "aborted", code="cannot-travel",
    reason="self.conn: a socket cannot travel", hint="close it in suspend()",
)
REVERTED = op.MoveView(
    "mv000003", "k4moj6rn", "node1", "node2", "python", "reverted", reason="node2 gave it back",
)
HELD = op.MoveView(
    "mv000004", "k4moj6rn", "node1", "node2", "python", "held", reason="node2 cannot be heard",
    hint="`resolve mv000004 --source` lets it go on at node1",
)
FLYING = op.MoveView("mv000005", "k4moj6rn", "node1", "node2", "python", state="committed")


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


def one_document(desk: Desk) -> Any:
    (line,) = desk.said
    return json.loads(line)


def moved(master: Scripted, *replies: op.Reply | op.MoveView) -> None:
    """Every move gets these answers."""
    master.says(op.MoveTask, *(
        op.Moves(0, (each,)) if isinstance(each, op.MoveView) else each for each in replies
    ))


def test_a_move_is_one_line_with_its_figures(master: Scripted, desk: Desk) -> None:
    moved(master, DONE)
    assert desk.run("move", "k4m", "node2") == 0
    assert master.got(op.MoveTask) == [op.MoveTask(2, "k4m", "node2")]
    assert desk.said == [
        "k4moj6rn: node1 -> node2 in 41 ms, 8 ms of it standing still (1.0M)"
    ]
    assert desk.noted == []


def test_transfer_says_where_the_task_is_thought_to_be(master: Scripted, desk: Desk) -> None:
    moved(master, DONE)
    assert desk.run("transfer", "--on-unknown", "resume", "k4m", "node1", "node2") == 0
    assert master.got(op.MoveTask) == [op.MoveTask(2, "k4m", "node2", "node1", "resume")]


HELD_LINE = (
    "k4moj6rn is held between node1 and node2: node2 cannot be heard "
    "(`resolve mv000004 --source` lets it go on at node1)"
)
OUTCOMES = [
    (ABORTED, 1,
     "k4moj6rn stays on node1: self.conn: a socket cannot travel (close it in suspend())"),
    (REVERTED, 1, "k4moj6rn is back on node1: node2 gave it back"),
    (HELD, 125, HELD_LINE),
    (FLYING, 125, "k4moj6rn: node1 -> node2 is under way (committed) (moves k4moj6rn)"),
]


@pytest.mark.parametrize(("ended", "status", "line"), OUTCOMES, ids=str)
def test_a_move_that_was_not_done_says_why_and_what_to_do(
    ended: op.MoveView, status: int, line: str, master: Scripted, desk: Desk
) -> None:
    moved(master, ended)
    assert desk.run("move", "k4m", "node2") == status
    assert (desk.said, desk.noted) == ([], [line])
    assert desk.run("move", "k4m", "node2", "--json") == status
    told = one_document(desk)
    assert told["move"] == asjson.move(ended)
    hint = told["error"]["hint"]
    assert told["error"]["message"] + (f" ({hint})" if hint else "") == line


def test_what_is_known_is_told_and_no_more() -> None:
    told = {
        flights.line(DONE): "k4moj6rn: node1 -> node2 in 41 ms, 8 ms of it standing still (1.0M)",
        flights.line(replace(DONE, blackout_is_bound=True)):
            "k4moj6rn: node1 -> node2 in 41 ms, at most 8 ms of it standing still (1.0M)",
        flights.line(replace(DONE, blackout_ms=0.0)): "k4moj6rn: node1 -> node2 in 41 ms (1.0M)",
        flights.line(replace(DONE, ended_at=0.0, size=0)):
            "k4moj6rn: node1 -> node2, 8 ms standing still",
        flights.line(replace(DONE, begun_at=101.0, size=0, blackout_ms=0.0)):
            "k4moj6rn: node1 -> node2 in 0 ms",
        flights.phases(DONE): "freeze 0.5 ms, wire 4 ms",
        flights.phases(replace(DONE, phases_ms={"more": 2000.0, "first_output": 1.0})):
            "first output 1 ms, more 2.0 s",
    }
    assert list(told) == list(told.values())


def test_the_flight_report_of_scripts_has_every_field(master: Scripted, desk: Desk) -> None:
    moved(master, DONE)
    assert desk.run("move", "k4m", "node2", "--json") == 0
    phases = dict.fromkeys(op.PHASES) | {"freeze": 0.5, "wire": 4.0}
    assert one_document(desk) == {"move": {
        "id": "mv000001", "task": "k4moj6rn", "from": "node1", "to": "node2", "kind": "python",
        "result": "done", "state": "done", "code": None, "reason": None, "hint": None,
        "blackout_ms": 8.0, "blackout_is_bound": False, "bytes": 1 << 20,
        "way": None, "budget_ms": None, "predicted_ms": None, "phases_ms": phases, "snapshot": None,
        "begun_at": 100.0, "ended_at": 100.041,
    }}
    assert desk.noted == []
    assert list(phases) == [
        "reserve", "freeze", "snapshot", "wire", "commit", "restore", "first_output",
    ]


def test_quiet_shows_ids_of_what_moved(master: Scripted, desk: Desk) -> None:
    moved(master, op.Progress(0, "a line"), DONE)
    assert desk.run("move", "-q", "k4m", "node2") == 0
    assert (desk.said, desk.noted) == (["k4moj6rn"], [])


def test_lines_on_the_way_are_for_the_person_alone(master: Scripted, desk: Desk) -> None:
    bytes_too = op.Progress(0, "k4moj6rn: node1 -> node2", 1, 2)
    moved(master, op.Progress(0, "node2 is waited for\x1b"), bytes_too, DONE)
    assert desk.run("move", "k4m", "node2") == 0
    assert desk.noted == [r"node2 is waited for\x1b"]
    desk.run("move", "k4m", "node2", "--json")
    assert len(desk.noted) == 1


def test_what_a_node_says_cannot_move_the_cursor(master: Scripted, desk: Desk) -> None:
    moved(master, replace(ABORTED, reason="\x1b[2J", hint=""))
    assert desk.run("move", "k4m", "node2") == 1
    assert desk.noted == [r"k4moj6rn stays on node1: \x1b[2J"]


PROBLEM = op.Problem(0, "no-such-task", "no task 'k4m'", "`list` shows them")


def test_a_move_that_could_not_begin_is_one_line(master: Scripted, desk: Desk) -> None:
    moved(master, PROBLEM)
    assert desk.run("move", "k4m", "node2") == 1
    assert desk.noted == ["move: no task 'k4m' (`list` shows them)"]
    assert desk.run("move", "k4m", "node2", "--json") == 1
    assert one_document(desk)["error"]["code"] == "no-such-task"


def several(master: Scripted, outcomes: dict[str, op.MoveView | op.Problem]) -> None:
    """Answers once all have been asked for, the last first: by the task's name."""
    asked: list[op.MoveTask] = []

    def answer(request: op.MoveTask) -> list[op.Reply]:
        asked.append(request)
        if len(asked) < len(outcomes):
            return []
        answers: list[op.Reply] = []
        for each in reversed(asked):
            found = outcomes[each.task]
            answers.append(
                op.Moves(each.id, (found,)) if isinstance(found, op.MoveView)
                else replace(found, id=each.id)
            )
        asked.clear()
        return answers

    master.answers[op.MoveTask] = answer


def test_several_tasks_move_at_once_and_each_is_told_as_it_ends(
    master: Scripted, desk: Desk
) -> None:
    several(master, {
        "a": replace(DONE, task="aaaaaaaa"), "b": replace(ABORTED, task="bbbbbbbb"),
        "c": PROBLEM, "d": replace(DONE, task="dddddddd"),
    })
    assert desk.run("move", "a", "b", "a", "c", "d", "node2") == 1
    assert sorted(line[:8] for line in desk.said) == ["aaaaaaaa", "dddddddd"]
    assert sorted(line[:8] for line in desk.noted) == ["bbbbbbbb", "no task "]


def test_several_moves_are_one_document_in_the_order_asked_for(
    master: Scripted, desk: Desk
) -> None:
    several(master, {
        "a": replace(DONE, task="aaaaaaaa"), "b": replace(HELD, task="bbbbbbbb"), "c": PROBLEM,
    })
    assert desk.run("move", "a", "b", "c", "node2", "--json") == 125
    told = one_document(desk)
    assert [each["task"] for each in told["moves"]] == ["aaaaaaaa", "bbbbbbbb"]
    assert [each["about"] for each in told["faults"]] == ["bbbbbbbb", "c"]
    assert told["error"]["code"] == "held"


def test_when_one_of_them_is_no_text_none_is_moved(master: Scripted, desk: Desk) -> None:
    moved(master, DONE)
    assert desk.run("move", "k4m", os.fsdecode(b"\xff"), "node2") == 2
    assert len(desk.noted) == 1 and "not UTF-8" in desk.noted[0]
    master.says(op.ListMoves, op.Moves(0, ()))
    assert desk.run("moves") == 0
    assert master.got(op.MoveTask) == []


def test_a_master_that_goes_away_leaves_the_outcome_unknown(master: Scripted, desk: Desk) -> None:
    moved(master, GONE)
    assert desk.run("move", "k4m", "node2") == 125
    assert desk.noted == [
        "move: the master went away before it answered: the outcome is unknown "
        "(`moves` tells, once it is back)"
    ]


def test_ctrl_c_leaves_and_the_moves_go_on(master: Scripted, desk: Desk) -> None:
    def answer(request: op.MoveTask) -> list[op.Reply]:
        if request.task == "b":
            os.kill(os.getpid(), signal.SIGINT)
            return []
        return [op.Moves(request.id, (DONE,))]

    master.answers[op.MoveTask] = answer
    assert desk.run("move", "a", "b", "node2") == 130
    assert desk.noted == ["move: left: the move goes on (`moves` tells)"]
    master.says(op.ListMoves, op.Moves(0, ()))
    assert desk.run("moves") == 0
    assert [asked.id for asked in master.got(op.Cancel)] == [master.got(op.MoveTask)[1].id]


WRONG = [
    (["move"], "TASK and NODE are missing"), (["move", "t"], "NODE is missing"),
    (["transfer", "t", "node1"], "TO is missing"),
    (["transfer", "t", "a", "b", "c"], "'c' is one argument too many"),
    (["move", "--on-unknown", "maybe", "t", "n"], "--on-unknown takes hold or resume, not 'maybe'"),
    (["resolve", "mv1"], "one of --source and --destination is needed"),
    (["resolve", "mv1", "--source", "--destination"], "one of --source and --destination"),
    (["resolve", "--source"], "MOVE is missing"), (["moves", "-n", "0"], "from 1 up, not '0'"),
    (["moves", "-o", "xml"], "no output format 'xml'"),
]


@pytest.mark.parametrize(("words", "why"), WRONG)
def test_wrong_words_ask_nothing(
    words: list[str], why: str, master: Scripted, desk: Desk
) -> None:
    assert desk.run(*words) == 2
    (line,) = desk.noted
    assert line.startswith(f"{words[0]}: ") and why in line
    assert master.asked == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bytes_under_way_are_a_bar_on_a_terminal_and_lines_stay_whole(
    master: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masterd.commands.moving.SHOWN_AFTER_S", 0.0)
    several_bytes = [op.Progress(0, "", done << 20, 256 << 20) for done in (64, 256)]
    moved(master, several_bytes[0], op.Progress(0, "a line"), several_bytes[1], DONE)
    with Desk(master) as desk:
        desk.err = desk.context.err = Terminal()
        assert desk.run("move", "k4m", "node2") == 0
        drawn = desk.err.getvalue()
        assert "k4m -> node2:  25%" in drawn and "64.0M/256M" in drawn
        assert "\ra line\n" in drawn
        # The bar is gone in the end.
        assert drawn.endswith("\r")
        assert desk.said == [flights.line(DONE)]


def test_a_quick_move_draws_no_bar(master: Scripted) -> None:
    moved(master, op.Progress(0, "", 1, 2), DONE)
    with Desk(master) as desk:
        desk.err = desk.context.err = Terminal()
        assert desk.run("move", "k4m", "node2") == 0
        assert "%" not in desk.err.getvalue()


def test_moves_are_a_table_with_the_newest_last(master: Scripted, desk: Desk) -> None:
    shown = [replace(each, begun_at=0.0) for each in (DONE, ABORTED, FLYING)]
    master.says(op.ListMoves, op.Moves(0, tuple(shown)))
    assert desk.run("moves", "node1", "-n", "3") == 0
    assert master.got(op.ListMoves) == [op.ListMoves(2, "node1", 3)]
    assert desk.said[0].split() == [
        "MOVE", "TASK", "FROM", "TO", "RESULT", "TOOK", "STILL", "SIZE", "BEGUN", "WHY",
    ]
    assert [line.split()[4] for line in desk.said[1:]] == ["done", "aborted", "committed"]
    assert desk.said[2].split(maxsplit=9)[5:] == [
        "-", "-", "-", "-", "self.conn: a socket cannot travel",
    ]
    assert desk.noted == []
    desk.run("moves", "-o", "wide")
    wide = desk.said[4].split()
    assert wide[8:17] == ["KIND", "WAY", *map(str.upper, op.PHASES)]


def test_moves_that_are_held_come_with_what_resolves_them(master: Scripted, desk: Desk) -> None:
    master.says(op.ListMoves, op.Moves(0, (DONE, HELD)))
    assert desk.run("moves") == 0
    assert desk.noted == [HELD_LINE]


def test_moves_for_scripts(master: Scripted, desk: Desk) -> None:
    master.says(op.ListMoves, op.Moves(0, (DONE, FLYING)))
    assert desk.run("moves", "--json") == 0
    assert one_document(desk) == {"moves": [asjson.move(DONE), asjson.move(FLYING)]}
    desk.run("moves", "-o", "jsonl")
    assert [json.loads(line)["id"] for line in desk.said[1:]] == ["mv000001", "mv000005"]
    desk.run("moves", "-o", "name")
    assert desk.said[3:] == ["mv000001", "mv000005"]
    assert asjson.move(FLYING)["result"] is None


def test_no_moves_are_an_empty_answer(master: Scripted, desk: Desk) -> None:
    master.says(op.ListMoves, op.Moves(0, ()))
    assert desk.run("moves") == 0
    assert (desk.said, desk.noted) == ([], ["no moves"])


def holding(master: Scripted, *moves: op.MoveView) -> None:
    master.says(op.ListMoves, op.Moves(0, moves))
    master.says(op.ResolveMove, op.Moves(0, (replace(HELD, result="reverted"),)))


def test_a_held_move_is_resolved_by_its_task(master: Scripted, desk: Desk) -> None:
    holding(master, DONE, HELD)
    assert desk.run("resolve", "k4m", "--source") == 0
    assert master.got(op.ListMoves)[0].about == "k4m"
    assert master.got(op.ResolveMove) == [op.ResolveMove(3, "mv000004", "source")]
    assert desk.said == ["k4moj6rn belongs to node1"]


def test_a_held_move_is_resolved_by_its_id(master: Scripted, desk: Desk) -> None:
    holding(master)
    master.says(op.ListMoves, op.Problem(0, "no-such-task", "no task"))
    assert desk.run("resolve", "mv000004", "--destination", "--json") == 0
    assert master.got(op.ResolveMove) == [op.ResolveMove(3, "mv000004", "destination")]
    assert one_document(desk)["move"]["id"] == "mv000004"


def test_a_task_that_no_move_holds_cannot_be_resolved(master: Scripted, desk: Desk) -> None:
    holding(master, DONE)
    assert desk.run("resolve", "k4m", "--source") == 1
    assert desk.noted == ["resolve: no move of k4m is held (moves k4m)"]
    holding(master, HELD, replace(HELD, id="mv9", task="other000"))
    assert desk.run("resolve", "node1", "--source") == 1
    assert "mv000004 (k4moj6rn), mv9 (other000)" in desk.noted[1]
    assert master.got(op.ResolveMove) == []


def test_a_move_that_is_held_still_is_told_with_status_125(master: Scripted, desk: Desk) -> None:
    holding(master, HELD)
    master.says(op.ResolveMove, op.Moves(0, (HELD,)))
    assert desk.run("resolve", "k4m", "--source") == 125
    assert desk.noted == [HELD_LINE]
    assert desk.run("resolve", "k4m", "--source", "--json") == 125
    assert one_document(desk)["error"]["code"] == "held"


@pytest.mark.parametrize(("answer", "status", "asked"), [("y", 0, 1), ("n", 1, 0)])
def test_on_a_terminal_a_person_is_asked_before_a_move_is_resolved(
    answer: str, status: int, asked: int, master: Scripted
) -> None:
    holding(master, HELD)
    with Desk(master, answer, interactive=True) as desk:
        assert desk.run("resolve", "k4m", "--source") == status
        assert desk.asked == ["Give k4m to its source, for good? [y/N] "]
    assert len(master.got(op.ResolveMove)) == asked


def test_inspect_shows_the_moves_of_a_task(master: Scripted, desk: Desk) -> None:
    master.says(op.ListTasks, op.Tasks(0, (view("k4moj6rn", "node2", home="node1"),)))
    master.says(op.History, op.Events(0, ()))
    master.says(op.ListMoves, op.Moves(0, (ABORTED, DONE)))
    assert desk.run("inspect", "k4m") == 0
    place = desk.said.index("moves")
    assert [line.split("  ", 2)[-1] for line in desk.said[place + 1 :]] == [
        "mv000002  stays on node1: self.conn: a socket cannot travel",
        "mv000001  node1 -> node2 in 41 ms, 8 ms of it standing still (1.0M)",
        "freeze 0.5 ms, wire 4 ms",
    ]
    assert master.got(op.ListMoves)[0].about == "k4moj6rn"
    desk.run("inspect", "k4m", "--json")
    (told,) = json.loads(desk.said[-1])["tasks"]
    assert told["moves"] == [asjson.move(ABORTED), asjson.move(DONE)]
