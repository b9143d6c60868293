"""What the two ends of a copy say to each other, and the bounds of it.

    sender                                   receiver
    Offer, Listing 0, Listing 1  ->
                                 <-  Answer 0: what of these files is here already
    contents of 0, Listing 2     ->
                                 <-  Answer 1
    contents of 1, ...  Finish   ->
                                 <-  Finished
    Settled                      ->

The contents of a file are ``Start``, any number of ``Block`` (each followed by its raw bytes) and
``Hole``, then ``End``; folders, their ends and symbolic links are complete in the listing.  The
sender is one listing ahead, so no file waits for a round trip.  Either end may say ``Failed`` in
place of any message; that ends the copy.

Two answers are the most that is under way against the stream of contents.  They fit in any
socket buffer, so the ends never wait for each other.

Only with ``Settled`` does the receiver know that the sender knows; till then it keeps the mark of
an unfinished copy, so that the repeat of one whose last words were lost goes on with it.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from godwit.wire.messages import Decoder, Message

#: Raised when an old peer could no longer understand a new one.
VERSION = 2

#: Bytes of one data block, at most.
BLOCK = 1024 * 1024
#: Bounds of one message, bytes.
SENDER_LIMIT = 256 * 1024
RECEIVER_LIMIT = 64 * 1024
#: Entries of one listing, at most, and the bytes of path names after which it ends.
LISTED = 128
LISTED_BYTES = 64 * 1024
#: Listings that are sent and not yet followed by their contents, at most.
AHEAD = 2
#: Folders within folders, at most.
DEPTH = 200
#: Warnings of one copy that are passed on; more are counted.
WARNINGS = 100
#: Characters of one warning or reason.
TEXT = 300

Name = Annotated[bytes, Meta(max_length=255)]
Path = Annotated[bytes, Meta(max_length=DEPTH * 256)]
Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Nanoseconds = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Text = Annotated[str, Meta(max_length=TEXT)]
Texts = Annotated[tuple[Text, ...], Meta(max_length=WARNINGS + 1)]


class Entry(Struct, frozen=True, omit_defaults=True):
    """One thing in the copied tree; ``path`` is relative to its top, empty for the top itself.

    ``end`` comes after all that is in a folder: only then do its mode and mtime stay as set.
    """

    path: Path
    kind: Literal["file", "folder", "end", "link"]
    mode: Annotated[int, Meta(ge=0, le=0o777)] = 0
    mtime_ns: Nanoseconds = 0
    size: Size = 0
    #: Bytes it takes on the sender's disk, at most its size: less for a file with holes.
    room: Size = 0
    #: Tells sources of one name, size and time apart.
    source: Annotated[bytes, Meta(max_length=40)] = b""
    #: Where a symbolic link points.
    link: Annotated[bytes, Meta(max_length=4095)] = b""


class Have(Struct, frozen=True):
    """The receiver has the first ``size`` bytes of the listing's file number ``index``."""

    index: Annotated[int, Meta(ge=0, lt=LISTED)]
    size: Size
    digest: Digest


class Failed(Message, frozen=True, tag="Failed"):
    """The copy ends here, and why."""

    code: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9-]{1,32}$")]
    text: Text


# ---- sender to receiver --------------------------------------------------------------------


class Offer(Message, frozen=True, tag="Offer"):
    """What is to be copied: its own name (empty for ``/``), and how much that is."""

    version: int
    name: Name
    folder: bool
    files: Size
    size: Size
    room: Size
    #: Tells sources of one name apart, as in Entry.
    source: Annotated[bytes, Meta(max_length=40)] = b""
    #: Which machine, device and inode the source is: a folder is not copied into itself.
    place: Annotated[str, Meta(max_length=128)] = ""


class Listing(Message, frozen=True, tag="Listing"):
    """The next entries, parents before what is in them."""

    entries: Annotated[tuple[Entry, ...], Meta(min_length=1, max_length=LISTED)]


class Start(Message, frozen=True, tag="Start"):
    """The next file, from byte ``offset`` on: 0, or what the receiver has, if it is the same."""

    offset: Size = 0


class Block(Message, frozen=True, tag="Block"):
    """This many raw bytes follow."""

    size: Annotated[int, Meta(ge=1, le=BLOCK)]


class Hole(Message, frozen=True, tag="Hole"):
    """This many zero bytes that need no room on the disk."""

    size: Annotated[int, Meta(ge=1, le=2**63 - 1)]


class End(Message, frozen=True, tag="End"):
    """The file is complete, and this is the SHA-256 of all of it."""

    digest: Digest


class Finish(Message, frozen=True, tag="Finish"):
    """That was all; these things were left out."""

    warnings: Texts = ()


class Settled(Message, frozen=True, tag="Settled"):
    """The Finished has come: this copy will not be repeated for want of it."""


# ---- receiver to sender --------------------------------------------------------------------


class Answer(Message, frozen=True, tag="Answer"):
    """What is here already of one listing."""

    haves: Annotated[tuple[Have, ...], Meta(max_length=LISTED)] = ()


class Finished(Message, frozen=True, tag="Finished"):
    """Everything is on disk, under its final name."""

    files: Size
    size: Size
    kept: Size
    path: Annotated[bytes, Meta(max_length=16 * 1024)]
    warnings: Texts = ()


decode_from_sender = Decoder(
    Offer | Listing | Start | Block | Hole | End | Finish | Settled | Failed
)
decode_from_receiver = Decoder(Answer | Finished | Failed)
