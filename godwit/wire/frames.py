"""Frames: a 4-byte big-endian length, then that many bytes.  Bounded before they are buffered.

The rule: a length over the bound is refused when its four bytes have arrived, so no peer can
make us hold more than the bound plus one read.
"""

from godwit.errors import FrameError

HEADER = 4
#: Bound of one frame, bytes, before the peer has been welcomed.
OPENING_LIMIT = 4 * 1024
#: Bound of one frame, bytes, between a node and its master: one argument list (E2BIG is about
#: 2 MiB on Linux) with room to spare.
CONTROL_LIMIT = 4 * 1024 * 1024
#: Bound of one frame, bytes, on a socket of this machine (operator, keeper).
LOCAL_LIMIT = 64 * 1024 * 1024


def encode(payload: bytes, limit: int = CONTROL_LIMIT) -> bytes:
    """The frame that carries ``payload``.  Raises FrameError when it is over ``limit`` bytes."""
    if len(payload) > limit:
        raise FrameError(f"frame of {len(payload)} bytes is over the bound of {limit}")
    return len(payload).to_bytes(HEADER, "big") + payload


class Frames:
    """Cuts a byte stream into frames, however the bytes arrive.

    ``limit`` may be changed between two frames: it binds from the next one on.
    """

    def __init__(self, limit: int = OPENING_LIMIT):
        self.limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes held that have not been given out."""
        return len(self._buffer)

    def push(self, data: bytes) -> None:
        """Takes bytes in."""
        self._buffer += data

    def pop(self) -> bytes | None:
        """The next whole payload, or None.  Raises FrameError for a length over the limit."""
        if len(self._buffer) < HEADER:
            return None
        length = int.from_bytes(self._buffer[:HEADER], "big")
        if length > self.limit:
            raise FrameError(f"frame of {length} bytes is over the bound of {self.limit}")
        end = HEADER + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEADER:end])
        del self._buffer[:end]
        return payload

    def feed(self, data: bytes) -> list[bytes]:
        """``push``, then every whole payload."""
        self.push(data)
        return list(iter(self.pop, None))
