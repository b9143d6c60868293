"""Faults put into the cores of moves and their shells, each of which the simulator must catch.

Each is one mistake that somebody could make: those of the reference model, and more.  Not among
them, because the rest of the protocol makes good for it: the source's ``finishing`` not durable (it
is frozen again after a power cut, and told again to end); the owner written apart from the move, or
a verdict told while the disk is full (a master that starts finds out what became of a move).
"""

from collections.abc import Iterator

from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.copies import Copies
from clientd.keeper.moves.core import Moves
from clientd.keeper.moves.freezing import Freezing
from clientd.keeper.moves.frozen import Frozen
from clientd.keeper.moves.here import step, tell
from clientd.keeper.moves.mishaps import Mishaps
from clientd.keeper.moves.prepared import Prepared
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.moves.verdicts import Verdicts
from clientd.keeper.records import Moved
from godwit.wire import messages as wire
from masterd import actions as act
from masterd.core import Master
from masterd.moves.core import Moves as Flights
from masterd.moves.decisions import Decisions
from masterd.moves.flight import Flight
from masterd.moves.silence import Silence
from masterd.moves.strays import Strays
from masterd.moves.table import Move, State
from masterd.registry import Node as Known
from tests.sim.flying_master import MasterSide
from tests.sim.flying_node import Node

# ---- the keeper's core ---------------------------------------------------------------------


class SourceTimeout(Mishaps):
    """A source that has voted goes on by itself when the stream ends."""

    def cut(self, move: str, code: str, text: str) -> Iterator[do.Action]:
        record = self._here.ledger.moves.get(move)
        if record is not None and record.part is Part.FROZEN:
            yield from self._frozen.resume(step(record, Cause.ABORTED))
        else:
            yield from super().cut(move, code, text)


class DestinationTimeout(Mishaps):
    """A destination that has voted takes silence for a commit."""

    def cut(self, move: str, code: str, text: str) -> Iterator[do.Action]:
        record = self._here.ledger.moves.get(move)
        if record is not None and record.part is Part.PREPARED:
            yield from self._prepared.commit(record)
        else:
            yield from super().cut(move, code, text)


class RenouncedInMemory(Moves):
    """That it will never run is told, and not put on record."""

    def handle(self, event: do.Event) -> Iterator[do.Action]:
        for action in super().handle(event):
            if not (isinstance(action, do.Note) and action.record.part is Part.RENOUNCED):
                yield action


class RestoredTwice(Mishaps):
    """A copy that was consumed and is gone is restored once more."""

    def returned(self, move: str, alive: bool) -> Iterator[do.Action]:
        record = self._here.ledger.moves[move]
        if record.part is Part.CONSUMED and not alive and record.incoming is not None:
            yield do.Note(replace(record, image=self._here.image(move)))
            yield from self._copies.bear(record, record.incoming)
        else:
            yield from super().returned(move, alive)


class VotedUnsynced(Freezing):
    """The source votes before its image is on the disk."""

    def stood_still(self, event: do.StoodStill) -> Iterator[do.Action]:
        yield from super().stood_still(event)
        yield from self.synced(event.move, {})


class BornAfterReboot(Prepared):
    """The destination counts on an image that its machine may have lost."""

    def commit(self, record: Moved) -> Iterator[do.Action]:
        yield from super().commit(replace(record, boot=self._here.boot))


class AnyMove(Verdicts):
    """A verdict is taken for that of whatever move the task is in; the epoch is not compared."""

    def verdict(self, order: orders.Verdict) -> Iterator[do.Action]:
        record = self._here.of_task(order.task)
        if record is not None:
            order = replace(order, move=record.move, epoch=record.epoch)
        yield from super().verdict(order)


class NotedAfterThaw(Copies):
    """A copy runs before it is on record that its state has been used."""

    def take_over(self, record: Moved, loaded: do.Loaded) -> Iterator[do.Action]:
        actions = list(super().take_over(record, loaded))
        yield from reversed(actions)


class ImageKept(Frozen):
    """A source that has gone on still counts on its image."""

    def resume(self, record: Moved) -> Iterator[do.Action]:
        for action in super().resume(record):
            yield do.Note(record, durable=True) if isinstance(action, do.Note) else action


class DroppedEarly(Freezing):
    """The source drops its image once it has voted."""

    def synced(self, move: str, phases: dict[str, float]) -> Iterator[do.Action]:
        yield from super().synced(move, phases)
        yield do.DropFiles(move, self._here.ledger.moves[move].task)


class KilledEarly(Freezing):
    """The source ends its frozen copy once it has voted."""

    def synced(self, move: str, phases: dict[str, float]) -> Iterator[do.Action]:
        yield from super().synced(move, phases)
        yield do.DropFiles(move, self._here.ledger.moves[move].task)
        yield do.KillCopy(move, self._here.ledger.moves[move].task)


class ThawedUnnoted(Freezing):
    """A source that refuses goes on, and nothing says so."""

    def unfreeze(self, record: Moved, cause: Cause, code: str, text: str) -> Iterator[do.Action]:
        for action in super().unfreeze(record, cause, code, text):
            if not isinstance(action, do.Note):
                yield action


class EndedUnkilled(Prepared):
    """A copy that is superseded loses its record before its process."""

    def end(self, order: orders.Verdict, record: Moved | None) -> Iterator[do.Action]:
        if record is not None and record.part in (Part.CONSUMED, Part.RUNNING):
            record = step(record, Cause.SUPERSEDED)
            yield do.Note(record)
            yield from tell(record)
        else:
            yield from super().end(order, record)


class _Undurable(Moves):
    """A record that must be on the disk is written with the others."""

    part = Part.FROZEN

    def handle(self, event: do.Event) -> Iterator[do.Action]:
        for action in super().handle(event):
            if isinstance(action, do.Note) and action.record.part is self.part:
                action = do.Note(action.record)
            yield action


class FrozenUndurable(_Undurable):
    part = Part.FROZEN


class PreparedUndurable(_Undurable):
    part = Part.PREPARED


class ConsumedUndurable(_Undurable):
    part = Part.CONSUMED


class ResumingUndurable(_Undurable):
    part = Part.RESUMING


def node_of(fault: type) -> type[Node]:
    """A node whose keeper has this core, or this part in its core."""

    class Faulty(Node):
        def make(self) -> Moves:
            core = fault if issubclass(fault, Moves) else Moves
            made = core(self.ledger, f"boot {self.machine.boots}", "images")
            infect(made, fault)
            return made

    return Faulty


def infect(core: object, fault: type) -> None:
    """The part of the core that the fault is derived from has it from now on."""
    for part in vars(core).values():
        if type(part) is fault.__base__:
            part.__class__ = fault


# ---- the master's core ---------------------------------------------------------------------


class RevertOnTimeout(Silence):
    """A silent destination is taken for one that will never run the task."""

    def _committed(self, flight: Flight) -> Iterator[act.Action]:
        yield from super()._committed(flight)
        if flight.held:
            owing = (flight.move.source, flight.move.target)
            yield from self._decisions.revert(flight, "timeout", flight.held, owing)


class KillAtCommit(Decisions):
    """The source is told to end its copy with the commit, not after the destination runs it."""

    def commit_if_voted(self, flight: Flight) -> Iterator[act.Action]:
        yield from super().commit_if_voted(flight)
        move, node = flight.move, self._here.registry.nodes[flight.move.source]
        if move.state is State.COMMITTED and node.control is not None:
            yield act.Send(node.control, wire.Verdict(
                move.id, move.task, move.owner_epoch, "finish"
            ))


class OneVote(Decisions):
    """The source's vote counts for both."""

    def commit_if_voted(self, flight: Flight) -> Iterator[act.Action]:
        flight.prepared = flight.prepared or flight.frozen
        yield from super().commit_if_voted(flight)


class OtherVote(Decisions):
    """The destination's vote counts for both."""

    def commit_if_voted(self, flight: Flight) -> Iterator[act.Action]:
        flight.frozen = flight.frozen or flight.prepared
        yield from super().commit_if_voted(flight)


class FinishUnheard(Silence):
    """A committed move counts as one that ran once the commit has been told twice."""

    def _committed(self, flight: Flight) -> Iterator[act.Action]:
        yield from super()._committed(flight)
        yield from self._decisions.ran(flight, wire.Standing(
            flight.move.id, flight.move.task, flight.move.epoch + 1, "running"
        ))


class SourceFirst(Strays):
    """Of a move that is not on record, the source goes on before the destination has given up."""

    def said_of_found(
        self, flight: Flight, node: Known, standing: wire.Standing
    ) -> Iterator[act.Action]:
        move = flight.move
        if node.name == move.source and standing.state == "frozen":
            owing = (move.source, move.target)
            yield from self._decisions.abort(flight, move.code, move.reason, owing)
        else:
            yield from super().said_of_found(flight, node, standing)


class PresumedAbort(Flights):
    """What has no verdict on record had none."""

    def load(self, moves: list[Move], now: float) -> None:
        super().load(moves, now)
        for flight in self._here.flights.values():
            if flight.move.state is State.UNSURE and flight.move.code == "restarted":
                flight.move = replace(flight.move, state=State.INTENT)


def master_of(fault: type) -> type[MasterSide]:
    """A master whose moves have this core, or this part in their core."""

    class Faulty(MasterSide):
        def make(self) -> Master:
            made = super().make()
            core = fault if issubclass(fault, Flights) else Flights
            made.moves = core(
                made.registry, made.history, made.admission.leaves,
                made.admission._secret, made.sources.texts,
                lambda task, node: made.follows.moved(task.id, node),
            )
            infect(made.moves, fault)
            return made

    return Faulty


# ---- the shells ----------------------------------------------------------------------------


class ToldUnstored(MasterSide):
    """Verdicts do not wait for the disk."""

    def _perform(self, actions: list[act.Action], life: int) -> None:
        super()._perform([a for a in actions if not isinstance(a, act.Commit)], life)


class ThawsAnything(Node):
    """The shell does what follows a record that could not be written."""

    def _note(self, record: Moved, durable: bool) -> bool:
        super()._note(record, durable)
        return True


KEEPERS: dict[type, str] = {
    SourceTimeout: "hard", DestinationTimeout: "hard", RenouncedInMemory: "late",
    RestoredTwice: "power", VotedUnsynced: "power", BornAfterReboot: "power", AnyMove: "late",
    NotedAfterThaw: "keepers", ImageKept: "keepers", DroppedEarly: "power", KilledEarly: "usual",
    ThawedUnnoted: "hard", EndedUnkilled: "reckless", FrozenUndurable: "power",
    PreparedUndurable: "power", ConsumedUndurable: "power", ResumingUndurable: "power",
}
MASTERS: dict[type, str] = {
    RevertOnTimeout: "partitions", KillAtCommit: "hard", OneVote: "usual", OtherVote: "hard",
    FinishUnheard: "usual", SourceFirst: "amnesia", PresumedAbort: "amnesia",
}
SHELLS: dict[type[MasterSide] | type[Node], str] = {
    ToldUnstored: "power", ThawsAnything: "hard",
}
