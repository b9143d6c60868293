"""The words of joining: bounded, typed, one at a time."""

import socket
from collections.abc import Iterator

import msgspec
import pytest

from godwit.errors import FrameError, MessageError, PeerError, Refused
from godwit.wire import frames, joining

WORDS: list[joining.Word] = [
    joining.Cluster(b"ca"), joining.Join("1d", "5e", "web7", b"request"),
    joining.Claim("5e", "m1", "web7"), joining.Request(b"request"),
    joining.Joined(b"certificate", b"ca", "m1"), joining.Taken(),
]
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(10)
        other.settimeout(10)
        yield one, other


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_a_word_arrives_as_it_was_said(pair: Pair, word: joining.Word) -> None:
    joining.send(pair[0], word)
    assert joining.receive(pair[1], type(word)) == word


@pytest.mark.parametrize("said", WORDS, ids=lambda word: type(word).__name__)
def test_only_the_word_whose_turn_it_is_is_taken(pair: Pair, said: joining.Word) -> None:
    for wanted in WORDS:
        if type(wanted) is not type(said):
            joining.send(pair[0], said)
            with pytest.raises(MessageError, match=type(said).__name__):
                joining.receive(pair[1], type(wanted))


@pytest.mark.parametrize("wanted", WORDS, ids=lambda word: type(word).__name__)
def test_a_refusal_is_heard_at_any_time(pair: Pair, wanted: joining.Word) -> None:
    joining.send(pair[0], joining.Refuse("bad-token", "no"))
    with pytest.raises(Refused) as refused:
        joining.receive(pair[1], type(wanted))
    assert (refused.value.code, str(refused.value)) == ("bad-token", "no")


@pytest.mark.parametrize("length", [frames.OPENING_LIMIT + 1, 2**31, 2**32 - 1])
def test_a_length_over_the_bound_is_refused_before_anything_follows(
    pair: Pair, length: int
) -> None:
    pair[0].sendall(length.to_bytes(4, "big"))
    with pytest.raises(FrameError):
        joining.receive(pair[1], joining.Join)


@pytest.mark.parametrize("payload", [
    b"", b"\xc1", b"\0" * 100, b"\x90", b"\x80", msgspec.msgpack.encode({"is": "Nothing"}),
    msgspec.msgpack.encode({"is": "Join", "token": 1}), b"\x91" * 4000,
    msgspec.msgpack.encode({"is": "Join"}), b"\x81\xa2is\xa4Jo\xff\xff",
])
def test_junk_is_refused(pair: Pair, payload: bytes) -> None:
    pair[0].sendall(frames.encode(payload))
    with pytest.raises(MessageError):
        joining.receive(pair[1], joining.Join)


def test_a_word_over_the_bound_is_not_sent(pair: Pair) -> None:
    with pytest.raises(FrameError):
        joining.send(pair[0], joining.Request(b"x" * frames.OPENING_LIMIT))


def test_a_peer_that_hangs_up_is_no_word(pair: Pair) -> None:
    pair[0].sendall(b"\0\0")
    pair[0].close()
    with pytest.raises(PeerError, match="hung up"):
        joining.receive(pair[1], joining.Join)


def test_a_peer_that_says_nothing_is_not_waited_for(pair: Pair) -> None:
    pair[1].settimeout(0.01)
    with pytest.raises(TimeoutError):
        joining.receive(pair[1], joining.Join)
