"""Packets with descriptors between two processes of this machine, over SOCK_SEQPACKET.

unix(7): a packet is delivered whole or not at all, and bounded by the sender's buffer.  A longer
payload goes into a memfd_create(2) file whose descriptor is the packet's first.
"""

import array
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from godwit.errors import MessageError

#: Longest payload, bytes, that is a packet itself.
MOST_INLINE = 32 * 1024
#: Longest of all, bytes.
LIMIT = 64 * 1024 * 1024
#: Most descriptors beside a payload.
MOST_FDS = 4

_INLINE, _APART = b"i", b"a"


def send(sock: socket.socket, payload: bytes, fds: Sequence[int] = ()) -> None:
    """Sends one packet.  Raises OSError; BlockingIOError when it does not fit in right now."""
    if len(payload) <= MOST_INLINE:
        _send(sock, _INLINE + payload, fds)
        return
    apart = in_memory(payload)
    try:
        _send(sock, _APART, (apart, *fds))
    finally:
        os.close(apart)


def _send(sock: socket.socket, packet: bytes, fds: Sequence[int]) -> None:
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([packet], beside, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket, *, apart: bool = True) -> tuple[bytes, list[int]] | None:
    """The next packet: its payload and descriptors, which close on exec and are the caller's.

    None when the other end has hung up.  Raises OSError, BlockingIOError among them, and
    MessageError for what is no packet of ours.  ``apart``: a long payload is taken; not from one
    who is not trusted, for reading from a file of theirs may take for ever.
    """
    room = socket.CMSG_SPACE((MOST_FDS + 1) * array.array("i").itemsize)
    packet, beside, flags, _ = sock.recvmsg(MOST_INLINE + 1, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for _level, kind, data in beside:
        if kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if not packet and not fds:
        return None
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise MessageError("a packet that is too long")
        return _unwrap(packet, list(fds), apart)
    except MessageError:
        close(fds)
        raise


def _unwrap(packet: bytes, fds: list[int], apart: bool) -> tuple[bytes, list[int]]:
    if packet[:1] == _INLINE:
        return packet[1:], fds
    if apart and packet == _APART and fds:
        payload = contents(fds[0], LIMIT)
        os.close(fds.pop(0))
        return payload, fds
    raise MessageError("a packet of no known kind")


def in_memory(data: bytes) -> int:
    """A descriptor of a new file that has ``data`` and is nowhere on disk."""
    fd = os.memfd_create("godwit", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    except OSError:
        os.close(fd)
        raise
    return fd


def contents(fd: int, most: int) -> bytes:
    """All of a file from its start.  Raises MessageError when it is over ``most`` bytes."""
    size = os.fstat(fd).st_size
    if size > most:
        raise MessageError(f"{size} bytes, over the bound of {most}")
    data = b""
    while len(data) < size and (piece := os.pread(fd, size - len(data), len(data))):
        data += piece
    return data


def close(fds: Sequence[int]) -> None:
    """Those that are no descriptors are none."""
    for fd in fds:
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)
