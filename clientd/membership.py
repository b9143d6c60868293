"""This node's certificates: got by a token or by adoption, renewed in time, given up.

Keys and requests are made by clientd.enrol in a process of its own; this module keeps the folder
STATE/agent/trust and needs nothing but TLS.
"""

import asyncio
import contextlib
import hmac
import os
import socket
import ssl
import sys
import time

from clientd import papers
from godwit.errors import PeerError, UsageError
from godwit.log import Log
from godwit.wire import joining, trust
from godwit.wire.tokens import read_code

#: A certificate of this age, seconds, is renewed; it is good for half as long again.
RENEW_AFTER_S = 240 * 86400
#: The environment's name for a token.
TOKEN = "GODWIT_TOKEN"


class Membership:
    """One node's place in a cluster, as far as certificates show it."""

    def __init__(self, folder: str, name: str, token_file: str, log: Log):
        self.trust = trust.Trust(folder)
        self._name = name
        self._token_file = token_file
        self._log = log

    # ---- by a token ------------------------------------------------------------------------

    async def join(self, host: str, port: int) -> None:
        """Does nothing when this node has its certificate.  Raises PeerError."""
        if not self.trust.complete:
            await self._enrol("join", host, str(port), told=self._token())
            self._log("info", "got this node's certificate from the master")

    def _token(self) -> str:
        if self._token_file:
            try:
                with open(self._token_file, encoding="ascii") as file:
                    return file.read()
            except (OSError, UnicodeDecodeError) as err:
                why = getattr(err, "strerror", None) or "not text"
                raise PeerError(f"the token file {self._token_file}: {why}") from err
        token = os.environ.get(TOKEN, "")
        if not token:
            raise PeerError(
                "this node has no certificate yet: start it once with --token-file FILE or "
                f"{TOKEN}; `godwit token` at the master makes one"
            )
        return token

    async def _enrol(self, what: str, *more: str, told: str = "") -> None:
        """Runs clientd.enrol.  Raises PeerError with its one line."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "clientd.enrol", what, self.trust.folder, self._name, *more,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate(told.encode())
        if process.returncode:
            lines = said.decode("utf-8", "replace").strip().splitlines()
            raise PeerError(lines[-1] if lines else f"clientd.enrol exited {process.returncode}")

    # ---- by adoption -----------------------------------------------------------------------

    async def wait(self) -> None:
        """Prints the code that a master needs to take this node, unless it has one already."""
        if self.trust.complete:
            return
        path = self.trust.path(papers.CODE)
        if not os.path.exists(path):
            await self._enrol("wait")
        with open(path, encoding="ascii") as file:
            code = file.read().strip()
        # Not a line of the log: it is a secret.
        print(f"clientd {self._name}: waiting for a master; its `register` asks for this code "
              f"(also in {path}):\n{code}", file=sys.stderr, flush=True)

    def on_adopt(self, sock: socket.socket, peer: str) -> None:
        """In a thread: a master wants this node."""
        try:
            self._on_adopt(sock, peer)
        except (PeerError, OSError, UsageError) as err:
            self._log("warning", f"refused the master at {peer}: {err}")
        finally:
            sock.close()

    def _on_adopt(self, sock: socket.socket, peer: str) -> None:
        # Its own certificate is kept after the adoption, to say no with.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.trust.path(papers.ORPHAN))
        with context.wrap_socket(sock, server_side=True) as link:
            claim = joining.receive(link, joining.Claim)
            objection = self._objection(claim)
            if objection is not None:
                joining.send(link, objection)
                raise PeerError(objection.text)
            with open(self.trust.path(papers.REQUEST), "rb") as file:
                joining.send(link, joining.Request(file.read()))
            joined = joining.receive(link, joining.Joined)
            trust.write_private(self.trust.path(trust.CA), joined.ca)
            self.install(joined.certificate)
            os.unlink(self.trust.path(papers.CODE))
            joining.send(link, joining.Taken())
        self._log("info", f"taken by the master at {peer}")

    def _objection(self, claim: joining.Claim) -> joining.Refuse | None:
        if self.trust.complete:
            return joining.Refuse("taken", "this node belongs to another master already")
        with open(self.trust.path(papers.CODE), encoding="ascii") as file:
            code = read_code(file.read())
        if not hmac.compare_digest(code.secret, claim.secret):
            return joining.Refuse("bad-code", "that is not this node's code")
        if claim.name != self._name:
            return joining.Refuse("name", f"this node is called {self._name}")
        return None

    # ---- later -----------------------------------------------------------------------------

    @property
    def is_old(self) -> bool:
        """The certificate is to be renewed."""
        with contextlib.suppress(FileNotFoundError):
            written = os.stat(self.trust.path(trust.OWN)).st_mtime
            return time.time() - written > RENEW_AFTER_S
        return False

    async def request(self) -> bytes:
        """A request for the next certificate.  Raises PeerError."""
        await self._enrol("request")
        with open(self.trust.path(papers.REQUEST), "rb") as file:
            return file.read()

    def install(self, certificate: bytes) -> None:
        """The next certificate is there; connections from now on show it."""
        with open(self.trust.path(papers.NEXT_KEY), "rb") as file:
            key = file.read()
        trust.write_private(self.trust.path(trust.OWN), key + certificate)
        for used in (papers.NEXT_KEY, papers.REQUEST):
            os.unlink(self.trust.path(used))

    def give_up(self) -> None:
        """This node belongs to nobody any more."""
        for name in (trust.OWN, trust.CA):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.trust.path(name))
