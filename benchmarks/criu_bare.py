"""What moving a process takes by hand: criu dump, copy, criu restore, between two hosts.

    benchmarks/criu_bare.py [--rounds N] [--big-rounds N] [--mib N] [--json]
                                                (default: 11 rounds, 3 of 1024 MiB)

Needs root, a CRIU (bin/get-criu) and namespaces (tests/real/hosts.py).  A small Python program and
one with a big heap write the time once a millisecond; each round moves one from a host to another
and back.  Images lie on the hosts' own tmpfs and go from one to the other by tar over TCP.
Prints, in ms: blackout, the largest gap between two of the program's own ticks around the move;
and what dump, copy and restore took as seen from here, the start of each program included.

Fact: CRIU restores into a time namespace in which CLOCK_MONOTONIC goes on from where it was, so
the ticks are of the wall clock.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.ticks import gap_ms, ticks
from clientd.keeper import apart, probing
from clientd.keeper.errands import Errands
from clientd.keeper.loop import Loop
from tests.real.cluster import children, eventually
from tests.real.hosts import Host, Hosts, missing

#: On each host, on a tmpfs of its own.
IMAGES = "/run/images"
PORT = 7000

#: tick.py MIB: fills so much memory, then writes the time, in ns, once a millisecond.
TICK = """
import hashlib, os, signal, sys, time
size = int(sys.argv[1]) << 20
heap = bytearray(os.urandom(1 << 20) * (size >> 20))
digest = hashlib.blake2b(heap).hexdigest()
def check(*_):
    same = hashlib.blake2b(heap).hexdigest() == digest
    os.write(1, b"\\nintact\\n" if same else b"\\ndamaged\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, check)
while True:
    os.write(1, b"%d\\n" % time.time_ns())
    time.sleep(0.001)
"""
#: Executes the init for a program that may begin at once: clientd/keeper/init.
BELOW = 'exec "$0" - / "$1" "$@" 3>/dev/null 4</dev/zero'
#: Takes one tar over TCP and unpacks it, having said that it listens.
RECEIVE = """
import socket, subprocess, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("listens", flush=True)
    link, _ = server.accept()
    with link:
        sys.exit(subprocess.call(["tar", "x", "-C", sys.argv[3]], stdin=link))
"""


@dataclass(frozen=True, slots=True)
class Flight:
    """One move: seconds, and bytes of images."""

    blackout_s: float
    dump_s: float
    copy_s: float
    restore_s: float
    size: int


class Bare:
    """One program that is moved by hand, back and forth between two hosts."""

    def __init__(self, path: str, init: str, top: Path, hosts: tuple[Host, Host], mib: int):
        self._criu = path
        self._log = top / f"ticks{mib}"
        self._here, self._there = hosts
        script = top / "tick.py"
        script.write_text(TICK)
        words = ["/usr/bin/unshare", "--pid", "--fork", "/usr/bin/setsid",
                 "/bin/sh", "-c", BELOW, init, sys.executable, "-I", "-S", str(script), str(mib)]
        unshare = self._here.start(words, self._log, dict(os.environ))
        eventually(lambda: self._log.stat().st_size > 100, "ticks", 120)
        (self.init,) = children(unshare)

    def move(self) -> Flight:
        """Once, to the other host."""
        for host in (self._here, self._there):
            host.run("sh", "-c", f"rm -rf {IMAGES}; mkdir {IMAGES}")
        receiver = subprocess.Popen(
            ["nsenter", "--target", str(self._there.pid), "--all", sys.executable, "-I", "-S",
             "-c", RECEIVE, self._there.address, str(PORT), IMAGES],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
        assert receiver.stdout
        receiver.stdout.readline()
        times = [time.time()]
        self._here.run(
            self._criu, "dump", "--tree", str(in_host(self.init)),
            "--images-dir", IMAGES, "--leave-stopped", "--manage-cgroups=ignore", "-v1",
            "--log-file", "dump.log",
        )
        times.append(time.time())
        self._here.run(
            "bash", "-c", f"tar c -C {IMAGES} . > /dev/tcp/{self._there.address}/{PORT}"
        )
        if receiver.wait() != 0:
            raise RuntimeError("the images did not come over")
        receiver.stdout.close()
        times.append(time.time())
        os.kill(self.init, signal.SIGKILL)
        self._there.run(
            self._criu, "restore", "--images-dir", IMAGES, "--restore-detached",
            "--manage-cgroups=ignore", "-v1", "--log-file", "restore.log", "--pidfile", "pid",
        )
        times.append(time.time())
        self._settle()
        size = int(self._there.run("du", "-sb", IMAGES).stdout.split()[0])
        dump, copy, restore = (b - a for a, b in pairwise(times))
        return Flight(self._gap(times[0], times[-1]), dump, copy, restore, size)

    def _settle(self) -> None:
        """It is the other host's now, and has written there."""
        number = int(self._there.run("cat", f"{IMAGES}/pid").stdout)
        self._here, self._there = self._there, self._here
        self.init = next(
            pid for pid in children(self._here.pid)
            if in_host(pid) == number
        )
        size = self._log.stat().st_size
        eventually(lambda: self._log.stat().st_size > size + 100, "ticks after the move")

    def _gap(self, since: float, till: float) -> float:
        """Seconds: the largest gap between two ticks from ``since`` to just after ``till``."""
        return gap_ms(ticks(self._log), int(since * 1e9), int(till * 1e9)) / 1e3

    def end(self) -> None:
        """Its heap is as it was; then it is gone.  Raises RuntimeError when it is not."""
        os.kill(children(self.init)[0], signal.SIGTERM)
        eventually(lambda: self._log.read_bytes()[-8:].strip().isalpha(), "the end", 120)
        if not self._log.read_bytes().endswith(b"intact\n"):
            raise RuntimeError("the heap was damaged")


def in_host(pid: int) -> int:
    """The pid that a process of a host's has there: /proc/PID/status, our own comes first."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[2]) for line in status.splitlines() if line[:6] == "NSpid:")


def find() -> str:
    """The CRIU that a node would use.  Raises SystemExit, saying why there is none."""
    loop, came = Loop(), list[probing.Found]()
    with TemporaryDirectory() as top:
        probing.Probing(Errands(loop, {}), os.path.join(top, "criu.json"), came.append).start()
        while not came:
            loop.turn(wait=True)
    loop.close()
    if not came[0].path:
        raise SystemExit(came[0].reason)
    return came[0].path


def rounds(path: str, init: str, top: Path, mib: int, count: int) -> list[Flight]:
    with Hosts("one", "other") as hosts:
        program = Bare(path, init, top, (hosts["one"], hosts["other"]), mib)
        flights = [program.move() for _ in range(count)]
        program.end()
        return flights


def show(name: str, flights: list[Flight]) -> None:
    print(f"{name}: {len(flights)} moves, {flights[0].size / 1e6:.1f} MB of images")
    print(f"  {'ms':<10}{'p50':>8}{'least':>8}{'most':>8}")
    for what in ("blackout", "dump", "copy", "restore"):
        taken = [1000 * getattr(flight, f"{what}_s") for flight in flights]
        print(f"  {what:<10}{statistics.median(taken):8.0f}{min(taken):8.0f}{max(taken):8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--big-rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    path = find()
    with TemporaryDirectory(prefix="criu_bare.") as folder:
        init = apart.install(folder)
        found = {
            mib: rounds(path, init, Path(folder), mib, count)
            for mib, count in ((0, asked.rounds), (asked.mib, asked.big_rounds)) if count
        }
    if asked.json:
        print(json.dumps({str(mib): [asdict(f) for f in moves] for mib, moves in found.items()}))
        return
    for mib, moves in found.items():
        show(f"{mib} MiB heap" if mib else "small Python program", moves)


if __name__ == "__main__":
    main()
