"""Connections by hand, to see what a daemon does with peers that do not keep to the rules."""

import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from godwit.errors import GodwitError
from godwit.names import split_address
from godwit.wire import frames, messages, trust
from godwit.wire import messages as wire
from godwit.wire.preface import CONTROL

#: Seconds for what takes milliseconds.
PATIENCE_S = 20.0


class Line:
    """One connection: its preface is sent, and TLS is spoken when there is a context."""

    def __init__(
        self, address: str, preface: bytes = CONTROL, tls: ssl.SSLContext | None = None,
        source: str = "",
    ):
        """Raises ssl.SSLError when the handshake fails."""
        self.link = socket.create_connection(
            split_address(address), PATIENCE_S, (source, 0) if source else None
        )
        # Else the preface waits 40 ms to be acknowledged before TLS begins: tcp(7), Nagle.
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.link.sendall(preface)
            if tls is not None:
                self.link = tls.wrap_socket(self.link)
        except OSError:
            self.link.close()
            raise
        self._came: deque[bytes] = deque()
        self._cutter = frames.Frames(frames.CONTROL_LIMIT)

    def __enter__(self) -> "Line":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.link.close()

    def send(self, data: bytes) -> None:
        """A peer that has hung up is no error here: ``closed`` says so."""
        with contextlib.suppress(OSError):
            self.link.sendall(data)

    def say(self, message: wire.Message) -> None:
        self.send(frames.encode(messages.encode(message)))

    def hear(self) -> Iterator[bytes]:
        """Payloads until the other end hangs up.  Raises TimeoutError when it does not."""
        while self._came or (data := self._read()):
            if not self._came:
                self._came += self._cutter.feed(data)
            while self._came:  # what is not asked for now is heard the next time
                yield self._came.popleft()

    def _read(self) -> bytes:
        try:
            return self.link.recv(65536)
        except TimeoutError:
            raise
        except OSError:  # reset, or a TLS alert
            return b""

    def heard(self, decode: messages.Decoder) -> wire.Message | None:
        """The next message, or None at the end."""
        payload = next(self.hear(), None)
        return None if payload is None else decode(payload)

    def closed_after(self) -> float:
        """Seconds until the other end has hung up."""
        began = time.monotonic()
        for _ in self.hear():
            pass
        return time.monotonic() - began


def hello(name: str, channel: str = "control", agent: str = "a") -> wire.Hello:
    return wire.Hello(wire.VERSION, name, "5ea1ed", agent, channel)  # type: ignore[arg-type]


def joined(address: str, folder: trust.Trust, name: str, agent: str = "a") -> Line:
    """A welcomed control connection.  Raises GodwitError for a refusal."""
    line = Line(address, CONTROL, folder.client())
    line.say(hello(name, agent=agent))
    answer = line.heard(messages.decode_opening)
    if not isinstance(answer, wire.Welcome):
        line.link.close()
        raise GodwitError(str(answer))
    return line
