"""Moves as the agent sees them: it carries the bytes, the keeper decides, the master rules.

Pure: the agent's core hands on what concerns a move, and does what comes back.  A move has a
*ship* at either end (clientd.shipping).  How far it is, a table (``Stage``):

    source:       streaming --caught up--> freezing --grows--> sending --snapped--> shipping
                                           freezing --snapped--> shipping
    destination:  asked --landing--> opening --opened--> waiting --landed--> landed

What is not in the table has been done before, or came too late, and is left undone: every message
of a move may come twice.  A ship that failed is never begun again: whoever has not voted by then
refuses, and the keeper knows who has.

Of each move the last Standing is kept and said again on a new connection.  One that ends the
move here is kept until it has been sent: should it get lost, the master asks by its verdict.

That a task runs here is passed on once its log is on the disk: the source drops its own then.
"""

from collections.abc import Iterator, Mapping
from enum import Enum

from msgspec import Struct, field
from msgspec.structs import replace

from clientd import actions as do
from clientd import events as on
from clientd.keeper import orders
from godwit.task.record import Task
from godwit.wire import messages as wire

Asked = wire.Reserve | wire.Freeze | wire.Verdict
Told = orders.Standing | orders.Landing | orders.Growing | orders.Shipping
Happened = on.ShipAwaited | on.CaughtUp | on.Landed | on.ShipFailed | on.ShipProgressed
#: What is to be done; a Standing is for the master, if there is one.
Step = do.Action | wire.Standing


class Stage(Enum):
    """How far the ship of one move is at this end."""

    STREAMING = "streaming"
    FREEZING = "freezing"
    SENDING = "sending"
    SHIPPING = "shipping"
    ASKED = "asked"
    OPENING = "opening"
    WAITING = "waiting"
    LANDED = "landed"


class Cause(Enum):
    CAUGHT_UP = "caught up"
    GROWS = "grows"
    SNAPPED = "snapped"
    LANDING = "landing"
    OPENED = "opened"
    LANDED = "landed"


TABLE: dict[Stage, dict[Cause, Stage]] = {
    Stage.STREAMING: {Cause.CAUGHT_UP: Stage.FREEZING},
    Stage.FREEZING: {Cause.GROWS: Stage.SENDING, Cause.SNAPPED: Stage.SHIPPING},
    Stage.SENDING: {Cause.SNAPPED: Stage.SHIPPING},
    Stage.SHIPPING: {},
    Stage.ASKED: {Cause.LANDING: Stage.OPENING},
    Stage.OPENING: {Cause.OPENED: Stage.WAITING},
    Stage.WAITING: {Cause.LANDED: Stage.LANDED},
    Stage.LANDED: {},
}

#: After these a ship has nothing left to carry.
SETTLED = {
    "unfrozen", "resumed", "finished", "refused", "discarded", "running", "renounced", "lost",
}
#: After these no verdict is to come, unless the master did not hear of them.
OVER = SETTLED - {"unfrozen", "refused"}
#: Verdicts after which a ship has nothing left to carry.
UNWANTED = ("abort", "resume", "finish", "end")


def owner_of(task: Task) -> do.Owner | None:
    """Whose files travel with the task; none with one whose working directory has an absolute
    path: what is there at another node is not the task's to replace."""
    spec = task.spec
    return None if spec.cwd.startswith(b"/") else do.Owner(task.id, spec.user, spec.cwd)


class Ship(Struct):
    """One move's ship at this end, and what it was asked with."""

    asked: wire.Reserve | wire.Freeze
    stage: Stage
    #: What the source is to dial; 0 until that is open.
    port: int = 0
    #: Milliseconds that the snapshot took from the source's disk to this one.
    wire_ms: float = 0.0

    def advance(self, cause: Cause) -> bool:
        """Takes the step, if it is one."""
        stage = TABLE[self.stage].get(cause)
        self.stage = stage or self.stage
        return stage is not None

    def standing(self, state: wire.MoveState, code: str = "", text: str = "") -> wire.Standing:
        """What this agent says by itself of the move."""
        asked = self.asked
        task = asked.task.id if isinstance(asked, wire.Reserve) else asked.task
        return wire.Standing(asked.move, task, asked.epoch, state, code, text, self.port)


class Moves(Struct):
    """All moves from and to this node that are under way."""

    #: This machine's boot: which clock it is that Standings tell.
    boot: str = ""
    ships: dict[str, Ship] = field(default_factory=dict)
    #: The last word on each move.
    standings: dict[str, wire.Standing] = field(default_factory=dict)
    #: By move: that a task runs here, to be passed on once its log is on the disk.
    arrived: dict[str, orders.Standing] = field(default_factory=dict)

    def sent(self, standing: wire.Standing) -> None:
        """The master has been sent this; what is over can be forgotten."""
        if standing.state in OVER:
            self.standings.pop(standing.move, None)

    def forgotten(self, tasks: tuple[str, ...]) -> None:
        """The keeper forgot these tasks, and their moves with them."""
        gone = [move for move, last in self.standings.items() if last.task in tasks]
        for move in gone:
            del self.standings[move]
        self.arrived = {m: word for m, word in self.arrived.items() if word.task not in tasks}

    # ---- the master ------------------------------------------------------------------------

    def asked(self, message: Asked, tasks: Mapping[str, Task]) -> Iterator[Step]:
        """A message of the master's; ``tasks`` are all that are here."""
        match message:
            case wire.Verdict(move, task, epoch, verdict):
                yield do.Tell(orders.Verdict(move, task, epoch, verdict))
                if verdict in UNWANTED:
                    yield from self._settled(move)
            case _ if message.move in self.standings:
                yield self.standings[message.move]
            case wire.Reserve():
                yield from self._reserve(message)
            case wire.Freeze():
                yield from self._freeze(message, tasks.get(message.task))

    def _reserve(self, message: wire.Reserve) -> Iterator[Step]:
        # The source text may be long, and is the keeper's from here on.
        ship = Ship(replace(message, source=b""), Stage.ASKED)
        if self.ships.setdefault(message.move, ship).stage is Stage.ASKED:
            yield do.Tell(
                orders.Reserve(
                    message.move, message.task, message.epoch, message.source, message.peer,
                    message.lazy,
                )
            )

    def _freeze(self, message: wire.Freeze, task: Task | None) -> Iterator[Step]:
        if message.move in self.ships:
            return
        ship = Ship(message, Stage.STREAMING)
        if task is None:
            yield from self._say(ship.standing("unfrozen", "no-task", "no such task here"))
        elif not task.status.alive:
            yield from self._say(ship.standing("unfrozen", "ended", "the task has ended"))
        else:
            self.ships[message.move] = ship
            yield do.StartShip(
                message.move, message.address, message.ticket, message.leaves, task.log,
                owner_of(task), task.pid, lazy=message.lazy,
            )

    # ---- the keeper ------------------------------------------------------------------------

    def told(self, word: Told, tasks: Mapping[str, Task]) -> Iterator[Step]:
        """A word of the keeper's; ``tasks`` are all that are here."""
        ship = self.ships.get(word.move)
        if ship is None and not (isinstance(word, orders.Standing) and word.state != "reserved"):
            # An earlier agent was asked, and took its connection along.
            yield do.Tell(orders.Cut(word.move, "cut", "this node's agent ended meanwhile"))
            return
        match word:
            case orders.Landing(move, log, image):
                assert ship is not None
                if ship.advance(Cause.LANDING):
                    assert isinstance(ship.asked, wire.Reserve)
                    yield do.AwaitShip(
                        move, ship.asked.ticket, ship.asked.leaves, log, image,
                        owner_of(ship.asked.task), ship.asked.lazy,
                    )
            case orders.Growing(move, image):
                assert ship is not None
                if ship.advance(Cause.GROWS):
                    yield do.ShipGrowing(move, image)
            case orders.Shipping(move, _, image, log_size, size, files):
                assert ship is not None
                if ship.advance(Cause.SNAPPED):
                    yield do.ShipImage(move, image, log_size, size, files)
            case orders.Standing(state="reserved"):
                pass  # said with the port that AwaitShip opens
            case orders.Standing(state="running") if word.task in tasks:
                if word.move not in self.arrived:
                    yield do.SyncLog(word.move, tasks[word.task].log)
                self.arrived[word.move] = word
            case orders.Standing():
                yield from self._stands(word, ship)

    def synced(self, move: str) -> Iterator[Step]:
        """The log of a task that runs here is on the disk."""
        if word := self.arrived.pop(move, None):
            yield from self._stands(word, self.ships.get(move))

    def _stands(self, word: orders.Standing, ship: Ship | None) -> Iterator[Step]:
        phases = word.phases
        if ship is not None and ship.wire_ms:
            phases = {**phases, "wire": ship.wire_ms}
        if word.state in SETTLED:
            yield from self._settled(word.move)
        yield from self._say(wire.Standing(
            word.move, word.task, word.epoch, word.state, word.code, word.text,
            size=word.size, phases=phases, at=word.at, wall=word.wall, boot=self.boot,
            peer=word.peer,
        ))

    # ---- the ships -------------------------------------------------------------------------

    def happened(self, event: Happened) -> Iterator[Step]:
        """News of a ship; of one that was dropped there is nothing to do."""
        ship = self.ships.get(event.move)
        if ship is None:
            return
        match event:
            case on.ShipAwaited(_, port):
                if ship.advance(Cause.OPENED):
                    ship.port = port
                    yield from self._say(ship.standing("reserved"))
            case on.ShipProgressed(_, done, total):
                if ship.stage is Stage.STREAMING:
                    yield replace(ship.standing("streaming"), size=done, total=total)
            case on.CaughtUp(move):
                if ship.advance(Cause.CAUGHT_UP):
                    assert isinstance(ship.asked, wire.Freeze)
                    yield do.Tell(orders.Freeze(
                        move, ship.asked.task, ship.asked.epoch, ship.asked.peer,
                        ship.asked.lazy,
                    ))
            case on.Landed(move, size, wire_ms):
                if ship.advance(Cause.LANDED):
                    ship.wire_ms = wire_ms
                    yield do.Tell(orders.Landed(move, size))
            case on.ShipFailed(move, code, text):
                del self.ships[move]
                if ship.stage is Stage.STREAMING:  # the keeper does not know of it yet
                    yield from self._say(ship.standing("unfrozen", code, text))
                else:
                    yield do.Tell(orders.Cut(move, code, text))

    # ---- both ------------------------------------------------------------------------------

    def _settled(self, move: str) -> Iterator[Step]:
        self.standings.pop(move, None)
        if self.ships.pop(move, None) is not None:
            yield do.DropShip(move)

    def _say(self, standing: wire.Standing) -> Iterator[Step]:
        self.standings[standing.move] = standing
        yield standing
