"""What ends a move from outside: its task ended, a node left, nobody wants it any more.  Pure."""

from collections.abc import Iterator

from masterd import actions as do
from masterd.moves.decisions import Decisions
from masterd.moves.ending import Ending
from masterd.moves.here import Here
from masterd.moves.table import State
from masterd.registry import Node


class Mishaps:
    def __init__(self, here: Here, decisions: Decisions, ending: Ending):
        self._here = here
        self._decisions = decisions
        self._ending = ending

    def ended(self, task: str) -> Iterator[do.Action]:
        """A task has ended, or is not known any more; before it froze, that ends its move."""
        flight = self._here.of.get(task)
        if flight is not None and flight.move.state is State.INTENT:
            yield from self._decisions.abort(flight, "ended", "the task ended meanwhile")

    def left(self, node: Node) -> Iterator[do.Action]:
        """A node is no node of ours any more: nothing is waited for from it."""
        for flight in list(self._here.flights.values()):
            move = flight.move
            if node.name not in (move.source, move.target):
                continue
            if move.state is State.INTENT:
                other = move.source if node.name == move.target else move.target
                yield from self._decisions.abort(
                    flight, "left", f"{node.name} was deregistered", owing=(other,)
                )
            elif move.state is State.UNSURE or (
                move.state in (State.COMMITTED, State.DRAINING) and node.name == move.target
            ):
                yield from self._ending.hold(flight, f"{node.name} was deregistered")
            elif move.state is State.RAN and node.name == move.source:
                yield from self._decisions.finish(flight)
            else:
                yield from self._ending.settle(flight, node.name)

    def cancel(self, operator: int, request: int | None = None) -> Iterator[do.Action]:
        """Nobody waits for it any more; who takes a request back ends what has no verdict yet."""
        for flight in list(self._here.flights.values()):
            if request is not None and (operator, request) in flight.waiting:
                flight.waiting.remove((operator, request))
                if flight.move.state is State.INTENT:
                    yield from self._decisions.abort(flight, "cancelled", "cancelled")
            elif request is None:
                flight.waiting = [w for w in flight.waiting if w[0] != operator]
