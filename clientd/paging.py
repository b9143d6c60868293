"""Pagers: each takes the pages of one task between CRIU at its node and the pager at the other.

A pager is a process of its own, for a task that runs on while its memory still comes would be lost
with who carries it: an agent may end at any time, and a pager stays.  The agent's thread makes the
connection, before the task stands still, and forks; the connection's keys are in the memory that
both then have, and only the pager uses them from there on.

It ends when either side hangs up, or the other node has been silent for SILENCE_S.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from godwit import failpoint
from godwit.errors import TransferError
from godwit.ship import pagesocket

#: Seconds that the other node may be out of reach before the pages count as lost.
SILENCE_S = 30
#: Between two questions whether it is there, when there is nothing else to say.
ASK_S = 5
#: What one pager says to the other once CRIU can call it.
READY = b"+"
#: Bytes under way in either direction, at most.
MOST = 4 << 20
#: Bytes read or written at once; one TLS record has 16 KiB.
CHUNK = 256 * 1024
#: Bytes between two times that a pager comes to its failpoint.
MARK = 16 << 20

Told = TypeVar("Told")


def begin_there(link: socket.socket, image: str) -> None:
    """At the destination: a pager for this connection.  Raises OSError."""
    with contextlib.closing(pagesocket.listening(image)) as door:
        link.sendall(READY)
        _fork(link, door, image)


def begin_here(link: socket.socket, image: str) -> None:
    """At the source, once the one at the destination is there.  Raises OSError, TransferError."""
    with contextlib.closing(pagesocket.listening(image)) as door:
        if link.recv(1) != READY:
            raise TransferError("cut", "the destination did not take the task's pages")
        _fork(link, door, image)


def set_silence(link: socket.socket) -> None:
    """The connection breaks when the other end has not been heard for SILENCE_S."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, ASK_S), (socket.TCP_KEEPINTVL, ASK_S),
        (socket.TCP_KEEPCNT, SILENCE_S // ASK_S),
        (socket.TCP_USER_TIMEOUT, SILENCE_S * 1000), (socket.TCP_NODELAY, 1),
    ):
        link.setsockopt(socket.IPPROTO_TCP, option, value)


def _fork(link: socket.socket, door: socket.socket, image: str) -> None:
    """Twice: the pager is nobody's child but the keeper's, who waits for whatever is left to it.

    Fact: in the child of a process with threads there is this thread alone, and what locks the
    others held stay held: so nothing is done there but reading, writing and waiting.
    """
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    status = 1
    try:
        if os.fork() == 0:
            _alone(link, door)
            Pager(link, door, image).run()
        status = 0
    finally:
        os._exit(status)


def _alone(link: socket.socket, door: socket.socket) -> None:
    """Nothing of the agent's is left but these two.

    What of its objects is garbage, and not collected yet, may close descriptors by numbers that
    are ours by then: so it never is.
    """
    gc.freeze()
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    kept = sorted({link.fileno(), door.fileno()})
    for low, high in zip((3, *(fd + 1 for fd in kept)), (*kept, os.sysconf("SC_OPEN_MAX")),
                         strict=True):
        os.closerange(low, high)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(pagesocket.NAME)
    pagesocket.answer_as_ourselves(door)


class Pager:
    """One connection to the other node, one from CRIU; both ways until either ends."""

    def __init__(self, link: socket.socket, door: socket.socket, image: str):
        self._link = link
        self._door = door
        self._image = image
        self._local: socket.socket | None = None
        self._to_link, self._to_local = bytearray(), bytearray()
        self._poll = selectors.DefaultSelector()
        self._chunk = memoryview(bytearray(CHUNK))
        #: What each is waited for now.
        self._events: dict[socket.socket, int] = {}
        self._over = False
        #: Who has hung up; what that side said before still goes to the other.
        self._silent: set[socket.socket] = set()
        #: Bytes, both ways.
        self._passed = 0

    def run(self) -> None:
        """Until it is over."""
        self._link.setblocking(False)
        self._poll.register(self._door, selectors.EVENT_READ, self._called)
        self._poll.register(self._link, selectors.EVENT_READ, self._turn)
        while not self._over:
            for key, _ in self._poll.select():
                key.data()
        with contextlib.suppress(OSError):
            os.unlink(self._image + pagesocket.SUFFIX)
        for sock in (self._local, self._link):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()

    def _called(self) -> None:
        sock, _ = self._door.accept()
        if self._local is not None:  # somebody hangs up
            sock.close()
            self._over = True
            return
        self._local = sock
        sock.setblocking(False)
        self._poll.register(sock, selectors.EVENT_READ, self._turn)
        self._turn()

    def _turn(self) -> None:
        """Takes what is there on both sides, and waits for what is to come."""
        moved = True
        while moved and not self._over:
            moved = self._read(self._link, self._to_local)
            if self._local is not None:
                moved |= self._read(self._local, self._to_link)
                moved |= self._write(self._local, self._to_local)
            moved |= self._write(self._link, self._to_link)
        if self._link in self._silent and not (self._local and self._to_local):
            self._over = True
        if self._local in self._silent and not self._to_link:
            self._over = True
        self._want(self._link, self._to_local, bool(self._to_link))
        if self._local is not None:
            self._want(self._local, self._to_link, bool(self._to_local))

    def _read(self, sock: socket.socket, into: bytearray) -> bool:
        """Whether anything came."""
        if len(into) >= MOST or sock in self._silent:
            return False
        count = self._try(lambda: sock.recv_into(self._chunk))
        if count == 0:
            self._silent.add(sock)
        into += self._chunk[:count or 0]
        return bool(count)

    def _write(self, sock: socket.socket, data: bytearray) -> bool:
        if not data:
            return False
        with memoryview(data) as view:
            sent = self._try(lambda: sock.send(view[:CHUNK]))
        if sent:
            del data[:sent]
            self._count(sent)
        return bool(sent)

    def _count(self, sent: int) -> None:
        before = self._passed // MARK
        self._passed += sent
        for _ in range(before, self._passed // MARK):
            failpoint.hit("pages.pass")

    def _try(self, call: Callable[[], Told]) -> Told | None:
        try:
            return call()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError:
            self._over = True
            return None

    def _want(self, sock: socket.socket, into: bytearray, writes: bool) -> None:
        reads = len(into) < MOST and sock not in self._silent
        events = reads * selectors.EVENT_READ | writes * selectors.EVENT_WRITE
        if self._events.get(sock, selectors.EVENT_READ) == events:
            return
        with contextlib.suppress(KeyError):
            self._poll.unregister(sock)
        if events:
            self._poll.register(sock, events, self._turn)
        self._events[sock] = events
