"""A cluster with tasks that move: what the tests of moves, and their benchmarks, share."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest

from godwit.wire import operations as op
from masterd.commands import asjson
from tests.real.cluster import Cluster, eventually, is_stopped

#: Seconds between two numbers.
PAUSE = "0.002"
#: A Python program that counts till there is a file, and ends then.
COUNTS_TILL = '''
import os
from godwit import Migratable

class CountTill(Migratable):
    def __init__(self, may_end):
        self.next, self.may_end = 0, may_end

    def step(self):
        print(self.next)
        self.next += 1
        self.sleep(0.002)
        return not os.path.exists(self.may_end)
'''
#: Counts as long as it is let, with a child for each number.
COUNTER = ("sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.005; done")


def numbers_in(path: Path) -> list[int]:
    """The numbers in a file, a line each, as far as whole lines go.  Raises FileNotFoundError."""
    text = path.read_text()
    return [int(line) for line in text[:text.rfind("\n") + 1].split()]


class Moving(Cluster):
    """Nodes started while ``failpoint`` is set fail there."""

    failpoint = ""

    def environment(self, **more: str) -> dict[str, str]:
        if self.failpoint:
            more["GODWIT_FAILPOINT"] = self.failpoint
        return super().environment(**more)

    def run(self, node: str, *words: str) -> str:
        """The id of a Python task that has begun."""
        return str(self.json("run", "--json", node, *words)["tasks"][0]["task"])

    def counting(self, node: str = "node1", count: int = 10**9) -> str:
        """A task that counts, and has begun to."""
        task = self.run(node, "CountProcess", str(count), PAUSE)
        eventually(lambda: len(self.numbers(node, task)) > 3, f"{task} counts")
        return task

    def counting_till(self, may_end: Path) -> str:
        """A task at node1 that counts till that file is there, and ends with code 0 then."""
        program = self.top / "count_till.py"
        program.write_text(COUNTS_TILL)
        return self.run("node1", f"{program}:CountTill", str(may_end))

    def log_of(self, node: str, task: str) -> Path:
        return self.top / "logs" / node / f"{task}.log"

    def files(self, node: str) -> Path:
        """The working directory of tasks there that were given none."""
        return self.top / node / "files"

    def numbers(self, node: str, task: str) -> list[int]:
        """What it has counted, as its log at the node has it."""
        try:
            return numbers_in(self.log_of(node, task))
        except FileNotFoundError:
            return []

    def move(self, task: str, target: str) -> dict[str, Any]:
        """The flight report of a move that was done."""
        report: dict[str, Any] = self.json("move", "--json", task, target)["move"]
        assert report["result"] == "done", report
        return report

    def checkpoint(self, task: str, *words: str) -> dict[str, Any]:
        """The snapshot that was kept of it."""
        (one,) = self.json("checkpoint", "--json", *words, task)["snapshots"]
        return dict(one)

    def started(self, *words: str) -> list[str]:
        """Ids of what ``restart`` or ``fork`` started."""
        return [str(one["task"]) for one in self.json(*words)["tasks"]]

    def counts_on(self, node: str, task: str) -> list[int]:
        """What it has counted once it has gone on for a while: from some number on, each once."""
        before = len(self.numbers(node, task))
        eventually(lambda: len(self.numbers(node, task)) > before + 20, f"{task} goes on")
        counted = self.numbers(node, task)
        assert counted == list(range(counted[0], counted[0] + len(counted)))
        return counted

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """A run of the CLI that is not waited for."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "masterd.cli", *words],
            env=self.environment(GODWIT_STATE=self.state), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def moves(self, task: str) -> list[dict[str, Any]]:
        """As ``moves`` has them."""
        with self.client() as client:
            found = client.ask(op.ListMoves(0, task, limit=20), op.Moves).moves
        return [asjson.move(view) for view in found]

    def settle(self, task: str, within_s: float = 60.0) -> str:
        """Where it runs, once no move of it is under way."""
        def settled() -> bool:
            return self.shown(task)["status"] == "running" and all(
                move["result"] for move in self.moves(task)
            )

        eventually(settled, f"{task} runs and its moves are settled", within_s)
        return str(self.shown(task)["node"])

    def start_failing(self, node: str, failpoint: str) -> None:
        """Starts its clientd, for the first time or again, which fails there; it is up by now."""
        self.failpoint = failpoint
        self.restart_node(node)
        self.failpoint = ""

    def die_in_a_move(self, task: str, side: str, name: str) -> str:
        """Moves a task to node2 while ``side``'s keeper is killed at the failpoint ``name`` and
        started again; where it runs then."""
        self.kill_node(side)
        self.start_failing(side, f"{name}:kill")
        mover = self.begin("move", task, "node2")
        daemon = self.nodes[side]
        eventually(lambda: daemon.ended, f"death at {name}")
        self.restart_node(side)
        mover.communicate(timeout=60)
        return self.settle(task)

    def stop_in_a_move(self, task: str, name: str) -> "subprocess.Popen[str]":
        """Begins a move to node2, whose keeper stands still at the failpoint ``name`` by now."""
        self.kill_node("node2")
        self.start_failing("node2", f"{name}:stop")
        mover = self.begin("move", task, "node2")
        keeper = self.nodes["node2"].pid
        eventually(lambda: is_stopped(keeper), "node2's keeper stands still")
        return mover

    def wait_answered(self, node: str) -> None:
        """Until the node, whose agent was killed, does again what it is told."""
        eventually(lambda: self.godwit("on", node, "true").returncode == 0, f"{node} answers")

    def goes_on(self, node: str, task: str) -> None:
        """It counts there, and its log there has every number once, in order."""
        before = len(self.numbers(node, task))
        eventually(
            lambda: len(self.numbers(node, task)) > before + 2, f"{task} goes on at {node}"
        )
        counted = self.numbers(node, task)
        assert counted == list(range(len(counted)))


class MovingProcesses(Moving):
    """Nodes that have found their CRIU, and programs that know nothing of godwit."""

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.wait_criu(*self._names)
        except BaseException:
            self._end_all()
            raise
        return self

    def wait_criu(self, *names: str) -> None:
        """Until these nodes know.  Skips, loudly, where there is no CRIU that works."""
        def found() -> list[str | None]:
            """Of each: why there is none; empty where there is one, None while it looks."""
            nodes = self.json("list", "--json")["nodes"]
            return [
                "" if any(word.startswith("criu=") for word in n["can"])
                else n["lacks"].get("criu") for n in nodes if n["name"] in names
            ]

        eventually(lambda: None not in found(), "CRIU was looked for")
        for why in found():
            if why:
                pytest.skip(f"no CRIU that works here: {why}")

    def counter(self, node: str, *argv: str) -> str:
        """The id of a task that writes 0, 1, 2, ... and has begun to."""
        task = str(self.launch(node, "--", *(argv or COUNTER))["task"])
        eventually(lambda: len(self.numbers(node, task)) > 3, f"{task} counts")
        return task
