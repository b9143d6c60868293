"""The master's certificates on disk, and the exchanges with machines that have none yet.

The folder STATE/trust is made at the first start: the authority's certificate and key, and the
master's own.  All exchanges block and run in threads.
"""

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager

from msgspec import Struct, field

from godwit.errors import PeerError, Refused
from godwit.wire import joining, trust
from godwit.wire.authority import CA_DAYS, Authority, new_authority, new_request
from godwit.wire.link import connect
from godwit.wire.preface import ADOPT
from godwit.wire.tokens import read_code
from masterd import actions as do
from masterd import events as on

CA_KEY = "ca-key.pem"

#: Gives an event to the core, in its loop.
Tell = Callable[[on.Event], None]


class Question(Struct, frozen=True):
    """What a thread asks the core, by number, and where it waits for the answers."""

    number: int
    #: May it have a certificate?
    verdict: "Future[do.Admit | do.Deny]" = field(default_factory=Future)
    #: The certificate's hash is on the disk.
    recorded: "Future[None]" = field(default_factory=Future)


#: A new question, which the core can answer as long as the context lasts.
Ask = Callable[[], AbstractContextManager[Question]]


class Admissions:
    """Signs, joins, adopts."""

    def __init__(self, state: str, master: str, tell: Tell, ask: Ask):
        """Raises StartError for a key that others may read or that is no key."""
        self._master = master
        self._tell = tell
        self._ask = ask
        self.trust = trust.Trust(os.path.join(state, "trust"))
        self._authority = self._open()
        self.ca = trust.pem_fingerprint(self._authority.pem)

    def _open(self) -> Authority:
        folder = self.trust
        os.makedirs(folder.folder, mode=0o700, exist_ok=True)
        if not os.path.exists(folder.path(trust.CA)):
            certificate, key = new_authority(self._master)
            trust.write_private(folder.path(CA_KEY), key)
            # The certificate comes last: with it, the authority is there.
            trust.write_private(folder.path(trust.CA), certificate)
        trust.check_private(folder.path(CA_KEY))
        with open(folder.path(trust.CA), "rb") as ca, open(folder.path(CA_KEY), "rb") as key_file:
            authority = Authority(ca.read(), key_file.read())
        if not folder.complete:
            request, key = new_request("master")
            certificate = authority.sign(request, f"{trust.MASTER}{self._master}", CA_DAYS)
            trust.write_private(folder.path(trust.OWN), key + certificate)
        trust.check_private(folder.path(trust.OWN))
        return authority

    def _certify(self, question: Question, name: str, request: bytes) -> bytes:
        """Signs; returns when the core has the leaf's hash on the disk."""
        certificate = self._authority.sign(request, f"{trust.NODE}{name}")
        self._tell(on.Certified(question.number, name, trust.pem_fingerprint(certificate)))
        question.recorded.result(joining.OPENING_S)
        return certificate

    def _joined(self, certificate: bytes) -> joining.Joined:
        return joining.Joined(certificate, self._authority.pem, self._master)

    # ---- in threads ------------------------------------------------------------------------

    def on_join(self, sock: socket.socket, peer: str) -> None:
        """A machine with a token calls.  Raises PeerError, OSError."""
        with sock, self.trust.open_server().wrap_socket(sock, server_side=True) as link:
            joining.send(link, joining.Cluster(self._authority.pem))
            join = joining.receive(link, joining.Join)
            with self._ask() as question:
                self._tell(
                    on.JoinAsked(question.number, join.token, join.secret, join.name, peer)
                )
                verdict = question.verdict.result(joining.OPENING_S)
                if isinstance(verdict, do.Deny):
                    joining.send(link, joining.Refuse(verdict.code, verdict.text))
                    return
                certificate = self._certify(question, join.name, join.request)
            joining.send(link, self._joined(certificate))

    def adopt(self, action: do.Adopt) -> None:
        """Takes a node that waits for a master."""
        try:
            self._adopt(action)
        except ssl.SSLError as err:
            self._failed(action.node, f"no TLS: {err.reason or err}; it may have a master already")
        except Refused as err:
            self._failed(action.node, str(err))
        except PeerError as err:
            self._failed(action.node, str(err))
        except OSError as err:  # TimeoutError is one
            self._failed(action.node, err.strerror or "no answer")
        else:
            self._tell(on.Adopted(action.node))

    def _failed(self, node: str, reason: str) -> None:
        self._tell(on.DialFailed(node, "control", reason))

    def _adopt(self, action: do.Adopt) -> None:
        code = read_code(action.code)
        sock = connect((action.host, action.port), ADOPT)
        with sock, trust.blind_client().wrap_socket(sock) as link:
            if trust.peer_of(link).leaf != code.leaf:
                raise PeerError("it is not the node that printed this code")
            joining.send(link, joining.Claim(code.secret, self._master, action.node))
            request = joining.receive(link, joining.Request).request
            with self._ask() as question:
                certificate = self._certify(question, action.node, request)
            joining.send(link, self._joined(certificate))
            joining.receive(link, joining.Taken)

    def renew(self, action: do.Renew, send: Callable[[bytes], None]) -> None:
        """Signs a node's next certificate; ``send`` gets it when it is recorded."""
        with contextlib.suppress(PeerError, TimeoutError), self._ask() as question:
            send(self._certify(question, action.name, action.request))
