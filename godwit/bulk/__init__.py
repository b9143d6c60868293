"""Copies of files and folders over a connected stream socket: godwit's bulk transfers.

Both functions block, and are called in a thread of their own, one at each end of a connection.
docs/transfers.md says what a copy promises; godwit.bulk.words has the protocol.
"""

import socket

from godwit.bulk.ends import Opener, Source, Target
from godwit.bulk.link import Link
from godwit.bulk.receiving import Receiving
from godwit.bulk.relay import splice
from godwit.bulk.sending import Sending
from godwit.bulk.summary import Progress, Summary, silent
from godwit.bulk.words import (
    RECEIVER_LIMIT,
    SENDER_LIMIT,
    decode_from_receiver,
    decode_from_sender,
)
from godwit.errors import TransferError

__all__ = ["Opener", "Progress", "Source", "Summary", "Target", "receive", "send", "splice"]


def send(link: socket.socket, source: Source | bytes, progress: Progress = silent) -> Summary:
    """Sends a file or folder; returns when the other end has all of it on disk.

    ``link`` is blocking, plain or TLS, and stays the caller's to close; after an error it is of
    no more use.  Raises TransferError, after the other end was told (or had told us) why.
    """
    wire = Link(link, decode_from_receiver, RECEIVER_LIMIT)
    source = source if isinstance(source, Source) else Source(source)
    return _told(wire, Sending(wire, source, progress))


def receive(link: socket.socket, target: Target | bytes, progress: Progress = silent) -> Summary:
    """Receives what the other end sends; returns when all of it is on disk under its name.

    As ``send`` for the rest.
    """
    wire = Link(link, decode_from_sender, SENDER_LIMIT)
    target = target if isinstance(target, Target) else Target(target)
    return _told(wire, Receiving(wire, target, progress))


def _told(wire: Link, copy: Sending | Receiving) -> Summary:
    """The copy's result; the other end hears why when there is none."""
    try:
        return copy.run()
    except TransferError as err:
        raise wire.fail(err) from err.__cause__
    except BaseException as err:
        # An interrupt from the keyboard, or from the caller's progress.
        wire.fail(TransferError("abandoned", f"the copy was abandoned: {type(err).__name__}"))
        raise
