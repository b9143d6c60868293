"""The build id of a program or library: elf(5), and the NT_GNU_BUILD_ID note.

Two files with one are the same code, whatever their time; CRIU compares it, too.
"""

import struct
from contextlib import suppress
from functools import lru_cache
from os import stat

PT_NOTE = 4
NT_GNU_BUILD_ID = 3
#: More of a file's notes are not read.
MOST_NOTES = 64 * 1024


def build_id(path: bytes) -> str:
    """In hexadecimal; empty for a file that has none, is no ELF file, or cannot be read."""
    with suppress(OSError):
        seen = stat(path)
        return _build_id(path, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return ""


@lru_cache(1024)
def _build_id(path: bytes, *_identity: int) -> str:
    # A damaged one may point to where no file has an end.
    with suppress(OSError, OverflowError, ValueError, struct.error), open(path, "rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:4] != b"\x7fELF" or not {head[4], head[5]} <= {1, 2}:
            return ""
        wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
        start, = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
        size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
        file.seek(start)
        table = file.read(size * min(count, 512))
        for at in range(0, len(table) - size + 1, max(size, 1)):
            kind, = struct.unpack_from(order + "I", table, at)
            if kind != PT_NOTE:
                continue
            layout = order + ("8xQ16xQ" if wide else "4xI8xI")
            offset, length = struct.unpack_from(layout, table, at)
            file.seek(offset)
            if found := _in_notes(file.read(min(length, MOST_NOTES)), order):
                return found
    return ""


def _in_notes(notes: bytes, order: str) -> str:
    at = 0
    while at + 12 <= len(notes):
        name, length, kind = struct.unpack_from(order + "III", notes, at)
        begin = at + 12 + (name + 3 & ~3)
        if kind == NT_GNU_BUILD_ID and notes[at + 12:at + 16] == b"GNU\0":
            return notes[begin:begin + length].hex()
        at = begin + (length + 3 & ~3)
    return ""
