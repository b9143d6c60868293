"""A CRIU that waits for what it is to restore: ``criu swrk``, its RPC over a socket, rpc.proto.

It is started, and is in the cgroup where the copy is to be, before there is anything to restore:
so while a task stands still nothing is loaded and nobody waits for the kernel to move a process
between cgroups.

Facts: what is asked is one datagram, a protobuf message, as is the answer; then it ends.  Its
restores are children of who started it (CLONE_PARENT), as with ``--restore-sibling``.  The field
``leave_stopped`` came with CRIU 4.1: an older one would not know it, and let the copy run.
"""

import os
import socket
from collections.abc import Iterator

from clientd.keeper.stats import fields

#: The first that can do it.
VERSION = (4, 1)
#: Its end of the socket, and the descriptor that takes the log's place.
SOCKET, LOG = 3, 100
#: Seconds that it may wait to be asked: as long as what a task has written takes to get here.
PATIENCE_S = 7 * 24 * 3600.0
#: Bytes of an answer at most.
MOST = 64 * 1024

_RESTORE = 2
_IGNORE_CGROUPS = 0


def can(version: str) -> bool:
    """The CRIU of this version, "4.1.1", can be asked so."""
    numbers = version.split(".")[:2]
    return all(map(str.isdigit, numbers)) and tuple(map(int, numbers)) >= VERSION


def request(folder: int, log: str, criu_log: str, lazy: bool = False) -> bytes:
    """To restore what is in a folder, stopped, with its descriptor LOG in place of the task's log.

    ``folder``: a descriptor of ours, open till the answer: it is found through /proc/PID/fd.
    ``lazy``: its memory comes later; a ``criu lazy-pages`` listens in the folder.
    """
    inherit = b"".join((_text(1, log.lstrip("/")), _number(2, LOG)))
    options = b"".join((
        _number(1, folder),  # images_dir_fd
        _number(8, 1),  # file_locks
        _number(9, 1),  # log_level
        _text(10, criu_log),
        _number(26, 1),  # rst_sibling
        _octets(27, inherit),
        _number(34, _IGNORE_CGROUPS),
        _number(48, lazy),  # lazy_pages
        _number(69, 1),  # leave_stopped
    ))
    return _number(1, _RESTORE) + _octets(2, options)


def restored(answer: bytes) -> int:
    """The pid of the restored init; 0 when nothing was restored, or the answer is none."""
    try:
        found = fields(answer)
        inner = found.get(4, b"")
        pid = fields(inner).get(1) if isinstance(inner, bytes) else None
    except ValueError:
        return 0
    return pid if found.get(2) == 1 and isinstance(pid, int) and pid > 0 else 0


def _number(field: int, value: int) -> bytes:
    return bytes((*_varint(field << 3), *_varint(value)))


def _octets(field: int, value: bytes) -> bytes:
    return bytes((*_varint(field << 3 | 2), *_varint(len(value)))) + value


def _text(field: int, value: str) -> bytes:
    return _octets(field, os.fsencode(value))


def _varint(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


class Line:
    """The socket to one of them."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    def ask(self, words: bytes) -> None:
        """Raises OSError when it is not there any more."""
        self._ours.send(words)

    def answer(self) -> bytes:
        """What it said before it ended; nothing is as good as a failure."""
        try:
            return self._ours.recv(MOST)
        except OSError:
            return b""

    def started(self) -> None:
        """It has its end."""
        self.theirs.close()

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()
