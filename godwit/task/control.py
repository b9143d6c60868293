"""What a keeper and a runner, the process of a python task, say to each other.

One word a packet on a Unix socket (godwit.task.packets); descriptors travel beside it.  Every
word of the keeper's may be said again, by another keeper perhaps: what has been done is not done
twice, and is answered as it was.

    keeper                                         runner, born warm
      Prepare(program)  + its source  ->             imports it         -> Prepared
      Begin(program, args)  + source  ->             constructs it      -> Begun, and runs
      Freeze(move)  + image, to write ->             stops between two steps, pickles
                                                                        -> Written, -> Synced
      Load(move, program)  + image    ->  (warm)     unpickles, stands still  -> Loaded
      Thaw(move)                      ->             runs, or runs on   -> Thawed, -> Stepped
      Ask                             ->                                -> State

What cannot be done is answered by Failed.  After a Failed that answers Prepare, Begin or Load the
runner ends; after one that answers Freeze it runs on, as if it had not been asked.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from godwit.errors import MessageError

#: ``warm``: born, and no task's yet.  ``running``: also while a Freeze waits for the step's end.
Phase = Literal["warm", "running", "frozen", "loaded", "ended"]


class Word(Struct, frozen=True, tag_field="is", omit_defaults=True):
    """The root of both directions' words."""


# ---- keeper to runner ------------------------------------------------------------------------


class Prepare(Word, frozen=True, tag="Prepare"):
    """Import the program, so that a Load takes no longer than it must.

    With one descriptor, its source text, when ``digest`` is not empty.
    """

    #: ``CountProcess``, ``module:Class`` or ``file.py:Class``.
    program: str
    #: The source's sha256, hex, when it came with the launch.
    digest: str = ""


class Begin(Word, frozen=True, tag="Begin"):
    """Construct the program with these arguments and run it; the descriptor is as in Prepare."""

    program: str
    args: tuple[bytes, ...] = ()
    digest: str = ""


class Freeze(Word, frozen=True, tag="Freeze"):
    """Stop between two steps and write the snapshot into the descriptor, from its start.

    The descriptor may be left out when the word is said again.
    """

    move: str


class Load(Word, frozen=True, tag="Load"):
    """Unpickle the snapshot in the descriptor, and stand still.

    Refused unless it is one of this program and, if it was shipped, of this very source.
    """

    move: str
    program: str
    digest: str = ""
    #: Of the image, bytes.
    size: int = 0


class Thaw(Word, frozen=True, tag="Thaw"):
    """Run: after a Load for the first time, after a Freeze on from where it was.

    A Freeze that still waits for the step's end is taken back by it.
    """

    move: str


class Ask(Word, frozen=True, tag="Ask"):
    """Say your State."""


# ---- runner to keeper ------------------------------------------------------------------------


class OpenFile(Struct, frozen=True):
    """One TransactionalFile that a frozen task has open."""

    #: As the task named it; relative to where it started.
    path: str
    mode: str
    #: Bytes.
    offset: int


class State(Word, frozen=True, tag="State"):
    """The first word on each connection, and the answer to Ask."""

    phase: Phase
    #: Of the last Freeze, Load or Thaw that was done or is being done.
    move: str = ""


class Prepared(Word, frozen=True, tag="Prepared"):
    """The program is imported."""


class Begun(Word, frozen=True, tag="Begun"):
    """It is constructed, and runs from now on."""


class Failed(Word, frozen=True, tag="Failed"):
    """It could not be done; ``text`` is one line for a person."""

    code: str
    text: str
    #: Of the Freeze or Load that failed.
    move: str = ""


class Written(Word, frozen=True, tag="Written"):
    """It stands still; the image is written, and may be read, but is not yet on the disk."""

    move: str
    #: Of the image, bytes.
    size: int
    #: That pickling and writing took.
    ms: float
    #: When it stood still: seconds of CLOCK_MONOTONIC, and since 1970.
    at: float
    wall: float
    files: tuple[OpenFile, ...] = ()


class Synced(Word, frozen=True, tag="Synced"):
    """The image is on the disk."""

    move: str
    #: Since Written.
    ms: float


class Loaded(Word, frozen=True, tag="Loaded"):
    """The object is there and stands still."""

    move: str
    ms: float


class Thawed(Word, frozen=True, tag="Thawed"):
    """It runs; clocks as in Written."""

    move: str
    at: float
    wall: float


class Stepped(Word, frozen=True, tag="Stepped"):
    """The first step after Thawed is done, and what it printed is written."""

    move: str
    at: float
    wall: float


Orders = Prepare | Begin | Freeze | Load | Thaw | Ask
Answers = State | Prepared | Begun | Failed | Written | Synced | Loaded | Thawed | Stepped

_encoder = msgspec.msgpack.Encoder()
_orders: msgspec.msgpack.Decoder[Orders] = msgspec.msgpack.Decoder(Orders)
_answers: msgspec.msgpack.Decoder[Answers] = msgspec.msgpack.Decoder(Answers)


def encode(word: Word) -> bytes:
    return _encoder.encode(word)


def decode_order(payload: bytes) -> Orders:
    """What the keeper says.  Raises MessageError."""
    try:
        return _orders.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as err:
        raise MessageError(f"not a word of a keeper's: {err}") from err


def decode_answer(payload: bytes) -> Answers:
    """What a runner says.  Raises MessageError."""
    try:
        return _answers.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as err:
        raise MessageError(f"not a word of a runner's: {err}") from err
