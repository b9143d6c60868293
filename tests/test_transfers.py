"""The agent's end of transfers: who may bring or fetch what a ticket names."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from clientd import events as on
from clientd.callers import Callers
from clientd.roots import Roots
from clientd.transfers import Transfers
from godwit.errors import PeerError
from godwit.wire import trust
from godwit.wire.link import dial_bulk
from godwit.wire.messages import Transfer
from godwit.wire.preface import Show
from godwit.wire.trust import Peer, Trust, expect_leaf, peer_of
from tests.certificates import Issuer

TICKET = "7" * 64


class Node:
    """Transfers of a node in a running loop, with what they report."""

    def __init__(self, trust: Trust, top: Path):
        self.events: list[on.Event] = []
        self.refused: list[str] = []
        self._news = asyncio.Event()
        roots = Roots((os.fsencode(top),), os.fsencode(top))
        self.callers = Callers(trust, self._refuse)
        self.transfers = Transfers(roots, trust, self.callers, self._report)

    def _report(self, event: on.Event) -> None:
        self.events.append(event)
        self._news.set()

    def _refuse(self, _peer: str, reason: str) -> None:
        self.refused.append(reason)
        self._news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def waits_for(self, leaves: tuple[str, ...]) -> int:
        """The port on which it waits for a sender with one of these certificates."""
        self.transfers.start(Transfer(1, TICKET, "receive", b"x", "", leaves), "", "127.0.0.1")
        await self.until(lambda: bool(self.events))
        opened = self.events.pop()
        assert isinstance(opened, on.PortOpened)
        return opened.port


def leaf_of(folder: Trust) -> str:
    """Its sha256."""
    own = Path(folder.path(trust.OWN)).read_bytes()
    return trust.pem_fingerprint(own[own.index(b"-----BEGIN CERTIFICATE-----"):])


def call(port: int, folder: Trust, show: Show, expected: Callable[[Peer], None]) -> bytes:
    """What comes back; nothing at all from who hung up."""
    with dial_bulk(("127.0.0.1", port), show, folder.client(), expected) as link:
        link.settimeout(10)
        assert peer_of(link).leaf
        try:
            return link.recv(1)
        except OSError:
            return b""


def run(scene: Callable[[Issuer, Node], Awaitable[None]], top: Path) -> None:
    async def play() -> None:
        issuer = Issuer()
        node = Node(issuer.folder(top / "receiver", "godwit:node:web7"), top)
        try:
            await scene(issuer, node)
        finally:
            await node.transfers.close()
            await node.callers.close()

    asyncio.run(play())


def anybody(_peer: Peer) -> None:
    """For callers that test whom they are let in by, not whom they call."""


def test_only_the_sender_that_the_master_named_is_let_in(tmp_path: Path) -> None:
    async def scene(issuer: Issuer, node: Node) -> None:
        sender = issuer.folder(tmp_path / "sender", "godwit:node:web8")
        fellow = issuer.folder(tmp_path / "fellow", "godwit:node:web9")
        master = issuer.folder(tmp_path / "master", "godwit:master:m1")
        port = await node.waits_for((leaf_of(sender),))
        for folder, show in (
            (fellow, Show(TICKET, "send")), (master, Show(TICKET, "send")),
            (sender, Show("8" * 64, "send")), (sender, Show(TICKET, "receive")),
        ):
            assert await asyncio.to_thread(call, port, folder, show, anybody) == b""
        assert node.events == []
        link = await asyncio.to_thread(
            dial_bulk, ("127.0.0.1", port), Show(TICKET, "send"), sender.client(), anybody
        )
        # A ticket serves once: while the first holds it, a second caller is sent away.
        again = Show(TICKET, "send")
        assert await asyncio.to_thread(call, port, sender, again, anybody) == b""
        link.close()
        await node.until(lambda: bool(node.events))
        assert isinstance(node.events[0], on.WorkEnded) and node.events[0].code == "cut"

    run(scene, tmp_path)


def test_a_relayed_transfer_is_with_the_master_alone(tmp_path: Path) -> None:
    async def scene(issuer: Issuer, node: Node) -> None:
        fellow = issuer.folder(tmp_path / "fellow", "godwit:node:web9")
        port = await node.waits_for(())
        show = Show(TICKET, "send")
        assert await asyncio.to_thread(call, port, fellow, show, anybody) == b""
        assert node.events == []

    run(scene, tmp_path)


def test_a_caller_without_a_certificate_of_the_cluster_is_refused(tmp_path: Path) -> None:
    async def scene(issuer: Issuer, node: Node) -> None:
        stranger = Issuer().folder(tmp_path / "stranger", "godwit:master:m1", issuer.ca)
        port = await node.waits_for(())
        show = Show(TICKET, "send")
        # With TLS 1.3 a refused client may see its first send succeed, or break, by chance.
        with contextlib.suppress(OSError):
            assert await asyncio.to_thread(call, port, stranger, show, anybody) == b""
        await node.until(lambda: bool(node.refused))
        assert not any(isinstance(event, on.Copied) for event in node.events)
        assert "certificate" in node.refused[0]

    run(scene, tmp_path)


def test_a_ticket_is_not_shown_to_another_certificate(tmp_path: Path) -> None:
    async def scene(issuer: Issuer, node: Node) -> None:
        sender = issuer.folder(tmp_path / "sender", "godwit:node:web8")
        port = await node.waits_for((leaf_of(sender),))
        with pytest.raises(PeerError, match="another certificate"):
            await asyncio.to_thread(
                call, port, sender, Show(TICKET, "send"), lambda peer: expect_leaf(("x",), peer)
            )
        assert node.events == []

    run(scene, tmp_path)


def test_a_sender_says_unreachable_when_the_receiver_is_not_who_it_should_be(
    tmp_path: Path,
) -> None:
    async def scene(issuer: Issuer, node: Node) -> None:
        impostor = issuer.folder(tmp_path / "impostor", "godwit:node:web9")
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(10)
            address = f"127.0.0.1:{server.getsockname()[1]}"
            order = Transfer(1, TICKET, "send", b"x", address, ("other",))
            node.transfers.start(order, "", "")

            def answer() -> bytes:
                sock, _ = server.accept()
                with sock:
                    sock.settimeout(10)
                    assert len(sock.recv(4, socket.MSG_WAITALL)) == 4
                    with impostor.server().wrap_socket(sock, server_side=True) as link:
                        try:
                            return link.recv(100)
                        except OSError:
                            return b""

            assert await asyncio.to_thread(answer) == b"", "the ticket was not shown"
            await node.until(lambda: bool(node.events))
            ended = node.events[0]
            assert isinstance(ended, on.WorkEnded) and ended.code == "unreachable"

    run(scene, tmp_path)
