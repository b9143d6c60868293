"""This node's certificates: got by a token or by adoption, renewed in time, given up.

Keys and requests are made by clientd.enrol in a process of its own; this module keeps the folder
STATE/agent/trust and needs nothing but TLS.
"""

import asyncio
import contextlib
import hmac
import os
import socket
import sys
import time

from clientd import papers
from godwit.errors import GodwitError, PeerError, UsageError
from godwit.log import Log
from godwit.wire import joining, trust
from godwit.wire.tokens import read_code, read_token

#: A certificate of this age, seconds, is renewed; it is good for half as long again.
RENEW_AFTER_S = 240 * 86400
#: The environment's name for a token.
TOKEN = "GODWIT_TOKEN"


class Membership:
    """One node's place in a cluster, as far as certificates show it."""

    def __init__(self, folder: str, name: str, token_file: str, log: Log, token: str = ""):
        """``token``: what is in the file, where we may not read it ourselves."""
        self.trust = trust.Trust(folder)
        self._name = name
        self._token_file = token_file
        self._given = token
        self._log = log
        #: The last token that was new.
        self._tried = ""

    # ---- by a token ------------------------------------------------------------------------

    async def join(self, host: str, port: int) -> None:
        """Gets a certificate when this node has none, or has a token that is new to it.

        So a node that was revoked comes back with a new token.  Raises PeerError.
        """
        if not self.trust.complete:
            await self._join(host, port, self._token())
        elif token := self._new_token():
            self._tried = token
            try:
                await self._join(host, port, token)
            except PeerError as err:
                self._log("warning", f"the new token was of no use: {err}")

    async def _join(self, host: str, port: int, token: str) -> None:
        await self._enrol("join", host, str(port), told=token)
        self._log("info", "got this node's certificate from the master")

    def _new_token(self) -> str:
        """The token, if there is one that was not used or tried; else nothing."""
        known = ""
        with contextlib.suppress(FileNotFoundError), open(self.trust.path(papers.TOKEN_ID)) as file:
            known = file.read()
        with contextlib.suppress(PeerError, UsageError):
            token = self._token()
            return "" if token == self._tried or read_token(token).id == known else token
        return ""

    def _token(self) -> str:
        if self._given:
            return self._given
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
        try:
            _, said = await process.communicate(told.encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            lines = said.decode("utf-8", "replace").strip().splitlines()
            raise PeerError(lines[-1] if lines else f"clientd.enrol exited {process.returncode}")

    # ---- by adoption -----------------------------------------------------------------------

    async def wait(self) -> None:
        """Prints the code that a master needs to take this node, unless it has one already."""
        if self.trust.complete:
            return
        path = self.trust.path(papers.CODE)
        try:
            if not os.path.exists(path):
                await self._enrol("wait")
            code = self._code()
        except (GodwitError, OSError) as err:
            self._log("severe", f"no master can take this node: {err}")
            return
        # Not a line of the log: it is a secret.
        print(f"clientd {self._name}: waiting for a master; its `register` asks for this code "
              f"(also in {path}):\n{code}", file=sys.stderr, flush=True)

    def on_adopt(self, sock: socket.socket, peer: str) -> None:
        """In a thread: a master wants this node.  Raises GodwitError, OSError."""
        try:
            self._on_adopt(sock)
        finally:
            sock.close()
        self._log("info", f"taken by the master at {peer}")

    def _on_adopt(self, sock: socket.socket) -> None:
        # Its own certificate is kept after the adoption, to say no with.
        context = self.trust.open_server(papers.ORPHAN)
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

    def _objection(self, claim: joining.Claim) -> joining.Refuse | None:
        if self.trust.complete:
            return joining.Refuse("taken", "this node belongs to another master already")
        if not hmac.compare_digest(read_code(self._code()).secret, claim.secret):
            return joining.Refuse("bad-code", "that is not this node's code")
        if claim.name != self._name:
            return joining.Refuse("name", f"this node is called {self._name}")
        return None

    def _code(self) -> str:
        path = self.trust.path(papers.CODE)
        trust.check_private(path)
        with open(path, encoding="ascii") as file:
            return file.read().strip()

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
        """The next certificate is there; connections from now on show it.

        Raises PeerError when it is not what was asked for.
        """
        try:
            with open(self.trust.path(papers.NEXT_KEY), "rb") as file:
                key = file.read()
        except FileNotFoundError as err:
            raise PeerError("a certificate that nobody asked for") from err
        self.trust.take(key, certificate)
        for used in (papers.NEXT_KEY, papers.REQUEST):
            os.unlink(self.trust.path(used))

    def give_up(self) -> None:
        """This node belongs to nobody any more."""
        for name in (trust.OWN, trust.CA, papers.TOKEN_ID):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.trust.path(name))
