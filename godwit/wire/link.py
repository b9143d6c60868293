"""Connections: the one place that opens, accepts and closes them.

Every connection starts with four bytes in clear that say what it is (godwit.wire.preface); on
TCP everything after them is TLS 1.3 with both certificates checked; then come frames.  Control,
stream and operator connections live in the event loop as a ``Link``.  A bulk connection leaves
it as a blocking socket, for a thread: asyncio moves bulk data at half the speed.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct, field

from godwit import failpoint
from godwit.errors import FrameError, GodwitError, MessageError, PeerError
from godwit.names import join_address
from godwit.seldom import Seldom
from godwit.wire import frames
from godwit.wire.preface import BULK, SIZE, Show, decode_show, encode_show
from godwit.wire.trust import Peer, peer_of

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
Result = TypeVar("Result")


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
        #: The connection, with its TLS, is there; before any message.
        self.on_open: Callable[[], None] = lambda: None
        self.on_message: Callable[[Any], None] = lambda message: None
        self.on_closed: Callable[[str], None] = lambda reason: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=QUEUE_LIMIT)
        self._transport = transport
        self.on_open()

    def data_received(self, data: bytes) -> None:
        # TLS goes on reading until the other end has said goodbye, too.
        if self._transport is None or self._transport.is_closing():
            return
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
        failpoint.hit("link.send")
        try:
            self._transport.write(b"".join(frames.encode(p, self._limit) for p in payloads))
        except FrameError as err:
            self.close(str(err))

    def local_host(self) -> str:
        """Our own address on this connection; the loopback when it has ended."""
        if self._transport is None:
            return "127.0.0.1"
        return str(self._transport.get_extra_info("sockname")[0])

    def peer(self) -> Peer:
        """Who is at the other end, by its certificate; nobody on a Unix socket."""
        if self._transport is None:
            return Peer()
        connection = self._transport.get_extra_info("ssl_object")
        return peer_of(connection) if connection is not None else Peer()

    def peer_uid(self) -> int:
        """Who is at the other end of a Unix socket, by SO_PEERCRED; -1 when it has ended."""
        return self._credentials()[1]

    def peer_pid(self) -> int:
        """Which process connected; it may have ended, or have passed the socket on."""
        return self._credentials()[0]

    def _credentials(self) -> tuple[int, int, int]:
        """struct ucred: pid, uid, gid."""
        if self._transport is None:
            return -1, -1, -1
        sock = self._transport.get_extra_info("socket")
        pid, uid, gid = struct.unpack(
            "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        return pid, uid, gid

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


class Accept(Struct, frozen=True):
    """What a listener does with a kind of connection, by its preface."""

    link: dict[bytes, Callable[[], Link]]
    on_link: Callable[[Link, bytes, str], None]
    #: The socket is blocking and belongs to the callee.
    on_bulk: Callable[[socket.socket, Show, Peer], None]
    #: What links and bulk connections are wrapped in; None on a Unix socket.
    tls: Callable[[], ssl.SSLContext] | None = None
    #: Connections of peers without a certificate: in a thread, for OPENING_S in all.  The socket
    #: belongs to the callee; what it raises is what ``on_refused`` gets.
    raw: Mapping[bytes, Callable[[socket.socket, str], None]] = field(default_factory=dict)
    #: A peer that nothing came of, and why; seldom, however many there are.
    on_refused: Callable[[str, str], None] = lambda peer, reason: None


class Listener:
    """Accepts connections on one socket until it is closed."""

    def __init__(self, sock: socket.socket, accept: Accept):
        self._sock = sock
        self._accept = accept
        #: By host, connections that have not been handed to anybody.
        self._opening: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # As many as there may be connections: one that says nothing delays no other.
        self._threads = ThreadPoolExecutor(OPENING_MOST, "opening")
        self._seldom = Seldom()
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
                self._refused(peer, "too many connections that have not said who they are")
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
            await self._sort(sock, peer)
        except (OSError, GodwitError, EOFError) as err:  # TimeoutError and SSLError are OSErrors
            sock.close()
            self._refused(peer, reason_of(err))

    async def _sort(self, sock: socket.socket, peer: str) -> None:
        """Reads the preface and hands the connection to whom it is for."""
        sock.setblocking(False)
        prompt(sock)
        async with asyncio.timeout(OPENING_S):
            preface = await _receive_exactly(sock, SIZE)
        accept = self._accept
        if preface in accept.raw:
            await self._in_thread(sock, partial(accept.raw[preface], sock, peer))
            return
        tls = accept.tls() if accept.tls else None
        if preface == BULK:
            accept.on_bulk(*await self._in_thread(sock, partial(_open_bulk, sock, tls)))
        elif preface in accept.link:
            link = accept.link[preface]()
            link.on_open = partial(self._opened, link, link.on_open, preface, peer)
            async with asyncio.timeout(OPENING_S):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: link, sock, ssl=tls,
                    ssl_shutdown_timeout=CLOSING_S if tls else None,
                )
        else:
            raise MessageError("not a connection of this protocol")

    def _opened(
        self, link: Link, known: Callable[[], None], preface: bytes, peer: str
    ) -> None:
        known()
        self._accept.on_link(link, preface, peer)

    async def _in_thread(self, sock: socket.socket, run: Callable[[], Result]) -> Result:
        """Runs what blocks on the socket; a peer that takes longer than OPENING_S is cut off.

        A timeout on the socket binds each read only, and so would let one come byte by byte.
        """
        loop = asyncio.get_running_loop()
        sock.settimeout(OPENING_S)
        handle = sock.dup()  # TLS takes the descriptor from ``sock``
        timer = loop.call_later(OPENING_S, _cut, handle)
        running = loop.run_in_executor(self._threads, run)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            _cut(handle)
            await asyncio.wait([running])
            running.exception()  # of what has been cut there is nothing to tell
            raise
        finally:
            timer.cancel()
            handle.close()

    def _refused(self, peer: str, reason: str) -> None:
        kind = f"{peer.rpartition(':')[0]} {reason}"
        if self._seldom.may(kind, asyncio.get_running_loop().time()):
            self._accept.on_refused(peer, reason)

    async def close(self) -> None:
        """Stops accepting; connections that were accepted live on."""
        self._loop_task.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._loop_task, *self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False)
        self._sock.close()


def _cut(handle: socket.socket) -> None:
    """Ends a connection under the hands of the thread that waits for it."""
    with contextlib.suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)


def reason_of(err: Exception) -> str:
    """Why a connection did not come about, in words."""
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"its certificate: {err.verify_message}"
    if isinstance(err, ssl.SSLError):
        return f"no TLS: {err.reason or err}"
    if isinstance(err, TimeoutError):
        return "no answer in time"
    return getattr(err, "strerror", None) or str(err) or "no answer"


async def _receive_exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        part = await loop.sock_recv(sock, count - len(data))
        if not part:
            raise EOFError("the connection ended in its opening")
        data += part
    return data


def _open_bulk(
    sock: socket.socket, tls: ssl.SSLContext | None
) -> tuple[socket.socket, Show, Peer]:
    """In a thread: the handshake, then the frame with a ticket; reads not one byte more."""
    sock.settimeout(OPENING_S)
    try:
        peer = Peer()
        if tls is not None:
            sock = tls.wrap_socket(sock, server_side=True)
            peer = peer_of(sock)
        length = int.from_bytes(_exactly(sock, frames.HEADER), "big")
        if length > frames.OPENING_LIMIT:
            raise FrameError(f"frame of {length} bytes is over the bound of {frames.OPENING_LIMIT}")
        show = decode_show(_exactly(sock, length))
    except BaseException:
        sock.close()
        raise
    sock.settimeout(None)
    return sock, show, peer


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise EOFError("the connection ended in its opening")
        data += part
    return data


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


async def dial(
    address: tuple[str, int], preface: bytes, make: Callable[[], Link], tls: ssl.SSLContext
) -> Link:
    """Opens a control or stream connection.  Raises OSError (ssl.SSLError, TimeoutError)."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(OPENING_S):
        sock = await loop.run_in_executor(None, connect, address, preface)
        sock.setblocking(False)
        # The certificate says who it is; the host's name plays no part.
        _, link = await loop.create_connection(
            make, sock=sock, ssl=tls, server_hostname="", ssl_shutdown_timeout=CLOSING_S
        )
    return link


def connect(address: tuple[str, int], preface: bytes) -> socket.socket:
    """A blocking connection that has sent its preface.  Raises OSError."""
    with resolving(address[0]):
        sock = socket.create_connection(address, OPENING_S)
    try:
        prompt(sock)
        sock.sendall(preface)
    except OSError:
        sock.close()
        raise
    return sock


def dial_bulk(
    address: tuple[str, int], show: Show, tls: ssl.SSLContext, expected: Callable[[Peer], None]
) -> socket.socket:
    """Opens a bulk connection, blocking, and shows the ticket to whom ``expected`` lets pass.

    Raises OSError, and what ``expected`` raises.
    """
    plain = connect(address, BULK)
    try:
        sock = tls.wrap_socket(plain)
    except OSError:
        plain.close()
        raise
    try:
        expected(peer_of(sock))
        sock.sendall(frames.encode(encode_show(show)))
    except BaseException:
        sock.close()
        raise
    sock.settimeout(None)
    return sock
