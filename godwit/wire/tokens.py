"""Secrets that people carry from one machine to another, as text.  Pure.

    gw1.CA.ID.SECRET     a join token: CA is the sha256 of the cluster's CA certificate, so that
                         who joins knows whom it joins; ID and SECRET prove that it may
    gwo1.LEAF.SECRET     an orphan's code: LEAF is the sha256 of the orphan's own certificate, so
                         that the master knows whom it takes; SECRET proves that it may

All parts are lower-case hex.  The master keeps the sha256 of a token's secret, not the secret.
"""

import hashlib
import hmac
import re

from msgspec import Struct

from godwit.errors import UsageError

_TOKEN = re.compile(r"gw1\.([0-9a-f]{64})\.([0-9a-f]{16})\.([0-9a-f]{32})")
_CODE = re.compile(r"gwo1\.([0-9a-f]{64})\.([0-9a-f]{32})")

#: Characters of hex in a token's id and in a secret.
ID_HEX = 16
SECRET_HEX = 32


class Token(Struct, frozen=True):
    """What a node shows to join."""

    ca: str
    id: str
    secret: str

    def __str__(self) -> str:
        return f"gw1.{self.ca}.{self.id}.{self.secret}"


class Code(Struct, frozen=True):
    """What an orphan wants to hear from the master that takes it."""

    leaf: str
    secret: str

    def __str__(self) -> str:
        return f"gwo1.{self.leaf}.{self.secret}"


def read_token(text: str) -> Token:
    """Raises UsageError for anything that is no token; the text is not repeated, it is secret."""
    found = _TOKEN.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            "that is no join token", code="bad-token", exit_status=2,
            hint="`godwit token` at the master makes one: gw1.…",
        )
    return Token(*found.groups())


def read_code(text: str) -> Code:
    """Raises UsageError for anything that is no orphan's code."""
    found = _CODE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            "that is no code of a waiting node", code="bad-code", exit_status=2,
            hint="clientd --listen prints it at its start and keeps it in STATE/agent/trust/code",
        )
    return Code(*found.groups())


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, kept: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(digest(secret), kept)
