"""One node: its machine, its keeper, its agent; started again when they die."""

from typing import TYPE_CHECKING

from clientd.keeper.orders import Facts
from tests.sim.agent import Agent
from tests.sim.keeper import Keeper
from tests.sim.kernel import Kernel

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster


class Node:
    """A machine in the cluster."""

    def __init__(self, cluster: "Cluster", name: str, listens: bool):
        self.cluster = cluster
        self.world = cluster.world
        self.name = name
        self.listens = listens
        self.kernel = Kernel(self.world, name)
        self.keeper: Keeper | None = None
        self.agent: Agent | None = None
        self._starting = False

    def facts(self) -> Facts:
        return Facts(
            name=self.name, state="/s", logs="/l", boot=self.kernel.boot,
            master="" if self.listens else "10.0.0.1:15440",
            listen="10.0.0.2:15441" if self.listens else "", can=("shell",),
        )

    def start(self) -> None:
        self._starting = False
        if self.keeper is None or not self.keeper.alive:
            self.keeper = Keeper(self.world, self)

    def start_agent(self) -> Agent:
        self.agent = Agent(self.world, self)
        return self.agent

    def _start_later(self, least: float, most: float) -> None:
        if not self._starting:
            self._starting = True
            self.world.at(self.world.between(least, most), self.start)

    def keeper_died(self) -> None:
        """As systemd would."""
        self._start_later(0.1, 3.0)

    def kill_keeper(self) -> None:
        if self.keeper is not None and self.keeper.alive:
            self.keeper.die()
            self.keeper_died()

    def kill_agent(self) -> None:
        if self.agent is not None and self.agent.alive:
            self.world.say(self.agent.name, "is killed")
            self.agent.die()

    def power_cut(self) -> None:
        self.world.say(self.name, "loses its power")
        if self.keeper is not None:
            self.keeper.alive = False
        if self.agent is not None:
            self.agent.vanish()
        self.kernel.power_cut()
        self._start_later(1.0, 8.0)

    def start_if_down(self) -> None:
        """Somebody starts it by hand after it was dismissed."""
        if self.keeper is None or not self.keeper.alive:
            self._start_later(0.0, 0.5)
