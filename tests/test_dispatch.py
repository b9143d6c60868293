"""Which message may be sent by whom, in which state: a table, and every message with every peer."""

from typing import Any

import msgspec
import pytest

from godwit.errors import FrameError, MessageError
from godwit.task.record import Snapshot, Spec, Task, Usage
from godwit.task.verdict import Place, Traits
from godwit.wire import joining, messages, operations
from godwit.wire import messages as wire
from godwit.wire.frames import CONTROL_LIMIT, OPENING_LIMIT, encode
from godwit.wire.session import Session

#: Peers by what they are and how far they came.
OPENING = "anybody with a certificate, before the welcome"
NODE = "a welcomed node, on control"
NODE_STREAM = "a welcomed node, on stream"
MASTER = "a master, on control"
MASTER_STREAM = "a master, on stream"

#: What reads each.
READS: dict[str, messages.Decoder] = {
    OPENING: messages.decode_opening,
    NODE: messages.decode_from_node,
    NODE_STREAM: messages.decode_stream_from_node,
    MASTER: messages.decode_from_master,
    MASTER_STREAM: messages.decode_stream_from_master,
}

#: message -> who may send it.  Every message is here, with an example.
TABLE: list[tuple[wire.Message, set[str]]] = [
    (wire.Hello(1, "web7", "n", "a"), {OPENING}),
    (wire.Adopt(1, "m1", "web7"), {OPENING}),
    (wire.Welcome("m1"), {OPENING}),
    (wire.Refuse("no", "no"), {OPENING, NODE, MASTER}),
    (wire.Report(()), {NODE}),
    (wire.Changed(()), {NODE}),
    (wire.Rejected(("t",), "c", "t"), {NODE}),
    (wire.Forgotten(("t",)), {NODE}),
    (wire.Beat(wire.Load()), {NODE}),
    (wire.Done(1), {NODE}),
    (wire.Measured(1, Usage()), {NODE}),
    (wire.Leaving("stop"), {NODE}),
    (wire.Listening(1, 1), {NODE}),
    (wire.Moved(1, 1, 1), {NODE}),
    (wire.Copied(1, 1, 1, b"p"), {NODE}),
    (wire.Renew(b"r"), {NODE}),
    (wire.Launch(Spec("t", (b"true",)), ("t",)), {MASTER}),
    (wire.Signal(1, ("t",), 9), {MASTER}),
    (wire.Pause(1, ("t",)), {MASTER}),
    (wire.Forget(1, ("t",)), {MASTER}),
    (wire.Measure(1), {MASTER}),
    (wire.Erase(1, b"p"), {MASTER}),
    (wire.Transfer(1, "t", "send", b"p"), {MASTER}),
    (wire.Abandon(1), {MASTER}),
    (wire.Follow(1, "t"), {MASTER}),
    (wire.Unfollow(1), {MASTER}),
    (wire.Dismiss(1), {MASTER}),
    (wire.Heard(), {MASTER}),
    (wire.Renewed(b"c"), {MASTER}),
    (wire.Upgrade(1), {MASTER}),
    (wire.Able(("shell",)), {NODE}),
    (wire.Standing("m", "t", 1, "frozen"), {NODE}),
    (wire.Reserve("m", Task(Spec("t", (b"P",))), 2, "k", ()), {MASTER}),
    (wire.Freeze("m", "t", 1, "h:1", "k", ()), {MASTER}),
    (wire.Verdict("m", "t", 1, "abort"), {MASTER}),
    (wire.Describe(1, "t"), {MASTER}),
    (wire.Checkpoint(1, "t", "s", 3), {MASTER}),
    (wire.ListSnapshots(1, "t"), {MASTER}),
    (wire.Lodging(("t",)), {NODE}),
    (wire.Lodge(1, Snapshot("s", Spec("t", (b"P",)), 0.0, 1, 1), 3, "k", ("l",)), {MASTER}),
    (wire.Give(1, "t", "s", "h:1", "k", ("l",)), {MASTER}),
    (wire.Unlodge(1, ("t",)), {MASTER}),
    (wire.Snapshots(1, (Snapshot("s", Spec("t", (b"P",)), 0.0, 1),)), {NODE}),
    (wire.Survey(1, Spec("t", (b"P",))), {MASTER}),
    (wire.Described(1, Traits("x86_64")), {NODE}),
    (wire.Surveyed(1, Place("n", "x86_64")), {NODE}),
    (wire.Caught("t", 1, 15), {NODE}),
    (wire.Guests((wire.Guest("t", "", "n2", 2),)), {MASTER}),
    (wire.Took("t", 1), {MASTER}),
    (wire.Chunk(1, 0, b"d"), {NODE_STREAM}),
    (wire.Kept("t", 0), {NODE_STREAM}),
    (wire.Log("t", 0, b"d"), {MASTER_STREAM}),
    (wire.Ended(1, 0), {NODE_STREAM}),
    (wire.Credit(1, 1), {MASTER_STREAM}),
]


def kinds(root: type[Any]) -> set[type[Any]]:
    """Every message below a root that has a tag of its own."""
    found = {root} if not root.__subclasses__() else set()
    return found.union(*(kinds(kind) for kind in root.__subclasses__()))


def ours() -> set[type[Any]]:
    """The messages between a node and its master; an operator's have the same root."""
    return {kind for kind in kinds(wire.Message) if kind.__module__ == wire.__name__}


def named(part: object) -> str:
    return type(part).__name__ if isinstance(part, wire.Message) else ""


def test_every_message_is_in_the_table() -> None:
    assert {type(message) for message, _ in TABLE} == ours()


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=named)
@pytest.mark.parametrize("peer", READS)
def test_a_message_is_read_from_who_may_send_it_alone(
    peer: str, message: wire.Message, senders: set[str]
) -> None:
    payload = messages.encode(message)
    if peer in senders:
        assert READS[peer](payload) == message
    else:
        with pytest.raises(MessageError):
            READS[peer](payload)


@pytest.mark.parametrize("peer", READS)
def test_words_of_other_protocols_are_not_read(peer: str) -> None:
    tags = {kind.__struct_config__.tag for kind in ours()}
    others = kinds(operations.Request) | kinds(operations.Reply) | kinds(joining.Word)
    for kind in others:
        tag = kind.__struct_config__.tag
        if tag not in tags:
            with pytest.raises(MessageError):
                READS[peer](msgspec.msgpack.encode({"is": tag, "id": 1}))


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=named)
def test_a_session_reads_an_opening_first_and_then_its_channel_only(
    message: wire.Message, senders: set[str]
) -> None:
    frame = encode(messages.encode(message))
    for peer, decode in READS.items():
        session = Session()
        if peer != OPENING:
            session.opened(decode)
        if peer in senders:
            assert list(session.receive(frame)) == [message]
        else:
            with pytest.raises(MessageError):
                list(session.receive(frame))


def test_before_the_welcome_a_frame_is_bounded_by_4_kib_and_then_by_more() -> None:
    assert OPENING_LIMIT == 4096
    over = (OPENING_LIMIT + 1).to_bytes(4, "big")
    with pytest.raises(FrameError):
        list(Session().receive(over))
    session = Session()
    session.opened(messages.decode_from_node)
    assert list(session.receive(over)) == []
    other = Session()
    other.opened(messages.decode_from_node)
    with pytest.raises(FrameError):
        list(other.receive((CONTROL_LIMIT + 1).to_bytes(4, "big")))
