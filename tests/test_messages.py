"""Every message between node and master, as data and as bytes; and what is refused."""

import msgspec
import pytest

from godwit.errors import MessageError
from godwit.task.lifecycle import Status
from godwit.task.record import Snapshot, Spec, Task, Usage
from godwit.task.verdict import Binary, Place, Seen, Traits
from godwit.wire import messages as m

USAGE = Usage(utime_s=0.5, maxrss_bytes=4096)
SPEC = Spec(task="abcd1234", argv=(b"echo", b"\xff"), env={b"A": b"\x80"}, home="n1")
TASK = Task(SPEC, Status.EXITED, pid=7, exit_code=3, usage=USAGE)

#: The twin tables: a message, and what is on the wire.
EXAMPLES: list[tuple[m.Message, dict[str, object]]] = [
    (m.Hello(1, "n1", "id", "run"),
     {"is": "Hello", "version": 1, "name": "n1", "node": "id", "agent": "run"}),
    (m.Adopt(1, "m", "n1", "stream"),
     {"is": "Adopt", "version": 1, "master": "m", "name": "n1", "channel": "stream"}),
    (m.Welcome("m"), {"is": "Welcome", "master": "m"}),
    (m.Refuse("taken", "no"), {"is": "Refuse", "code": "taken", "text": "no"}),
    (m.Report((TASK,), last=False), {"is": "Report", "tasks": [{
        "spec": {"task": "abcd1234", "argv": [b"echo", b"\xff"], "env": {b"A": b"\x80"},
                 "home": "n1"},
        "status": "exited", "pid": 7, "exit_code": 3,
        "usage": {"utime_s": 0.5, "maxrss_bytes": 4096},
    }], "last": False}),
    (m.Changed(()), {"is": "Changed", "tasks": []}),
    (m.Rejected(("abcd1234",), "ENOENT", "x"),
     {"is": "Rejected", "tasks": ["abcd1234"], "code": "ENOENT", "text": "x"}),
    (m.Forgotten(("a", "b")), {"is": "Forgotten", "tasks": ["a", "b"]}),
    (m.Beat(m.Load(cpus=2, keyboard_idle_s=1.5), USAGE),
     {"is": "Beat", "load": {"cpus": 2, "keyboard_idle_s": 1.5},
      "children": {"utime_s": 0.5, "maxrss_bytes": 4096}}),
    (m.Done(4), {"is": "Done", "order": 4}),
    (m.Copied(4, 10, 1, b"/x\xff"),
     {"is": "Copied", "order": 4, "size": 10, "files": 1, "path": b"/x\xff"}),
    (m.Measured(4, Usage(), {"a": USAGE}),
     {"is": "Measured", "order": 4, "children": {},
      "tasks": {"a": {"utime_s": 0.5, "maxrss_bytes": 4096}}}),
    (m.Renew(b"csr"), {"is": "Renew", "request": b"csr"}),
    (m.Leaving("SIGTERM", 2), {"is": "Leaving", "reason": "SIGTERM", "tasks_left": 2}),
    (m.Able(("shell",), {"criu": "none"}),
     {"is": "Able", "can": ["shell"], "lacks": {"criu": "none"}}),
    (m.Caught("a", 5, 15), {"is": "Caught", "task": "a", "id": 5, "number": 15}),
    (m.Guests((m.Guest("a", "", "n2", 2), m.Guest("b", "bob", "n2", 3, "ended", 4)), "last"),
     {"is": "Guests", "guests": [
         {"task": "a", "user": "", "node": "n2", "epoch": 2},
         {"task": "b", "user": "bob", "node": "n2", "epoch": 3, "state": "ended", "exit_code": 4},
     ], "sync": "last"}),
    (m.Took("a", 5), {"is": "Took", "task": "a", "id": 5}),
    (m.Listening(4, 9), {"is": "Listening", "order": 4, "port": 9}),
    (m.Moved(4, 1, 2), {"is": "Moved", "order": 4, "done": 1, "total": 2}),
    (m.Launch(Spec("", (b"true",)), ("a", "b"), (1, 2)),
     {"is": "Launch", "spec": {"task": "", "argv": [b"true"]}, "tasks": ["a", "b"],
      "streams": [1, 2]}),
    (m.Signal(1, ("a",), 9, whole=True),
     {"is": "Signal", "order": 1, "tasks": ["a"], "number": 9, "whole": True}),
    (m.Pause(1, ("a",)), {"is": "Pause", "order": 1, "tasks": ["a"]}),
    (m.Forget(1, ("a",)), {"is": "Forget", "order": 1, "tasks": ["a"]}),
    (m.Measure(1), {"is": "Measure", "order": 1}),
    (m.Erase(1, b"/\xfe", recursive=True),
     {"is": "Erase", "order": 1, "path": b"/\xfe", "recursive": True}),
    (m.Transfer(1, "t", "send", b"/x", "h:1", ("ab",)),
     {"is": "Transfer", "order": 1, "ticket": "t", "role": "send", "path": b"/x",
      "address": "h:1", "leaves": ["ab"]}),
    (m.Abandon(1), {"is": "Abandon", "order": 1}),
    (m.Follow(1, "a", lines=0, live=True),
     {"is": "Follow", "stream": 1, "task": "a", "lines": 0, "live": True}),
    (m.Unfollow(1), {"is": "Unfollow", "stream": 1}),
    (m.Dismiss(1), {"is": "Dismiss", "order": 1}),
    (m.Renewed(b"pem"), {"is": "Renewed", "certificate": b"pem"}),
    (m.Heard(), {"is": "Heard"}),
    (m.Upgrade(1), {"is": "Upgrade", "order": 1}),
    (m.Standing("m1", "a", 3, "frozen", size=9, phases={"freeze": 0.5}),
     {"is": "Standing", "move": "m1", "task": "a", "epoch": 3, "state": "frozen", "size": 9,
      "phases": {"freeze": 0.5}}),
    (m.Reserve("m1", Task(Spec("a", (b"P",)), pid=7), 4, "k", ("leaf",), b"text"),
     {"is": "Reserve", "move": "m1", "task": {"spec": {"task": "a", "argv": [b"P"]}, "pid": 7},
      "epoch": 4, "ticket": "k", "leaves": ["leaf"], "source": b"text"}),
    (m.Freeze("m1", "a", 3, "h:5", "k", ("leaf",)),
     {"is": "Freeze", "move": "m1", "task": "a", "epoch": 3, "address": "h:5", "ticket": "k",
      "leaves": ["leaf"]}),
    (m.Verdict("m1", "a", 4, "commit"),
     {"is": "Verdict", "move": "m1", "task": "a", "epoch": 4, "verdict": "commit"}),
    (m.Describe(4, "a"), {"is": "Describe", "order": 4, "task": "a"}),
    (m.Described(4, Traits("x86_64", binaries=(Binary(b"/b", 5, "ab"),), cpu=frozenset({"sse"}))),
     {"is": "Described", "order": 4, "traits": {
         "machine": "x86_64", "binaries": [{"path": b"/b", "size": 5, "build_id": "ab"}],
         "cpu": ["sse"]}}),
    (m.Checkpoint(4, "a", "s", 3),
     {"is": "Checkpoint", "order": 4, "task": "a", "snapshot": "s", "keep": 3}),
    (m.ListSnapshots(4, "a"), {"is": "ListSnapshots", "order": 4, "task": "a"}),
    (m.Snapshots(4, (Snapshot("s", Spec("a", (b"P",)), 2.5, 100, 50),)),
     {"is": "Snapshots", "order": 4, "found": [
         {"id": "s", "spec": {"task": "a", "argv": [b"P"]}, "at": 2.5, "size": 100,
          "packed": 50}]}),
    (m.Lodging(("a",)), {"is": "Lodging", "tasks": ["a"]}),
    (m.Lodge(4, Snapshot("s", Spec("a", (b"P",)), 2.5, 100, 50), 3, "k", ("leaf",)),
     {"is": "Lodge", "order": 4, "snapshot": {
         "id": "s", "spec": {"task": "a", "argv": [b"P"]}, "at": 2.5, "size": 100,
         "packed": 50}, "keep": 3, "ticket": "k", "leaves": ["leaf"]}),
    (m.Give(4, "a", "s", "h:5", "k", ("leaf",)),
     {"is": "Give", "order": 4, "task": "a", "snapshot": "s", "address": "h:5", "ticket": "k",
      "leaves": ["leaf"]}),
    (m.Unlodge(4, ("a",)), {"is": "Unlodge", "order": 4, "tasks": ["a"]}),
    (m.Survey(4, Spec("a", (b"P",)), (b"/\xff",)),
     {"is": "Survey", "order": 4, "spec": {"task": "a", "argv": [b"P"]}, "paths": [b"/\xff"]}),
    (m.Surveyed(4, Place("n1", "x86_64", files={b"/x": Seen(5)}, objection=("policy", "no"))),
     {"is": "Surveyed", "order": 4, "place": {
         "name": "n1", "machine": "x86_64", "files": {b"/x": {"size": 5}},
         "objection": ["policy", "no"]}}),
    (m.Chunk(1, 5, b"\x00"), {"is": "Chunk", "stream": 1, "offset": 5, "data": b"\x00"}),
    (m.Ended(1, 6), {"is": "Ended", "stream": 1, "offset": 6}),
    (m.Kept("a", 7), {"is": "Kept", "task": "a", "offset": 7}),
    (m.Log("a", 7, b"x", 2), {"is": "Log", "task": "a", "offset": 7, "data": b"x", "dropped": 2}),
    (m.Credit(1, 6), {"is": "Credit", "stream": 1, "count": 6}),
]

#: Who decodes what.
DECODERS = {
    m.decode_opening: m.Opening.__args__,
    m.decode_from_node: (*m.FromNode.__args__, m.Refuse),
    m.decode_from_master: (*m.FromMaster.__args__, m.Refuse),
    m.decode_stream_from_node: m.StreamFromNode.__args__,
    m.decode_stream_from_master: m.StreamFromMaster.__args__,
}
NAMES = [type(message).__name__ for message, _ in EXAMPLES]


def test_every_message_has_one_example() -> None:
    assert sorted(NAMES) == sorted({kind.__name__ for all_ in DECODERS.values() for kind in all_})


@pytest.mark.parametrize(("message", "wire"), EXAMPLES, ids=NAMES)
def test_a_message_is_on_the_wire_as_told(message: m.Message, wire: dict[str, object]) -> None:
    assert msgspec.msgpack.decode(m.encode(message), strict=False) == wire


@pytest.mark.parametrize("decode", DECODERS, ids=["opening", "node", "master", "stream", "credit"])
@pytest.mark.parametrize(("message", "wire"), EXAMPLES, ids=NAMES)
def test_each_side_takes_its_messages_and_refuses_all_others(
    decode: m.Decoder, message: m.Message, wire: dict[str, object]
) -> None:
    payload = msgspec.msgpack.encode(wire)
    if isinstance(message, DECODERS[decode]):
        assert decode(payload) == message
    else:
        with pytest.raises(MessageError, match=type(message).__name__):
            decode(payload)


def test_unknown_fields_are_ignored() -> None:
    payload = msgspec.msgpack.encode({"is": "Welcome", "master": "m", "of a later version": [1]})
    assert m.decode_opening(payload) == m.Welcome("m")


@pytest.mark.parametrize("payload", [
    b"", b"\xc1", b"\x80", b"\x81\xa2is", b"\x81\xa2is\xa3Nah", b"\x93\x01\x02\x03",
    m.encode(m.Welcome("m")) + b"\x00",
    msgspec.msgpack.encode({"is": "Welcome"}),
    msgspec.msgpack.encode({"is": "Welcome", "master": 5}),
    msgspec.msgpack.encode({"is": "Refuse", "code": b"x", "text": ""}),
    b"\x82\xa2is\xa7Welcome\xa6master\xa2\xff\xff",
    b"\x82\xa2is\xa7Welcome\xa1x" + b"\x91" * 3000 + b"\x01",
], ids=range(12))
def test_what_is_no_message_is_refused_in_one_way(payload: bytes) -> None:
    with pytest.raises(MessageError, match="not a message of this protocol"):
        m.decode_opening(payload)
