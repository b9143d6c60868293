"""What can happen to the master, as its core sees it."""

from dataclasses import dataclass
from typing import Literal

from godwit.wire.messages import Message
from godwit.wire.operations import Request
from godwit.wire.preface import Show

Channel = Literal["control", "stream"]


@dataclass(frozen=True, slots=True)
class LinkAccepted:
    """A node called, and showed a certificate of the cluster's with this sha256."""

    link: int
    peer: str
    leaf: str = ""


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A node that waits for its master answered our call."""

    link: int
    node: str
    channel: Channel
    leaf: str = ""


@dataclass(frozen=True, slots=True)
class JoinAsked:
    """A machine without a certificate wants to be a node; ``asked`` names the question."""

    asked: int
    token: str
    secret: str
    name: str
    peer: str


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate was signed and not yet handed out."""

    asked: int
    name: str
    leaf: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """The node that waited for a master has stored its certificate."""

    node: str


@dataclass(frozen=True, slots=True)
class DialFailed:
    node: str
    channel: Channel
    reason: str


@dataclass(frozen=True, slots=True)
class LinkClosed:
    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message came from a node."""

    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class Asked:
    """An operator asks for something."""

    operator: int
    request: Request


@dataclass(frozen=True, slots=True)
class OperatorGone:
    operator: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the Confirm of this number waits for is on the disk."""

    number: int


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """It cannot be written now, and why; it is tried again."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class BulkOpened:
    """Somebody showed a ticket; ``bulk`` names the connection."""

    bulk: int
    show: Show
    #: sha256 of the certificate it showed; empty for an operator of this machine.
    leaf: str = ""


@dataclass(frozen=True, slots=True)
class BulkFailed:
    """A node did not answer our call for a transfer."""

    ticket: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline that the core named has come."""


Event = (
    LinkAccepted | LinkOpened | DialFailed | LinkClosed | Received | Asked | OperatorGone
    | JoinAsked | Certified | Adopted | BulkOpened | BulkFailed | Recorded | Unrecorded
    | Tick
)
