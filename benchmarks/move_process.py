"""How long a process stands still when it moves as it is, next to the same done by hand.

    benchmarks/move_process.py [--rounds N] [--big-rounds N] [--mib N] [--bare-rounds N]
                                                (default: 31 rounds, 3 of 1024 MiB, 11 by hand)

Needs root, a CRIU (bin/get-criu) and namespaces (tests/real/hosts.py).  A master and two nodes,
each on a host of its own, move a small Python program, and one with a big heap, that write the time
once a millisecond; and, in the same run, benchmarks/criu_bare.py moves the same program by hand.
Prints, in ms: blackout, the largest gap between two of the program's own ticks around each move;
the phases of its flight report; and how the two compare.  The heap's digest is checked at the end.

The nodes' folders are on this machine's disk, their image folders where clientd puts them; what is
moved by hand lies on a tmpfs, and nothing of it is synced.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.criu_bare import TICK, Flight, find, rounds
from benchmarks.ticks import gap_ms, ticks
from clientd.keeper import apart
from tests.real.cluster import eventually
from tests.real.hosts import Hosts, missing
from tests.real.moving_hosts import MovingHosts

PHASES = ("freeze", "snapshot", "wire", "restore", "commit", "sync")


def fly(cluster: MovingHosts, script: Path, mib: int, count: int) -> list[dict[str, Any]]:
    """Reports of moves there and back, with the blackout that the program's ticks show."""
    words = ("node1", "--", sys.executable, "-I", "-S", str(script), str(mib))
    task = str(cluster.launch(*words)["task"])
    eventually(lambda: len(ticks(cluster.log_of("node1", task))) > 100, "ticks", 120)
    flights = []
    for number in range(count):
        target = ("node2", "node1")[number % 2]
        began = time.time_ns()
        report = cluster.move(task, target)
        ended = time.time_ns()
        log = cluster.log_of(target, task)
        eventually(lambda: ticks(log)[-1] > ended, "ticks after the move")  # noqa: B023
        gap = gap_ms(ticks(log), began, ended, around_ms=1000)
        flights.append({**report["phases_ms"], "blackout": gap, "told": report["blackout_ms"],
                        "bytes": report["bytes"]})
    cluster.godwit("signal", task, "TERM")
    cluster.godwit("wait", task)
    log = cluster.log_of(str(cluster.shown(task)["node"]), task)
    if not log.read_bytes().endswith(b"intact\n"):
        raise RuntimeError("the heap was damaged")
    return flights


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(name: str, flights: list[dict[str, Any]], bare: list[Flight]) -> None:
    print(f"{name}: {len(flights)} moves, {flights[0]['bytes'] / 1e6:.1f} MB")
    print(f"  {'ms':<22}{'p50':>8}{'p99':>8}")
    for what in ("blackout", "told", *PHASES):
        taken = [float(flight.get(what) or 0.0) for flight in flights]
        print(f"  {what:<22}{statistics.median(taken):8.1f}{quantile(taken, 0.99):8.1f}")
    if bare:
        by_hand = [1000 * flight.blackout_s for flight in bare]
        ours = statistics.median(flight["blackout"] for flight in flights)
        print(f"  {'by hand: blackout':<22}{statistics.median(by_hand):8.1f}"
              f"{quantile(by_hand, 0.99):8.1f}   ratio {ours / statistics.median(by_hand):.2f}")
        for what in ("dump", "copy", "restore"):
            taken = [1000 * getattr(flight, f"{what}_s") for flight in bare]
            print(f"  {'  ' + what:<22}{statistics.median(taken):8.1f}{quantile(taken, 0.99):8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--big-rounds", type=int, default=3)
    parser.add_argument("--bare-rounds", type=int, default=11)
    parser.add_argument("--mib", type=int, default=1024)
    asked = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    path = find()
    with TemporaryDirectory(prefix="move_process.") as folder:
        top, init = Path(folder), apart.install(folder)
        script = top / "tick.py"
        script.write_text(TICK)
        for mib, count in ((0, asked.rounds), (asked.mib, asked.big_rounds)):
            if not count:
                continue
            with Hosts("master", "node1", "node2") as hosts:
                (top / f"cluster{mib}").mkdir()
                with MovingHosts(top / f"cluster{mib}", hosts) as cluster:
                    flights = fly(cluster, script, mib, count)
            by_hand = min(count, asked.bare_rounds)
            bare = rounds(path, init, top, mib, by_hand) if by_hand else []
            show(f"{mib} MiB heap" if mib else "small Python program", flights, bare)


if __name__ == "__main__":
    main()
