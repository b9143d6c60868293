"""Bulk connections that this agent waits for: each is known by its ticket, and comes once."""

import socket
from collections.abc import Callable

from msgspec import Struct

from godwit.errors import PeerError
from godwit.wire.link import Accept, Listener, listen_tcp
from godwit.wire.preface import Show
from godwit.wire.trust import Peer, Trust, expect_leaf, expect_master

#: Called in the event loop with the connection, which belongs to the callee.
Take = Callable[[socket.socket], None]


class _Expected(Struct, frozen=True):
    leaves: tuple[str, ...]
    take: Take


class Callers:
    """The port for bulk connections, and who is expected there; ``refused`` hears of others."""

    def __init__(self, trust: Trust, refused: Callable[[str, str], None]):
        self._trust = trust
        self._refused = refused
        self._expected: dict[Show, _Expected] = {}
        self._listener: Listener | None = None
        self._port = 0

    def listens_on(self, listener: Listener, port: int) -> None:
        """This agent listens anyway: bulk connections use that port."""
        self._listener, self._port = listener, port

    def expect(self, show: Show, leaves: tuple[str, ...], host: str, take: Take) -> int:
        """Waits for who shows this with one of these certificates; none: the master's.

        Returns the port; without one yet, one is opened on the address ``host``.  Raises OSError.
        """
        if self._listener is None:
            sock = listen_tcp(host, 0)
            self._port = sock.getsockname()[1]
            self._listener = Listener(sock, Accept(
                {}, lambda *_: None, self.on_bulk, tls=self._trust.server,
                on_refused=self._refused,
            ))
        self._expected[show] = _Expected(leaves, take)
        return self._port

    def forget(self, show: Show) -> None:
        """Nobody waits for this any more."""
        self._expected.pop(show, None)

    def on_bulk(self, sock: socket.socket, show: Show, peer: Peer) -> None:
        """Somebody called with a ticket: it serves once."""
        expected = self._expected.get(show)
        if expected is None or not is_expected(expected.leaves, peer):
            sock.close()
            return
        del self._expected[show]
        expected.take(sock)

    async def close(self) -> None:
        """Stops accepting."""
        self._expected.clear()
        if self._listener is not None:
            await self._listener.close()


def expect_peer(leaves: tuple[str, ...], peer: Peer) -> None:
    """Raises PeerError for who has none of these certificates; without any, for no master."""
    if leaves:
        expect_leaf(leaves, peer)
    else:
        expect_master(peer)


def is_expected(leaves: tuple[str, ...], peer: Peer) -> bool:
    """Whether ``expect_peer`` lets it pass."""
    try:
        expect_peer(leaves, peer)
    except PeerError:
        return False
    return True
