"""A person's word for what no machine can know.  Pure."""

from collections.abc import Iterator

from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd import actions as do
from masterd.moves.decisions import Decisions
from masterd.moves.ending import Ending
from masterd.moves.flight import view
from masterd.moves.here import Here
from masterd.moves.owners import Owners
from masterd.moves.table import Cause, State, advance
from masterd.moves.verdicts import Verdicts


class Resolving:
    def __init__(
        self, here: Here, owners: Owners, decisions: Decisions, verdicts: Verdicts,
        ending: Ending,
    ):
        self._here = here
        self._owners = owners
        self._decisions = decisions
        self._verdicts = verdicts
        self._ending = ending

    def resolve(self, operator: int, request: op.ResolveMove) -> Iterator[do.Action]:
        """A person's word for what no machine can know.  Raises UsageError."""
        flight = self._here.flights.get(request.move)
        if flight is None:
            known = request.move in self._here.past
            raise UsageError(
                f"{request.move} is settled" if known else f"no move {request.move!r}",
                code="settled" if known else "no-such-move", hint="`moves` lists them",
            )
        move = flight.move
        is_open = move.state in (State.COMMITTED, State.DRAINING, State.UNSURE)
        if not is_open or not flight.held:
            raise UsageError(
                f"{move.id} is {move.state.value}, not held: nothing is to be resolved",
                code="not-held",
            )
        if request.side == "source":
            flight.waiting.append((operator, request.id))
            yield from self._decisions.revert(
                flight, "resolved", f"resolved by hand: {move.source} has it",
                (move.source, move.target),
            )
            return
        self._ending.release(flight)
        given_up = replace(
            move, state=advance(move.state, Cause.RAN), owing=(move.source,), code="resolved",
            reason=f"resolved by hand: {move.target} has it", ended_at=self._here.wall,
        )
        given = None
        if move.state is State.UNSURE:
            given = self._owners.give(
                flight, self._here.task(move), move.target, given_up.owner_epoch
            )
        yield from self._owners.record(flight, given_up, given)
        for name in (move.source, move.target):
            yield from self._verdicts.tell(flight, name)
        yield do.Answer(operator, op.Moves(request.id, (view(flight.move),)))
