"""Which requests leave a line in the audit log, and what stands in it."""

import json
from typing import Any, get_args

import pytest

from godwit.task.record import Spec, Task
from godwit.wire import operations as op
from masterd.audit import DETAILS, LONGEST, LOOKS, MOST, Audit, Line, Who, details
from masterd.operators import identify

ANN = Who(0, "root", 42, login="ann")
SECRET = "hunter2-hunter2"
TASK = op.TaskView("web1", Task(Spec("t1234567", (b"true",))))

#: Every request that changes something, with all that an operator can say in it.
CHANGES: list[tuple[op.Request, dict[str, object]]] = [
    (op.Execute(7, "all", (b"sleep", b"60"), user="web", cwd=b"/x", env={b"PW": SECRET.encode()}),
     {"nodes": "all", "argv": ["sleep", "60"], "user": "web", "cwd": "/x", "count": 1,
      "kind": "shell", "env": ["PW"]}),
    (op.MoveTask(7, "t1", "web2", "web1", "resume"),
     {"task": "t1", "target": "web2", "source": "web1", "on_unknown": "resume"}),
    (op.CheckpointTask(7, "t1", 5), {"task": "t1", "keep": 5}),
    (op.RestartTask(7, "t1", "s1", True, 2),
     {"task": "t1", "snapshot": "s1", "fork": True, "count": 2}),
    (op.ResolveMove(7, "m1", "source"), {"move": "m1", "side": "source"}),
    (op.SignalTasks(7, ("t1",), 9, whole=True), {"tasks": ["t1"], "number": 9, "whole": True}),
    (op.PauseTasks(7, ("t1",), resume=True), {"tasks": ["t1"], "resume": True}),
    (op.ForgetTasks(7, ("t1", "t2")), {"tasks": ["t1", "t2"]}),
    (op.EraseFile(7, op.Place(b"a\xff", "web1"), recursive=True),
     {"place": "web1:a\\xff", "recursive": True}),
    (op.Copy(7, op.Place(b"/here"), op.Place(b"there", "web1")),
     {"source": "/here", "target": "web1:there"}),
    (op.Register(7, "10.0.0.2", 15441, "web2", SECRET),
     {"host": "10.0.0.2", "port": 15441, "name": "web2"}),
    (op.Deregister(7, "web2"), {"nodes": "web2"}),
    (op.StopMaster(7, deregister=True), {"deregister": True}),
    (op.MakeToken(7, uses=2, ttl_s=60.0, node="web3"), {"uses": 2, "ttl_s": 60.0, "node": "web3"}),
    (op.Revoke(7, "web3"), {"node": "web3"}),
    (op.Upgrade(7, "all"), {"nodes": "all"}),
]


def only(lines: Any) -> Line:
    (line,) = lines
    assert isinstance(line, Line)
    return line


def test_every_request_either_changes_nothing_or_has_its_details_listed() -> None:
    asked = set(get_args(op.Requests))
    assert set(LOOKS) | set(DETAILS) == asked and not set(LOOKS) & set(DETAILS)
    assert {type(request) for request, _ in CHANGES} == set(DETAILS)


@pytest.mark.parametrize(("request_", "shown"), CHANGES, ids=lambda part: type(part).__name__)
def test_a_change_leaves_one_line_when_it_is_answered(
    request_: op.Request, shown: dict[str, object]
) -> None:
    audit = Audit()
    audit.came(3, ANN)
    assert list(audit.asked(3, request_)) == []
    assert list(audit.answered(3, op.Progress(7, "on the way"))) == []
    line = only(audit.answered(3, op.Ok(7)))
    assert line.about == {
        "who": {"uid": 0, "user": "root", "pid": 42, "login": "ann"}, "request": 7,
        "what": type(request_).__name__, "connection": 3, "details": shown, "result": "ok",
    }
    assert SECRET not in json.dumps(line.about) + line.text
    assert list(audit.answered(3, op.Ok(7))) == []


@pytest.mark.parametrize("kind", LOOKS)
def test_a_look_leaves_none(kind: type[op.Request]) -> None:
    audit = Audit()
    fields = {"about": "x"} if kind is op.History else {}
    asked = {
        op.Attach: lambda: op.Attach(7, 1), op.ListTasks: lambda: op.ListTasks(7, ()),
        op.FollowLogs: lambda: op.FollowLogs(7, ()), op.AwaitTasks: lambda: op.AwaitTasks(7, ()),
        op.Took: lambda: op.Took(7, "t", 1), op.JudgeMove: lambda: op.JudgeMove(7, "t"),
        op.ListSnapshots: lambda: op.ListSnapshots(7, "t"),
    }.get(kind, lambda: kind(7, **fields))()  # type: ignore[operator]
    assert list(audit.asked(3, asked)) == []
    assert list(audit.answered(3, op.Ok(7))) == []
    assert list(audit.gone(3)) == []


def test_a_request_that_nobody_listed_is_audited_by_its_name_alone() -> None:
    class Novel(op.Request, frozen=True, tag="Novel"):
        password: str = SECRET

    audit = Audit()
    audit.came(3, ANN)
    assert list(audit.asked(3, Novel(7))) == []
    line = only(audit.answered(3, op.Ok(7)))
    assert line.about["what"] == "Novel" and line.about["details"] == {}


@pytest.mark.parametrize(("reply", "how"), [
    (op.Problem(7, "no-such-node", "no node 'x'"),
     {"result": "no-such-node", "why": "no node 'x'"}),
    (op.Tasks(7, (TASK,)), {"result": "ok", "count": 1, "tasks": ["web1:t1234567"]}),
    (op.Launched(7, (TASK,)), {"result": "ok", "count": 1, "tasks": ["web1:t1234567"]}),
    (op.Tasks(7, (TASK,), (op.Fault("web2", "policy", "no"),)),
     {"result": "partly", "count": 1, "tasks": ["web1:t1234567"], "faults": ["web2: policy"]}),
    (op.Tasks(7, (), (op.Fault("web2", "policy", "no"),)),
     {"result": "policy", "count": 0, "tasks": [], "faults": ["web2: policy"]}),
    (op.CopyDone(7, 10, 2), {"result": "ok", "size": 10, "files": 2}),
    (op.TokenMade(7, SECRET), {"result": "ok"}),
    (op.Upgraded(7, ()), {"result": "ok"}),
    (op.Upgraded(7, (), (op.Fault("web2", "unreachable", "no"),)),
     {"result": "unreachable", "faults": ["web2: unreachable"]}),
])
def test_the_line_says_how_it_went(reply: op.Reply, how: dict[str, object]) -> None:
    audit = Audit()
    audit.came(3, ANN)
    assert list(audit.asked(3, op.Deregister(7, "x"))) == []
    line = only(audit.answered(3, reply))
    assert {key: line.about[key] for key in how} == how
    assert SECRET not in json.dumps(line.about)


def test_what_was_not_answered_has_its_line_when_the_operator_cancels_or_leaves() -> None:
    audit = Audit()
    audit.came(3, ANN)
    for number in (7, 8, 8):
        assert list(audit.asked(3, op.Copy(number, op.Place(b"a"), op.Place(b"b", "n")))) == []
    assert only(audit.asked(3, op.Cancel(7))).about["result"] == "cancelled"
    # Two with the same id are two.
    assert [line.about["result"] for line in audit.gone(3)] == ["unknown", "unknown"]
    assert list(audit.gone(3)) == []


def test_requests_of_two_operators_with_one_id_are_told_apart() -> None:
    audit = Audit()
    audit.came(3, ANN)
    audit.came(4, Who(7, "bob", 43))
    assert list(audit.asked(3, op.Revoke(1, "a"))) == list(audit.asked(4, op.Revoke(1, "b"))) == []
    line = only(audit.answered(4, op.Ok(1)))
    assert line.about["who"] == {"uid": 7, "user": "bob", "pid": 43}
    assert line.about["details"] == {"node": "b"}


def test_a_certificate_has_a_line_with_who_got_it() -> None:
    audit = Audit()
    audit.knocked(9, "abcd", "10.0.0.7:3333")
    joined = only(audit.certified(9, "web7", "f" * 64)).about
    assert joined["who"] == {"node": "web7", "address": "10.0.0.7:3333"}
    assert joined["details"] == {"certificate": "f" * 16, "token": "abcd"}
    renewed = only(audit.certified(10, "web7", "e" * 64)).about
    assert renewed["who"] == {"node": "web7"} and renewed["details"] == {"certificate": "e" * 16}


def test_machines_that_knock_and_do_not_come_in_are_bounded() -> None:
    audit = Audit()
    for number in range(3000):
        audit.knocked(number, "abcd", "10.0.0.7:1")
    assert len(audit._guests) == 1000


def test_a_line_is_bounded() -> None:
    long = op.Execute(7, "n" * 5000, tuple(b"x" * 5000 for _ in range(5000)))
    shown = details(long)
    assert len(str(shown["nodes"])) == LONGEST
    assert isinstance(shown["argv"], list) and len(shown["argv"]) == MOST
    audit = Audit()
    audit.came(3, ANN)
    assert list(audit.asked(3, long)) == []
    line = only(audit.answered(3, op.Tasks(7, (TASK,) * 5000)))
    assert line.about["count"] == 5000 and len(str(line.about["tasks"])) < 5000


def test_a_user_without_a_name_is_a_number() -> None:
    assert identify(-1, 4_000_000).user == "4000000"
