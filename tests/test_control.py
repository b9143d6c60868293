"""The words of keepers and runners, and the packets that carry them."""

import os
import socket
from collections.abc import Iterator

import pytest

from godwit.errors import MessageError
from godwit.task import control as c
from godwit.task import packets

ORDERS: list[c.Orders] = [
    c.Prepare("t.py:T", "ab"), c.Begin("CountProcess", (b"5", b"\xff")), c.Freeze("m1"),
    c.Load("m1", "CountProcess", "", 7), c.Thaw("m1"), c.Ask(),
]
ANSWERS: list[c.Answers] = [
    c.State("frozen", "m1"), c.Prepared(), c.Begun(), c.Failed("code", "text", "m1"),
    c.Written("m1", 7, 1.5, 2.0, 3.0, (c.OpenFile("in", "r", 9),)), c.Synced("m1", 1.0),
    c.Loaded("m1", 0.5), c.Thawed("m1", 1.0, 2.0), c.Stepped("m1", 1.0, 2.0),
]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


def test_there_is_an_example_of_each_word() -> None:
    assert {type(word) for word in ORDERS} == set(c.Orders.__args__)
    assert {type(word) for word in ANSWERS} == set(c.Answers.__args__)


@pytest.mark.parametrize("word", ORDERS, ids=lambda word: type(word).__name__)
def test_orders_are_read_as_they_were_said_and_are_no_answers(word: c.Orders) -> None:
    assert c.decode_order(c.encode(word)) == word
    with pytest.raises(MessageError):
        c.decode_answer(c.encode(word))


@pytest.mark.parametrize("word", ANSWERS, ids=lambda word: type(word).__name__)
def test_answers_are_read_as_they_were_said_and_are_no_orders(word: c.Answers) -> None:
    assert c.decode_answer(c.encode(word)) == word
    with pytest.raises(MessageError):
        c.decode_order(c.encode(word))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa2is\xa3Ask\x00", b"\x91" * 5000])
def test_what_is_no_word_is_an_error(data: bytes) -> None:
    for decode in (c.decode_order, c.decode_answer):
        with pytest.raises(MessageError):
            decode(data)


@pytest.mark.parametrize("size", [0, 1, packets.MOST_INLINE, packets.MOST_INLINE + 1, 3_000_000])
def test_a_packet_of_any_length_arrives_with_its_descriptors(
    pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    beside = packets.in_memory(b"beside")
    packets.send(pair[0], b"x" * size, [beside])
    os.close(beside)
    got = packets.receive(pair[1])
    assert got is not None
    payload, fds = got
    assert payload == b"x" * size
    assert [packets.contents(fd, 100) for fd in fds] == [b"beside"]
    assert not os.get_inheritable(fds[0])
    packets.close(fds)


def test_a_hang_up_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    assert packets.receive(pair[1]) is None


@pytest.mark.parametrize("packet", [b"x", b"", b"a", b"ab", b"i" * (packets.MOST_INLINE + 2)])
def test_what_is_no_packet_is_refused_and_its_descriptors_are_closed(
    pair: tuple[socket.socket, socket.socket], packet: bytes
) -> None:
    beside = packets.in_memory(b"x" * 10)
    socket.send_fds(pair[0], [packet], [beside, beside] if packet != b"a" else [])
    os.close(beside)
    with pytest.raises(MessageError):
        packets.receive(pair[1])


def test_a_long_payload_is_not_taken_from_anybody(
    pair: tuple[socket.socket, socket.socket]
) -> None:
    packets.send(pair[0], b"x" * (packets.MOST_INLINE + 1))
    with pytest.raises(MessageError):
        packets.receive(pair[1], apart=False)


def test_more_than_the_bound_is_not_read() -> None:
    fd = os.memfd_create("large")
    os.truncate(fd, packets.LIMIT + 1)
    with pytest.raises(MessageError, match="over the bound"):
        packets.contents(fd, packets.LIMIT)
    os.close(fd)
