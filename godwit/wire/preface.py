"""The first bytes on any connection: four of them, that say what the connection is for."""

from typing import Literal

import msgspec
from msgspec import Struct

from godwit.errors import MessageError

#: A node's control or stream channel (godwit.wire.messages).
CONTROL = b"gwC1"
#: An operator on the master's Unix socket (godwit.wire.operations).
OPERATOR = b"gwO1"
#: One transfer of a file or folder; one frame with a Show follows (godwit.bulk).
BULK = b"gwB1"
#: A machine with a token and no certificate (godwit.wire.joining).
JOIN = b"gwJ1"
#: A master that takes a machine which waits for one (godwit.wire.joining).
ADOPT = b"gwA1"

SIZE = 4


class Show(Struct, frozen=True):
    """The ticket of a transfer, and which part of it the one that shows it plays."""

    ticket: str
    role: Literal["send", "receive"]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Show)


def encode_show(show: Show) -> bytes:
    """The payload of the frame after BULK."""
    return _encoder.encode(show)


def decode_show(payload: bytes) -> Show:
    """Raises MessageError for anything that is no Show."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as err:
        raise MessageError(f"not a ticket: {err}") from err
