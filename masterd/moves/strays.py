"""Moves that nodes tell of and of which the record is lost, from word to word.  Pure.

What each word leads to is in masterd/moves/found.py.
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from godwit.wire import messages as wire
from masterd import actions as do
from masterd.moves import found
from masterd.moves.decisions import Decisions
from masterd.moves.ending import Ending
from masterd.moves.flight import Flight
from masterd.moves.here import KEPT, Here
from masterd.moves.owners import Owners
from masterd.moves.table import Cause, advance
from masterd.moves.verdicts import Verdicts
from masterd.registry import Node


class Strays:
    def __init__(
        self, here: Here, owners: Owners, decisions: Decisions, verdicts: Verdicts,
        ending: Ending, said: Callable[[Node, wire.Standing], Iterator[do.Action]],
    ):
        """``said`` hears again what could not be believed before."""
        self._here = here
        self._owners = owners
        self._decisions = decisions
        self._verdicts = verdicts
        self._ending = ending
        self._said = said
        #: task -> moves of it that are not on record, and wait for the one that is.
        self._strays: dict[str, dict[tuple[str, str], wire.Standing]] = {}

    def unknown(self, node: Node, standing: wire.Standing) -> Iterator[do.Action]:
        """A word of a move that this master has no record of."""
        if node.control is None:
            return
        if standing.state == "reserved":  # it has not voted
            yield do.Send(
                node.control, wire.Verdict(standing.move, standing.task, standing.epoch, "abort")
            )
        elif standing.state in found.TELLING:
            yield from self._find(node, standing)

    def _find(self, node: Node, standing: wire.Standing) -> Iterator[do.Action]:
        if standing.task in self._here.of:  # one at a time: it is looked at when that one is over
            self._stray(node, standing)
            return
        owner = self._here.registry.where.get(standing.task)
        task = owner.tasks[standing.task] if owner is not None else None
        name = owner.name if owner is not None else ""
        move = found.found(node.name, standing, task, name, self._here.wall)
        yield from self._here.history.add(
            self._here.wall, "severe",
            f"{node.name} has {standing.task} {standing.state} for move {standing.move}, of which "
            "this master has no record" + ("" if move else f"; {standing.task} is on {name}"),
            node=node.name, task=standing.task, notice=True,
        )
        if move is None:
            self._stray(node, standing)
        else:
            flight = Flight(move, freezing=True)
            flight.mark("found", self._here.now)
            self._here.add(flight)
            yield from self._owners.record(flight, move)
            yield from self.said_of_found(flight, node, standing)

    def _stray(self, node: Node, standing: wire.Standing) -> None:
        self._strays.setdefault(standing.task, {})[standing.move, node.name] = standing
        if len(self._strays) > KEPT:
            del self._strays[next(iter(self._strays))]

    def look_again(self, task: str) -> Iterator[do.Action]:
        """The task has another owner, or no move any more: what was said of it may be believed."""
        for (_, name), standing in self._strays.pop(task, {}).items():
            if (node := self._here.registry.nodes.get(name)) is not None:
                yield from self._said(node, standing)

    def said_of_found(
        self, flight: Flight, node: Node, standing: wire.Standing
    ) -> Iterator[do.Action]:
        move = flight.move
        if node.name == move.source and standing.state == "frozen":
            is_news, flight.frozen = flight.frozen is None, standing
            if is_news:
                yield from self._verdicts.tell(flight, move.target)
            return
        if standing.state == "prepared":
            yield from self._verdicts.tell(flight, move.target if flight.frozen else move.source)
            return
        match found.follows(move, node.name, standing, flight.frozen is not None):
            case found.Next("held") if self._owners.is_elsewhere(move):
                yield from self._decisions.abort(flight, move.code, move.reason, (move.target,))
            case found.Next("held", reason=reason):
                yield from self._ending.hold(flight, reason)
            case found.Next("aborted", owing):
                yield from self._decisions.abort(flight, move.code, move.reason, owing)
            case found.Next("reverted", owing):
                yield from self._decisions.revert(flight, move.code, move.reason, owing)
            case found.Next() as then:
                yield from self._at_target(flight, then)

    def _at_target(self, flight: Flight, then: found.Next) -> Iterator[do.Action]:
        """The destination has it: running, or whatever became of it since."""
        move, task = flight.move, self._here.task(flight.move)
        cause = Cause.RAN if then.what == "ran" else Cause.FINISHED
        taken = replace(
            move, state=advance(move.state, cause), owing=then.owing, ended_at=self._here.wall
        )
        self._ending.release(flight)
        flight.mark("ran", self._here.now)
        yield from self._owners.record(
            flight, taken, self._owners.give(flight, task, taken.target, taken.owner_epoch)
        )
        yield from self._here.note(
            "warning", f"{move.task} is on {move.target}: {move.reason}", taken
        )
        for name in (move.source, move.target):
            yield from self._verdicts.tell(flight, name)
        yield from self._ending.placed(flight)
        if taken.settled:
            yield from self._ending.close(flight)
