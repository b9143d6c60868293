"""TLS 1.3 with both certificates checked: the contexts, and who is at the other end.

A folder holds ``ca.pem`` and ``own.pem``: the key with its certificate, in one file so that they
change together (0600; refused when others may read it).  A certificate of the cluster's CA says
what its owner is; which leaf is the right one for a name is the master's to know: see
masterd.admission.
"""

import hashlib
import os
import ssl
import stat
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from msgspec import Struct

from godwit import failpoint
from godwit.errors import PeerError, StartError

CA = "ca.pem"
OWN = "own.pem"

_Stamp = tuple[int, int, int, int]

MASTER = "godwit:master:"
NODE = "godwit:node:"


def fingerprint(der: bytes) -> str:
    """sha256 of a certificate, hex."""
    return hashlib.sha256(der).hexdigest()


def pem_fingerprint(pem: bytes) -> str:
    """sha256 of a certificate in PEM, hex.  Raises PeerError for what is none."""
    try:
        return fingerprint(ssl.PEM_cert_to_DER_cert(pem.decode("ascii")))
    except ValueError as err:
        raise PeerError("not a certificate") from err


class Peer(Struct, frozen=True):
    """Who is at the other end of a TLS connection: the leaf's hash, and its URI."""

    leaf: str = ""
    uri: str = ""

    @property
    def is_master(self) -> bool:
        return self.uri.startswith(MASTER)


def peer_of(connection: Any) -> Peer:
    """The peer of an SSLObject or SSLSocket whose handshake is done."""
    der = connection.getpeercert(binary_form=True)
    if not der:
        return Peer()
    names = (connection.getpeercert() or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    return Peer(fingerprint(der), uris[0] if uris else "")


def expect_master(peer: Peer) -> None:
    """Raises PeerError for a peer that is no master: a node may not play one."""
    if not peer.is_master:
        raise PeerError("the other end is no master of this cluster")


def expect_leaf(leaves: Collection[str], peer: Peer) -> None:
    """Raises PeerError for any other certificate than one of these."""
    if peer.leaf not in leaves:
        raise PeerError("the other end shows another certificate than it should")


class Trust:
    """One folder's certificates, as contexts."""

    def __init__(self, folder: str):
        self.folder = folder
        #: Contexts of servers, with the stamps of the files that they were read from.  Reading
        #: them for each caller is most of what a refused caller costs.
        self._servers: dict[tuple[str, ...], tuple[tuple[_Stamp, ...], ssl.SSLContext]] = {}

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    @property
    def complete(self) -> bool:
        """There is a certificate of the cluster's."""
        return all(os.path.exists(self.path(name)) for name in (CA, OWN))

    def server(self) -> ssl.SSLContext:
        """Accepts those who show a certificate of the cluster."""
        return self._served(self._server, OWN, CA)

    def _server(self) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        # Sessions would outlive a revocation.
        context.num_tickets = 0
        return self._load(context)

    def client(self) -> ssl.SSLContext:
        """Calls those who show a certificate of the cluster."""
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        return self._load(context)

    def take(self, key: bytes, certificate: bytes) -> None:
        """Makes this the own certificate.  Raises PeerError when it is not this key's."""
        path = self.path(OWN) + ".next"
        write_private(path, key + certificate)
        try:
            _context(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        except ssl.SSLError as err:
            os.unlink(path)
            raise PeerError("that certificate is not for this node's key") from err
        failpoint.hit("trust.take")
        os.replace(path, self.path(OWN))

    def open_server(self, own: str = OWN) -> ssl.SSLContext:
        """Accepts those who have no certificate yet, and shows one of its own."""
        return self._served(partial(self._open_server, own), own)

    def _open_server(self, own: str) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        self._load_own(context, own)
        return context

    def _served(self, make: Callable[[], ssl.SSLContext], *names: str) -> ssl.SSLContext:
        """The context made of these files: made anew when one of them is not as it was then."""
        stamps = tuple(_stamp(self.path(name)) for name in names)
        known = self._servers.get(names)
        if known is None or known[0] != stamps:
            known = self._servers[names] = stamps, make()
        return known[1]

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        self._load_own(context)
        context.load_verify_locations(self.path(CA))
        return context

    def _load_own(self, context: ssl.SSLContext, own: str = OWN) -> None:
        check_private(self.path(own))
        context.load_cert_chain(self.path(own))


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _stamp(path: str) -> _Stamp:
    """Another one after whatever happens to the file; its mode counts too (ctime)."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def blind_client() -> ssl.SSLContext:
    """Calls anybody: only for a caller who then compares the certificate with a known hash."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_private(path: str) -> None:
    """Raises StartError for a key that others may read."""
    mode = os.stat(path).st_mode
    if stat.S_IMODE(mode) & 0o077:
        raise StartError(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); chmod 600 it"
        )


def write_private(path: str, data: bytes) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    failpoint.hit("private.before")
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    failpoint.hit("private.written")
    os.replace(path + ".new", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
