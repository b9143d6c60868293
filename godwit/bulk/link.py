"""One end of a copy's connection: messages, raw blocks between them, and a decent goodbye.

Plain and TLS sockets alike: only ``sendall``, ``recv_into`` and ``shutdown`` are used, by one
thread.  Small writes are gathered; large ones go out as they are.
"""

import contextlib
import socket
import ssl
import time
from typing import NoReturn

from godwit import failpoint
from godwit.bulk.words import BLOCK, TEXT, Block, Failed
from godwit.errors import FrameError, MessageError, TransferError
from godwit.log import printable
from godwit.wire.frames import HEADER, encode
from godwit.wire.messages import Decoder, Message
from godwit.wire.messages import encode as pack

#: Bytes gathered before they are sent; a block up to half of it is gathered too.
GATHER = 128 * 1024
#: Bytes read ahead, at most, in one call.
AHEAD = 256 * 1024
#: Seconds given to the other end to read why we failed, and to us to read why it did.
GOODBYE_S = 10.0


class Link:
    """Sends and receives over a connected stream socket, which stays the caller's to close.

    ``limit`` bounds a message from the peer, bytes, before it is read.  Raises TransferError:
    ``cut`` when the connection ends, ``protocol`` for bytes that are no message, and what the
    peer says in a Failed, as ``remote``.
    """

    def __init__(self, sock: socket.socket, decode: Decoder, limit: int):
        self._sock = sock
        self._decode = decode
        self._limit = limit
        self._out = bytearray()
        self._in = memoryview(bytearray(AHEAD))
        self._start = self._end = 0
        #: True while a write is half done: then no further message would be understood.
        self._torn = False
        keep_alive(sock)

    # ---- sending ---------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Sends a message, soon: ``flush`` makes it now."""
        self._out += encode(pack(message))
        if len(self._out) >= GATHER:
            self.flush()

    def put_block(self, data: memoryview) -> None:
        """Sends a Block and its bytes, at most BLOCK of them."""
        assert len(data) <= BLOCK
        self._out += encode(pack(Block(len(data))))
        if len(data) <= GATHER // 2:
            self._out += data
            if len(self._out) >= GATHER:
                self.flush()
            return
        # Block header and data leave one after the other: both or neither is the peer's view.
        self._send(self._out, data)

    def flush(self) -> None:
        """Sends what was gathered."""
        if self._out:
            self._send(self._out)

    def _send(self, *pieces: bytearray | memoryview) -> None:
        self._torn = True
        try:
            failpoint.hit("copy.send")
            for piece in pieces:
                self._sock.sendall(piece)
        except OSError as err:
            raise TransferError("cut", f"the connection broke: {err.strerror or err}") from err
        self._out.clear()
        self._torn = False

    # ---- receiving -------------------------------------------------------------------------

    def get(self) -> Message:
        """The next message."""
        header = self._take(HEADER)
        length = int.from_bytes(header, "big")
        if length > self._limit:
            raise _protocol(FrameError(f"a message of {length} bytes, over {self._limit}"))
        try:
            message = self._decode(self._take(length))
        except MessageError as err:
            raise _protocol(err) from err
        if isinstance(message, Failed):
            raise TransferError(message.code, printable(message.text), remote=True)
        return message

    def poll(self) -> Message | None:
        """A message, if one has begun to arrive; does not wait for one."""
        if self._start == self._end:
            self._recv_now()
        return self.get() if self._start < self._end else None

    def read_into(self, view: memoryview) -> None:
        """Fills ``view`` with raw bytes."""
        ready = min(len(view), self._end - self._start)
        view[:ready] = self._in[self._start : self._start + ready]
        self._start += ready
        while ready < len(view):
            ready += self._recv(view[ready:])

    def _take(self, count: int) -> bytes:
        if self._end - self._start >= count:
            taken = bytes(self._in[self._start : self._start + count])
            self._start += count
            return taken
        if count > len(self._in) // 2:
            large = bytearray(count)
            self.read_into(memoryview(large))
            return bytes(large)
        self._fill(count)
        return self._take(count)

    def _fill(self, count: int) -> None:
        """Reads until ``count`` bytes are in the buffer, and whatever else comes with them."""
        left = self._end - self._start
        self._in[:left] = bytes(self._in[self._start : self._end])
        self._start, self._end = 0, left
        while self._end < count:
            self._end += self._recv(self._in[self._end :])

    def _recv(self, view: memoryview) -> int:
        try:
            count = self._sock.recv_into(view)
        except OSError as err:
            raise TransferError("cut", f"the connection broke: {err.strerror or err}") from err
        return count or _cut()

    def _recv_now(self) -> None:
        """Reads what is there, if anything.  A readable TLS socket may hold no data for us
        (a session ticket), so only a read that may not block can tell."""
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            count = self._sock.recv_into(self._in)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as err:
            raise TransferError("cut", f"the connection broke: {err.strerror or err}") from err
        finally:
            self._sock.settimeout(timeout)
        self._start, self._end = 0, count or _cut()

    # ---- the end ---------------------------------------------------------------------------

    def fail(self, err: TransferError) -> TransferError:
        """Ends the connection over ``err`` and tells the peer why, if it can still hear it.

        Gives back the better reason: when the connection broke because the peer failed, what
        the peer said.  Waits at most GOODBYE_S seconds.
        """
        if err.code == "cut":
            err = self._last_words(err)
        elif not err.remote and not self._torn:
            self._say_why(err)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        return err

    def _say_why(self, err: TransferError) -> None:
        """Says Failed, then reads on till the peer has stopped: closing a socket with unread
        bytes resets the connection, and could destroy what we just said (RFC 1122 4.2.2.13)."""
        with contextlib.suppress(OSError, TransferError):
            self._sock.settimeout(GOODBYE_S)
            self.put(Failed(err.code, printable(err.text)[:TEXT]))
            self.flush()
            until = time.monotonic() + GOODBYE_S
            while time.monotonic() < until and self._sock.recv_into(self._in):
                pass

    def _last_words(self, err: TransferError) -> TransferError:
        try:
            self._sock.settimeout(GOODBYE_S)
            while True:
                self.get()
        except OSError:
            return err
        except TransferError as other:
            return other if other.remote else err


def _cut() -> NoReturn:
    raise TransferError("cut", "the connection ended before the copy did")


def _protocol(err: Exception) -> TransferError:
    return TransferError("protocol", f"the other end broke the protocol: {err}"[:TEXT])


def keep_alive(sock: socket.socket) -> None:
    """A peer that vanished without a word is noticed after half a minute of idle waiting."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
