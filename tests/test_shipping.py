"""Ships between two nodes, over TLS on loopback: what lands, and what becomes of broken ones."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from clientd import actions as do
from clientd import events as on
from clientd import paging, shipping
from clientd.callers import Callers
from clientd.shipping import Shipping
from godwit.ship import pagesocket
from godwit.wire.link import dial_bulk
from godwit.wire.preface import BULK, Show
from godwit.wire.trust import Peer, Trust
from tests.certificates import Issuer
from tests.test_transfers import leaf_of

TICKET = "7" * 64
MIB = 1024 * 1024

E = TypeVar("E", bound=on.Event)


class Node:
    """One node's ships in a running loop, with what they report."""

    def __init__(self, trust: Trust, top: Path):
        self.top = top
        self.leaf = leaf_of(trust)
        self.events: list[on.Event] = []
        self._news = asyncio.Event()
        self.callers = Callers(trust, lambda *_: None)
        self.shipping = Shipping(trust, self.callers, os.fsencode(top), top, self._report)

    def _report(self, event: on.Event) -> None:
        self.events.append(event)
        self._news.set()

    async def next(self, kind: type[E], move: str = "m") -> E:
        """The first event of this kind and move that has not been looked at."""
        async with asyncio.timeout(20):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and getattr(event, "move", "") == move:
                        self.events.remove(event)
                        return event
                self._news.clear()
                await self._news.wait()

    async def awaits(
        self, source: "Node", move: str = "m", ticket: str = TICKET, lazy: bool = False
    ) -> str:
        """Makes the files of a move and waits for its ship; the address to call."""
        log, image = self.files(move)
        log.touch()
        image.touch()
        self.shipping.receive(
            do.AwaitShip(move, ticket, (source.leaf,), str(log), str(image), lazy=lazy),
            "127.0.0.1",
        )
        return f"127.0.0.1:{(await self.next(on.ShipAwaited, move)).port}"

    def files(self, move: str = "m") -> tuple[Path, Path]:
        return self.top / f"{move}.log", self.top / f"{move}.image"

    def write(self, log: bytes, image: bytes, move: str = "m") -> None:
        for path, data in zip(self.files(move), (log, image), strict=True):
            path.write_bytes(data)

    def sends(
        self, to: "Node", address: str, move: str = "m", ticket: str = TICKET, lazy: bool = False
    ) -> None:
        log = str(self.files(move)[0])
        self.shipping.send(do.StartShip(move, address, ticket, (to.leaf,), log, lazy=lazy))

    def images(self, move: str = "m") -> None:
        """The task stands still."""
        log, image = self.files(move)
        sizes = log.stat().st_size, image.stat().st_size
        self.shipping.image(do.ShipImage(move, str(image), *sizes))

    async def close(self) -> None:
        await self.shipping.close()
        await self.callers.close()


@dataclass
class Pair:
    """A source and a destination."""

    source: Node
    destination: Node
    issuer: Issuer

    async def caught_up(self, log: bytes = b"a log\n", image: bytes = b"a snapshot") -> None:
        """A ship that waits for the freeze."""
        self.source.write(log, image)
        self.source.sends(self.destination, await self.destination.awaits(self.source))
        await self.source.next(on.CaughtUp)


def run(scene: Callable[[Pair], Awaitable[None]], top: Path) -> None:
    async def play() -> None:
        issuer = Issuer()
        nodes = []
        for name in ("source", "destination"):
            (top / name).mkdir()
            folder = issuer.folder(top / name / "trust", f"godwit:node:{name}")
            nodes.append(Node(folder, top / name))
        try:
            await scene(Pair(*nodes, issuer))
        finally:
            for node in nodes:
                await node.close()

    asyncio.run(play())


def bytes_of(*paths: Path) -> list[bytes]:
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("sizes", [(0, 0), (0, 1), (5, 0), (MIB + 1, 3 * MIB + 7)])
def test_log_and_snapshot_land_as_they_were(sizes: tuple[int, int], tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        log, image = map(os.urandom, sizes)
        await pair.caught_up(log, image)
        pair.source.images()
        landed = await pair.destination.next(on.Landed)
        assert landed.size == sizes[1]
        assert landed.wire_ms > 0
        assert bytes_of(*pair.destination.files()) == [log, image]

    run(scene, tmp_path)


def test_the_log_before_the_freeze_is_there_when_the_source_has_caught_up(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        log = os.urandom(3 * MIB)
        await pair.caught_up(log)
        assert bytes_of(*pair.destination.files()) == [log, b""]
        with pair.source.files()[0].open("ab") as file:
            file.write(b"tail")
        pair.source.images()
        await pair.destination.next(on.Landed)
        assert bytes_of(*pair.destination.files()) == [log + b"tail", b"a snapshot"]

    run(scene, tmp_path)


def test_what_the_log_grows_by_after_the_freeze_stays_behind(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        await pair.caught_up(b"before")
        log, image = pair.source.files()
        log.write_bytes(b"before, after")
        pair.source.shipping.image(do.ShipImage("m", str(image), 7, 10))
        await pair.destination.next(on.Landed)
        assert pair.destination.files()[0].read_bytes() == b"before,"

    run(scene, tmp_path)


def test_sixty_four_ships_at_once_do_not_hinder_each_other(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        moves = [f"m{number}" for number in range(64)]
        for move in moves:
            pair.source.write(b"log of " + move.encode(), b"image of " + move.encode(), move)
            address = await pair.destination.awaits(pair.source, move, move)
            pair.source.sends(pair.destination, address, move, move)
        for move in moves:
            await pair.source.next(on.CaughtUp, move)
        for move in moves:
            pair.source.images(move)
        for move in moves:
            await pair.destination.next(on.Landed, move)
            assert bytes_of(*pair.destination.files(move)) == bytes_of(*pair.source.files(move))

    run(scene, tmp_path)


def test_a_dropped_ship_says_nothing_and_the_other_end_is_cut(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        for one, other in ((pair.source, pair.destination), (pair.destination, pair.source)):
            await pair.caught_up()
            one.shipping.drop("m")
            assert (await other.next(on.ShipFailed)).code == "cut"
            assert one.events == []

    run(scene, tmp_path)


def test_a_destination_that_is_dropped_is_not_called_any_more(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        address = await pair.destination.awaits(pair.source)
        pair.destination.shipping.drop("m")
        pair.source.write(b"log", b"image")
        pair.source.sends(pair.destination, address)
        assert (await pair.source.next(on.ShipFailed)).code == "cut"
        assert pair.destination.events == []

    run(scene, tmp_path)


def test_only_the_source_that_the_master_named_is_let_in(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        host, port = (await pair.destination.awaits(pair.source)).split(":")
        fellow = pair.issuer.folder(tmp_path / "fellow", "godwit:node:web9")
        master = pair.issuer.folder(tmp_path / "master", "godwit:master:m1")

        def call(folder: Trust, show: Show) -> bytes:
            with dial_bulk((host, int(port)), show, folder.client(), anybody) as link:
                link.settimeout(10)
                with contextlib.suppress(OSError):
                    return link.recv(1)
                return b""

        for folder, show in (
            (fellow, Show(TICKET, "send")), (master, Show(TICKET, "send")),
        ):
            assert await asyncio.to_thread(call, folder, show) == b""
        pair.source.write(b"log", b"image")
        pair.source.sends(pair.destination, f"{host}:{port}")
        await pair.source.next(on.CaughtUp)

    run(scene, tmp_path)


def anybody(_peer: Peer) -> None:
    """For callers that test whom they are let in by, not whom they call."""


def test_a_source_does_not_ship_to_another_than_the_master_named(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        pair.source.write(b"log", b"image")
        address = await pair.destination.awaits(pair.source)
        start = do.StartShip("m", address, TICKET, ("other",), str(pair.source.files()[0]))
        pair.source.shipping.send(start)
        failed = await pair.source.next(on.ShipFailed)
        assert failed.code == "unreachable" and "another certificate" in failed.text
        assert pair.destination.events == []

    run(scene, tmp_path)


def test_a_destination_that_nobody_answers_for_is_unreachable(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        pair.source.write(b"log", b"image")
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        pair.source.sends(pair.destination, f"127.0.0.1:{port}")
        failed = await pair.source.next(on.ShipFailed)
        assert failed == on.ShipFailed(
            "m", "unreachable", f"127.0.0.1:{port}: Connection refused"
        )

    run(scene, tmp_path)


def test_a_call_that_is_hung_up_on_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "PAUSES_S", (0.0,) * 3)

    async def scene(pair: Pair) -> None:
        pair.source.write(b"log", b"image")
        calls: list[bytes] = []

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            calls.append(await reader.readexactly(4))
            await reader.read(100000)  # the client's hello
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            pair.source.sends(pair.destination, f"127.0.0.1:{port}")
            assert (await pair.source.next(on.ShipFailed)).code == "unreachable"
        assert calls == [BULK] * 4

    run(scene, tmp_path)


def test_a_source_that_never_calls_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "WAIT_S", 0.0)

    async def scene(pair: Pair) -> None:
        await pair.destination.awaits(pair.source)
        assert (await pair.destination.next(on.ShipFailed)).code == "timeout"

    run(scene, tmp_path)


def test_files_that_are_not_there_end_both_ends_with_the_reason(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        await pair.caught_up()
        image = pair.source.files()[1]
        image.unlink()
        pair.source.shipping.image(do.ShipImage("m", str(image), 6, 10))
        for node in (pair.source, pair.destination):
            failed = await node.next(on.ShipFailed)
            assert (failed.code, failed.text) == (
                "not-found", f"{image}: no such file or folder"
            )

    run(scene, tmp_path)


@pytest.mark.parametrize("which", [0, 1])
def test_a_link_in_place_of_a_file_is_not_written_through(which: int, tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        address = await pair.destination.awaits(pair.source)
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        planted = pair.destination.files()[which]
        planted.unlink()
        planted.symlink_to(victim)
        pair.source.write(b"log", b"image")
        pair.source.sends(pair.destination, address)
        assert (await pair.destination.next(on.ShipFailed)).code == "denied"
        assert victim.read_bytes() == b"precious"

    run(scene, tmp_path)


def test_more_ships_than_a_node_has_room_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "SHIPS", 1)

    async def scene(pair: Pair) -> None:
        await pair.destination.awaits(pair.source)
        pair.destination.shipping.receive(
            do.AwaitShip("m2", "8" * 64, ("x",), "/none", "/none"), "127.0.0.1"
        )
        assert (await pair.destination.next(on.ShipFailed, "m2")).code == "busy"
        pair.destination.shipping.drop("m")
        await pair.destination.awaits(pair.source, "m3")

    run(scene, tmp_path)


async def without_log(pair: Pair, size: int) -> str:
    """The destination waits for an image alone, and for so many bytes; the address to call."""
    image = pair.destination.files()[1]
    image.touch()
    pair.destination.shipping.receive(
        do.AwaitShip("m", TICKET, (pair.source.leaf,), "", str(image), size=size), "127.0.0.1"
    )
    return f"127.0.0.1:{(await pair.destination.next(on.ShipAwaited)).port}"


async def ship_image(pair: Pair, address: str, data: bytes) -> None:
    pair.source.write(b"", data)
    start = do.StartShip("m", address, TICKET, (pair.destination.leaf,), "")
    pair.source.shipping.send(start)
    await pair.source.next(on.CaughtUp)
    image = str(pair.source.files()[1])
    pair.source.shipping.image(do.ShipImage("m", image, 0, len(data)))


def test_a_ship_without_a_log_brings_the_image_and_both_ends_hear_of_it(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        data = os.urandom(MIB + 7)
        await ship_image(pair, await without_log(pair, len(data)), data)
        await pair.destination.next(on.Landed)
        await pair.source.next(on.Shipped)
        assert pair.destination.files()[1].read_bytes() == data

    run(scene, tmp_path)


@pytest.mark.parametrize("size", [299, 301])
def test_an_image_of_another_size_than_was_announced_is_refused(
    size: int, tmp_path: Path
) -> None:
    async def scene(pair: Pair) -> None:
        await ship_image(pair, await without_log(pair, size), os.urandom(300))
        assert (await pair.destination.next(on.ShipFailed)).code == "size"
        assert (await pair.source.next(on.ShipFailed)).code == "size"
        assert pair.destination.files()[1].read_bytes() == b""

    run(scene, tmp_path)


def test_where_no_log_is_wanted_not_a_byte_of_one_is_taken(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        address = await without_log(pair, 300)
        pair.source.write(b"a log", b"")
        pair.source.sends(pair.destination, address)
        assert "the task's log" in (await pair.destination.next(on.ShipFailed)).text
        await pair.source.next(on.ShipFailed)

    run(scene, tmp_path)


def test_a_pager_that_begins_after_its_move_was_dropped_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, dropped = threading.Semaphore(0), threading.Event()
    doors: list[socket.socket] = []

    def late(_: socket.socket, image: str) -> None:
        begin.release()
        assert dropped.wait(20)
        doors.append(pagesocket.listening(image))

    monkeypatch.setattr(paging, "begin_here", late)
    monkeypatch.setattr(paging, "begin_there", late)

    async def scene(pair: Pair) -> None:
        pair.source.write(b"a log\n", b"")
        address = await pair.destination.awaits(pair.source, lazy=True)
        pair.source.sends(pair.destination, address, lazy=True)
        for _ in range(2):  # one at each node
            assert await asyncio.to_thread(begin.acquire, timeout=20)
        for node in (pair.source, pair.destination):
            node.shipping.drop("m")
        dropped.set()
        async with asyncio.timeout(20):
            while len(doors) < 2:
                await asyncio.sleep(0.01)
        for door in doors:
            with door:
                door.settimeout(20)
                (await asyncio.to_thread(door.accept))[0].close()

    run(scene, tmp_path)
