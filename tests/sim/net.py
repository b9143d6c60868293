"""A fake network: connections that keep their order, and lose, hold and delay what they carry."""

from collections import deque
from collections.abc import Callable

from tests.sim.world import Process, World


class End:
    """One end of a connection, as its process has it."""

    def __init__(self, owner: Process):
        self.owner = owner
        self.open = True
        self.conn: Conn
        self.peer: End
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.on_closed: Callable[[str], None] = lambda reason: None
        #: When the last thing sent to this end arrives: nothing overtakes it.
        self.last_at = 0.0

    def send(self, data: bytes) -> None:
        if self.open:
            self.conn.carry(self.peer, data)

    def close(self, reason: str) -> None:
        """What was sent still arrives; then the other end sees the end."""
        if not self.open:
            return
        self.open = False
        # A connection with unsent bytes lingers when the other side is out of reach.
        held = self.conn.held is not None
        pause = self.owner.world.between(0, 20) if held and self.conn.world.likely(0.5) else 0.0
        self.owner.later(pause, self.on_closed, reason)
        self.conn.carry(self.peer, None)

    def ended(self, reason: str) -> None:
        """The other end is gone."""
        if self.open:
            self.open = False
            self.on_closed(reason)


class Conn:
    """A connection; ``local`` ones are a machine's own and never fail by themselves."""

    def __init__(self, world: World, one: Process, other: Process, *, local: bool = False):
        self.world = world
        self.ends = (End(one), End(other))
        for end, peer in (self.ends, self.ends[::-1]):
            end.conn, end.peer = self, peer
        self.local = local
        self.pace = 0.0001 if local else world.dice.choice([0.0005, 0.01, 0.08])
        self.broken = False
        #: While a partition lasts: what is under way.
        self.held: deque[tuple[End, bytes | None]] | None = None

    def carry(self, to: End, data: bytes | None) -> None:
        if self.broken:
            return
        if self.held is not None:
            self.held.append((to, data))
            return
        world = self.world
        delay = self.pace * (0.5 + world.dice.random())
        if not self.local and world.bad_luck(0.02):
            delay += world.between(0.0, 2.0)
        to.last_at = max(to.last_at + 1e-6, world.now + delay)
        world.at(to.last_at - world.now, self._arrive, to, data)

    def _arrive(self, to: End, data: bytes | None) -> None:
        if self.broken:
            return
        if data is None:
            to.owner.later(0, to.ended, "closed by the other end")
        else:
            to.owner._now(self._taken, (to, data))

    @staticmethod
    def _taken(to: End, data: bytes) -> None:
        if to.open:
            to.on_data(data)

    def hold(self) -> None:
        if self.held is None:
            self.held = deque()

    def let_go(self) -> None:
        held, self.held = self.held, None
        for to, data in held or ():
            self.carry(to, data)

    def cut(self, slow: float = 0.5) -> None:
        """What is under way is lost; each end notices in its own time."""
        if self.broken:
            return
        self.broken = True
        for end in self.ends:
            end.owner.later(self.world.between(0.0, slow), end.ended, "connection reset")

    @property
    def over(self) -> bool:
        return not self.ends[0].open and not self.ends[1].open


class Net:
    """All connections between nodes and the master, and who is cut off from whom."""

    def __init__(self, world: World):
        self.world = world
        self.conns: dict[Conn, str] = {}
        self.apart: set[str] = set()

    def connect(self, node: str, one: Process, other: Process) -> Conn:
        self.conns = {conn: name for conn, name in self.conns.items() if not conn.over}
        conn = Conn(self.world, one, other)
        self.conns[conn] = node
        return conn

    def of(self, node: str) -> list[Conn]:
        return [conn for conn, name in self.conns.items() if name == node and not conn.over]

    def part(self, node: str, for_s: float) -> None:
        """Nothing gets through; what was sent arrives afterwards, as TCP does it."""
        if node in self.apart:
            return
        self.world.say("partition of", node, "for", round(for_s, 2))
        self.apart.add(node)
        for conn in self.of(node):
            conn.hold()
        self.world.at(for_s, self.join, node)

    def join(self, node: str) -> None:
        self.world.say("partition of", node, "is over")
        self.apart.discard(node)
        for conn in self.of(node):
            conn.let_go()

    def gone(self, who: Process, *, silently: bool) -> None:
        """A process ended: the kernel tells the others, unless the machine went with it."""
        for conn in [c for c in self.conns if who in (c.ends[0].owner, c.ends[1].owner)]:
            conn.cut(30.0 if silently else 0.2)
