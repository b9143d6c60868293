"""How a machine without a certificate gets one: the messages, and their blocking exchange.

    joins        node --JOIN, TLS--> master     Cluster(CA)  <- checked against the token's hash
                                                Join(token id, secret, name, request) ->
                                                <- Joined(certificate, CA)
    is adopted   node <--ADOPT, TLS-- master    the node's own certificate is checked against
                                                the code's hash; <- Claim(secret, master, name)
                                                Request(request) ->   <- Joined(certificate, CA)
                                                Taken() ->

Either side may say Refuse instead.  Each message is one frame of at most OPENING_LIMIT bytes, and
each wait is bounded by OPENING_S.
"""

import socket
from typing import TypeVar

import msgspec
from msgspec import Struct

from godwit import failpoint
from godwit.errors import FrameError, MessageError, PeerError, Refused
from godwit.wire import frames

#: Seconds that each wait for the other end may take.
OPENING_S = 5.0


class Word(Struct, frozen=True, tag_field="is"):
    """The root of these messages."""


class Cluster(Word, frozen=True, tag="Cluster"):
    """The certificate of the cluster's authority, PEM."""

    ca: bytes


class Join(Word, frozen=True, tag="Join"):
    token: str
    secret: str
    name: str
    request: bytes


class Claim(Word, frozen=True, tag="Claim"):
    """The master knows the orphan's code."""

    secret: str
    master: str
    name: str


class Request(Word, frozen=True, tag="Request"):
    request: bytes


class Joined(Word, frozen=True, tag="Joined"):
    """The certificate asked for and the authority's, PEM; the master's id."""

    certificate: bytes
    ca: bytes
    master: str


class Taken(Word, frozen=True, tag="Taken"):
    """The orphan has stored its certificate."""


class Refuse(Word, frozen=True, tag="Refuse"):
    code: str
    text: str


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(
    Cluster | Join | Claim | Request | Joined | Taken | Refuse
)

Kind = TypeVar("Kind", bound=Word)


def send(link: socket.socket, word: Word) -> None:
    """Raises OSError."""
    failpoint.hit("joining.send")
    link.sendall(frames.encode(_encoder.encode(word), frames.OPENING_LIMIT))


def receive(link: socket.socket, kind: type[Kind]) -> Kind:
    """The next word, which must be of ``kind``.

    Raises Refused, PeerError for anything else, OSError (TimeoutError) when nothing comes.
    """
    length = int.from_bytes(_exactly(link, frames.HEADER), "big")
    if length > frames.OPENING_LIMIT:
        raise FrameError(f"frame of {length} bytes is over the bound of {frames.OPENING_LIMIT}")
    try:
        word = _decoder.decode(_exactly(link, length))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as err:
        raise MessageError(f"not a word of joining: {err}") from err
    if isinstance(word, Refuse):
        raise Refused(word.code, word.text)
    if not isinstance(word, kind):
        raise MessageError(f"{type(word).__name__} where {kind.__name__} belongs")
    return word


def _exactly(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise PeerError("the other end hung up")
        data += part
    return data
