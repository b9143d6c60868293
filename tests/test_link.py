"""Connections over real sockets: openings, limits, hand-over, and how they end."""

import asyncio
import gc
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from godwit.errors import PeerError
from godwit.wire import frames
from godwit.wire import link as links
from godwit.wire import messages as m
from godwit.wire.link import Accept, Link, Listener, dial, dial_bulk, listen_tcp, listen_unix
from godwit.wire.preface import BULK, CONTROL, OPERATOR, Show, encode_show
from godwit.wire.session import Session
from godwit.wire.trust import Peer, Trust, expect_master
from tests.certificates import Issuer

#: Seconds after which something that should happen has not.
PATIENCE_S = 5.0
HELLO = m.Hello(1, "n1", "id", "run")
T = TypeVar("T")


class Side:
    """One end: collects what its links say, and how they ended."""

    def __init__(self) -> None:
        self.tls: Trust | None = None
        self.links: list[Link] = []
        self.said: list[m.Message] = []
        self.ended: list[str] = []
        self.bulks: list[tuple[socket.socket, Show, Peer]] = []
        self.refused: list[str] = []
        self.met: list[tuple[bytes, str]] = []
        self._news = asyncio.Event()

    def make(self) -> Link:
        link = Link(Session().receive)
        link.on_message = lambda message: self._note(self.said, message)
        link.on_closed = lambda reason: self._note(self.ended, reason)
        self.links.append(link)
        return link

    def accept(self) -> Accept:
        return Accept(
            {CONTROL: self.make, OPERATOR: self.make},
            lambda link, preface, peer: self._note(self.met, (preface, peer)),
            lambda *bulk: self._note(self.bulks, bulk),
            self.tls.server if self.tls else None,
            on_refused=lambda peer, reason: self._note(self.refused, reason),
        )

    def _note(self, where: list[T], what: T) -> None:
        where.append(what)
        self._news.set()

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                await self._news.wait()
                self._news.clear()


class Ground:
    """A listener on a loopback port, and raw callers; with ``tls``, or in clear."""

    def __init__(self, tls: Trust | None) -> None:
        sock = listen_tcp("127.0.0.1", 0)
        self.port: int = sock.getsockname()[1]
        self.side = Side()
        self.side.tls = tls
        self.listener = Listener(sock, self.side.accept())
        self.callers: list[socket.socket] = []

    async def call(self, *parts: bytes) -> socket.socket:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        self.callers.append(sock)
        await loop.sock_connect(sock, ("127.0.0.1", self.port))
        for part in parts:
            await loop.sock_sendall(sock, part)
        return sock

    async def close(self) -> None:
        for link in self.side.links:
            link.close("the test ends")
        for sock in (*self.callers, *(bulk[0] for bulk in self.side.bulks)):
            sock.close()
        await self.listener.close()
        await self.side.until(lambda: len(self.side.ended) == len(self.side.met))


async def heard(sock: socket.socket) -> bytes:
    """What comes until the end of the connection, reset or not."""
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionResetError):
            while part := await asyncio.get_running_loop().sock_recv(sock, 4096):
                data += part
    return data


def run(test: Callable[[Ground], Awaitable[None]], tls: Trust | None = None) -> None:
    async def main() -> None:
        ground = Ground(tls)
        try:
            await test(ground)
        finally:
            await ground.close()

    asyncio.run(main())


def framed(*messages: m.Message) -> bytes:
    return b"".join(frames.encode(m.encode(message)) for message in messages)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """The certificate of a node, for both ends."""
    return Issuer().folder(tmp_path_factory.mktemp("trust") / "own", "godwit:node:n1")


def test_a_dialled_link_carries_messages_both_ways(own: Trust) -> None:
    async def test(ground: Ground) -> None:
        us = Side()
        link = await dial(("127.0.0.1", ground.port), CONTROL, us.make, own.client())
        link.send(m.encode(HELLO))
        await ground.side.until(lambda: ground.side.said == [HELLO])
        assert ground.side.met[0][0] == CONTROL and ground.side.met[0][1].startswith("127.0.0.1:")
        ground.side.links[0].send(m.encode(m.Welcome("m")), m.encode(m.Refuse("x", "y")))
        await us.until(lambda: us.said == [m.Welcome("m"), m.Refuse("x", "y")])
        assert link.local_host() == "127.0.0.1" and link.peer().uri == "godwit:node:n1"
        link.close("done")
        link.close("again")
        await us.until(lambda: us.ended == ["done"])
        await ground.side.until(lambda: ground.side.ended == ["closed by the other end"])
        link.send(m.encode(HELLO))
        assert link.peer_uid() == -1 and link.local_host() == "127.0.0.1"
        assert link.peer() == Peer()

    run(test, own)


def test_preface_and_hello_may_come_byte_by_byte() -> None:
    async def test(ground: Ground) -> None:
        data = CONTROL + framed(HELLO)
        await ground.call(*(data[i : i + 1] for i in range(len(data))))
        await ground.side.until(lambda: ground.side.said == [HELLO])

    run(test)


@pytest.mark.parametrize("junk", [
    b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", b"\x00\x00\x00\x00", b"gwC2",
    BULK + b"\xff\xff\xff\xff", BULK + struct.pack(">I", frames.OPENING_LIMIT + 1),
    BULK + frames.encode(b"junk"), BULK + frames.encode(b""),
])
def test_junk_ends_the_connection_and_nothing_else(junk: bytes) -> None:
    async def test(ground: Ground) -> None:
        assert await heard(await ground.call(junk)) == b""
        assert not ground.side.links and not ground.side.bulks
        await ground.call(CONTROL + framed(HELLO))
        await ground.side.until(lambda: ground.side.said == [HELLO])

    run(test)


@pytest.mark.parametrize("junk", [
    b"\xff\xff\xff\xff", frames.encode(b"junk"), framed(m.Heard()),
    struct.pack(">I", frames.OPENING_LIMIT + 1),
])
def test_junk_after_the_preface_ends_the_link_with_a_reason(junk: bytes) -> None:
    async def test(ground: Ground) -> None:
        assert await heard(await ground.call(CONTROL + junk)) == b""
        await ground.side.until(lambda: ground.side.ended)
        assert "bound" in ground.side.ended[0] or "not a message" in ground.side.ended[0]

    run(test)


@pytest.mark.parametrize("part", [b"", b"gw", BULK, BULK + b"\x00\x00\x00\x05ab"])
def test_a_slow_opening_is_not_waited_for(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "OPENING_S", 0.05)

    async def test(ground: Ground) -> None:
        assert await heard(await ground.call(part)) == b""

    run(test)


def test_a_caller_that_hangs_up_in_its_opening_is_forgotten() -> None:
    async def test(ground: Ground) -> None:
        (await ground.call(b"gw")).close()
        async with asyncio.timeout(PATIENCE_S):
            while ground.listener._tasks or ground.listener._opening:
                await asyncio.sleep(0)

    run(test)


def test_too_many_openings_from_one_address_are_turned_away() -> None:
    async def test(ground: Ground) -> None:
        slow = [await ground.call(b"g") for _ in range(links.OPENING_MOST_EACH)]
        assert await heard(await ground.call(CONTROL)) == b""
        slow[0].close()
        async with asyncio.timeout(PATIENCE_S):
            while len(ground.listener._tasks) == links.OPENING_MOST_EACH:
                await asyncio.sleep(0)
        await ground.call(CONTROL + framed(HELLO))
        await ground.side.until(lambda: ground.side.said == [HELLO])

    run(test)


def test_a_bulk_connection_is_handed_over_with_no_byte_taken() -> None:
    async def test(ground: Ground) -> None:
        show = Show("t" * 64, "send")
        await ground.call(BULK, frames.encode(encode_show(show)) + b"the first bytes")
        await ground.side.until(lambda: ground.side.bulks)
        (sock, shown, peer) = ground.side.bulks[0]
        assert shown == show and peer == Peer() and sock.gettimeout() is None
        assert sock.recv(100) == b"the first bytes"

    run(test)


def test_dialling_bulk_shows_the_ticket_to_whom_it_should(own: Trust) -> None:
    async def test(ground: Ground) -> None:
        show, address = Show("t", "receive"), ("127.0.0.1", ground.port)
        met: list[Peer] = []
        sock = await asyncio.to_thread(dial_bulk, address, show, own.client(), met.append)
        ground.callers.append(sock)
        await ground.side.until(lambda: ground.side.bulks)
        assert ground.side.bulks[0][1:] == (show, met[0]) and sock.gettimeout() is None
        with pytest.raises(PeerError, match="no master"):
            await asyncio.to_thread(dial_bulk, address, show, own.client(), expect_master)
        await ground.side.until(lambda: ground.side.refused)
        assert len(ground.side.bulks) == 1

    run(test, own)


def test_an_opening_that_is_cut_off_is_not_told_of_as_a_failure() -> None:
    untold: list[dict[str, object]] = []

    async def test(ground: Ground) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: untold.append(about))
        await ground.call(BULK)
        async with asyncio.timeout(PATIENCE_S):
            while not ground.listener._threads._threads:
                await asyncio.sleep(0)
        await ground.listener.close()

    run(test)
    gc.collect()
    assert untold == []


def test_closing_the_listener_ends_openings_and_not_links() -> None:
    async def test(ground: Ground) -> None:
        await ground.call(CONTROL + framed(HELLO))
        await ground.side.until(lambda: ground.side.said)
        slow = await ground.call(b"gw")
        async with asyncio.timeout(PATIENCE_S):
            while not ground.listener._tasks:
                await asyncio.sleep(0)
        await ground.listener.close()
        assert await heard(slow) == b"" and not ground.side.ended

    run(test)


def test_a_peer_that_does_not_read_loses_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "QUEUE_LIMIT", 1 << 20)

    async def test(ground: Ground) -> None:
        await ground.call(CONTROL)
        await ground.side.until(lambda: ground.side.met)
        for _ in range(20):
            ground.side.links[0].send(b"x" * (1 << 20))
        await ground.side.until(lambda: ground.side.ended)
        assert "wait for this peer" in ground.side.ended[0]

    run(test)


def test_what_is_queued_is_not_waited_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "CLOSING_S", 0.05)

    async def test(ground: Ground) -> None:
        await ground.call(CONTROL)
        await ground.side.until(lambda: ground.side.met)
        for _ in range(10):
            ground.side.links[0].send(b"x" * (1 << 20))
        ground.side.links[0].close("enough")
        assert not ground.side.ended
        await ground.side.until(lambda: ground.side.ended == ["enough"])

    run(test)


def test_a_frame_over_the_bound_ends_its_own_link() -> None:
    async def test(ground: Ground) -> None:
        await ground.call(CONTROL)
        await ground.side.until(lambda: ground.side.met)
        ground.side.links[0].send(b"x" * (frames.CONTROL_LIMIT + 1))
        await ground.side.until(lambda: ground.side.ended)
        assert "over the bound" in ground.side.ended[0]

    run(test)


def test_after_a_close_nothing_more_is_heard() -> None:
    async def test(ground: Ground) -> None:
        ground.side.make = lambda: closing(ground.side)  # type: ignore[method-assign]
        await ground.listener.close()
        ground.listener = Listener(listen_tcp("127.0.0.1", 0), ground.side.accept())
        ground.port = ground.listener._sock.getsockname()[1]
        await ground.call(CONTROL + framed(HELLO, HELLO, HELLO))
        await ground.side.until(lambda: ground.side.ended)
        assert ground.side.said == [HELLO]

    def closing(side: Side) -> Link:
        link = Side.make(side)
        take = link.on_message

        def take_one(message: m.Message) -> None:
            take(message)
            link.close("one is enough")

        link.on_message = take_one
        return link

    run(test)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".org"])
def test_a_name_no_dns_can_hold_is_an_oserror(host: str, own: Trust) -> None:
    async def test() -> None:
        with pytest.raises(OSError, match="no name of a host"):
            await dial((host, 1), CONTROL, Side().make, own.client())

    asyncio.run(test())
    with pytest.raises(OSError, match="no name of a host"):
        dial_bulk((host, 1), Show("t", "send"), own.client(), expect_master)
    with pytest.raises(OSError, match="no name of a host"):
        listen_tcp(host, 0)


def test_nobody_there_is_an_oserror(own: Trust) -> None:
    sock = listen_tcp("127.0.0.1", 0)
    port = sock.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        listen_tcp("127.0.0.1", port)
    sock.close()

    async def test() -> None:
        with pytest.raises(ConnectionRefusedError):
            await dial(("127.0.0.1", port), CONTROL, Side().make, own.client())

    asyncio.run(test())
    with pytest.raises(ConnectionRefusedError):
        dial_bulk(("127.0.0.1", port), Show("t", "send"), own.client(), expect_master)


def test_who_shows_no_certificate_is_refused_with_a_reason(own: Trust) -> None:
    async def test(ground: Ground) -> None:
        await ground.call(CONTROL + framed(HELLO))
        await ground.side.until(lambda: ground.side.refused)
        assert "TLS" in ground.side.refused[0] and not ground.side.met

    run(test, own)


def test_a_unix_socket_may_have_a_long_path_and_knows_its_caller(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    (folder / "socket").touch()  # what an earlier run left is replaced

    async def test() -> None:
        side, loop = Side(), asyncio.get_running_loop()
        listener = Listener(listen_unix(str(folder / "socket")), side.accept())
        assert (folder / "socket").stat().st_mode & 0o777 == 0o600
        fd = os.open(folder, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.setblocking(False)
            await loop.sock_connect(caller, f"/proc/self/fd/{fd}/socket")
            os.close(fd)
            await loop.sock_sendall(caller, OPERATOR)
            await side.until(lambda: side.met == [(OPERATOR, "")])
            assert side.links[0].peer_uid() == os.geteuid()
            side.links[0].close("done")
            await side.until(lambda: side.ended)
        await listener.close()

    asyncio.run(test())
