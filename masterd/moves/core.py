"""Moves under way: who is asked what, and when the owner changes.  Pure.

    Reserve -> target | reserved       Freeze -> source | frozen, and prepared at the target
    both votes: the owner's record changes, durably; then Verdict commit -> target | running;
    then Verdict finish -> source | finished.  Whatever fails before: Verdict abort -> both.

It is made of parts, each with one idea, that share the moves (masterd/moves/here.py); this module
only says which part hears of what.
"""

from collections.abc import Callable, Iterator, Mapping

from msgspec.structs import replace

from godwit.task.record import Task
from godwit.wire import messages as wire
from masterd import actions as do
from masterd.history import History
from masterd.moves import found
from masterd.moves.asking import Asking
from masterd.moves.decisions import Decisions
from masterd.moves.ending import Ending
from masterd.moves.ends import Ends
from masterd.moves.flight import Flight
from masterd.moves.here import QUIET_S, Here
from masterd.moves.mishaps import Mishaps
from masterd.moves.objections import Objections
from masterd.moves.owners import Owners
from masterd.moves.resolving import Resolving
from masterd.moves.silence import Silence
from masterd.moves.strays import Strays
from masterd.moves.table import Cause, Move, State, advance
from masterd.moves.verdicts import Verdicts
from masterd.registry import Node, Registry


class Moves:
    """All moves."""

    def __init__(
        self, registry: Registry, history: History, leaves: Mapping[str, tuple[str, ...]],
        secret: Callable[[int], str], sources: Mapping[str, bytes],
        moved: Callable[[Task, Node], Iterator[do.Action]],
        forget: Callable[[Node, str], Iterator[do.Action]],
    ):
        """``leaves``: by node, the certificates that are its own.  ``sources``: programs' texts by
        their digest.  ``moved`` tells the rest of the core that a task runs on another node;
        ``forget`` that its node does not have it."""
        self._forget = forget
        self._here = here = Here(registry, history)
        self._owners = owners = Owners(here)
        self._verdicts = verdicts = Verdicts(here)
        self._ending = ending = Ending(here, moved, self._closed)
        self._decisions = decisions = Decisions(here, owners, verdicts, ending)
        self._objections = Objections(here)
        self._asking = Asking(here, self._objections, decisions, leaves, secret, sources)
        self._ends = Ends(here, decisions, verdicts, ending, leaves)
        self._strays = Strays(here, owners, decisions, verdicts, ending, self.said)
        self._silence = Silence(here, decisions, verdicts, ending)
        self._mishaps = Mishaps(here, decisions, ending)
        self._resolving = Resolving(here, owners, decisions, verdicts, ending)
        #: What the rest of the core asks of a part, and tells it.
        self.past: Mapping[str, Move] = here.past
        self.is_moving, self.is_part, self.claimed = here.is_moving, here.is_part, here.claimed
        self.unplaced, self.unsettled = here.unplaced, here.unsettled
        self.listed, self.missed = here.listed, here.missed
        self.check, self.objections = self._objections.check, self._objections.objections
        self.begin = self._asking.begin
        self.resolve = self._resolving.resolve
        self.after = ending.after
        self.reported = verdicts.reported
        self.look_again = self._strays.look_again
        self.ended, self.left = self._mishaps.ended, self._mishaps.left
        self.cancel = self._mishaps.cancel
        self.late, self.deadline = self._silence.late, self._silence.deadline

    def load(self, moves: list[Move], now: float) -> None:
        """What was on record when the master started: what had no verdict will be aborted, if it
        turns out that it had none."""
        for move in moves:
            if move.settled:
                self._here.shelve(move)
                continue
            if move.state is State.INTENT:
                move = replace(
                    move, state=advance(move.state, Cause.RESTARTED), code=found.RESTARTED,
                    reason="the master was started again before it was decided",
                )
            self._here.add(Flight(move, due=now, freezing=True))

    def at(self, now: float, wall: float) -> None:
        """Before anything else in a turn."""
        self._here.now, self._here.wall = now, wall

    def said(self, node: Node, standing: wire.Standing) -> Iterator[do.Action]:
        """A node repeats what it has on record of a move.  It speaks only for itself."""
        flight = self._here.flights.get(standing.move)
        if flight is None:
            past = self._here.past.get(standing.move)
            if past is not None:
                yield from self._verdicts.tell_past(past, node, standing)
            else:
                yield from self._strays.unknown(node, standing)
            return
        move = flight.move
        if standing.task != move.task or node.name not in (move.source, move.target):
            return
        if move.state is State.INTENT:
            flight.due = self._here.now + QUIET_S
        if move.state is State.UNSURE:
            yield from self._strays.said_of_found(flight, node, standing)
        elif node.name == move.target:
            yield from self._ends.target_said(flight, node, standing)
        else:
            yield from self._ends.source_said(flight, standing)

    def _closed(self, flight: Flight) -> Iterator[do.Action]:
        """A move is settled: what waited for that goes on."""
        move = flight.move
        if move.code in (found.CODE, found.RESTARTED):
            yield from self._owners.believe(move)
        if self._owners.is_nowhere(flight):
            self._owners.doubt(flight)
            yield from self._forget(self._here.registry.where[move.task], move.task)
        yield from self._asking.start_waiting()
        yield from self._strays.look_again(move.task)
