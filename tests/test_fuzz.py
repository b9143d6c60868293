"""Any bytes at either end of the wire, any line at the prompt: one of our errors, or sense."""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clientd.keeper import orders
from godwit.errors import MessageError, PeerError
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import frames, messages, operations, preface
from godwit.wire.session import Session
from masterd.shell.meaning import meaning
from masterd.shell.words import split

SPEC = Spec("aaaaaaaa", (b"sleep", b"1"), env={b"A": b"B"})
#: Well-formed payloads, that are then damaged.
SEEDS = [
    *map(messages.encode, (
        messages.Hello(messages.VERSION, "n", "id", "agent"), messages.Welcome("m"),
        messages.Report((Task(SPEC, Status.RUNNING, 7),)),
        messages.Launch(SPEC, ("aaaaaaaa",), (1,)),
        messages.Chunk(1, 0, b"bytes"), messages.Follow(1, "aaaaaaaa"), messages.Done(1, "c", "t"),
    )),
    *map(operations.encode, (
        operations.Attach(1, 1), operations.Execute(2, "all", (b"true",)),
        operations.Tasks(1, (operations.TaskView("n", Task(SPEC)),)),
    )),
    *map(orders.encode, (orders.Start((SPEC,)), orders.Known((Task(SPEC),)), orders.Stop())),
]
DECODERS: list[Callable[[bytes], object]] = [
    messages.decode_opening, messages.decode_from_node, messages.decode_from_master,
    messages.decode_stream_from_node, messages.decode_stream_from_master,
    operations.decode_request, operations.decode_reply, orders.decode_order, orders.decode_word,
    preface.decode_show,
]
OPENED = [None, *DECODERS[1:5]]
#: For each decoder: 120,000 in all.
DAMAGED = 12_000


def damage(dice: random.Random, payload: bytes) -> bytes:
    """Flipped, cut, doubled, or joined with another's end."""
    data = bytearray(payload)
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(4):
            case 0 if at < len(data):
                data[at] = dice.randrange(256)
            case 1:
                del data[at:at + dice.randrange(4)]
            case 2:
                data[at:at] = dice.randbytes(dice.randrange(5))
            case _:
                data[at:] = dice.choice(SEEDS)[at:]
    return bytes(data)


@pytest.mark.parametrize("decode", DECODERS)
def test_a_damaged_payload_is_a_message_or_a_peers_mistake(
    decode: Callable[[bytes], object]
) -> None:
    dice = random.Random(1)
    for _ in range(DAMAGED):
        with suppress(MessageError):
            decode(damage(dice, dice.choice(SEEDS)))


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=10))
@settings(max_examples=300, deadline=None)
def test_any_bytes_in_any_pieces_are_messages_or_a_peers_mistake(
    data: bytes, cuts: list[int]
) -> None:
    for decoder in OPENED:
        session = Session()
        if isinstance(decoder, messages.Decoder):
            session.opened(decoder)
        rest = data
        with suppress(PeerError):
            for cut in [*cuts, len(data)]:
                piece, rest = rest[:cut], rest[cut:]
                assert all(isinstance(m, messages.Message) for m in session.receive(piece))


@given(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=5), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    payloads: list[bytes], seed: int
) -> None:
    dice = random.Random(seed)
    data = b"".join(map(frames.encode, payloads))
    cutter, came = frames.Frames(frames.CONTROL_LIMIT), []
    while data:
        size = dice.randrange(1, len(data) + 1)
        came += cutter.feed(data[:size])
        data = data[size:]
    assert came == payloads


@given(st.text(max_size=80))
@settings(max_examples=500, deadline=None)
def test_any_line_at_the_prompt_means_something(line: str) -> None:
    meaning(line)
    last = split(line)[-1]
    assert line[last.start:] == last.typed
