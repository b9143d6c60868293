"""The real agent's core on a fake machine: what clientd/agent.py does, without a socket."""

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from clientd import actions as do
from clientd import core
from clientd import events as on
from clientd.keeper import orders
from godwit.wire import frames, messages
from godwit.wire.session import Session
from tests.sim.net import End
from tests.sim.ticks import Ticks
from tests.sim.transfers import Transfers
from tests.sim.world import Process, World

if TYPE_CHECKING:
    from tests.sim.node import Node

#: Small, so that the window is often full.
CHUNK, WINDOW = 40, 160

_OPENED = {
    "control": messages.decode_from_master,
    "stream": messages.decode_stream_from_master,
}


class Follower:
    """clientd.follow.Follower with a log in memory."""

    def __init__(self, agent: "Agent", start: do.StartFollow):
        self._agent = agent
        self._start = start
        self._live = start.live
        self._credit = WINDOW
        log = self._log()
        self._offset = min(start.offset, len(log)) if log is not None else 0
        if log is not None and start.lines is not None:
            ends = [i + 1 for i, byte in enumerate(log) if byte == 10]
            lines = [0, *ends[:-1]] if log.endswith(b"\n") else [0, *ends]
            tail = len(log) if start.lines <= 0 else lines[max(0, len(lines) - start.lines)]
            self._offset = max(self._offset, tail)
        self.open = True

    def _log(self) -> bytearray | None:
        return self._agent.node.kernel.logs.get(self._start.task)

    def begin(self) -> None:
        if self._log() is None:
            self._end("no-log", "its log cannot be read")
            return
        self._agent.node.kernel.on_growth[id(self)] = (self._start.task, self._grown)
        self.pump()

    def _grown(self) -> None:
        self._agent.later(0, self.pump)

    def finish(self) -> None:
        self._live = False
        self.pump()

    def grant(self, count: int) -> None:
        self._credit = min(self._credit + count, 2 * WINDOW)
        self.pump()

    def pump(self) -> None:
        while self.open and self._credit > 0:
            log = self._log() or b""
            data = bytes(log[self._offset:self._offset + min(CHUNK, self._credit)])
            if not data:
                if not self._live:
                    self._end()
                return
            self._send(messages.Chunk(self._start.stream, self._offset, data))
            self._offset += len(data)
            self._credit -= len(data)

    def _send(self, message: messages.Message) -> None:
        self._agent.transmit(self._start.link, message)

    def _end(self, code: str = "", text: str = "") -> None:
        self._send(messages.Ended(self._start.stream, self._offset, code, text))
        self.close()
        self._agent.follow_ended(self._start.stream, self)

    def close(self) -> None:
        self.open = False
        self._agent.node.kernel.on_growth.pop(id(self), None)


class Agent(Process):
    """One life of one agent."""

    def __init__(self, world: World, node: "Node"):
        super().__init__(world, f"{node.name}.agent")
        self.node = node
        self.core: core.Agent | None = None
        self.links: dict[int, tuple[End, Session]] = {}
        self.followers: dict[int, Follower] = {}
        self.transfers = Transfers(self)
        self._cutter = frames.Frames(frames.LOCAL_LIMIT)
        self._keeper: End
        self._numbers = 0
        self._ticks = Ticks(self, lambda: self.handle(on.Tick()))

    def meet(self, keeper: End) -> None:
        """The pipe to the keeper is there."""
        self._keeper = keeper
        keeper.on_data = self._hear
        keeper.on_closed = lambda reason: self.die()

    def die(self) -> None:
        """At once; what it had sent still arrives."""
        if self.alive:
            self._end()
            self._keeper.close("the agent died")
            self.node.cluster.net.gone(self, silently=False)

    def vanish(self) -> None:
        """With its machine: nobody is told."""
        if self.alive:
            self._end()
            self.node.cluster.net.gone(self, silently=True)

    def _end(self) -> None:
        self.alive = False
        for follower in list(self.followers.values()):
            follower.close()

    # ---- events in -------------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        for payload in self._cutter.feed(data):
            word = orders.decode_word(payload)
            if isinstance(word, orders.Facts):
                kept = self.node.kernel.identity
                identity = core.Identity(
                    kept["node"], f"{self.world.dice.getrandbits(64):x}", kept["master"], "Linux"
                )
                self.core = core.Agent(identity, self.world.dice.random)
            self.handle(on.KeeperTold(word))

    def handle(self, event: on.Event) -> None:
        if self.core is None or not self.alive:
            return
        for action in self.core.handle(event, self.world.now):
            self._do(action)
        self._ticks.sleep_till(self.core.deadline(), isinstance(event, on.Tick))

    @property
    def reachable(self) -> bool:
        """It listens, and accepts."""
        return self.alive and self.core is not None and self.core.facts is not None

    def new_link(self, end: End) -> int:
        self._numbers += 1
        number, session = self._numbers, Session()
        self.links[number] = (end, session)

        def received(data: bytes) -> None:
            for message in session.receive(data):
                self.handle(on.Received(number, message))
                if not end.open:
                    return

        def closed(reason: str) -> None:
            del self.links[number]
            self.handle(on.LinkClosed(number, reason))

        end.on_data, end.on_closed = received, closed
        return number

    def accepted(self, end: End) -> None:
        """The master called."""
        number = self.new_link(end)
        self.handle(on.LinkAccepted(number, "master"))
        self.later(5.0, self._drop_silent, number)

    def _drop_silent(self, number: int) -> None:
        if self.core is not None and number in self.core.strangers and number in self.links:
            self.links[number][0].close("said nothing")

    # ---- actions out -----------------------------------------------------------------------

    def transmit(self, link: int, message: messages.Message) -> None:
        if link in self.links:
            self.links[link][0].send(frames.encode(messages.encode(message)))

    def _do(self, action: do.Action) -> None:
        match action:
            case do.Dial(channel):
                self.node.cluster.dial_master(self, channel)
            case do.Send(link, message):
                self.transmit(link, message)
            case do.Open(link, channel):
                self.links[link][1].opened(_OPENED[channel])
            case do.Close(link, reason):
                if link in self.links:
                    self.links[link][0].close(reason)
            case do.Tell(order):
                self._keeper.send(frames.encode(orders.encode(order), frames.LOCAL_LIMIT))
            case do.Remember(master):
                self.node.kernel.identity["master"] = master
            case do.TakeLoad():
                self.handle(on.LoadTaken(messages.Load(cpus=1)))
            case do.TakeUsage(order):
                assert self.core is not None
                self.handle(on.UsageTaken(order, self.core.children, {}))
            case do.StartFollow(stream=stream):
                self.followers[stream] = Follower(self, action)
                self.followers[stream].begin()
            case do.FinishFollow(stream):
                self._follower(stream, lambda follower: follower.finish())
            case do.GrantFollow(stream, count):
                self._follower(stream, lambda follower: follower.grant(count))
            case do.DropFollow(stream):
                follower = self.followers.pop(stream, None)
                if follower is not None:
                    follower.close()
            case do.StartTransfer(transfer):
                self.transfers.start(transfer)
            case do.DropTransfer(order):
                self.transfers.drop(order)
            case do.EraseFile(order):
                self.later(0.01, self.handle, on.WorkEnded(order))
            case do.DropLogTimes() | do.Say():
                pass
            case do.Exit():
                self.later(0.05, self.die)
            case _:
                assert_never(action)

    def _follower(self, stream: int, act: Callable[[Follower], None]) -> None:
        if stream in self.followers:
            act(self.followers[stream])

    def follow_ended(self, stream: int, follower: Follower) -> None:
        if self.followers.get(stream) is follower:
            del self.followers[stream]
        self.later(0, self.handle, on.FollowEnded(stream))
