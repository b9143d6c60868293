"""One connection's life between a node and its master: opening, open, closed.

    opening --opened()--> open --any PeerError--> closed

Before the welcome only a Hello, Adopt, Welcome or Refuse of at most OPENING_LIMIT bytes is read;
after it the messages of the channel, bounded by CONTROL_LIMIT.  No I/O: bytes in, messages out.
"""

from collections.abc import Iterator

from godwit.wire import messages
from godwit.wire.frames import CONTROL_LIMIT, OPENING_LIMIT, Frames


class Session:
    """Turns bytes into the messages that the peer may send at this moment."""

    def __init__(self) -> None:
        self._frames = Frames(OPENING_LIMIT)
        self._decode = messages.decode_opening

    def opened(self, ordinary: messages.Decoder) -> None:
        """The hello was answered: from the next frame on, ``ordinary`` decides what is read."""
        self._decode = ordinary
        self._frames.limit = CONTROL_LIMIT

    def receive(self, data: bytes) -> Iterator[messages.Message]:
        """Yields one message at a time, so that ``opened`` binds between two of one packet.

        Raises FrameError or MessageError; the connection is then to be closed.
        """
        self._frames.push(data)
        while (payload := self._frames.pop()) is not None:
            yield self._decode(payload)
