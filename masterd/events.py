"""What can happen to the master, as its core sees it."""

from typing import Literal

from msgspec import Struct

from godwit.wire.messages import Message
from godwit.wire.operations import Request
from godwit.wire.preface import Show

Channel = Literal["control", "stream"]


class LinkAccepted(Struct, frozen=True):
    """A node called, and showed a certificate of the cluster's with this sha256."""

    link: int
    peer: str
    leaf: str = ""


class LinkOpened(Struct, frozen=True):
    """A node that waits for its master answered our call."""

    link: int
    node: str
    channel: Channel
    leaf: str = ""


class JoinAsked(Struct, frozen=True):
    """A machine without a certificate wants to be a node; ``asked`` names the question."""

    asked: int
    token: str
    secret: str
    name: str
    peer: str


class Certified(Struct, frozen=True):
    """A certificate was signed and not yet handed out."""

    asked: int
    name: str
    leaf: str


class Adopted(Struct, frozen=True):
    """The node that waited for a master has stored its certificate."""

    node: str


class DialFailed(Struct, frozen=True):
    node: str
    channel: Channel
    reason: str


class LinkClosed(Struct, frozen=True):
    link: int
    reason: str


class Received(Struct, frozen=True):
    """A whole message came from a node."""

    link: int
    message: Message


class Asked(Struct, frozen=True):
    """An operator asks for something."""

    operator: int
    request: Request


class OperatorGone(Struct, frozen=True):
    operator: int


class Recorded(Struct, frozen=True):
    """What the Confirm of this number waits for is on the disk."""

    number: int


class Unrecorded(Struct, frozen=True):
    """It cannot be written now, and why; it is tried again."""

    number: int
    reason: str


class BulkOpened(Struct, frozen=True):
    """Somebody showed a ticket; ``bulk`` names the connection."""

    bulk: int
    show: Show
    #: sha256 of the certificate it showed; empty for an operator of this machine.
    leaf: str = ""


class BulkFailed(Struct, frozen=True):
    """A node did not answer our call for a transfer."""

    ticket: str
    reason: str


class Tick(Struct, frozen=True):
    """The deadline that the core named has come."""


Event = (
    LinkAccepted | LinkOpened | DialFailed | LinkClosed | Received | Asked | OperatorGone
    | JoinAsked | Certified | Adopted | BulkOpened | BulkFailed | Recorded | Unrecorded
    | Tick
)
