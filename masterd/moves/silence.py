"""What silence means: before the verdict the end of the move, after it nothing.  Pure."""

from collections.abc import Iterator

from masterd import actions as do
from masterd.moves.decisions import Decisions
from masterd.moves.ending import Ending
from masterd.moves.flight import Flight
from masterd.moves.here import QUIET_S, REPEAT_S, Here
from masterd.moves.table import Move, State
from masterd.moves.verdicts import Verdicts

#: Seconds after its commit when a move of which no word came is shown as held.
HELD_S = 8.0
#: Seconds after which whoever waits for a move hears that it is done, though the source has not
#: said yet that its frozen copy is gone.
PATIENCE_S = 3.0


class Silence:
    def __init__(self, here: Here, decisions: Decisions, verdicts: Verdicts, ending: Ending):
        self._here = here
        self._decisions = decisions
        self._verdicts = verdicts
        self._ending = ending

    def late(self) -> Iterator[do.Action]:
        """What silence means: before the verdict the end of the move, after it nothing."""
        for flight in list(self._here.flights.values()):
            if flight.due > self._here.now:
                continue
            flight.due = self._here.now + REPEAT_S
            match flight.move.state:
                case State.INTENT:
                    yield from self._decisions.abort(flight, "timeout", self._silence(flight))
                case State.COMMITTED:
                    yield from self._committed(flight)
                case State.DRAINING:
                    yield from self._draining(flight)
                case State.UNSURE:
                    yield from self._unsure(flight)
                case State.RAN:
                    yield from self._verdicts.repeat(flight, flight.move.source)
                    if self._here.now >= flight.marks.get("ran", 0.0) + PATIENCE_S:
                        yield from self._ending.answer(flight)
                case _:
                    for name in flight.move.owing:
                        yield from self._verdicts.repeat(flight, name)
                    if self._here.now >= flight.marks.get("decided", 0.0) + PATIENCE_S:
                        yield from self._ending.answer(flight)

    def _committed(self, flight: Flight) -> Iterator[do.Action]:
        yield from self._verdicts.repeat(flight, flight.move.target)
        flight.mark("committed", self._here.now)  # by an earlier master
        if self._here.now >= flight.marks["committed"] + HELD_S:
            yield from self._ending.hold(flight, self._silent_target(flight.move))

    def _draining(self, flight: Flight) -> Iterator[do.Action]:
        """A destination that is heard says by itself when it is over, or that it never will be."""
        move = flight.move
        yield from self._verdicts.repeat(flight, move.target)
        target = self._here.registry.nodes.get(move.target)
        if target is not None and target.control is not None:
            flight.marks.pop("silent", None)
            return
        flight.mark("silent", self._here.now)
        if self._here.now >= flight.marks["silent"] + HELD_S:
            yield from self._ending.hold(
                flight, f"{move.target}, where it runs, cannot be reached, and some of its memory "
                f"was still on {move.source}",
            )

    def _unsure(self, flight: Flight) -> Iterator[do.Action]:
        for name in (flight.move.source, flight.move.target):
            yield from self._verdicts.repeat(flight, name)
        flight.mark("found", self._here.now)  # by an earlier master
        if self._here.now >= flight.marks["found"] + HELD_S:
            yield from self._ending.hold(flight, self._silent_found(flight))

    def deadline(self) -> float:
        """Monotonic second at which ``late`` is wanted; infinity: never."""
        return min((flight.due for flight in self._here.flights.values()), default=float("inf"))

    def _silence(self, flight: Flight) -> str:
        move = flight.move
        waits_for = move.target if not flight.freezing or flight.frozen else move.source
        return f"{waits_for} said nothing for {QUIET_S:g} s"

    def _silent_target(self, move: Move) -> str:
        target = self._here.registry.nodes.get(move.target)
        if target is None or target.control is None:
            return f"{move.target} was given the task and cannot be reached"
        return f"{move.target} was given the task and has not said that it runs"

    def _silent_found(self, flight: Flight) -> str:
        name = flight.move.target if flight.frozen else flight.move.source
        return f"{flight.move.reason}, and {name or 'the other end'} does not say what became of it"
