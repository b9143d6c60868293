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
from clientd.keeper.moves.core import Moves, Ready
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.records import Moved
from godwit.wire import messages as wire
from masterd import actions as act
from masterd.core import Master
from masterd.moves import core as master
from masterd.moves.flight import Flight
from masterd.moves.table import Move, State
from masterd.registry import Node as Known
from tests.sim.flying_master import MasterSide
from tests.sim.flying_node import Node

# ---- the keeper's core ---------------------------------------------------------------------


class SourceTimeout(Moves):
    """A source that has voted goes on by itself when the stream ends."""

    def _cut(self, move: str, code: str, text: str) -> Iterator[do.Action]:
        record = self._ledger.moves.get(move)
        if record is not None and record.part is Part.FROZEN:
            yield from self._resume(self._step(record, Cause.ABORTED))
        else:
            yield from super()._cut(move, code, text)


class DestinationTimeout(Moves):
    """A destination that has voted takes silence for a commit."""

    def _cut(self, move: str, code: str, text: str) -> Iterator[do.Action]:
        record = self._ledger.moves.get(move)
        if record is not None and record.part is Part.PREPARED:
            yield from self._commit(record)
        else:
            yield from super()._cut(move, code, text)


class RenouncedInMemory(Moves):
    """That it will never run is told, and not put on record."""

    def handle(self, event: do.Event) -> Iterator[do.Action]:
        for action in super().handle(event):
            if not (isinstance(action, do.Note) and action.record.part is Part.RENOUNCED):
                yield action


class RestoredTwice(Moves):
    """A copy that was consumed and is gone is restored once more."""

    def _returned(self, record: Moved, alive: bool) -> Iterator[do.Action]:
        if record.part is Part.CONSUMED and not alive and record.incoming is not None:
            copy = self._copy(record.move)
            copy.ready, copy.wanted = Ready.BORN, True
            yield do.Note(replace(record, image=f"images/{record.move}"))
            yield do.Birth(record.move, record.incoming)
        else:
            yield from super()._returned(record, alive)


class VotedUnsynced(Moves):
    """The source votes before its image is on the disk."""

    def _stood_still(self, event: do.StoodStill) -> Iterator[do.Action]:
        yield from super()._stood_still(event)
        yield from self._synced(event.move, {})


class AnyMove(Moves):
    """A verdict is taken for that of whatever move the task is in; the epoch is not compared."""

    def _verdict(self, order: orders.Verdict) -> Iterator[do.Action]:
        record = self.of_task(order.task)
        if record is not None:
            order = replace(order, move=record.move, epoch=record.epoch)
        yield from super()._verdict(order)


class NotedAfterThaw(Moves):
    """A copy runs before it is on record that its state has been used."""

    def _take_over(self, record: Moved, loaded: do.Loaded) -> Iterator[do.Action]:
        actions = list(super()._take_over(record, loaded))
        yield from reversed(actions)


class ImageKept(Moves):
    """A source that has gone on still counts on its image."""

    def _resume(self, record: Moved) -> Iterator[do.Action]:
        for action in super()._resume(record):
            yield do.Note(record, durable=True) if isinstance(action, do.Note) else action


class DroppedEarly(Moves):
    """The source drops its image once it has voted."""

    def _synced(self, move: str, phases: dict[str, float]) -> Iterator[do.Action]:
        yield from super()._synced(move, phases)
        yield do.DropFiles(move, self._ledger.moves[move].task)


class KilledEarly(Moves):
    """The source ends its frozen copy once it has voted."""

    def _synced(self, move: str, phases: dict[str, float]) -> Iterator[do.Action]:
        yield from super()._synced(move, phases)
        yield do.DropFiles(move, self._ledger.moves[move].task)
        yield do.KillCopy(move, self._ledger.moves[move].task)


class ThawedUnnoted(Moves):
    """A source that refuses goes on, and nothing says so."""

    def _unfreeze(self, record: Moved, cause: Cause, code: str, text: str) -> Iterator[do.Action]:
        for action in super()._unfreeze(record, cause, code, text):
            if not isinstance(action, do.Note):
                yield action


class EndedUnkilled(Moves):
    """A copy that is superseded loses its record before its process."""

    def _end(self, order: orders.Verdict, record: Moved | None) -> Iterator[do.Action]:
        if record is not None and record.part in (Part.CONSUMED, Part.RUNNING):
            record = self._step(record, Cause.SUPERSEDED)
            yield do.Note(record)
            yield from self._tell(record)
        else:
            yield from super()._end(order, record)


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


def node_of(core: type[Moves]) -> type[Node]:
    """A node whose keeper has this core."""

    class Faulty(Node):
        def make(self) -> Moves:
            return core(self.ledger, f"boot {self.machine.boots}", "images")

    return Faulty


# ---- the master's core ---------------------------------------------------------------------


class RevertOnTimeout(master.Moves):
    """A silent destination is taken for one that will never run the task."""

    def _hold(self, flight: Flight, why: str) -> Iterator[act.Action]:
        if flight.move.state is State.COMMITTED:
            owing = (flight.move.source, flight.move.target)
            yield from self._revert(flight, "timeout", why, owing)
        else:
            yield from super()._hold(flight, why)


class KillAtCommit(master.Moves):
    """The source is told to end its copy with the commit, not after the destination runs it."""

    def _commit_if_voted(self, flight: Flight) -> Iterator[act.Action]:
        yield from super()._commit_if_voted(flight)
        move, node = flight.move, self._registry.nodes[flight.move.source]
        if move.state is State.COMMITTED and node.control is not None:
            yield act.Send(node.control, wire.Verdict(
                move.id, move.task, move.owner_epoch, "finish"
            ))


class OneVote(master.Moves):
    """The source's vote counts for both."""

    def _commit_if_voted(self, flight: Flight) -> Iterator[act.Action]:
        flight.prepared = flight.prepared or flight.frozen
        yield from super()._commit_if_voted(flight)


class OtherVote(master.Moves):
    """The destination's vote counts for both."""

    def _commit_if_voted(self, flight: Flight) -> Iterator[act.Action]:
        flight.frozen = flight.frozen or flight.prepared
        yield from super()._commit_if_voted(flight)


class FinishUnheard(master.Moves):
    """A committed move counts as one that ran once the commit has been told twice."""

    def _repeat(self, flight: Flight, name: str) -> Iterator[act.Action]:
        if flight.move.state is State.COMMITTED:
            yield from self._ran(flight, wire.Standing(
                flight.move.id, flight.move.task, flight.move.epoch + 1, "running"
            ))
        else:
            yield from super()._repeat(flight, name)


class SourceFirst(master.Moves):
    """Of a move that is not on record, the source goes on before the destination has given up."""

    def _said_of_found(
        self, flight: Flight, node: Known, standing: wire.Standing
    ) -> Iterator[act.Action]:
        move = flight.move
        if node.name == move.source and standing.state == "frozen":
            owing = (move.source, move.target)
            yield from self._abort(flight, move.code, move.reason, owing)
        else:
            yield from super()._said_of_found(flight, node, standing)


class PresumedAbort(master.Moves):
    """What has no verdict on record had none."""

    def load(self, moves: list[Move], now: float) -> None:
        super().load(moves, now)
        for flight in self._flights.values():
            if flight.move.state is State.UNSURE and flight.move.code == "restarted":
                flight.move = replace(flight.move, state=State.INTENT)


def master_of(core: type[master.Moves]) -> type[MasterSide]:
    """A master whose moves have this core."""

    class Faulty(MasterSide):
        def make(self) -> Master:
            made = super().make()
            made.moves = core(
                made.registry, made.history, made.admission.leaves,
                made.admission._secret, made.sources,
                lambda task, node: made.follows.moved(task.id, node),
            )
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


KEEPERS: dict[type[Moves], str] = {
    SourceTimeout: "hard", DestinationTimeout: "hard", RenouncedInMemory: "late",
    RestoredTwice: "power", VotedUnsynced: "power", AnyMove: "late",
    NotedAfterThaw: "keepers", ImageKept: "keepers", DroppedEarly: "power", KilledEarly: "usual",
    ThawedUnnoted: "hard", EndedUnkilled: "reckless", FrozenUndurable: "power",
    PreparedUndurable: "power", ConsumedUndurable: "power", ResumingUndurable: "power",
}
MASTERS: dict[type[master.Moves], str] = {
    RevertOnTimeout: "partitions", KillAtCommit: "hard", OneVote: "usual", OtherVote: "hard",
    FinishUnheard: "usual", SourceFirst: "amnesia", PresumedAbort: "amnesia",
}
SHELLS: dict[type[MasterSide] | type[Node], str] = {
    ToldUnstored: "power", ThawsAnything: "hard",
}
