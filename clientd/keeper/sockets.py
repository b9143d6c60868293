"""Sockets of a task that keep it where it is: proc_net(5), sock_diag(7), unix(7).

CRIU takes along a Unix socket whose other end the task has, too, and whatever of the network is
connected to nobody.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress

from msgspec import Struct

from clientd.keeper import pidfd

#: Tables of a network namespace: name -> field of the inode.
_TABLES = {
    "tcp": 9, "tcp6": 9, "udp": 9, "udp6": 9, "raw": 9, "raw6": 9, "packet": 8, "netlink": 9,
}
#: Of tcp and tcp6.
_OTHER_END, _STATE = 2, 3
#: TCP_LISTEN and TCP_CLOSE, <net/tcp_states.h>: all others have, or had, somebody at the other end.
_ALONE = ("0A", "07")
#: <linux/sock_diag.h>, <linux/unix_diag.h>, <linux/netlink.h>.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLM_F_REQUEST, _NLM_F_DUMP, _UDIAG_SHOW_NAME, _UDIAG_SHOW_PEER = 0x1, 0x300, 0x1, 0x4
_UNIX_DIAG_NAME, _UNIX_DIAG_PEER = 0, 2
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_ASKED, _TOLD = struct.Struct("=BBHIII2I"), struct.Struct("=4BI2I")
#: Seconds that the kernel may take for an answer.
_ANSWER_S = 2.0


class Known(Struct, frozen=True):
    """A socket by its kind; and, where it is connected, to whom."""

    kind: str
    other: str = ""


class Unix(Struct, frozen=True):
    """A Unix socket: the inode of its other end, 0 for none, and the name that it is bound to."""

    peer: int = 0
    name: str = ""


def obstacles(
    pid: int, held: Mapping[int, tuple[int, int]]
) -> Iterator[tuple[str, str]]:
    """What of them is in the way: a key of godwit.task.reasons.OBSTACLES, and what to name of it,
    each key once.

    ``held``: inode -> a process that has the socket, and its descriptor; ``pid`` is in the network
    that they are of.
    """
    if not held:
        return
    named: dict[str, dict[str, None]] = {}
    for kind, name in _each(pid, held):
        named.setdefault(kind, {})[name] = None
    for kind, (first, *more) in named.items():
        yield kind, f"{first} and {len(more)} more" if more else first


def _each(pid: int, held: Mapping[int, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    listed, unix, unsaved = _listed(pid), _unix(pid), _saves_no_inet()
    for inode, (owner, number) in held.items():
        if inode in unix:
            yield from _other_end(unix[inode], held, unix)
            continue
        known = listed.get(inode) or _asked(owner, number)
        if known.other:
            yield "tcp", known.other
        elif known.kind.rstrip("6") in ("tcp", "udp"):
            if unsaved:
                yield "inet", known.kind
        elif known.kind == "unix":  # of another network namespace
            yield "unix-unseen", "unix"
        elif known.kind != "netlink":
            yield "socket", known.kind


def _other_end(
    known: Unix, held: Mapping[int, tuple[int, int]], unix: Mapping[int, Unix]
) -> Iterator[tuple[str, str]]:
    if known.peer and known.peer not in held:
        yield "unix-socket", unix.get(known.peer, known).name or "without a name"


def _saves_no_inet() -> bool:
    """This kernel answers no more what CRIU before 4.2 asks of every socket: Linux 6.16."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        try:
            ours.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
        except OSError:
            return True
    return False


def _listed(pid: int) -> dict[int, Known]:
    """By inode, all that the tables of its network have; Unix sockets are not among them."""
    found: dict[int, Known] = {}
    for kind, inode in _TABLES.items():
        with suppress(OSError), open(f"/proc/{pid}/net/{kind}") as file:
            next(file, None)
            for line in file:
                fields = line.split()
                if len(fields) <= inode:
                    continue
                connected = kind.startswith("tcp") and fields[_STATE] not in _ALONE
                other = _address(fields[_OTHER_END]) if connected else ""
                found[int(fields[inode])] = Known(kind, other)
    return found


def _address(text: str) -> str:
    """127.0.0.1:80 of 0100007F:0050; the words of an address are in the machine's own order."""
    host, port = text.split(":")
    words = (int(host[at:at + 8], 16) for at in range(0, len(host), 8))
    packed = b"".join(struct.pack("=I", word) for word in words)
    if len(packed) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, packed)}:{int(port, 16)}"
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]:{int(port, 16)}"


def _asked(pid: int, number: int) -> Known:
    """What is in no table, as a copy of the descriptor tells."""
    try:
        copy = pidfd.copied(pid, number)
    except OSError:
        return Known("unknown")
    with socket.socket(fileno=copy) as ours:
        return Known(_kind(ours.family, ours.type))


def _kind(family: int, sort: int) -> str:
    names = {socket.AF_UNIX: "unix", socket.AF_NETLINK: "netlink"}
    if family in (socket.AF_INET, socket.AF_INET6) and sort in (
        socket.SOCK_STREAM, socket.SOCK_DGRAM
    ):
        return "tcp" if sort == socket.SOCK_STREAM else "udp"
    if family in names:
        return names[socket.AddressFamily(family)]
    with suppress(ValueError):
        return socket.AddressFamily(family).name
    return f"family {family}"


# ---- the other ends of Unix sockets, which no table has ----------------------------------------


def _unix(pid: int) -> dict[int, Unix]:
    """By inode, all Unix sockets of our own network; none where the task has another."""
    found: dict[int, Unix] = {}
    with suppress(OSError):
        if os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino:
            return {}
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_ANSWER_S)
            request = _ASKED.pack(
                socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _UDIAG_SHOW_NAME | _UDIAG_SHOW_PEER, 0, 0
            )
            flags = _NLM_F_REQUEST | _NLM_F_DUMP
            size = _HEADER.size + len(request)
            kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, flags, 0, 0) + request)
            while _take(kernel.recv(1 << 16), found):
                pass
    return found


def _take(data: bytes, into: dict[int, Unix]) -> bool:
    """Adds what one datagram of answers has; whether more are to come."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, sort, *_ = _HEADER.unpack_from(data, at)
        if sort != _SOCK_DIAG_BY_FAMILY or size < _HEADER.size + _TOLD.size:
            return False  # the end, or an error
        inode = _TOLD.unpack_from(data, at + _HEADER.size)[4]
        told = dict(_attributes(data[at + _HEADER.size + _TOLD.size:at + size]))
        peer = int.from_bytes(told.get(_UNIX_DIAG_PEER, b""), sys.byteorder)
        into[inode] = Unix(peer, _shown(told.get(_UNIX_DIAG_NAME, b"")))
        at += -(-size // 4) * 4
    return True


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content: rtnetlink(7), each begins at a multiple of 4."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size:at + size]
        at += -(-size // 4) * 4


def _shown(name: bytes) -> str:
    """@NAME for an abstract one, as ss(8) has it."""
    text = name.rstrip(b"\0").decode("utf-8", "backslashreplace")
    return "@" + text[1:] if text.startswith("\0") else text
