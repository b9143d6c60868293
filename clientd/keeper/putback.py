"""Puts the files of a snapshot back where its task had them open, before it starts from there.

    python -P -m clientd.keeper.putback     what to do on descriptor 3; why not on stdout

A file that is there as it was stays.  Another one of that name is kept beside it, as
NAME.before-TASK, TASK being the new task.  All is done with the rights of the task's user, and by
openat2(2): no name reaches further than the task itself could.  What somebody has open for writing
stays, and nothing is done at all: two would write the same file, or one a file that nobody sees.

It is a process of its own, as it may wait for disks.  Whatever of it was done, all of it can be
done again.
"""

import errno
import fcntl
import hashlib
import os
import signal
import stat
import sys
from contextlib import suppress
from typing import IO

import msgspec
from msgspec import Struct

from clientd import openat2 as resolve
from clientd.fsuser import acting_as
from clientd.keeper.moves.parcel import Held
from clientd.openat2 import openat2
from godwit.bulk import names
from godwit.bulk.ends import FOLDER, READ
from godwit.bulk.faults import naming, shown
from godwit.errors import TransferError

COMMAND = (sys.executable, "-P", "-m", "clientd.keeper.putback")
QUESTION = 3
#: Seconds that it may take.
LIMIT_S = 600.0
_STRICT = resolve.BENEATH | resolve.NO_SYMLINKS | resolve.NO_MAGICLINKS
_CHUNK = 1 << 20


class Question(Struct, frozen=True):
    """Put these back."""

    #: The new task, and whose it is; empty: root's.
    task: str
    user: str
    #: Its node's folder for files, and the working directory below that.
    base: bytes
    cwd: bytes
    #: Where the copies are.
    copies: str
    held: tuple[Held, ...]


encode = msgspec.msgpack.Encoder().encode
_decode: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)


def put_back(asked: Question) -> None:
    """Raises TransferError; nothing was changed then, unless a disk is full or fails."""
    wanted = []
    for held in asked.held:
        with naming(held.name), _copy(asked, held) as copy, acting_as(asked.user):
            if not _stays(asked, held, copy.fileno()):
                wanted.append(held)
    for held in wanted:
        with naming(held.name), _copy(asked, held) as copy, acting_as(asked.user):
            _replace(asked, held, copy.fileno())


def _copy(asked: Question, held: Held) -> IO[bytes]:
    return open(os.path.join(asked.copies, held.member), "rb", buffering=0)


# ---- what is there -----------------------------------------------------------------------------


def _stays(asked: Question, held: Held, copy: int) -> bool:
    """Raises TransferError, OSError when what is there can neither stay nor be replaced."""
    try:
        fd = _open(asked, held.name)
    except FileNotFoundError:
        return False
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise TransferError("exists", f"{shown(held.name)}: is there and is no file")
        if _is_written(fd):
            text = f"{shown(held.name)}: another process has it open for writing"
            raise TransferError("busy", text)
        return found.st_size == held.size and _digest(fd) == _digest(copy)
    finally:
        os.close(fd)


def _is_written(fd: int) -> bool:
    """Fact: a read lease is not given while anybody has the file open for writing: fcntl(2)."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as err:
        return err.errno == errno.EAGAIN  # else there are no leases on this file system
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _digest(fd: int) -> bytes:
    digest, at = hashlib.sha256(), 0
    while data := os.pread(fd, _CHUNK, at):
        digest.update(data)
        at += len(data)
    return digest.digest()


def _open(asked: Question, name: bytes) -> int:
    path = b"/".join(names.parts(name))
    top = _folder(asked)
    try:
        return openat2(top, path, READ | os.O_NOFOLLOW, _STRICT)
    finally:
        os.close(top)


def _folder(asked: Question) -> int:
    """The working directory."""
    base = os.open(asked.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(base, asked.cwd or b".", FOLDER, _STRICT)
    finally:
        os.close(base)


# ---- what is made of it ------------------------------------------------------------------------


def _replace(asked: Question, held: Held, copy: int) -> None:
    *above, last = names.parts(held.name)
    folder = _folder(asked)
    try:
        for part in above:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
            deeper = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = deeper
        staged = _stage(asked, held, last, folder, copy)
        try:
            _keep(last, names.check(b"%b.before-%b" % (last, asked.task.encode())), folder)
        except BaseException:
            os.unlink(staged, dir_fd=folder)
            raise
        os.rename(staged, last, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _stage(asked: Question, held: Held, last: bytes, folder: int, copy: int) -> bytes:
    """All of it is there, by a name that is the same each time."""
    seed = hashlib.sha256(asked.task.encode() + last).hexdigest()
    staged = names.named_partial(last, seed[:16])
    with suppress(FileNotFoundError):
        os.unlink(staged, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(staged, flags, 0o600, dir_fd=folder)
    try:
        _fill(fd, copy)
        with suppress(PermissionError):  # a user's own files stay the user's
            os.fchown(fd, held.uid, held.gid)
        os.fchmod(fd, held.mode)
        os.utime(fd, ns=(held.mtime_ns, held.mtime_ns))
    except BaseException:
        os.unlink(staged, dir_fd=folder)
        raise
    finally:
        os.close(fd)
    return staged


def _fill(fd: int, copy: int) -> None:
    """Holes stay holes, a chunk at a time."""
    at, nothing = 0, bytes(_CHUNK)
    while data := os.pread(copy, _CHUNK, at):
        if data != nothing[:len(data)]:
            left = memoryview(data)
            while left:
                left = left[os.pwrite(fd, left, at + len(data) - len(left)):]
        at += len(data)
    os.ftruncate(fd, at)


def _keep(last: bytes, before: bytes, folder: int) -> None:
    """What is there has another name, too, or that other name alone; there may be nothing."""
    try:
        os.link(last, before, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    except FileExistsError:
        now, then = (os.lstat(name, dir_fd=folder) for name in (last, before))
        if (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino):
            raise
    except OSError:  # no links here, or not by this user
        os.rename(last, before, src_dir_fd=folder, dst_dir_fd=folder)


def main() -> int:
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # of a lease that somebody breaks
    with open(QUESTION, "rb") as file:
        asked = _decode.decode(file.read())
    try:
        put_back(asked)
    except TransferError as err:
        print(err)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
