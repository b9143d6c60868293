"""Telling nodes what is on record of their moves.  Pure.

A verdict is repeated until it is answered: on a clock, and on each new connection of a node.
"""

from collections.abc import Iterator
from typing import Literal

from godwit.wire import messages as wire
from masterd import actions as do
from masterd.moves.flight import Flight
from masterd.moves.here import Here
from masterd.moves.table import Move, State
from masterd.registry import Node

#: What a node that waits for a verdict says.
WAITING = ("frozen", "reserved", "prepared")

Verdict = Literal["commit", "abort", "resume", "finish", "end", "ask"]


class Verdicts:
    def __init__(self, here: Here):
        self._here = here

    def tell_past(
        self, past: Move, node: Node, standing: wire.Standing
    ) -> Iterator[do.Action]:
        """Of a move that is settled here, and not there."""
        if node.control is None or node.name not in (past.source, past.target):
            return
        verdict = _verdict(past, node.name)
        if verdict and standing.state in WAITING:
            yield do.Send(
                node.control, wire.Verdict(past.id, past.task, past.owner_epoch, verdict)
            )

    def tell(self, flight: Flight, name: str) -> Iterator[do.Action]:
        """Tells a node what is on record, if it concerns it.

        An abort is also true without a record: what has no verdict on record can only be aborted.
        """
        node = self._here.registry.nodes.get(name)
        verdict = _verdict(flight.move, name, flight.frozen is not None)
        if node is not None and node.control is not None and verdict:
            move = flight.move
            yield do.Send(
                node.control, wire.Verdict(move.id, move.task, move.owner_epoch, verdict),
                recorded=verdict not in ("abort", "ask"),
            )

    def repeat(self, flight: Flight, name: str) -> Iterator[do.Action]:
        """The record may still be on its way to the disk: this must not overtake it."""
        yield do.Commit()
        yield from self.tell(flight, name)

    def reported(self, node: Node) -> Iterator[do.Action]:
        """A node is back, and its pid map whole: it hears again what it may have missed."""
        for flight in list(self._here.flights.values()):
            if node.name in (flight.move.source, flight.move.target):
                yield from self.repeat(flight, node.name)


def _verdict(move: Move, name: str, is_frozen: bool = True) -> Verdict | None:
    """What the record wants of this node; ``is_frozen``: the source has said that it is."""
    at_source = name == move.source
    match move.state:
        case State.ABORTED:
            return "abort"
        case State.COMMITTED | State.DRAINING:
            return None if at_source else "commit"
        case State.RAN | State.DONE:
            # One that was resolved by hand may have a destination that has not heard of it.
            return "finish" if at_source else "commit"
        case State.REVERTED:
            return "resume" if at_source else "end"
        case State.UNSURE:
            return "ask" if at_source or not is_frozen else "abort"
        case State.INTENT:
            return None
