"""A move as it is asked for: its intent, its turn, and room for it at the destination.  Pure."""

from collections.abc import Callable, Iterator, Mapping

from msgspec.structs import replace

from godwit.task.record import Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.moves.budget import LATER, NO_CHOICE, Choice
from masterd.moves.decisions import Decisions
from masterd.moves.flight import Flight
from masterd.moves.here import QUIET_S, Here
from masterd.moves.objections import Objections
from masterd.moves.table import Move
from masterd.registry import Node

#: Moves that one node takes part in at once; more wait.
MOST_EACH = 64


class Asking:
    def __init__(
        self, here: Here, objections: Objections, decisions: Decisions,
        leaves: Mapping[str, tuple[str, ...]], secret: Callable[[int], str],
        sources: Mapping[str, bytes],
    ):
        self._here = here
        self._objections = objections
        self._decisions = decisions
        self._leaves = leaves
        self._secret = secret
        self._sources = sources

    def begin(
        self, operator: int, request: op.MoveTask, task: Task, source: Node, target: Node,
        choice: Choice = NO_CHOICE, snapshot: str = "",
    ) -> Iterator[do.Action]:
        """Records the intent and asks the destination.  Raises UsageError."""
        self._objections.check(request, task, source, target)
        move = Move(
            id=self._fresh_id(), task=task.id, source=source.name, target=target.name,
            kind=task.spec.kind, epoch=task.spec.epoch, on_unknown=request.on_unknown,
            begun_at=self._here.wall, way=choice.way, memory=choice.memory,
            budget_ms=choice.budget_ms, predicted_ms=choice.predicted_ms, snapshot=snapshot,
        )
        if choice.budget_ms:
            yield do.Answer(operator, op.Progress(request.id, choice.told(task.id)))
        flight = Flight(
            move, [(operator, request.id)], ticket=self._secret(32),
            log_at_home=request.log_at_home,
        )
        flight.mark("begun", self._here.now)
        self._here.add(flight)
        self._here.queue.append(flight)
        yield from self.start_waiting()

    def _fresh_id(self) -> str:
        while (name := "m" + self._secret(4)) in self._here.flights or name in self._here.past:
            pass
        return name

    def start_waiting(self) -> Iterator[do.Action]:
        """Begins the moves for which both nodes have room."""
        busy: dict[str, int] = {}
        for flight in self._here.flights.values():
            if flight not in self._here.queue:
                for name in (flight.move.source, flight.move.target):
                    busy[name] = busy.get(name, 0) + 1
        ready = []
        for flight in self._here.queue:
            names = (flight.move.source, flight.move.target)
            if all(busy.get(name, 0) < MOST_EACH for name in names):
                ready.append(flight)
                for name in names:
                    busy[name] = busy.get(name, 0) + 1
        # All are off the queue before any is begun: one that ends at once comes here again.
        self._here.queue = [flight for flight in self._here.queue if flight not in ready]
        for flight in ready:
            yield from self._reserve(flight)

    def _reserve(self, flight: Flight) -> Iterator[do.Action]:
        move = flight.move
        flight.due = self._here.now + QUIET_S
        yield do.KeepMove(move)
        yield do.Commit()
        target, task = self._here.registry.nodes[move.target], self._here.task(move)
        if target.control is None or task is None or not task.status.alive:
            why = "it ended, or its destination went away"
            yield from self._decisions.abort(flight, "gone", why)
            return
        if flight.log_at_home:
            task = replace(task, spec=replace(task.spec, log_at_home=True))
        yield do.Send(target.control, wire.Reserve(
            move.id, task, move.epoch + 1, flight.ticket, self._leaves.get(move.source, ()),
            self._sources.get(task.spec.digest, b""), move.source, move.way == LATER,
        ), recorded=True)
