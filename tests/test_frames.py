"""Bytes <-> frames: whole, byte by byte, with trailing junk, and over the bound."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from godwit.errors import FrameError
from godwit.wire import frames
from godwit.wire.frames import Frames

PAYLOADS = [b"", b"x", b"\x00" * 7, b"four", b"a" * 300]


def whole(data: bytes) -> list[bytes]:
    return [data]


def by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("cut", [whole, by_byte])
def test_frames_come_out_as_they_went_in(cut: Callable[[bytes], list[bytes]]) -> None:
    cutter = Frames()
    out = [p for part in cut(b"".join(map(frames.encode, PAYLOADS))) for p in cutter.feed(part)]
    assert out == PAYLOADS and cutter.pending == 0


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 9)), st.binary(max_size=3))
def test_however_bytes_arrive_frames_are_the_same(
    payloads: list[bytes], sizes: list[int], junk: bytes
) -> None:
    data = b"".join(map(frames.encode, payloads)) + junk
    cutter, out = Frames(), []
    for size in [*sizes, len(data)]:
        out += cutter.feed(data[:size])
        data = data[size:]
    assert out == payloads and cutter.pending == len(junk)


def test_a_part_of_a_frame_waits_for_the_rest() -> None:
    cutter = Frames()
    assert cutter.feed(frames.encode(b"whole") + b"\x00\x00\x00\x09half") == [b"whole"]
    assert cutter.pending == 8
    assert cutter.feed(b" one!") == [b"half one!"]


def test_a_length_over_the_bound_is_refused_before_it_is_buffered() -> None:
    cutter = Frames(limit=10)
    cutter.push(b"\x00\x00\x00")
    assert cutter.pop() is None
    cutter.push(b"\x0b")
    with pytest.raises(FrameError, match="11 bytes is over the bound of 10"):
        cutter.pop()
    assert cutter.pending == frames.HEADER


def test_a_frame_as_long_as_the_bound_is_taken() -> None:
    assert Frames(limit=10).feed(frames.encode(b"0123456789")) == [b"0123456789"]


def test_the_longest_length_there_is_is_refused() -> None:
    with pytest.raises(FrameError):
        Frames(frames.LOCAL_LIMIT).feed(b"\xff\xff\xff\xff")


def test_a_new_bound_holds_from_the_next_frame_on() -> None:
    cutter = Frames(limit=3)
    cutter.push(frames.encode(b"abc") + frames.encode(b"longer"))
    assert cutter.pop() == b"abc"
    cutter.limit = 6
    assert cutter.pop() == b"longer"


def test_what_is_over_the_bound_is_not_sent_either() -> None:
    assert len(frames.encode(b"x" * 8, limit=8)) == 12
    with pytest.raises(FrameError, match="9 bytes is over the bound of 8"):
        frames.encode(b"x" * 9, limit=8)
