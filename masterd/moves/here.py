"""What all parts of the master's moves share: the moves, and where their tasks are.  Pure."""

from collections.abc import Iterator
from typing import Literal

from godwit.task.record import Task
from godwit.wire import operations as op
from masterd import actions as do
from masterd.history import History
from masterd.moves.flight import Flight, view
from masterd.moves.table import Move, State
from masterd.registry import Node, Registry

#: Seconds without any word of a move before its verdict, after which it is aborted.
QUIET_S = 10.0
#: Seconds between two times that a verdict is told which nobody has answered.
REPEAT_S = 2.0
#: Moves that have settled and are still shown.
KEPT = 1000


class Here:
    """All moves, and the time of this turn."""

    def __init__(self, registry: Registry, history: History):
        self.registry = registry
        self.history = history
        #: move -> its flight, until it is settled.
        self.flights: dict[str, Flight] = {}
        #: task -> its flight.
        self.of: dict[str, Flight] = {}
        #: Flights that wait for a node to have fewer.
        self.queue: list[Flight] = []
        #: Settled, the newest last.
        self.past: dict[str, Move] = {}
        self.now = 0.0
        self.wall = 0.0

    def add(self, flight: Flight) -> None:
        self.flights[flight.move.id] = self.of[flight.move.task] = flight

    def task(self, move: Move) -> Task | None:
        node = self.registry.where.get(move.task)
        return node.tasks[move.task] if node is not None else None

    def note(
        self, level: Literal["info", "warning", "severe"], text: str, move: Move
    ) -> Iterator[do.Action]:
        node = move.target if move.state.at_target else move.source
        yield from self.history.add(
            self.wall, level, text, node=node, task=move.task, notice=level != "info"
        )

    def shelve(self, move: Move) -> None:
        self.past[move.id] = move
        if len(self.past) > KEPT:
            del self.past[next(iter(self.past))]

    def is_moving(self, task: str) -> bool:
        return task in self.of

    def unsettled(self, task: str) -> str:
        """The move that the task has; or nothing."""
        return self.of[task].move.id if task in self.of else ""

    def unplaced(self, task: str) -> Move | None:
        """The move of the task that has a verdict, or may have one, which can still be turned."""
        flight = self.of.get(task)
        is_open = flight is not None and flight.move.state in (State.COMMITTED, State.UNSURE)
        return flight.move if flight is not None and is_open else None

    def is_part(self, node: Node, task: str) -> bool:
        """The node has, or may have, a copy of the task by a move that is not settled."""
        flight = self.of.get(task)
        return flight is not None and node.name in (flight.move.source, flight.move.target)

    def claimed(self, node: Node, task: Task) -> None:
        """A node of a move has told of the task, which another owns as long as nothing else is
        decided."""
        flight = self.of.get(task.id)
        if flight is not None:
            flight.claims[node.name] = task

    def missed(self, node: Node, task: str) -> None:
        """All that a node of a move has was told, and the task was not among it."""
        flight = self.of.get(task)
        if flight is not None:
            flight.missing.add(node.name)

    def listed(self, about: str, limit: int) -> tuple[op.MoveView, ...]:
        """The newest moves of a node or task, or all; the newest last."""
        every = [
            *(view(move) for move in self.past.values()),
            *(view(flight.move, flight.held) for flight in self.flights.values()),
        ]
        wanted = [v for v in every if not about or about in (v.task, v.source, v.target)]
        wanted.sort(key=lambda shown: shown.begun_at)
        return tuple(wanted[max(0, len(wanted) - limit):])
