"""How fast a copy is, next to what bare system calls do in the same run; prints the ratios.

    benchmarks/files.py [MIB] [FILES] [FOLDER]     (default: 1024 MiB, 10000 files, $TMPDIR)

Both ends run here, as two processes over loopback TCP.  Files lie in a scratch folder below
FOLDER, which is removed at the end.
"""

import hashlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from godwit import bulk

BLOCK = 1024 * 1024
SMALL = 1024

End = Callable[[socket.socket], object]


def timed(sender: End, receiver: End) -> float:
    """Seconds from the first byte till both ends are done; the sender is a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pid = os.fork()
        if pid == 0:
            with socket.create_connection(server.getsockname()) as link:
                sender(link)
            os._exit(0)
        link, _ = server.accept()
    begin = time.perf_counter()
    with link:
        receiver(link)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the sending end failed")
    return time.perf_counter() - begin


def from_memory(size: int) -> End:
    block = memoryview(os.urandom(BLOCK))

    def run(link: socket.socket) -> None:
        for _ in range(size // BLOCK):
            link.sendall(block)

    return run


def to_digest(link: socket.socket) -> None:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK))
    while count := link.recv_into(buffer):
        digest.update(buffer[:count])


def from_file(path: str) -> End:
    """Read, digest, send: what any copy with a digest has to do."""

    def run(link: socket.socket) -> None:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK))
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                link.sendall(buffer[:count])

    return run


def to_file(path: str) -> End:
    """Receive, digest, write, sync."""

    def run(link: socket.socket) -> None:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK))
        with open(path, "wb", buffering=0) as file:
            while count := link.recv_into(buffer):
                digest.update(buffer[:count])
                file.write(buffer[:count])
            os.fsync(file.fileno())

    return run


def one_large(scratch: str, size: int) -> None:
    source, target = os.path.join(scratch, "large"), os.path.join(scratch, "copy")
    with open(source, "wb") as file:
        for _ in range(size // BLOCK):
            file.write(os.urandom(BLOCK))
    os.sync()
    runs: tuple[tuple[str, End, End], ...] = (
        ("sendall -> recv_into + sha256 (memory only)", from_memory(size), to_digest),
        ("read + sha256 + sendall -> + write + fsync", from_file(source), to_file(target)),
        (
            "godwit.bulk.send -> receive",
            lambda link: bulk.send(link, os.fsencode(source)),
            lambda link: bulk.receive(link, os.fsencode(target)),
        ),
    )
    best = dict.fromkeys((name for name, *_ in runs), float("inf"))
    for _ in range(3):
        for name, sender, receiver in runs:
            if os.path.exists(target):
                os.unlink(target)
            best[name] = min(best[name], timed(sender, receiver))
    show(best, size / 1e6, "MB/s")


def many_small(scratch: str, count: int) -> None:
    source, target = os.path.join(scratch, "many"), os.path.join(scratch, "copies")
    os.mkdir(source)
    for number in range(count):
        with open(os.path.join(source, f"f{number:06}"), "wb") as file:
            file.write(os.urandom(SMALL))
    os.sync()

    def bare(synced: bool) -> float:
        begin = time.perf_counter()
        for number in range(count):
            with open(os.path.join(target, ".partial"), "wb", buffering=0) as file:
                file.write(b"x" * SMALL)
                if synced:
                    os.fsync(file.fileno())
            os.rename(os.path.join(target, ".partial"), os.path.join(target, f"f{number:06}"))
        return time.perf_counter() - begin

    def copied() -> float:
        return timed(
            lambda link: bulk.send(link, os.fsencode(source)),
            lambda link: bulk.receive(link, os.fsencode(target + "/")),
        )

    runs: tuple[tuple[str, Callable[[], float]], ...] = (
        ("write + rename of each (no sync, no network)", lambda: bare(False)),
        ("write + fsync + rename of each (no network)", lambda: bare(True)),
        ("godwit.bulk.send -> receive", copied),
    )
    best = dict.fromkeys((name for name, _ in runs), float("inf"))
    for _ in range(3):
        for name, run in runs:
            os.mkdir(target)
            best[name] = min(best[name], run())
            shutil.rmtree(target)
    show(best, count, "files/s")


def show(best: dict[str, float], amount: float, unit: str) -> None:
    ours = list(best.values())[-1]
    for name, seconds in best.items():
        print(f"  {name:48} {amount / seconds:9.0f} {unit:8} godwit is {seconds / ours:.2f} of it")


def main() -> None:
    mib, count = (int(word) for word in (sys.argv[1:3] + ["1024", "10000"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory(dir=sys.argv[3] if len(sys.argv) > 3 else None) as scratch:
        print(f"one file of {mib} MiB, best of 3")
        one_large(scratch, mib * BLOCK)
        print(f"{count} files of {SMALL} bytes, best of 3")
        many_small(scratch, count)


if __name__ == "__main__":
    main()
