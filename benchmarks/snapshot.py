"""How long a program stands still for a snapshot, and when it goes on from one elsewhere.

    benchmarks/snapshot.py [--rounds N] [--big-rounds N] [--mib N]
                                                            (default: 11 rounds, 3 of 256 MiB)

Needs root, a CRIU (bin/get-criu) and namespaces (tests/real/hosts.py).  A master and two nodes,
each on a host of its own.  A small Python program, and one with a big heap, write the time once a
millisecond.  Prints, in ms, each line the median, least and most:

    still         the largest gap between two of its ticks around a `checkpoint`
    by hand       the same around a bare `criu dump --leave-running` of the same program, to a tmpfs
    checkpoint    the whole command: written, compressed, synced, and copied to the other node
    restart       from the command on the other node, which has the copy, to its first tick there

What is kept is on this machine's disk; what is dumped by hand is not synced.  The heap is of one
MiB of random bytes, again and again, which zstd finds to be so: most real ones take it longer.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.criu_bare import IMAGES, TICK, find, in_host
from benchmarks.ticks import gap_ms, ticks
from clientd.keeper.apart import init_of
from tests.real.cluster import descendants, eventually
from tests.real.hosts import Hosts, missing
from tests.real.moving_hosts import MovingHosts

Figures = dict[str, list[float]]


def gap(log: Path, began: int, ended: int) -> float:
    """ms: the largest between two ticks from just before ``began`` to just after ``ended``, ns."""
    eventually(lambda: ticks(log)[-1] > ended, "ticks afterwards")
    return gap_ms(ticks(log), began, ended, around_ms=100)


def dump(cluster: MovingHosts, criu: str, pid: int) -> None:
    """By hand; the program, whose pid on its host this is, runs on."""
    host = cluster.hosts["node1"]
    here = next(each for each in descendants(host.pid) if in_host(each) == pid)
    host.run("sh", "-c", f"rm -rf {IMAGES}; mkdir {IMAGES}")
    host.run(
        criu, "dump", "--tree", str(in_host(init_of(here))), "--images-dir", IMAGES,
        "--leave-running", "--manage-cgroups=ignore", "-v1", "--log-file", "dump.log",
    )


def measure(cluster: MovingHosts, criu: str, script: Path, mib: int, rounds: int) -> Figures:
    words = ("node1", "--", sys.executable, "-I", "-S", str(script), str(mib))
    task = str(cluster.launch(*words)["task"])
    log = cluster.log_of("node1", task)
    eventually(lambda: len(ticks(log)) > 100, "ticks", 120)
    pid = int(cluster.shown(task)["pid"])
    figures: Figures = {"still": [], "by hand": [], "checkpoint": [], "restart": []}
    for _ in range(rounds):
        began = time.time_ns()
        cluster.checkpoint(task)
        ended = time.time_ns()
        figures["still"].append(gap(log, began, ended))
        figures["checkpoint"].append((ended - began) / 1e6)
        began = time.time_ns()
        dump(cluster, criu, pid)
        figures["by hand"].append(gap(log, began, time.time_ns()))
        began = time.time_ns()
        (fork,) = cluster.started("fork", "--json", task, "node2")
        there = cluster.log_of("node2", fork)
        # The first may be one that the task had taken when it was saved, and had not written.
        new = first_after(there, began)
        figures["restart"].append((new - began) / 1e6)
        cluster.godwit("sKill", fork)
        cluster.godwit("remove", fork)
    cluster.godwit("remove", task)
    return figures


def first_after(log: Path, began: int) -> int:
    """Waits for it.  Raises TimeoutError."""
    eventually(lambda: any(tick > began for tick in ticks(log)), "ticks of the fork")
    return next(tick for tick in ticks(log) if tick > began)


def show(name: str, figures: Figures) -> None:
    print(f"{name}: {len(figures['still'])} rounds")
    for what, each in figures.items():
        print(f"  {what:<12}{statistics.median(each):8.0f}{min(each):8.0f}{max(each):8.0f}")
    ratio = statistics.median(figures["still"]) / statistics.median(figures["by hand"])
    print(f"  still / by hand: {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--big-rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256)
    asked = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    criu = find()
    with (
        TemporaryDirectory(prefix="snapshot.") as folder,
        Hosts("master", "node1", "node2") as hosts, MovingHosts(Path(folder), hosts) as cluster,
    ):
        script = cluster.top / "tick.py"
        script.write_text(TICK)
        show("small", measure(cluster, criu, script, 1, asked.rounds))
        if asked.big_rounds:
            big = measure(cluster, criu, script, asked.mib, asked.big_rounds)
            show(f"{asked.mib} MiB", big)


if __name__ == "__main__":
    main()
