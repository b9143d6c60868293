"""Certificates for tests: a cluster's, a stranger's, and ones that nobody should believe."""

import socket
import ssl
import threading
from pathlib import Path

from godwit.wire import trust
from godwit.wire.authority import Authority, new_authority, new_request, self_signed
from godwit.wire.trust import Trust


class Issuer:
    """A certificate authority of a test's own, or a master's when ``ca`` and ``key`` are its."""

    def __init__(self, ca: bytes = b"", key: bytes = b""):
        if not ca:
            ca, key = new_authority("test")
        self.ca = ca
        self._authority = Authority(ca, key)

    def sign(self, request: bytes, uri: str) -> bytes:
        return self._authority.sign(request, uri)

    def folder(self, path: Path, uri: str, ca: bytes = b"") -> Trust:
        """A trust folder with a certificate that says ``uri``; believes in ``ca``, else in us."""
        request, key = new_request("x")
        return filled(path, key + self._authority.sign(request, uri), ca or self.ca)


def filled(path: Path, own: bytes, ca: bytes) -> Trust:
    """A trust folder with these files."""
    path.mkdir()
    folder = Trust(str(path))
    trust.write_private(folder.path(trust.CA), ca)
    trust.write_private(folder.path(trust.OWN), own)
    return folder


def self_made(path: Path, ca: bytes) -> Trust:
    """With a certificate that nobody signed but itself."""
    _, key = new_request("x")
    return filled(path, key + self_signed("x", key), ca)


def minted_by(issuer: Trust, path: Path, uri: str, ca: bytes) -> Trust:
    """With a certificate that another leaf signed, which is sent along."""
    own = Path(issuer.path(trust.OWN)).read_bytes()
    start = own.index(b"-----BEGIN CERTIFICATE-----")
    request, key = new_request("x")
    minted = Authority(own[start:], own[:start]).sign(request, uri)
    return filled(path, key + minted + own[start:], ca)


def without(context: ssl.SSLContext) -> ssl.SSLContext:
    """A client's context like this one, that shows no certificate."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    bare.minimum_version = context.minimum_version
    return bare


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[trust.Peer, trust.Peer]:
    """Whom server and client see at the other end.  Raises ssl.SSLError when one refuses."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    failed: list[Exception] = []

    def dial() -> None:
        try:
            with theirs, client.wrap_socket(theirs) as link:
                seen.append(trust.peer_of(link))
                link.recv(1)  # with TLS 1.3 a refusal comes after the handshake
        except OSError as err:
            failed.append(err)

    seen: list[trust.Peer] = []
    thread = threading.Thread(target=dial)
    thread.start()
    try:
        with ours, server.wrap_socket(ours, server_side=True) as link:
            at_server = trust.peer_of(link)
            link.send(b"!")
    finally:
        thread.join()
    if failed:
        raise failed[0]
    return at_server, seen[0]
