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
    """Cuts a byte stream into frames, however the bytes arrive."""

    def __init__(self, limit: int = OPENING_LIMIT):
        self.limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes held that are not yet a whole frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes in, gives whole payloads out.  Raises FrameError at the first bad length."""
        self._buffer += data
        frames: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= HEADER:
            length = int.from_bytes(self._buffer[start : start + HEADER], "big")
            if length > self.limit:
                raise FrameError(f"frame of {length} bytes is over the bound of {self.limit}")
            end = start + HEADER + length
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[start + HEADER : end]))
            start = end
        del self._buffer[:start]
        return frames
