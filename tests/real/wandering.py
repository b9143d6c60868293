"""Tasks wander between hosts while daemons are killed -9 and links fail: none is lost or doubled.

    .venv/bin/python tests/real/wandering.py --moves 100

Needs root, a CRIU (bin/get-criu) and namespaces.  Three nodes and a master, each on a host of its
own.  Each task counts, a line for each number.  One move after the other is begun, and with most of
them, at a moment by chance, something dies: an agent, a keeper, the master, or a host's link for a
while.  Then all comes back, and the move is waited for: by its verdict the task goes on, on one
side alone.  Prints a table of figures; exits 1 when one of them is bad.

    --moves N     how many (100)
    --seconds S   no move is begun after so many (none)
    --seed K      of its dice (by the clock)
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clientd.keeper.criu import inside
from godwit.errors import GodwitError
from godwit.task.lifecycle import Status
from godwit.wire import operations as op
from tests.real.cluster import eventually, living
from tests.real.hosts import Hosts, missing
from tests.real.moving_hosts import MovingHosts
from tests.real.specimens import PROGRAMS

NODES = ("node1", "node2", "node3")
#: What may happen to a move, and how often out of all.
MISHAPS = {"nothing": 3, "agent": 3, "keeper": 2, "master": 2, "link": 2}
#: Seconds: the latest that it happens after the move was asked for, and the longest that a link is
#: down.  A move of these tasks takes some tenths of one.
SOON_S, CUT_S = 0.7, 2.0
#: Seconds for all to come back and the move to be decided: some of the master's own patience.
SETTLE_S = 120.0
#: Figures that have to be 0.
NONE = ("lines lost", "lines repeated", "double lives", "tasks lost", "moves never settled")


@dataclass(slots=True)
class Figures:
    """What is counted, and examples of what is bad."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, count: int = 1, example: str = "") -> None:
        self.counts[name] += count
        if count and example:
            self.examples.setdefault(name, []).append(example)

    def bad(self) -> list[str]:
        return [
            f"{name}: {self.counts[name]}; {'; '.join(self.examples.get(name, ())[:5])}"
            for name in NONE if self.counts[name]
        ]

    def table(self) -> str:
        for name in NONE:
            self.counts[name] += 0
        width = max(map(len, self.counts))
        return "\n".join(
            f"{name:{width}}  {self.counts[name]:>9,}" + ("  BAD" if self.is_bad(name) else "")
            for name in sorted(self.counts, key=lambda name: (name in NONE, name))
        )

    def is_bad(self, name: str) -> bool:
        return name in NONE and self.counts[name] != 0


class Wandering:
    """One run, in a cluster whose tasks have begun."""

    def __init__(self, cluster: MovingHosts, tasks: dict[str, str], seed: int):
        """``tasks``: where each is."""
        self.figures = Figures()
        self._cluster = cluster
        self._where = tasks
        self._dice = random.Random(seed)

    def hop(self) -> None:
        """One move of one of them, whatever happens, till it is settled and all is well again."""
        task = self._dice.choice(sorted(self._where))
        source = self._where[task]
        target = self._dice.choice([node for node in NODES if node != source])
        mishap = self._dice.choices(list(MISHAPS), list(MISHAPS.values()))[0]
        asking = threading.Thread(target=self._ask, args=(task, target))
        asking.start()
        time.sleep(self._dice.uniform(0, SOON_S))
        victim = self._dice.choice((source, target))
        what = f"{task} {source} -> {target}, {mishap} of {victim}"
        getattr(self, f"_{mishap}")(victim)
        self.figures.add("moves begun")
        if mishap != "nothing":
            self.figures.add(f"  with a mishap: {mishap}")
        try:
            eventually(lambda: self._is_settled(task), what, SETTLE_S)
        except TimeoutError:
            self.figures.add("moves never settled", 1, what)
        asking.join(SETTLE_S)
        self._look(task, what)

    def _ask(self, task: str, target: str) -> None:
        with contextlib.suppress(GodwitError), self._cluster.client() as client:
            client.ask(op.MoveTask(0, task, target), op.Moves)

    # ---- mishaps -----------------------------------------------------------------------------

    def _nothing(self, victim: str) -> None:
        pass

    def _agent(self, victim: str) -> None:
        with contextlib.suppress(ProcessLookupError, StopIteration, FileNotFoundError):
            os.kill(self._cluster.agent(victim), signal.SIGKILL)

    def _keeper(self, victim: str) -> None:
        self._cluster.kill_node(victim)
        self._cluster.start_node(victim)

    def _master(self, victim: str) -> None:
        self._cluster.kill_master()
        self._cluster.start_master()

    def _link(self, victim: str) -> None:
        self._cluster.hosts.partition({"master", *NODES} - {victim}, {victim})
        time.sleep(self._dice.uniform(0.1, CUT_S))
        self._cluster.hosts.heal()

    # ---- what has become of it ----------------------------------------------------------------

    def _is_settled(self, task: str) -> bool:
        """All nodes are up, it runs, or has ended, and no move of it is under way."""
        try:
            with self._cluster.client() as client:
                nodes = client.ask(op.ListNodes(0), op.Nodes).nodes
                moves = client.ask(op.ListMoves(0, task), op.Moves).moves
        except GodwitError:
            return False
        found = self._task_in(nodes, task)
        return (
            all(node.state == "up" for node in nodes)
            and all(move.result not in ("", "held") for move in moves)
            and found is not None
            and (found.task.status is Status.RUNNING or not found.task.status.alive)
        )

    @staticmethod
    def _task_in(nodes: tuple[op.NodeView, ...], task: str) -> op.TaskView | None:
        return next((t for node in nodes for t in node.tasks if t.task.id == task), None)

    def _look(self, task: str, what: str) -> None:
        """Where it is, that it is alive once, and what it has written."""
        with self._cluster.client() as client:
            moves = client.ask(op.ListMoves(0, task), op.Moves).moves
            found = self._task_in(client.ask(op.ListNodes(0), op.Nodes).nodes, task)
        if moves:
            self.figures.add(f"moves {moves[-1].result or 'open'}")
        if found is None or not found.task.status.alive:
            self.figures.add("tasks lost", 1, what)
            del self._where[task]
            return
        self._where[task] = found.node
        self._look_at_log(task, what)
        try:
            eventually(lambda: len(lives(task)) == 1, f"one life of {task}", 15)
        except TimeoutError:
            self.figures.add("double lives" if lives(task) else "tasks lost", 1, what)

    def _look_at_log(self, task: str, what: str) -> None:
        """It goes on, and no number is missing in it, or in it twice."""
        node = self._where[task]
        before = len(self._cluster.numbers(node, task))
        with contextlib.suppress(TimeoutError):
            eventually(lambda: len(self._cluster.numbers(node, task)) > before + 2, "it goes on")
        counted = self._cluster.numbers(node, task)
        if len(counted) <= before + 2:
            self.figures.add("tasks lost", 1, f"{what}: it stands still")
        lost, repeated = compare(counted)
        self.figures.add("lines lost", lost, what)
        self.figures.add("lines repeated", repeated, what)

    def finish(self) -> None:
        """Counts what all have written, and ends them; then all nodes can be dismissed."""
        for task, node in self._where.items():
            self.figures.add("lines written", len(self._cluster.numbers(node, task)))
            self._cluster.godwit("sKill", task)
        for node in NODES:  # whose agent may have been killed just now
            self._cluster.wait_answered(node)


def compare(counted: list[int]) -> tuple[int, int]:
    """How many numbers are missing, and how many are there again."""
    seen = Counter(counted)
    top = max(counted, default=-1) + 1
    return top - len(seen), sum(seen.values()) - len(seen)


def lives(task: str) -> list[int]:
    """Inits of namespaces, on any host, with that task in them: pids as they are seen from here."""
    return [pid for pid in living(task, os.getpid()) if inside(pid) == 1]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run."""

    moves: int
    seed: int
    seconds: float = float("inf")
    say: Callable[[str], object] = lambda text: None


def wander(top: Path, plan: Plan) -> Figures:
    """Runs it in folders below ``top``."""
    until = time.monotonic() + plan.seconds
    with Hosts("master", *NODES) as hosts, MovingHosts(top, hosts, NODES) as cluster:
        programs = [PROGRAMS[name] for name in ("sh pipeline", "perl", "python")]
        tasks = {
            cluster.counter(node, *program): node
            for node, program in zip(NODES, programs, strict=True)
        }
        wandering = Wandering(cluster, tasks, plan.seed)
        for number in range(plan.moves):
            if time.monotonic() > until:
                break
            wandering.hop()
            if number % 10 == 9:
                plan.say(f"{number + 1} moves; bad: {wandering.figures.bad() or 'nothing'}")
        wandering.finish()
        return wandering.figures


def main(argv: list[str]) -> int:
    """The entry point."""
    parser = argparse.ArgumentParser(
        prog="wandering", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args(argv)
    if why := missing():
        print(why)
        return 2
    top = Path(tempfile.mkdtemp(prefix="wandering"))
    began = time.monotonic()
    print(f"{given.moves} moves in {top}, seed {given.seed}", flush=True)
    plan = Plan(given.moves, given.seed, given.seconds, lambda text: print(text, flush=True))
    figures = wander(top, plan)
    print(figures.table())
    print(f"\n{time.monotonic() - began:.0f} seconds")
    if bad := figures.bad():
        print("\n".join(["", "bad:", *bad]), f"\nits files are in {top}")
        return 1
    shutil.rmtree(top)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    sys.exit(main(sys.argv[1:]))
