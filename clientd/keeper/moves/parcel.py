"""All images of one dump in the one file that a move carries.

    one memory image, the largest, as it is | a tar archive of all others | TRAILER

So most of a big process is never copied on its way: the file that CRIU wrote it to becomes the
parcel by a rename, perhaps while that is being written, and the parcel is where CRIU reads it from,
by a link.  The rest is packed and
unpacked here when it is little, which it is for most, as to start tar(1) takes longer than all of
it; when it is much, by tar as an errand, for the keeper waits for no disk.
"""

import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress

import msgspec
from msgspec import Struct

from godwit.errors import TaskError
from godwit.task.verdict import Ids

#: A magic, how long the first part is, and its name.
TRAILER = struct.Struct("<8sQ32s")
MAGIC = b"GODWITC1"
#: What sh(1) runs, with the descriptor 3 and a folder, to pack and to unpack.
PACK = 'cd "$1" && exec tar -cf - --format=gnu -- * >&3'
UNPACK = 'exec tar -xf - --no-same-owner --no-same-permissions -C "$1" <&3'
#: Bytes of the rest up to which it is little: some ms of a keeper that does nothing else meanwhile.
LITTLE = 4 << 20
#: What travels beside CRIU's own images.
NOTES = "godwit.json"
#: What the object of a Python task is called in a snapshot that has files, too: it goes first.
OBJECT = "pages-0.img"
#: Files in one parcel at most; some processes have a dozen images, and few have hundreds.
MOST = 100_000
#: The shell's ``*`` gives no others, and CRIU calls none otherwise.
_NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9._-]{0,98}")
_MEMORY = re.compile(r"pages-[0-9]+\.img")
_BLOCK = 512


class Held(msgspec.Struct, frozen=True):
    """A file that the task had open below its working directory, as it was then."""

    #: Relative to that.
    name: bytes
    #: The name of its copy in the parcel.
    member: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    #: The task may write to it.
    written: bool


class Notes(msgspec.Struct, frozen=True):
    """What whoever restores it has to know."""

    #: The task's log as its processes have it open.
    log: str
    #: Its node's folder of working directories.
    files: str
    #: Pids, inside its namespace, of processes that were stopped before, and stay so.
    stopped: tuple[int, ...] = ()
    #: Of its program, where that is not root's.
    ids: Ids | None = None
    #: Where its init stands; empty in what earlier versions saved.
    stand: str = ""
    #: Of a snapshot that is kept: the files that are in it.
    held: tuple[Held, ...] = ()

    def write(self, folder: str) -> None:
        """Raises OSError."""
        with open(os.path.join(folder, NOTES), "wb") as file:
            file.write(msgspec.json.encode(self))

    @classmethod
    def read(cls, folder: str) -> "Notes":
        """Raises OSError; TaskError for what is none."""
        with open(os.path.join(folder, NOTES), "rb") as file:
            try:
                return msgspec.json.decode(file.read(1 << 20), type=cls)
            except msgspec.MsgspecError as err:
                raise damaged(str(err)) from err


class Head(Struct, frozen=True):
    """The first part: a memory image, or nothing."""

    name: str = ""
    size: int = 0


def largest(folder: str) -> Head:
    """Which image of a dump is to be the first part."""
    with os.scandir(folder) as entries:
        sizes = {e.name: e.stat().st_size for e in entries if _MEMORY.fullmatch(e.name)}
    name = max(sizes, key=sizes.__getitem__, default="")
    return Head(name, sizes.get(name, 0))


def rest_of(folder: str) -> int:
    """Bytes of what is there yet, which is to go into the archive.  Raises OSError."""
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries)


def pack(fd: int, folder: str) -> None:
    """As PACK, here and now.  Raises OSError."""
    blocks = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        blocks += [_header(name.encode(), len(data)), data, bytes(-len(data) % _BLOCK)]
    left = memoryview(b"".join((*blocks, bytes(2 * _BLOCK))))
    while left:
        left = left[os.write(fd, left):]


def _header(name: bytes, size: int) -> bytes:
    """Of a regular file, for root alone, as tar(5) has it: the GNU format."""
    header = bytearray(_BLOCK)
    for at, field in (
        (0, name), (100, b"0000600\0"), (108, b"0000000\0"), (116, b"0000000\0"),
        (124, b"%011o\0" % size), (136, b"%011o\0" % 0), (148, b" " * 8), (156, b"0"),
        (257, b"ustar  \0"),
    ):
        header[at:at + len(field)] = field
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def close(fd: int, head: Head) -> int:
    """Ends a parcel, open for appending; its size.  Raises OSError."""
    os.write(fd, TRAILER.pack(MAGIC, head.size, head.name.encode()))
    return os.fstat(fd).st_size


def is_one(fd: int) -> bool:
    """It ends as a parcel does; nothing else of it was looked at.  Raises OSError."""
    data = os.pread(fd, TRAILER.size, max(0, os.fstat(fd).st_size - TRAILER.size))
    return len(data) == TRAILER.size and data.startswith(MAGIC)


class Member(Struct, frozen=True):
    """A file in the archive: where its bytes are in the parcel, and how many."""

    name: bytes
    at: int
    size: int


class Parcel(Struct, frozen=True):
    """One that was checked."""

    head: Head
    members: tuple[Member, ...]

    @property
    def is_little(self) -> bool:
        return sum(member.size for member in self.members) <= LITTLE

    def unpack(self, fd: int, folder: str) -> None:
        """As UNPACK, here and now.  Raises OSError."""
        for member in self.members:
            path = os.path.join(folder, os.fsdecode(member.name))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "wb", buffering=0) as file:
                file.write(os.pread(fd, member.size, member.at))


def opened(fd: int) -> Parcel:
    """What a parcel says of itself, having been checked; ``fd`` stands at its archive.

    Raises OSError; TaskError for what is none, or what has names that could lead anywhere.
    """
    end = os.fstat(fd).st_size - TRAILER.size
    data = os.pread(fd, TRAILER.size, max(0, end))
    if end < 0 or len(data) != TRAILER.size:
        raise damaged("it is too short")
    magic, size, padded = TRAILER.unpack(data)
    name = padded.rstrip(b"\0").decode("ascii", "replace")
    if magic != MAGIC or size > end or (bool(name) and not _MEMORY.fullmatch(name)):
        raise damaged("it is no snapshot of processes")
    found: dict[bytes, Member] = {}
    for member in members(fd, size, end):
        if member.name in found or member.name == name.encode():
            raise damaged(f"two files {member.name!r}")
        found[member.name] = member
    os.lseek(fd, size, os.SEEK_SET)
    return Parcel(Head(name, size), tuple(found.values()))


def members(fd: int, at: int, end: int) -> Iterator[Member]:
    """What is in the archive between two offsets: regular files alone, in no folder.

    Raises TaskError for anything else.
    """
    for _ in range(MOST):
        header = os.pread(fd, _BLOCK, at)
        if len(header) != _BLOCK or at + _BLOCK > end:
            raise damaged("its archive is cut")
        if not header.strip(b"\0"):
            return
        name, size = header[:100].rstrip(b"\0"), _size(header[124:136])
        if header[156:157] not in (b"0", b"\0") or not _NAME.fullmatch(name):
            raise damaged(f"{name!r} is no name for an image")
        if header[345:500].strip(b"\0"):  # a prefix of the name, in other formats than GNU's
            raise damaged("its archive is of another format")
        if at + _BLOCK + size > end:
            raise damaged("its archive is cut")
        yield Member(name, at + _BLOCK, size)
        at += _BLOCK + -(-size // _BLOCK) * _BLOCK
    raise damaged(f"it has over {MOST} files")


def _size(octets: bytes) -> int:
    if octets[0] & 0x80:  # GNU: from 8 GiB on it is binary
        return int.from_bytes(octets[1:], "big")
    with suppress(ValueError):
        return int(octets.rstrip(b" \0") or b"0", 8)
    raise damaged("its archive is damaged")


def damaged(how: str) -> TaskError:
    return TaskError("bad-image", f"its snapshot is damaged: {how}")

