"""Whose a task is: set and recorded with the move that changes it.  Pure."""

from collections.abc import Iterator

from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Task
from masterd import actions as do
from masterd.moves.flight import Flight
from masterd.moves.here import REPEAT_S, Here
from masterd.moves.table import Move, State


class Owners:
    def __init__(self, here: Here):
        self._here = here

    def give(self, flight: Flight, task: Task | None, name: str, epoch: int) -> Task | None:
        """The owner's record: compared by who asks, set here, recorded with the move."""
        node = self._here.registry.nodes.get(name)
        if task is None or node is None:
            return None
        given = flight.claims.get(name)
        if given is None or given.spec.epoch != epoch:
            given = replace(task, spec=replace(task.spec, epoch=epoch), status=Status.FROZEN)
        self._here.registry.give(node, given)
        return given

    def record(
        self, flight: Flight, move: Move, given: Task | None = None
    ) -> Iterator[do.Action]:
        """Durable before anything that follows; the task's owner, if it changes, in one write
        with the move: either alone would end the only copy as one that is out of date."""
        flight.move = move
        flight.due = self._here.now + REPEAT_S
        owner = self._here.registry.where[move.task].name if given is not None else ""
        yield do.KeepMove(move, owner, given)
        yield do.Commit()

    def is_elsewhere(self, move: Move) -> bool:
        """A third node has the task by a move that came later: this record is an older one."""
        node, task = self._here.registry.doubted.get(move.task, (None, None))
        return node is not None and task is not None and task.spec.epoch > move.epoch and (
            node.name not in (move.source, move.target)
        )

    def is_nowhere(self, flight: Flight) -> bool:
        """The task was left to its source, which does not have it: a move that came later took it
        away, by a record that is lost.  A source has it for as long as it is its own."""
        owner = self._here.registry.where.get(flight.move.task)
        return flight.move.state in (State.ABORTED, State.REVERTED) and owner is not None and (
            owner.name == flight.move.source and owner.name in flight.missing
        )

    def doubt(self, flight: Flight) -> None:
        """What the other end told of the task is believed once its owner turns out to have none."""
        known, claim = self._here.task(flight.move), flight.claims.get(flight.move.target)
        node = self._here.registry.nodes.get(flight.move.target)
        if known is None or node is None or claim is None or claim.status is Status.FROZEN:
            return
        if claim.spec.epoch > known.spec.epoch:
            self._here.registry.doubted[claim.id] = node, claim

    def believe(self, move: Move) -> Iterator[do.Action]:
        node, task = self._here.registry.doubted.get(move.task, (None, None))
        known = self._here.task(move)
        if node is None or task is None or not node.connected:
            return
        if known is None or known.spec.epoch < task.spec.epoch:
            self._here.registry.give(node, task)
            yield do.KeepTask(node.name, task)
