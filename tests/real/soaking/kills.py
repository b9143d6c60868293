"""kill -9 of masters, agents and keepers, again and again, while all else goes on."""

import os
import random
import signal
import time
from pathlib import Path

from tests.real.cluster import Cluster, children
from tests.real.soaking.figures import Figures

#: After so many kills of the master, one keeper is killed too.
KEEPER_AFTER = 20
#: Seconds that a master has for most of its nodes to come back before it is killed again.
COME_BACK_S = 3.0


class Kills:
    """Kills until enough is killed and the time is over."""

    def __init__(self, cluster: Cluster, nodes: list[str], figures: Figures, dice: random.Random):
        self._cluster = cluster
        self._nodes = nodes
        self._figures = figures
        self._dice = dice
        self._rounds = 0

    def run(self, until: float, enough: int, at_last: float) -> None:
        """Till ``until`` (monotonic), and on till ``enough`` of each, but not after ``at_last``."""
        while time.monotonic() < until or (
            min(self._figures["masters killed"], self._figures["agents killed"]) < enough
            and time.monotonic() < at_last
        ):
            self._round()
        self._cluster.wait_up(*self._nodes)

    def _round(self) -> None:
        self._rounds += 1
        self._cluster.kill_master()
        if self._dice.random() < 0.3:
            self._kill_an_agent()
        self._cluster.start_master()
        self._figures.add("masters killed")
        self._let_them_come_back()
        time.sleep(self._dice.uniform(0, 0.3))
        self._kill_an_agent()
        if self._rounds % KEEPER_AFTER == 0:
            node = self._dice.choice(self._nodes)
            self._cluster.kill_node(node)
            self._figures.add("keepers killed")
            self._cluster.start_node(node)

    def _let_them_come_back(self) -> None:
        """Most of them: a keeper waits longer and longer with an agent that is killed often."""
        until = time.monotonic() + COME_BACK_S
        while time.monotonic() < until:
            states = self._cluster.states()
            if sum(state == "up" for state in states.values()) >= len(self._nodes) * 2 / 3:
                return
            time.sleep(0.02)

    def _kill_an_agent(self) -> None:
        """One that runs, of a node that has waited longest, more or less."""
        alive = {node: pid for node in self._nodes if (pid := self._agent(node))}
        if alive:
            os.kill(alive[self._dice.choice(sorted(alive))], signal.SIGKILL)
            self._figures.add("agents killed")

    def _agent(self, node: str) -> int:
        """The pid of a node's agent; 0 while there is none."""
        for pid in children(self._cluster.nodes[node].pid):
            try:
                if b"clientd.agent" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
            except OSError:
                continue
        return 0
