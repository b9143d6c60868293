"""How long a big process stands still when it moves with a budget: its memory follows it.

    benchmarks/budget.py [--mib N] [--budget TIME] [--rounds N] [--json]
                                                                    (default: 1024, 300ms, 4)

Needs root, a CRIU (bin/get-criu) and namespaces (tests/real/hosts.py): a master and two nodes, each
on a host of its own.  A Python program with a big heap writes the time once a millisecond, and is
moved there and back.  Prints of each move, in ms: what was predicted, by which way it went, the
largest gap between two of the program's own ticks around the move, what the flight report says of
it, and how long the move took with the memory that followed.  At the end the program hashes its
heap and says whether that is as it was.

The first move warms up what is remembered between moves and is not counted.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.criu_bare import TICK, find
from benchmarks.ticks import gap_ms, ticks
from tests.real import pipes
from tests.real.cluster import eventually
from tests.real.hosts import HostCluster, Hosts, missing
from tests.real.moving import Moving


class Pair(Moving, HostCluster):
    """Two nodes on hosts of their own."""

    def can(self, node: str) -> bool:
        found = next(n for n in self.json("list", "--json")["nodes"] if n["name"] == node)
        return "lazy" in found["can"]

    def ticking(self, mib: int) -> str:
        """A program on node1 that ticks."""
        script = self.top / "tick.py"
        script.write_text(TICK)
        words = ("execute", "--json", "node1", "--", sys.executable, "-I", "-S", str(script))
        task = str(self.json(*words, str(mib))["tasks"][0]["task"])
        eventually(lambda: len(self.ticks("node1", task)) > 100, f"{task} ticks", 120)
        return task

    def ticks(self, node: str, task: str) -> list[int]:
        """When it ticked, ns since 1970, as its log at the node has it."""
        try:
            return ticks(self.log_of(node, task))
        except FileNotFoundError:
            return []

    def flight(self, task: str, target: str, budget: str) -> dict[str, Any]:
        """One move; its report, and what the program's own ticks say."""
        began = time.time_ns()
        words = ("move", "--json", task, target, "--budget", budget, "--anyway")
        report: dict[str, Any] = self.json(*words)["move"]
        assert report["result"] == "done", report
        ended = time.time_ns()
        eventually(
            lambda: (self.ticks(target, task) or [0])[-1] > ended, f"{task} ticks on {target}"
        )
        gap = gap_ms(self.ticks(target, task), began, ended, around_ms=200)
        return {**report, "ticks_ms": round(gap, 1)}

    def intact(self, task: str, node: str) -> bool:
        """It ends; its last word is whether its heap is as it was."""
        self.godwit("signal", task, "TERM")
        self.godwit("wait", task)
        return self.log_of(node, task).read_bytes().endswith(b"\nintact\n")


def show(flights: list[dict[str, Any]], whole: bool, mib: int, budget: str) -> None:
    heap = "intact" if whole else "DAMAGED"
    print(f"{mib} MiB, budget {budget}: {len(flights)} moves, heap {heap}")
    phases = [name for name, ms in flights[-1]["phases_ms"].items() if ms]
    names = "".join(f"{name:>10}" for name in phases)
    print(f"  {'way':<14}{'predicted':>10}{'ticks':>9}{'report':>9}{'whole move':>12}{names}")
    for each in flights:
        took = (each["ended_at"] - each["begun_at"]) * 1e3
        print(f"  {each['way']:<14}{each['predicted_ms']:10.0f}{each['ticks_ms']:9.0f}"
              f"{each['blackout_ms']:9.0f}{took:12.0f}"
              + "".join(f"{each['phases_ms'][name] or 0:10.0f}" for name in phases))
    gaps = [each["ticks_ms"] for each in flights]
    print(f"  standing still by its own ticks: p50 {statistics.median(gaps):.0f} ms, "
          f"most {max(gaps):.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--budget", default="300ms")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    find()
    with (
        tempfile.TemporaryDirectory(prefix="budget.") as folder, pipes.roomy(),
        Hosts("master", "node1", "node2") as hosts, Pair(Path(folder), hosts) as cluster,
    ):
        for node in ("node1", "node2"):
            eventually(lambda node=node: cluster.can(node), f"post-copy at {node}", 60)
        task = cluster.ticking(asked.mib)
        nodes = [("node2", "node1")[i % 2] for i in range(asked.rounds + 1)]
        flights = [cluster.flight(task, node, asked.budget) for node in nodes][1:]
        whole = cluster.intact(task, nodes[-1])
    if asked.json:
        print(json.dumps({"mib": asked.mib, "intact": whole, "moves": flights}))
    else:
        show(flights, whole, asked.mib, asked.budget)


if __name__ == "__main__":
    main()
