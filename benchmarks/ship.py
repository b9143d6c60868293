"""What the ship of a move costs while its task stands still, next to a bare TLS copy.

    benchmarks/ship.py [MIB] [TIMES] [FOLDER]     (default: 256 MiB, 200 ships of 1 MB, $TMPDIR)

Source and destination are two processes over loopback, as two agents on one machine would be.
A time is from the word that the task stands still till all is on the destination's disk.  The
bare copy sends the same bytes from memory over TLS, writes and syncs them; no digest.
Files lie in a scratch folder below FOLDER, which is removed at the end.
"""

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from clientd import actions as do
from clientd import events as on
from clientd.callers import Callers
from clientd.shipping import Shipping
from godwit.wire.trust import Trust
from tests.certificates import Issuer
from tests.test_transfers import leaf_of

MB = 1024 * 1024
LOG = b"a line\n" * 1000
TAIL = b"the last line\n"


def scratch_nodes(scratch: Path) -> tuple[Trust, Trust]:
    issuer = Issuer()
    return (
        issuer.folder(scratch / "source", "godwit:node:source"),
        issuer.folder(scratch / "destination", "godwit:node:destination"),
    )


def files(trust: Trust, move: str) -> tuple[str, str]:
    return os.path.join(trust.folder, f"{move}.log"), os.path.join(trust.folder, f"{move}.image")


class Node:
    """The ships of one process; ``heard`` holds a queue for each kind of event."""

    def __init__(self, trust: Trust):
        self.heard: asyncio.Queue[on.Event] = asyncio.Queue()
        self.callers = Callers(trust, print)
        self.shipping = Shipping(
            trust, self.callers, os.fsencode(trust.folder), trust.folder, self.heard.put_nowait
        )

    async def next(self, kind: type) -> on.Event:
        while not isinstance(event := await self.heard.get(), kind):
            if isinstance(event, on.ShipFailed):
                raise SystemExit(event.text)
        return event


async def destination(own: Trust, source: Trust, link: socket.socket) -> None:
    """Serves the source's process: a move's name in, a port and then the time of landing out."""
    node = Node(own)
    reader, writer = await asyncio.open_unix_connection(sock=link)
    while move := (await reader.readline()).decode().strip():
        log, image = files(own, move)
        for path in (log, image):
            Path(path).touch()
        node.shipping.receive(
            do.AwaitShip(move, move, (leaf_of(source),), log, image), "127.0.0.1"
        )
        writer.write(b"%d\n" % (await node.next(on.ShipAwaited)).port)
        await node.next(on.Landed)
        writer.write(b"%r\n" % time.monotonic())
        os.unlink(image)
    await node.shipping.close()
    await node.callers.close()
    writer.close()


async def ships(own: Trust, other: Trust, link: socket.socket, sizes: list[int]) -> list[float]:
    """Seconds that each ship took from the word that the task stands still."""
    node = Node(own)
    reader, writer = await asyncio.open_unix_connection(sock=link)
    took = []
    for number, size in enumerate(sizes):
        move = f"m{number}"
        log, image = files(own, move)
        Path(log).write_bytes(LOG)
        writer.write(move.encode() + b"\n")
        port = int(await reader.readline())
        node.shipping.send(
            do.StartShip(move, f"127.0.0.1:{port}", move, (leaf_of(other),), log)
        )
        await node.next(on.CaughtUp)
        with open(log, "ab") as file:
            file.write(TAIL)
        with open(image, "wb") as file:
            for _ in range(0, size, MB):
                file.write(os.urandom(MB))
        begin = time.monotonic()
        node.shipping.image(do.ShipImage(move, image, len(LOG + TAIL), size))
        took.append(float(await reader.readline()) - begin)
        os.unlink(image)
    writer.close()
    await node.shipping.close()
    return took


def shipped(own: Trust, other: Trust, sizes: list[int]) -> list[float]:
    near, far = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        near.close()
        asyncio.run(destination(other, own, far))
        os._exit(0)
    far.close()
    took = asyncio.run(ships(own, other, near, sizes))
    os.waitpid(pid, 0)
    return took


def bare(own: Trust, other: Trust, size: int) -> float:
    """Seconds of sendall -> recv_into, write, fsync over TLS, from the first byte on."""
    data = memoryview(os.urandom(size))
    path = os.path.join(other.folder, "bare")
    with socket.create_server(("127.0.0.1", 0)) as server:
        pid = os.fork()
        if pid == 0:
            plain = socket.create_connection(server.getsockname())
            with own.client().wrap_socket(plain) as link:
                assert link.recv(1)
                for offset in range(0, size, MB):
                    link.sendall(data[offset : offset + MB])
            os._exit(0)
        plain, _ = server.accept()
    buffer = memoryview(bytearray(MB))
    with other.server().wrap_socket(plain, server_side=True) as link, open(path, "wb", 0) as file:
        begin = time.monotonic()
        link.sendall(b"x")
        while count := link.recv_into(buffer):
            file.write(buffer[:count])
        os.fsync(file.fileno())
    took = time.monotonic() - begin
    os.waitpid(pid, 0)
    os.unlink(path)
    return took


def show(name: str, took: list[float]) -> None:
    took = sorted(took)
    middle, late = statistics.median(took), took[min(len(took) - 1, len(took) * 99 // 100)]
    figures = zip(("best", "p50", "p99"), (took[0], middle, late), strict=True)
    print(f"  {name:26}", *(f"{word} {value * 1000:8.2f} ms  " for word, value in figures))


def main() -> None:
    mib, times = (int(word) for word in (sys.argv[1:3] + ["256", "200"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory(dir=sys.argv[3] if len(sys.argv) > 3 else None) as scratch:
        own, other = scratch_nodes(Path(scratch))
        print(f"{times} snapshots of 1 MB, one after the other")
        show("ship", shipped(own, other, [MB] * times))
        show("bare TLS copy with fsync", [bare(own, other, MB) for _ in range(min(times, 50))])
        print(f"one snapshot of {mib} MiB, five times, in turn with the bare copy")
        large: dict[str, list[float]] = {"ship": [], "bare": []}
        for _ in range(5):
            large["bare"].append(bare(own, other, mib * MB))
            large["ship"] += shipped(own, other, [mib * MB])
        for name, took in large.items():
            print(f"  {name:26} best {mib * MB / min(took) / 1e6:6.0f} MB/s   "
                  f"median {mib * MB / statistics.median(took) / 1e6:6.0f} MB/s")
        ratio = statistics.median(large["bare"]) / statistics.median(large["ship"])
        print(f"  the ship has {ratio:.2f} of the bare copy's speed (medians)")


if __name__ == "__main__":
    main()
