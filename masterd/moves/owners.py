"""Whose a task is: set and recorded with the move that changes it.  Pure."""

from collections.abc import Iterator

from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Task
from masterd import actions as do
from masterd.moves.flight import Flight
from masterd.moves.here import REPEAT_S, Here
from masterd.moves.table import Move


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

    def believe(self, move: Move) -> Iterator[do.Action]:
        node, task = self._here.registry.doubted.get(move.task, (None, None))
        known = self._here.task(move)
        if node is None or task is None or not node.connected:
            return
        if known is None or known.spec.epoch < task.spec.epoch:
            self._here.registry.give(node, task)
            yield do.KeepTask(node.name, task)
