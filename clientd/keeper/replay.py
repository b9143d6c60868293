"""The journal's bytes: records with a mark, a length and a checksum.  Pure.

    mark (4 bytes)  length (4, big-endian)  CRC-32 of the payload (4)  payload

The mark lets a reader find the next whole record after damage; the checksum says whether it is
one.  A file ends in a torn record when the machine or the keeper died while writing it.
"""

import struct
from zlib import crc32

from msgspec import Struct

MARK = b"\xf5gwj"
_HEADER = struct.Struct(">4sII")


class Reading(Struct, frozen=True):
    """What a journal's bytes hold."""

    payloads: list[bytes]
    #: Bytes up to the first thing that is no record: all of them in a whole file.
    good: int
    #: Whole records come after something that is none: not a torn end, but damage.
    damaged: bool


def pack(payload: bytes) -> bytes:
    """One record."""
    return _HEADER.pack(MARK, len(payload), crc32(payload)) + payload


def read(data: bytes) -> Reading:
    """All whole records, whatever is between them."""
    payloads: list[bytes] = []
    at, good, damaged = 0, -1, False
    while at < len(data):
        payload = _record(data, at)
        if payload is not None:
            damaged = damaged or good >= 0
            payloads.append(payload)
            at += _HEADER.size + len(payload)
            continue
        if good < 0:
            good = at
        at = data.find(MARK, at + 1)
        if at < 0:
            break
    return Reading(payloads, len(data) if good < 0 else good, damaged)


def _record(data: bytes, at: int) -> bytes | None:
    """The payload of the whole record that begins there."""
    if not data.startswith(MARK, at) or at + _HEADER.size > len(data):
        return None
    _, length, checksum = _HEADER.unpack_from(data, at)
    begin = at + _HEADER.size
    payload = data[begin:begin + length]
    return payload if len(payload) == length and crc32(payload) == checksum else None
