"""What CRIU measured of itself: stats-dump and stats-restore beside the images, images/stats.proto.

Two magic numbers and a length, 32 bits each, little-endian; then one protobuf message, which holds
another whose fields are all plain numbers.
"""

import os
import struct
from contextlib import suppress

SERVICE_MAGIC = 0x55105940
STATS_MAGIC = 0x57093306

#: Field numbers of dump_stats_entry and restore_stats_entry that are of use: times in us, pages.
DUMP = {1: "freezing_us", 2: "frozen_us", 3: "memdump_us", 4: "memwrite_us", 7: "pages_written"}
RESTORE = {3: "forking_us", 4: "restore_us", 5: "pages_restored"}


#: Written by CRIU as the last thing that a dump does.
DUMPED = "stats-dump"


def of_dump(images: str) -> dict[str, int]:
    """By the names in DUMP; empty when there are none."""
    return _named(_read(os.path.join(images, DUMPED)), DUMP)


def of_restore(images: str) -> dict[str, int]:
    """By the names in RESTORE; empty when there are none."""
    return _named(_read(os.path.join(images, "stats-restore")), RESTORE)


def _read(path: str) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        return file.read(4096)
    return b""


def _named(data: bytes, names: dict[int, str]) -> dict[str, int]:
    with suppress(struct.error, ValueError):
        service, magic, size = struct.unpack_from("<III", data)
        if (service, magic) == (SERVICE_MAGIC, STATS_MAGIC) and len(data) >= 12 + size:
            for value in fields(data[12:12 + size]).values():
                if isinstance(value, bytes):
                    found = fields(value)
                    return {
                        name: number for field, name in names.items()
                        if isinstance(number := found.get(field), int)
                    }
    return {}


def fields(message: bytes) -> dict[int, int | bytes]:
    """A protobuf message's numbers and inner messages by field number; the last of each.

    Raises ValueError for what is none, or has fields of other kinds.
    """
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        value, at = _number(message, at)
        if kind == 2:
            if at + value > len(message):
                raise ValueError("a message that is cut")
            found[key >> 3] = message[at:at + value]
            at += value
        elif kind == 0:
            found[key >> 3] = value
        else:
            raise ValueError(f"a field of kind {kind}")
    return found


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A varint, of at most 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")
