"""What becomes of a move: committed, aborted, reverted, run.  Pure.

Each is recorded, with the task's owner if that changes, before any message tells of it.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from godwit.wire import messages as wire
from masterd import actions as do
from masterd.moves.ending import Ending
from masterd.moves.flight import Flight
from masterd.moves.here import Here
from masterd.moves.owners import Owners
from masterd.moves.table import Cause, State, advance
from masterd.moves.verdicts import Verdicts


class Decisions:
    def __init__(self, here: Here, owners: Owners, verdicts: Verdicts, ending: Ending):
        self._here = here
        self._owners = owners
        self._verdicts = verdicts
        self._ending = ending

    def finish(self, flight: Flight) -> Iterator[do.Action]:
        """The source's frozen copy is gone, or the source is no node of ours any more."""
        move = flight.move
        done = replace(move, state=advance(move.state, Cause.FINISHED), owing=())
        yield from self._owners.record(flight, done)
        yield from self._ending.close(flight)

    def commit_if_voted(self, flight: Flight) -> Iterator[do.Action]:
        """The commit point: the move and the task's owner, in one durable write."""
        if flight.frozen is None or flight.prepared is None:
            return
        move, task = flight.move, self._here.task(flight.move)
        if task is None or self._here.registry.where[move.task].name != move.source:
            yield from self.abort(flight, "gone", f"{move.task} is not on {move.source} any more")
            return
        flight.mark("voted", self._here.now)
        committed = replace(move, state=advance(move.state, Cause.VOTED), owing=(move.target,))
        given = self._owners.give(flight, task, move.target, committed.owner_epoch)
        yield from self._owners.record(flight, committed, given)
        flight.mark("committed", self._here.now)
        yield from self._verdicts.tell(flight, move.target)

    def abort(
        self, flight: Flight, code: str, reason: str, owing: tuple[str, ...] | None = None
    ) -> Iterator[do.Action]:
        move = flight.move
        if flight in self._here.queue:
            self._here.queue.remove(flight)
        owing = (move.source, move.target) if owing is None else owing
        if not flight.freezing:
            owing = tuple(name for name in owing if name != move.source)  # it never heard of it
        flight.mark("decided", self._here.now)
        aborted = replace(
            move, state=advance(move.state, Cause.ABORTED), code=code, reason=reason,
            owing=owing, ended_at=self._here.wall,
        )
        given = None
        if move.state is State.UNSURE:
            self._ending.release(flight)
            if not self._owners.is_elsewhere(move):
                given = self._owners.give(flight, self._here.task(move), move.source, move.epoch)
        yield from self._owners.record(flight, aborted, given)
        yield from self._here.note("info", f"{move.task} stays on {move.source}: {reason}", move)
        for name in owing:
            yield from self._verdicts.tell(flight, name)
        if move.source not in owing:
            yield from self._ending.placed(flight)
        if not owing:
            yield from self._ending.close(flight)

    def revert(
        self, flight: Flight, code: str, reason: str, owing: tuple[str, ...]
    ) -> Iterator[do.Action]:
        """The destination never runs it, or it is given up: the source has it again."""
        move, task = flight.move, self._here.task(flight.move)
        reverted = replace(
            move, state=advance(move.state, Cause.RENOUNCED), code=code, reason=reason,
            owing=owing, ended_at=self._here.wall,
        )
        given = self._owners.give(flight, task, move.source, reverted.owner_epoch)
        self._ending.release(flight)
        flight.mark("decided", self._here.now)
        yield from self._owners.record(flight, reverted, given)
        yield from self._here.note(
            "warning", f"{move.task} goes back to {move.source}: {reason}", move
        )
        for name in owing:
            yield from self._verdicts.tell(flight, name)

    def drains(self, flight: Flight, standing: wire.Standing) -> Iterator[do.Action]:
        """It runs at the destination; the source is told nothing till that has all of it."""
        flight.mark("ran", self._here.now)
        self._ending.release(flight)
        landed = flight.landed(standing)
        move = replace(landed, state=advance(landed.state, Cause.DRAINS), owing=())
        yield from self._owners.record(flight, move)
        yield from self._here.note(
            "info", f"{move.task} runs on {move.target}, and some of its memory is still on "
            f"{move.source}", move,
        )
        yield from self._ending.placed(flight)

    def ran(self, flight: Flight, standing: wire.Standing) -> Iterator[do.Action]:
        flight.mark("ran", self._here.now)
        self._ending.release(flight)
        before = flight.move
        landed = before if before.state is State.DRAINING else flight.landed(standing)
        move = replace(
            landed, state=advance(before.state, Cause.RAN), owing=(before.source,),
            ended_at=self._here.wall,
        )
        yield from self._owners.record(flight, move)
        yield from self._verdicts.tell(flight, move.source)
        still = f", {move.blackout_ms:.0f} ms of it standing still" if move.blackout_ms else ""
        yield from self._here.note(
            "info", f"{move.task} moved from {move.source} to {move.target} in "
            f"{(move.ended_at - move.begun_at) * 1e3:.0f} ms{still}", move,
        )
        yield from self._ending.placed(flight)
