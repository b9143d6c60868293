"""Connections: the one place that opens, accepts and closes them.

Every connection starts with four bytes that say what it is (godwit.wire.preface); then come
frames.  Control, stream and operator connections live in the event loop as a ``Link``.  A bulk
connection leaves it as a plain blocking socket, for a thread: asyncio moves bulk data at half
the speed.  To put TLS around everything, wrap the sockets here.
"""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from godwit.errors import FrameError, MessageError, PeerError
from godwit.names import join_address
from godwit.wire import frames
from godwit.wire.preface import BULK, SIZE, Show, decode_show, encode_show

#: Seconds a peer has to say hello and be welcomed.
OPENING_S = 5.0
#: Seconds a peer has to read what is queued for it when a connection is closed.
CLOSING_S = 5.0
#: Connections that have not said what they are: at most this many, and as many from one address.
OPENING_MOST = 64
OPENING_MOST_EACH = 8
#: Bytes queued to one peer; a peer that reads slower than that loses its connection.
QUEUE_LIMIT = 64 * 1024 * 1024

Receive = Callable[[bytes], Iterator[Any]]


class Link(asyncio.Protocol):
    """One connection in the event loop: whole messages in, frames out."""

    def __init__(self, receive: Receive, limit: int = frames.CONTROL_LIMIT) -> None:
        self._receive = receive
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._reason = ""
        self._closing: asyncio.TimerHandle | None = None
        #: For whoever keeps many links; nothing to the link itself.
        self.number = 0
        self.on_message: Callable[[Any], None] = lambda message: None
        self.on_closed: Callable[[str], None] = lambda reason: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=QUEUE_LIMIT)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._receive(data):
                self.on_message(message)
                if self._transport is None or self._transport.is_closing():
                    return
        except PeerError as err:
            self.close(str(err))

    def pause_writing(self) -> None:
        self.close(f"more than {QUEUE_LIMIT} bytes wait for this peer to read them")
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._closing is not None:
            self._closing.cancel()
        self.on_closed(self._reason or (str(exc) if exc else "closed by the other end"))

    def send(self, *payloads: bytes) -> None:
        """Queues frames; after the end of the connection they go nowhere.

        A frame over the bound ends this connection: whoever sends may be reading another one.
        """
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._transport.write(b"".join(frames.encode(p, self._limit) for p in payloads))
        except FrameError as err:
            self.close(str(err))

    def local_host(self) -> str:
        """Our own address on this connection; the loopback when it has ended."""
        if self._transport is None:
            return "127.0.0.1"
        return str(self._transport.get_extra_info("sockname")[0])

    def peer_uid(self) -> int:
        """Who is at the other end of a Unix socket, by SO_PEERCRED; -1 when it has ended."""
        if self._transport is None:
            return -1
        sock = self._transport.get_extra_info("socket")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[4:8], sys.byteorder)

    def close(self, reason: str) -> None:
        """Ends the connection after what is queued; ``on_closed`` gets the reason.

        A peer that does not read what is queued (it may have lost its power) has CLOSING_S.
        """
        if self._transport is not None and not self._transport.is_closing():
            self._reason = reason
            self._transport.close()
            if self._transport.get_write_buffer_size():
                loop = asyncio.get_running_loop()
                self._closing = loop.call_later(CLOSING_S, self._transport.abort)


@dataclass(frozen=True)
class Accept:
    """What a listener does with a kind of connection, by its preface."""

    link: dict[bytes, Callable[[], Link]]
    on_link: Callable[[Link, bytes, str], None]
    #: The socket is blocking and belongs to the callee.
    on_bulk: Callable[[socket.socket, Show, str], None]


class Listener:
    """Accepts connections on one socket until it is closed."""

    def __init__(self, sock: socket.socket, accept: Accept):
        self._sock = sock
        self._accept = accept
        self._opening: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(self._sock)
            except OSError:  # out of descriptors: those that wait go on waiting
                await asyncio.sleep(0.1)
                continue
            peer = format_address(address)
            if not self._admit(peer):
                sock.close()
                continue
            task = loop.create_task(self._open(sock, peer))
            self._tasks.add(task)
            task.add_done_callback(partial(self._done, sock, peer))

    def _admit(self, peer: str) -> bool:
        host = peer.rpartition(":")[0]
        unix = not host
        most = OPENING_MOST if unix else OPENING_MOST_EACH
        if len(self._tasks) >= OPENING_MOST or self._opening.get(host, 0) >= most:
            return False
        self._opening[host] = self._opening.get(host, 0) + 1
        return True

    def _done(self, sock: socket.socket, peer: str, task: asyncio.Task[None]) -> None:
        """The opening is over: the connection was handed over, closed, or never begun with."""
        self._tasks.discard(task)
        host = peer.rpartition(":")[0]
        self._opening[host] -= 1
        if not self._opening[host]:
            del self._opening[host]
        if task.cancelled():
            sock.close()

    async def _open(self, sock: socket.socket, peer: str) -> None:
        try:
            async with asyncio.timeout(OPENING_S):
                await self._sort(sock, peer)
        except (TimeoutError, OSError, PeerError, EOFError):
            sock.close()

    async def _sort(self, sock: socket.socket, peer: str) -> None:
        """Reads the preface and hands the connection to whom it is for."""
        sock.setblocking(False)
        prompt(sock)
        preface = await _receive_exactly(sock, SIZE)
        if preface == BULK:
            show = await _receive_show(sock)
            sock.setblocking(True)
            self._accept.on_bulk(sock, show, peer)
            return
        make = self._accept.link.get(preface)
        if make is None:
            raise MessageError("not a connection of this protocol")
        loop = asyncio.get_running_loop()
        _, link = await loop.connect_accepted_socket(make, sock)
        self._accept.on_link(link, preface, peer)

    async def close(self) -> None:
        """Stops accepting; connections that were accepted live on."""
        self._loop_task.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._loop_task, *self._tasks, return_exceptions=True)
        self._sock.close()


async def _receive_exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        part = await loop.sock_recv(sock, count - len(data))
        if not part:
            raise EOFError("the connection ended in its opening")
        data += part
    return data


async def _receive_show(sock: socket.socket) -> Show:
    """The frame with a ticket that opens a bulk connection; reads not one byte more."""
    length = int.from_bytes(await _receive_exactly(sock, frames.HEADER), "big")
    if length > frames.OPENING_LIMIT:
        raise FrameError(f"frame of {length} bytes is over the bound of {frames.OPENING_LIMIT}")
    return decode_show(await _receive_exactly(sock, length))


def prompt(sock: socket.socket) -> None:
    """Small messages leave at once, and a peer that vanished is noticed by the kernel too."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def format_address(address: Any) -> str:
    """``HOST:PORT``, ``[HOST]:PORT`` for IPv6, empty for a Unix socket."""
    if not isinstance(address, tuple):
        return ""
    host, port = address[0], address[1]
    return join_address(host, port)


@contextlib.contextmanager
def resolving(host: str) -> Iterator[None]:
    """A name that no DNS could hold (``a..b``) is an OSError too, not a UnicodeError."""
    try:
        yield
    except UnicodeError as err:
        raise OSError(errno.EINVAL, f"{host!r} is no name of a host") from err


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening socket.  Raises OSError."""
    with resolving(host):
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = infos[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def listen_unix(path: str) -> socket.socket:
    """A listening Unix socket that only its owner may use.  Raises OSError.

    sun_path holds 108 bytes; a long path is reached through a descriptor of its folder.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        sock.listen(1024)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
        os.close(folder)
    return sock


async def dial(host: str, port: int, preface: bytes, make: Callable[[], Link]) -> Link:
    """Opens a control or stream connection.  Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    with resolving(host):
        async with asyncio.timeout(OPENING_S):
            transport, link = await loop.create_connection(make, host, port)
    prompt(transport.get_extra_info("socket"))
    transport.write(preface)
    return link


def dial_bulk(host: str, port: int, show: Show, timeout_s: float = OPENING_S) -> socket.socket:
    """Opens a bulk connection, blocking, and shows the ticket.  Raises OSError."""
    with resolving(host):
        sock = socket.create_connection((host, port), timeout_s)
    try:
        sock.settimeout(None)
        prompt(sock)
        sock.sendall(BULK + frames.encode(encode_show(show)))
    except OSError:
        sock.close()
        raise
    return sock
