"""why: what is asked of the master, and what is told of its answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.task.reasons import Reason
from godwit.task.verdict import Verdict
from godwit.wire import operations as op
from tests.scripted import Desk, Scripted

TTY = Reason("tty", "it has a terminal: /dev/pts/3", "start it with execute: tasks have none")
PIPE = Reason("pipe", "it has one end of a pipe: 5", "it can move if the other end is closed", "if")
YES = Verdict("node2", "yes", (), 22, "python")
IF = Verdict("node3", "if", (PIPE,), 1139)
NO = Verdict("node4", "no", (TTY, PIPE))


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


def judged(master: Scripted, *verdicts: Verdict) -> None:
    master.says(op.JudgeMove, op.Verdicts(0, "k3f9a2xq", "node1", verdicts))


def test_a_row_for_each_node_and_each_reason_once(master: Scripted, desk: Desk) -> None:
    judged(master, YES, IF, NO)
    assert desk.run("why", "k3f") == 0
    assert desk.said == [
        "NODE   CAN  KIND    STILL",
        "node2  yes  python  22 ms",
        "node3  if   criu    1.1 s",
        "node4  no   criu        -",
        "node3, node4: if: it has one end of a pipe: 5; it can move if the other end is closed",
        "node4: no: it has a terminal: /dev/pts/3; start it with execute: tasks have none",
    ]
    assert master.got(op.JudgeMove)[0].task == "k3f"
    assert master.got(op.JudgeMove)[0].nodes == "all"


@pytest.mark.parametrize(("verdicts", "status"), [
    ((YES,), 0), ((IF,), 0), ((NO,), 1), ((NO, IF), 0), ((), 1),
])
def test_the_status_says_whether_there_is_anywhere_to_go(
    master: Scripted, desk: Desk, verdicts: tuple[Verdict, ...], status: int
) -> None:
    judged(master, *verdicts)
    assert desk.run("why", "k3f", "node4") == status
    assert master.got(op.JudgeMove)[0].nodes == "node4"


def test_names_are_of_those_that_it_can_go_to(master: Scripted, desk: Desk) -> None:
    judged(master, YES, IF, NO)
    assert desk.run("why", "-o", "name", "k3f") == 0
    assert desk.said == ["node2", "node3"]


def test_its_json_has_every_reason_with_what_helps(master: Scripted, desk: Desk) -> None:
    judged(master, YES, NO)
    assert desk.run("why", "--json", "k3f") == 0
    (line,) = desk.said
    assert json.loads(line) == {"task": "k3f9a2xq", "from": "node1", "nodes": [
        {"node": "node2", "verdict": "yes", "kind": "python", "reasons": [], "blackout_ms": 22},
        {"node": "node4", "verdict": "no", "kind": "criu", "blackout_ms": None, "reasons": [
            {"code": "tty", "text": TTY.text, "fix": TTY.fix, "verdict": "no"},
            {"code": "pipe", "text": PIPE.text, "fix": PIPE.fix, "verdict": "if"},
        ]},
    ]}


def test_without_another_node_that_is_said(master: Scripted, desk: Desk) -> None:
    judged(master)
    assert desk.run("why", "k3f") == 1
    assert desk.noted == ["k3f9a2xq is on node1, and there is no other node"]


def test_what_a_node_named_does_not_move_the_cursor(master: Scripted, desk: Desk) -> None:
    odd = Reason("file-missing", "/x\x1b[2J is not on node4")
    judged(master, Verdict("node4", "no", (odd,)))
    assert desk.run("why", "k3f") == 1
    assert "\x1b" not in desk.out.getvalue()


def test_what_cannot_be_asked_is_one_line(master: Scripted, desk: Desk) -> None:
    master.says(op.JudgeMove, op.Problem(0, "there", "k3f9a2xq is on node1 already"))
    assert desk.run("why", "k3f", "node1") == 1
    assert desk.noted == ["why: k3f9a2xq is on node1 already"]
