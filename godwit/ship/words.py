"""What the two ends of a ship say to each other, and the bounds of it.

    source                                       destination
    Board                               ->
                                        <-       Have: where a log is there already
    At(LOG, 0), the log so far, Mark 1  ->
                                        <-       Marked 1: that is written
    At(LOG, ...), what came since, Mark 2  ->    ... until little comes in one round
                                        <-       Marked 2
    Carry, At(2, 0), a file of the task's, ...
    (the task is frozen, its snapshot being written)
    At(IMAGE, 0), what there is of it, ...
    (its snapshot is written)
    Rest, At(LOG, ...), the log's tail,
    At(2, ...), what is new in that file, Carried, ...
    At(IMAGE, ...), what is left, End   ->
                                        <-       Whole: all of it is here

``At`` says which file the bytes after it are of, and from which byte on.  They are any number of
``Block`` (each followed by its raw bytes) and, in the log, ``Hole``.  A carried file is begun anew
by an ``At`` of offset 0; one that no ``Carried`` is said of is dropped.  Either end may say
``Failed`` in place of any message; that ends the ship.
"""

from typing import Annotated

from msgspec import Meta

from godwit.bulk.words import Block, Digest, Failed, Hole, Nanoseconds, Size
from godwit.wire.messages import Decoder, Message

#: Raised when an old peer could no longer understand a new one.
VERSION = 3

#: Bound of one message, bytes, in either direction.
LIMIT = 64 * 1024
#: Numbers of the files of every ship.
LOG, IMAGE = 0, 1
#: Files of the task's working directory that travel with one move, at most, and the first's number.
CARRIED = 64
FIRST = 2
FILES = FIRST + CARRIED
#: Bytes of one block that this end sends; a peer may send up to godwit.bulk.words.BLOCK.
CHUNK = 256 * 1024
#: So many rounds at most, until a task that writes fast is frozen all the same.
ROUNDS = 16

Number = Annotated[int, Meta(ge=1, le=ROUNDS)]


class Board(Message, frozen=True, tag="Board"):
    """The first word; ``room`` is what the log takes on the source's disk now, bytes."""

    version: int
    room: Size = 0


class At(Message, frozen=True, tag="At"):
    """The bytes that follow are of this file, from ``offset`` on."""

    file: Annotated[int, Meta(ge=0, lt=FILES)]
    offset: Size


class Carry(Message, frozen=True, tag="Carry"):
    """The next number is a file of the task's working directory; ``name`` is relative to it."""

    name: Annotated[bytes, Meta(min_length=1, max_length=4096)]
    #: What it takes on the source's disk now, bytes.
    room: Size = 0


class Carried(Message, frozen=True, tag="Carried"):
    """This file is complete; ``digest`` is its SHA-256."""

    file: Annotated[int, Meta(ge=FIRST, lt=FILES)]
    size: Size
    mode: Annotated[int, Meta(ge=0, le=0o777)]
    mtime_ns: Nanoseconds
    digest: Digest


class Mark(Message, frozen=True, tag="Mark"):
    """Say when all before this is written."""

    number: Number


class Rest(Message, frozen=True, tag="Rest"):
    """The task stands still: these are the sizes of its log and its snapshot."""

    log_size: Size
    size: Size


class End(Message, frozen=True, tag="End"):
    """That was all.  TLS has authenticated each byte of it."""


class Have(Message, frozen=True, tag="Have"):
    """So many bytes of the log are here already: the first of a task that comes home, whose log
    was kept there.  What was sent of them by then was sent in vain."""

    size: Size


class Marked(Message, frozen=True, tag="Marked"):
    number: Number


class Whole(Message, frozen=True, tag="Whole"):
    """All of it is here."""


decode_from_source = Decoder(
    Board | At | Block | Hole | Mark | Carry | Carried | Rest | End | Failed
)
decode_from_destination = Decoder(Have | Marked | Whole | Failed)
