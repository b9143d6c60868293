"""A cluster with its operators and its misfortunes, for one seed; and what must hold at its end."""

from typing import TYPE_CHECKING

from clientd import events as heard
from clientd.events import Channel
from godwit.task.lifecycle import Status
from godwit.wire import operations as op
from godwit.wire.preface import Show
from masterd import events as on
from masterd.registry import State
from tests.sim.master import Disk, MasterProcess
from tests.sim.net import Net
from tests.sim.node import Node
from tests.sim.operator import Operator
from tests.sim.transfers import Side
from tests.sim.truth import Truth
from tests.sim.world import Broken, World

if TYPE_CHECKING:
    from tests.sim.agent import Agent

#: Simulated seconds of faults, and after the last one.
CHAOS_S = 25.0
#: More than the longest pause between two calls, a launch's time, a silence and a long ending.
SETTLE_S = 60.0
CODE = f"gwo1.{'0' * 64}.{'0' * 32}"


class Cluster:
    """Everything of one seed."""

    def __init__(self, seed: int):
        self.world = world = World(seed)
        self.net = Net(world)
        self.disk = Disk()
        self.nodes: dict[str, Node] = {}
        #: Tasks that operators have heard of.
        self.known: list[str] = []
        #: Tasks that the master told of, and is never to forget by itself.
        self.acknowledged: set[str] = set()
        self.dropped: set[str] = set()
        self.ports: dict[int, Side] = {}
        self.master: MasterProcess | None = None
        listening = world.dice.random() < 0.3
        for number in range(world.dice.choice([1, 2, 2, 3])):
            name = f"node{number + 1}"
            self.nodes[name] = Node(self, name, listens=listening and number == 0)
        self.truth = Truth(self.nodes)
        self.operators = [
            Operator(world, self, f"operator{n + 1}") for n in range(world.dice.choice([1, 2, 3]))
        ]

    # ---- the network -----------------------------------------------------------------------

    def dial_master(self, agent: "Agent", channel: Channel) -> None:
        """A node calls the master."""
        world = self.world
        node = agent.node.name

        def answered() -> None:
            master = self.master
            if node in self.net.apart or master is None or not master.alive:
                agent.later(world.between(0.0, 5.0) if node in self.net.apart else 0.0,
                            agent.handle, heard.DialFailed(channel, "no answer"))
                return
            ours, theirs = self.net.connect(node, agent, master).ends
            number = agent.new_link(ours)
            master.accepted(theirs, f"10.0.1.{node[-1]}:40000")
            agent.handle(heard.LinkOpened(number, channel))

        agent.later(world.between(0.001, 0.05), answered)

    def dial_node(self, master: MasterProcess, name: str, channel: Channel) -> None:
        """The master calls a node that listens."""
        world = self.world

        def answered() -> None:
            agent = self.nodes[name].agent
            there = agent is not None and agent.reachable and self.nodes[name].listens
            if name in self.net.apart or not there or agent is None:
                master.later(world.between(0.0, 5.0) if name in self.net.apart else 0.0,
                             master.handle, on.DialFailed(name, channel, "no answer"))
                return
            ours, theirs = self.net.connect(name, master, agent).ends
            number = master.new_link(ours)
            agent.accepted(theirs)
            master.handle(on.LinkOpened(number, name, channel))

        master.later(world.between(0.001, 0.05), answered)

    def bulk_to_master(self, side: Side, ticket: Show | op.Ticket) -> None:
        """Somebody shows the master a ticket."""
        show = Show(ticket.ticket, ticket.role)

        def opened() -> None:
            if self.master is not None and self.master.alive:
                self.master.bulk(side, show)
            else:
                side.end("unreachable")

        self.world.at(self.world.between(0.001, 0.1), opened)

    def log_of(self, task: str) -> bytearray | None:
        for node in self.nodes.values():
            if task in node.kernel.logs:
                return node.kernel.logs[task]
        return None

    # ---- misfortunes -----------------------------------------------------------------------

    def start_master(self) -> None:
        if self.master is None or not self.master.alive:
            if lost := self.acknowledged - self.dropped - self.disk.tasks.keys():
                raise Broken(f"the master told of {sorted(lost)} and has no record of it")
            self.master = MasterProcess(self.world, self, self.disk)

    def _kill_master(self) -> None:
        if self.master is not None and self.master.alive:
            self.master.die()
            self.world.at(self.world.dice.choice([0.02, 0.3, 1.0, 6.0]), self.start_master)

    def misfortunes_soon(self) -> None:
        """While something is under way."""
        for _ in range(self.world.dice.choice([1, 1, 2, 3])):
            self.world.at(self.world.dice.choice([0.01, 0.05, 0.3]) * self.world.dice.random(),
                          self._misfortune)

    def _misfortune(self) -> None:
        if not self.world.chaos:
            return
        world, dice = self.world, self.world.dice
        node = dice.choice(list(self.nodes.values()))
        match dice.choices(_MISFORTUNES, _SHARES)[0]:
            case "cut":
                for conn in self.net.of(node.name):
                    if world.likely(0.6) and not conn.broken:
                        world.say("a connection of", node.name, "is cut")
                        conn.cut(dice.choice([0.01, 1.0, 20.0]))
            case "part":
                self.net.part(node.name, dice.choice([0.2, 3.0, 20.0]) * dice.random())
            case "kill master":
                self._kill_master()
            case "kill agent":
                node.kill_agent()
            case "kill keeper":
                node.kill_keeper()
            case "power":
                node.power_cut()
            case "stop":
                who = dice.choice([self.master, node.agent, node.keeper, *self.operators])
                if who is not None:
                    who.stop(dice.choice([0.03, 0.5, 12.0]) * dice.random())
            case "reinstall":
                node.power_cut()
                node.kernel.reinstall()
            case "master's disk":
                self.disk.full = not self.disk.full
                world.say("the master's disk is", "full" if self.disk.full else "not full")
            case "disk":
                node.kernel.journal.full = not node.kernel.journal.full

    # ---- one run ---------------------------------------------------------------------------

    def run(self) -> None:
        """All of it.  Raises Broken, or what a core raised."""
        world = self.world
        self.start_master()
        for node in self.nodes.values():
            world.at(world.between(0.0, 1.0), node.start)
        self._register()
        for _ in range(world.dice.choice([0, 4, 10, 25])):
            world.at(world.between(1.0, CHAOS_S), self._misfortune)
        for operator in self.operators:
            for _ in range(world.dice.randrange(6, 28)):
                world.at(world.between(0.5, CHAOS_S), operator.do_something)
        world.run(CHAOS_S)
        self._calm_down()
        world.run(CHAOS_S + SETTLE_S)
        self._end()

    def _register(self) -> None:
        """Someone registers each node that waits, until it is."""
        for name, node in self.nodes.items():
            if node.listens:
                self.operators[0].ask(op.Register(1_000_000, "10.0.0.2", 15441, name, CODE))
                self.world.at(1.5, self._register_again, name)

    def _register_again(self, name: str) -> None:
        known = self.master.core.registry.nodes.get(name) if self.master else None
        if known is None or not known.called or known.state is State.LEFT:
            operator = self.operators[0]
            number = operator._number()
            operator.ask(op.Register(number, "10.0.0.2", 15441, name, CODE))
        self.world.at(4.0, self._register_again, name)

    def _calm_down(self) -> None:
        """The faults stop; every program comes to its end."""
        world = self.world
        world.chaos = False
        world.say("--- calm")
        for name in list(self.net.apart):
            self.net.join(name)
        self.disk.full = False
        self.start_master()
        for node in self.nodes.values():
            node.kernel.journal.full = False
            node.start_if_down()
            world.at(12.0, node.start_if_down)
            world.at(20.0, node.kernel.end_all)
            for when in (6.0, 14.0):
                world.at(when, self._free_name, node)

    def _free_name(self, node: Node) -> None:
        """The name of a lost machine goes to another only when somebody says so."""
        known = self.master.core.registry.nodes.get(node.name) if self.master else None
        if known is not None and known.node not in ("", node.kernel.identity["node"]):
            operator = self.operators[0]
            operator.ask(op.Deregister(operator._number(), node.name))

    def _end(self) -> None:
        """What must hold when nothing has happened for a while."""
        master = self.master
        assert master is not None
        for operator in self.operators:
            if operator.pending:
                raise Broken(f"{operator.name} still waits: {list(operator.pending.values())}")
        core = master.core
        left = {
            "orders": core.orders._pending, "launches": core.launches._waiting,
            "readings": core.follows._readings, "streams": core.follows._streams,
            "waits": core.waits._waits, "upgrades": core.upgrades._upgrades,
            "confirms": core.confirms._waiting, "copies": core.copies._copies,
            "openings": core.nodes._opening, "registering": core.nodes._registering,
        }
        if any(left.values()):
            raise Broken(f"the master keeps {({k: v for k, v in left.items() if v})}"[:2000])
        for name, node in self.nodes.items():
            self._end_of(name, node)

    def _end_of(self, name: str, node: Node) -> None:
        assert self.master is not None and node.keeper is not None and node.agent is not None
        known = self.master.core.registry.nodes.get(name)
        if known is None or known.state is not State.UP or known.control is None:
            raise Broken(f"{name} is {known and known.state} to the master")
        if known.stream is None:
            raise Broken(f"{name} has no stream to the master")
        agent = node.agent.core
        assert agent is not None
        truth = node.keeper.ledger.tasks
        if agent.tasks != truth:
            raise Broken(f"the agent of {name} knows {_odd(agent.tasks, truth)}")
        # What was never answered may have no record there: the master says so, and keeps it.
        reported = {
            t: v for t, v in known.tasks.items()
            if t in truth or v.status is not Status.UNKNOWN or v.pid is not None
        }
        if reported != truth:
            raise Broken(f"of {name} the master knows {_odd(reported, truth)}")
        on_disk = {t: v for t, (n, v) in self.disk.tasks.items() if n == name}
        if on_disk != known.tasks:
            raise Broken(f"of {name} the disk has {_odd(on_disk, known.tasks)}")
        for task in truth.values():
            self.truth.check(name, task)
            if not task.status.ended and task.status is not Status.UNKNOWN:
                raise Broken(f"{task.id} on {name} is {task.status} to the end")
        if agent.starting or agent.asked:
            raise Broken(f"{name} waits for {agent.starting} {agent.asked}")
        if agent.follows or agent.measuring or agent.strangers or node.agent.followers:
            raise Broken(f"{name} keeps {agent.follows} {agent.measuring} {node.agent.followers}")


def _odd(one: dict[str, object], other: dict[str, object]) -> str:
    """Where two maps differ."""
    names = [n for n in one.keys() | other.keys() if one.get(n) != other.get(n)]
    return "; ".join(f"{n}: {one.get(n)} not {other.get(n)}" for n in sorted(names))


_TABLE = {
    "cut": 25, "part": 15, "kill master": 10, "kill agent": 10, "kill keeper": 8, "power": 4,
    "stop": 20, "disk": 6, "reinstall": 2, "master's disk": 6,
}
_MISFORTUNES, _SHARES = list(_TABLE), list(_TABLE.values())
