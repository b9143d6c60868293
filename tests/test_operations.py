"""Every request and reply between operator and master, as data and as bytes."""

import msgspec
import pytest

from godwit.errors import MessageError
from godwit.task.reasons import Reason
from godwit.task.record import Spec, Task, Usage
from godwit.task.verdict import Verdict
from godwit.wire import operations as op
from godwit.wire.messages import Message

VIEW = op.TaskView("n1", Task(Spec("abcd1234", (b"true",))))
SEEN = {"node": "n1", "task": {"spec": {"task": "abcd1234", "argv": [b"true"]}}}
EVENT = op.Event(1.5, "info", "x", node="n1")
LINE = {"at": 1.5, "level": "info", "text": "x", "node": "n1"}

REQUESTS: list[tuple[op.Request, dict[str, object]]] = [
    (op.Attach(1, 1, notices=True), {"version": 1, "notices": True}),
    (op.ListNodes(1), {}),
    (op.ListTasks(1, ("a",)), {"tasks": ["a"]}),
    (op.Execute(1, "all", (b"\xff",), env={b"A": b"b"}, count=2, follow=True),
     {"nodes": "all", "argv": [b"\xff"], "env": {b"A": b"b"}, "count": 2, "follow": True}),
    (op.FollowLogs(1, ("a",), lines=0, since=2.5, live=True),
     {"tasks": ["a"], "lines": 0, "since": 2.5, "live": True}),
    (op.Took(1, "a", 5), {"task": "a", "count": 5}),
    (op.Cancel(1), {}),
    (op.SignalTasks(1, ("a",), 9, whole=True), {"tasks": ["a"], "number": 9, "whole": True}),
    (op.PauseTasks(1, ("a",), resume=True), {"tasks": ["a"], "resume": True}),
    (op.ForgetTasks(1, ("a",)), {"tasks": ["a"]}),
    (op.AwaitTasks(1, ("a",), 0.0), {"tasks": ["a"], "timeout_s": 0.0}),
    (op.MeasureUsage(1, "n1"), {"about": "n1"}),
    (op.EraseFile(1, op.Place(b"/\xff", "n1"), recursive=True),
     {"place": {"path": b"/\xff", "node": "n1"}, "recursive": True}),
    (op.Copy(1, op.Place(b"x"), op.Place(b"y", "n1")),
     {"source": {"path": b"x"}, "target": {"path": b"y", "node": "n1"}}),
    (op.Register(1, "h", 5, "n1", "c"), {"host": "h", "port": 5, "name": "n1", "code": "c"}),
    (op.Deregister(1, "@a,b"), {"nodes": "@a,b"}),
    (op.History(1, "n1", 5, live=True), {"about": "n1", "limit": 5, "live": True}),
    (op.StopMaster(1, deregister=True), {"deregister": True}),
    (op.MakeToken(1, 2, 60.0, "n1"), {"uses": 2, "ttl_s": 60.0, "node": "n1"}),
    (op.Revoke(1, "n1"), {"node": "n1"}),
    (op.Upgrade(1, "@a,b"), {"nodes": "@a,b"}),
    (op.MoveTask(1, "a", "n2", "n1", "resume"),
     {"task": "a", "target": "n2", "source": "n1", "on_unknown": "resume"}),
    (op.ListMoves(1, "a", 5), {"about": "a", "limit": 5}),
    (op.ResolveMove(1, "m1", "source"), {"move": "m1", "side": "source"}),
    (op.ListPrograms(1, "n1"), {"nodes": "n1"}),
    (op.JudgeMove(1, "a", "@b,c"), {"task": "a", "nodes": "@b,c"}),
    (op.CheckpointTask(1, "a", 5, 60.0), {"task": "a", "keep": 5, "every_s": 60.0}),
    (op.ListSnapshots(1, "a"), {"task": "a"}),
    (op.RestartTask(1, "a", "s", True, 2, ("n1", "@b,c")),
     {"task": "a", "snapshot": "s", "fork": True, "count": 2, "nodes": ["n1", "@b,c"]}),
]
REPLIES: list[tuple[op.Reply, dict[str, object]]] = [
    (op.Attached(1, "m", "h:1", "0", 5, "/s"),
     {"master": "m", "address": "h:1", "version": "0", "pid": 5, "state": "/s"}),
    (op.Nodes(1, (op.NodeView("n1", "h:1", "up", tasks=(VIEW,)),)),
     {"nodes": [{"name": "n1", "address": "h:1", "state": "up", "tasks": [SEEN]}]}),
    (op.Tasks(1, (VIEW,), (op.Fault("x", "no-task", "no"),)),
     {"tasks": [SEEN], "faults": [{"about": "x", "code": "no-task", "message": "no"}]}),
    (op.Launched(1, (VIEW,)), {"tasks": [SEEN]}),
    (op.Output(1, "a", 5, b"\xff", "n1"),
     {"task": "a", "offset": 5, "data": b"\xff", "node": "n1"}),
    (op.OutputEnd(1, "a", "cut", "x"), {"task": "a", "code": "cut", "text": "x"}),
    (op.Usages(1, (op.NodeUsage("n1", Usage(minflt=3)),), (VIEW,)),
     {"nodes": [{"name": "n1", "children": {"minflt": 3}}], "tasks": [SEEN]}),
    (op.Ticket(1, "t", "send"), {"ticket": "t", "role": "send"}),
    (op.Progress(1, done=1, total=2), {"done": 1, "total": 2}),
    (op.CopyDone(1, 5, 1, b"/x", ("w",)),
     {"size": 5, "files": 1, "path": b"/x", "warnings": ["w"]}),
    (op.Events(1, (EVENT,), more=True), {"events": [LINE], "more": True}),
    (op.Ok(1, "x"), {"text": "x"}),
    (op.Problem(1, "code", "no", exit_status=2),
     {"code": "code", "message": "no", "exit_status": 2}),
    (op.Notice(1, EVENT), {"event": LINE}),
    (op.TokenMade(1, "gw1"), {"token": "gw1"}),
    (op.Upgraded(1, (op.Restarted("n1", "godwit 1"),), (op.Fault("n2", "unreachable", "no"),)),
     {"nodes": [{"name": "n1", "release": "godwit 1"}],
      "faults": [{"about": "n2", "code": "unreachable", "message": "no"}]}),
    (op.Moves(1, (op.MoveView("m1", "a", "n1", "n2", "python", "done", phases_ms={"wire": 1.5}),)),
     {"moves": [{"id": "m1", "task": "a", "source": "n1", "target": "n2", "kind": "python",
                 "result": "done", "phases_ms": {"wire": 1.5}}]}),
    (op.Programs(1, (op.NodePrograms("n1", {"P": "does"}),)),
     {"nodes": [{"name": "n1", "programs": {"P": "does"}}]}),
    (op.Verdicts(1, "a", "n1", (Verdict("n2", "no", (Reason("cwd", "gone", "make it"),)),)),
     {"task": "a", "node": "n1", "verdicts": [
         {"node": "n2", "verdict": "no",
          "reasons": [{"code": "cwd", "text": "gone", "fix": "make it"}]}]}),
    (op.Snapshots(1, (op.SnapshotView("s", "a", ("n1",), "python", 2.5, 100, 50, 7.5, (b"o",)),)),
     {"snapshots": [{"id": "s", "task": "a", "nodes": ["n1"], "kind": "python", "at": 2.5,
                     "size": 100, "packed": 50, "blackout_ms": 7.5, "writes": [b"o"]}]}),
]


def name_of(example: object) -> str:
    return type(example).__name__ if isinstance(example, Message) else ""


def on_wire(message: Message, fields: dict[str, object]) -> dict[str, object]:
    return {"is": type(message).__name__, "id": 1, **fields}


def test_every_request_and_reply_has_one_example() -> None:
    for examples, union in ((REQUESTS, op.Requests), (REPLIES, op.Replies)):
        assert [type(message) for message, _ in examples] == list(union.__args__)


@pytest.mark.parametrize(("request_", "fields"), REQUESTS, ids=name_of)
def test_a_request_is_on_the_wire_as_told_and_no_reply(
    request_: op.Request, fields: dict[str, object]
) -> None:
    payload = op.encode(request_)
    assert msgspec.msgpack.decode(payload, strict=False) == on_wire(request_, fields)
    assert op.decode_request(payload) == request_
    with pytest.raises(MessageError, match="not a reply"):
        op.decode_reply(payload)


@pytest.mark.parametrize(("reply", "fields"), REPLIES, ids=name_of)
def test_a_reply_is_on_the_wire_as_told_and_no_request(
    reply: op.Reply, fields: dict[str, object]
) -> None:
    payload = op.encode(reply)
    assert msgspec.msgpack.decode(payload, strict=False) == on_wire(reply, fields)
    assert op.decode_reply(payload) == reply
    with pytest.raises(MessageError, match="not a request"):
        op.decode_request(payload)


def test_what_is_on_the_way_is_a_reply() -> None:
    assert set(op.ON_THE_WAY) <= set(op.Replies.__args__)


@pytest.mark.parametrize("payload", [
    b"", b"\xc1", msgspec.msgpack.encode({"is": "ListNodes"}),
    msgspec.msgpack.encode({"is": "ListNodes", "id": "one"}),
    msgspec.msgpack.encode({"is": "Nodes", "id": 1, "nodes": [{"name": "n", "state": "odd"}]}),
    b"\x83\xa2is\xa9ListNodes\xa2id\x01\xa5nodes\xa2\xff\xff",
], ids=range(6))
def test_what_is_neither_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        op.decode_request(payload)
    with pytest.raises(MessageError):
        op.decode_reply(payload)
