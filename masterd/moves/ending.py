"""How a move ends, or comes to a halt, and who waits for that.  Pure."""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from godwit.task.record import Task
from godwit.wire import operations as op
from masterd import actions as do
from masterd.moves.flight import Flight, view
from masterd.moves.here import Here
from masterd.moves.table import State
from masterd.registry import Node


class Ending:
    def __init__(
        self, here: Here, moved: Callable[[Task, Node], Iterator[do.Action]],
        closed: Callable[[Flight], Iterator[do.Action]],
    ):
        """``moved`` tells the rest of the core that a task runs on another node; ``closed`` the
        other parts that a move is settled."""
        self._here = here
        self._moved = moved
        self._closed = closed
        #: task -> what is to be done once it has its place.
        self._after: dict[str, list[Callable[[], Iterator[do.Action]]]] = {}

    def settle(self, flight: Flight, name: str) -> Iterator[do.Action]:
        """A node has done what the verdict wants of it."""
        move = flight.move
        if name not in move.owing:
            return
        left = tuple(owing for owing in move.owing if owing != name)
        flight.move = replace(move, owing=left)
        yield do.KeepMove(flight.move)
        if name == move.source:
            yield from self.placed(flight)
        if not left:
            yield from self.close(flight)

    def placed(self, flight: Flight) -> Iterator[do.Action]:
        """It is known where the task runs: who waited for that goes on."""
        task = self._here.task(flight.move)
        node = self._here.registry.where.get(flight.move.task)
        if task is not None and node is not None and flight.move.state is not State.ABORTED:
            yield from self._moved(task, node)
        if flight.move.state not in (State.DRAINING, State.RAN):
            yield from self.answer(flight)
        for waiting in self._after.pop(flight.move.task, []):
            yield from waiting()

    def answer(self, flight: Flight) -> Iterator[do.Action]:
        shown = view(flight.move, flight.held)
        for operator, request in flight.waiting:
            yield do.Answer(operator, op.Moves(request, (shown,)))
        flight.waiting.clear()

    def close(self, flight: Flight) -> Iterator[do.Action]:
        yield from self.answer(flight)
        self._here.flights.pop(flight.move.id, None)
        self._here.of.pop(flight.move.task, None)
        self.release(flight)
        self._here.shelve(flight.move)
        yield from self._closed(flight)

    def hold(self, flight: Flight, why: str) -> Iterator[do.Action]:
        """No verdict can be reached now; the task shows so, and those who wait are told."""
        if flight.held:
            return
        flight.held = why
        self._here.registry.held[flight.move.task] = why
        yield from self._here.note("severe", f"{flight.move.task} is held: {why}", flight.move)
        yield from self.answer(flight)
        for waiting in self._after.pop(flight.move.task, []):
            yield from waiting()

    def release(self, flight: Flight) -> None:
        flight.held = ""
        self._here.registry.held.pop(flight.move.task, None)

    def after(
        self, task: str, then: Callable[[], Iterator[do.Action]]
    ) -> Iterator[do.Action]:
        """Does something once the task has its place, or is held."""
        flight = self._here.of.get(task)
        if flight is None or flight.held or flight.move.state in (State.DRAINING, State.RAN):
            yield from then()
        else:
            self._after.setdefault(task, []).append(then)
