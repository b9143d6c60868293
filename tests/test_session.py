"""One connection's life: what may be said when."""

import pytest

from godwit.errors import FrameError, MessageError
from godwit.wire import frames
from godwit.wire import messages as m
from godwit.wire.session import Session

HELLO = m.Hello(1, "n1", "id", "run")


def framed(*messages: m.Message) -> bytes:
    return b"".join(frames.encode(m.encode(message)) for message in messages)


def test_before_the_welcome_only_an_opening_is_read() -> None:
    assert list(Session().receive(framed(HELLO))) == [HELLO]
    with pytest.raises(MessageError):
        list(Session().receive(framed(m.Heard())))


def test_the_welcome_binds_between_two_messages_of_one_packet() -> None:
    session, said = Session(), []
    for message in session.receive(framed(HELLO, m.Done(1), m.Done(2))):
        said.append(message)
        if message == HELLO:
            session.opened(m.decode_from_node)
    assert said == [HELLO, m.Done(1), m.Done(2)]


def test_an_opening_after_the_welcome_is_refused() -> None:
    session = Session()
    session.opened(m.decode_from_node)
    with pytest.raises(MessageError):
        list(session.receive(framed(HELLO)))


def test_a_long_frame_is_refused_before_the_welcome_and_read_after_it() -> None:
    long = m.Leaving("x" * frames.OPENING_LIMIT)
    with pytest.raises(FrameError):
        list(Session().receive(framed(long)))
    session = Session()
    session.opened(m.decode_from_node)
    assert list(session.receive(framed(long))) == [long]


def test_what_came_before_junk_is_still_read() -> None:
    session = Session()
    received = session.receive(framed(HELLO) + b"GET / HTTP/1.1\r\n")
    assert next(received) == HELLO
    with pytest.raises(FrameError):
        next(received)
