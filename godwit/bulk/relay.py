"""Passes bytes both ways between two connections until both directions have ended."""

import contextlib
import fcntl
import os
import select
import socket
import ssl
import time
from typing import Protocol

from godwit.bulk.link import keep_alive

#: Bytes that one direction holds, at most.
HELD = 1024 * 1024


#: Seconds that one direction may go on after the other broke: to pass on why.
LAST_WORDS_S = 10.0

#: A descriptor and the poll(2) event that it must have before there is anything to do.
_Wait = tuple[int, int]


class _Carrier(Protocol):
    """Moves bytes from one socket to another, never blocking."""

    def fill(self, source: socket.socket) -> int:
        """Takes bytes in; 0 at the end of the source.  Raises BlockingIOError, SSLWant..."""

    def drain(self, sink: socket.socket) -> int:
        """Gives bytes out.  Raises as ``fill`` does."""

    def close(self) -> None:
        """Frees what it holds."""


class _Pipe:
    """Bytes that stay in the kernel: splice(2) into a pipe and out of it."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # An ordinary user's pipes may be bounded (pipe(7), pipe-user-pages-soft).
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, HELD)

    def fill(self, source: socket.socket) -> int:
        return os.splice(source.fileno(), self._in, HELD)

    def drain(self, sink: socket.socket) -> int:
        return os.splice(self._out, sink.fileno(), HELD)

    def close(self) -> None:
        os.close(self._in)
        os.close(self._out)


class _Buffer:
    """Bytes in our memory: what a TLS socket needs."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(HELD // 4))
        self._held = self._memory[:0]

    def fill(self, source: socket.socket) -> int:
        count = source.recv_into(self._memory)
        self._held = self._memory[:count]
        return count

    def drain(self, sink: socket.socket) -> int:
        count = sink.send(self._held)
        self._held = self._held[count:]
        return count

    def close(self) -> None:
        self._held.release()
        self._memory.release()


class _Way:
    """One direction."""

    def __init__(self, source: socket.socket, sink: socket.socket):
        plain = type(source) is socket.socket and type(sink) is socket.socket
        self._source = source
        self._sink = sink
        self._carrier: _Carrier = _Pipe() if plain else _Buffer()
        self._held = 0
        self.carried = 0
        self.ended = False
        self.broken = False
        #: The end of this direction can be told only by that of the connection.
        self.last = False

    def step(self) -> _Wait | None:
        """Moves what can be moved now; says what to wait for when that is nothing."""
        sock, event = (self._sink, select.POLLOUT) if self._held else (self._source, select.POLLIN)
        try:
            self._move()
        except BlockingIOError:
            return sock.fileno(), event
        except ssl.SSLWantReadError:
            return sock.fileno(), select.POLLIN
        except ssl.SSLWantWriteError:
            return sock.fileno(), select.POLLOUT
        except OSError:
            self.broken = True
            self._end()
        return None

    def _move(self) -> None:
        if self._held:
            count = self._carrier.drain(self._sink)
            self._held -= count
            self.carried += count
            return
        self._held = self._carrier.fill(self._source)
        if not self._held:
            self._end()

    def _end(self) -> None:
        self.ended = True
        self.last = isinstance(self._sink, ssl.SSLSocket)
        if not self.last:
            with contextlib.suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._carrier.close()


def splice(a: socket.socket, b: socket.socket) -> tuple[int, int]:
    """Relays between two connected stream sockets; gives the bytes carried a to b and b to a.

    Returns when both directions have ended: the end of one is passed on as a half-close, and
    when one breaks the other may go on for LAST_WORDS_S seconds.  Plain sockets are relayed
    inside the kernel.  TLS ones go through memory, and the end of one direction is the end of
    both: OpenSSL takes data's end without the connection's for an attack.  The sockets stay the
    caller's to close, and send nothing more.
    """
    timeouts = a.gettimeout(), b.gettimeout()
    ways = _Way(a, b), _Way(b, a)
    try:
        for sock in (a, b):
            keep_alive(sock)
            sock.settimeout(0)
        _carry(ways)
    finally:
        for way in ways:
            way.close()
        for sock, timeout in zip((a, b), timeouts, strict=True):
            sock.settimeout(timeout)
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
    return ways[0].carried, ways[1].carried


def _carry(ways: tuple[_Way, _Way]) -> None:
    until = float("inf")
    while live := [way for way in ways if not way.ended]:
        waits = [way.step() for way in live]
        if any(way.broken for way in ways):
            until = min(until, time.monotonic() + LAST_WORDS_S)
        if time.monotonic() >= until or any(way.last for way in ways):
            return
        if None not in waits:
            _poll([wait for wait in waits if wait], until - time.monotonic())


def _poll(waits: list[_Wait], timeout_s: float) -> None:
    poll = select.poll()
    wanted: dict[int, int] = {}
    for fd, event in waits:
        wanted[fd] = wanted.get(fd, 0) | event
    for fd, events in wanted.items():
        poll.register(fd, events)
    poll.poll(None if timeout_s == float("inf") else max(0.0, timeout_s * 1000))
