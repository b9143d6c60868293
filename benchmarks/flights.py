"""Two flight reports, of a Python task's move and of a shell's: docs/make.py draws them.

    benchmarks/flights.py [--rounds N] > docs/flights.json     (default: 20 moves of each)

Starts a master and two nodes in a scratch folder on this machine; needs root and CRIU.  Of each
kind it prints the report whose task stood still for the median time.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.real.cluster import eventually
from tests.real.moving import Moving

HOLDER = '''
import os, time
from godwit import Migratable

class Holder(Migratable):
    """Holds a megabyte, and says so each millisecond."""

    def __init__(self):
        self.state = os.urandom(1 << 20)

    def step(self):
        print(len(self.state))
        time.sleep(0.001)
        return True
'''
LOOP = "i=0; while sleep 0.01; do i=$((i+1)); echo $i; done"


def median(cluster: Moving, task: str, rounds: int) -> dict[str, Any]:
    """Of so many moves in a row."""
    moves = [cluster.move(task, ("node2", "node1")[i % 2]) for i in range(rounds)]
    cluster.godwit("sKill", task)
    moves.sort(key=lambda move: float(move["blackout_ms"]))
    return moves[len(moves) // 2]


def can_criu(cluster: Moving) -> bool:
    return all(
        any(word.startswith("criu=") for word in node["can"])
        for node in cluster.json("list", "--json")["nodes"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, Moving(Path(folder)) as cluster:
        program = Path(folder) / "holder.py"
        program.write_text(HOLDER)
        eventually(lambda: can_criu(cluster), "both nodes have CRIU")
        python = median(cluster, cluster.run("node1", str(program)), rounds)
        shell = str(cluster.launch("--shell", "node1", LOOP)["task"])
        moves = [python, median(cluster, shell, rounds)]
    print(json.dumps({"moves": moves}, indent=1))


if __name__ == "__main__":
    main()
