"""Shadows and guests: homes hear where their tasks are, tasks what was sent to homes.  Pure.

    home: Caught -> the node that has the task: Signal, done once by its id -> home: Took

A home is told where each of its tasks is, whenever that changes, and of all of them on each
connection.  Of each task one signal is under way at most: the home says the next after Took.

The rule: a signal acts once at most.  Before it is sent it is on record to which node; it is sent
to another only when that one has said that it did not do it, and a node remembers what it did.
"""

from collections.abc import Iterator
from typing import Literal

from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import signal_name
from godwit.wire import messages as wire
from masterd import actions as do
from masterd.history import History
from masterd.moves.core import Moves
from masterd.orders import Orders
from masterd.registry import Node, Registry, State

#: Seconds after which a signal that could not act yet is tried again, if nothing else happens.
AGAIN_S = 2.0
#: Guests in one message.
BATCH = 256
#: Answers of a node that did not do it, and may later.
_LATER = ("moving", "ENOSPC", "EDQUOT", "EIO")
#: Answers that are not the node's own: nobody knows whether it did it.
_SILENCE = ("unreachable", "lost", "timeout", "bad-answer")
#: The task is not there, or not any more.
_ABSENT = ("no-task", "ended")


class Shadows:
    """All of them."""

    def __init__(self, registry: Registry, orders: Orders, moves: Moves, history: History):
        self._registry = registry
        self._orders = orders
        self._moves = moves
        self._history = history
        #: task -> what its home was told, on its present connection; and which node that is.
        self._told: dict[str, tuple[str, wire.Guest]] = {}
        #: task -> the last signal of its shadow.
        self.relays: dict[str, do.KeepRelay] = {}
        #: Tasks whose signal has been sent and not been answered.
        self._under_way: set[str] = set()
        #: task -> monotonic second at which its signal is tried again.
        self._due: dict[str, float] = {}
        self._now = 0.0
        self._wall = 0.0

    def at(self, now: float, wall: float) -> None:
        """Before anything else in a turn."""
        self._now, self._wall = now, wall

    # ---- where guests are ------------------------------------------------------------------

    def look(self, task: str) -> Iterator[do.Action]:
        """Something about the task has changed: its home hears of it, if that concerns it."""
        if self._moves.unplaced(task) is None:
            yield from self._look(task)
        relay = self.relays.get(task)
        if relay is not None and not relay.done:
            yield from self._pass_on(relay)

    def _look(self, task: str) -> Iterator[do.Action]:
        home, told = self._told.get(task, ("", None))
        found = self._guest(task)
        if found is not None:
            home = self._registry.where[task].tasks[task].spec.home
        elif told is not None and task not in self._registry.where:
            found = replace(told, state="removed")
        node = self._registry.nodes.get(home)
        if found is None or found == told or node is None or node.control is None:
            return
        self._told[task] = home, found
        yield do.Send(node.control, wire.Guests((found,)))

    def _guest(self, task: str) -> wire.Guest | None:
        """The task as its home is to know it; None while it is there."""
        node = self._registry.where.get(task)
        if node is None or node.tasks[task].spec.home in ("", node.name):
            return None
        known = node.tasks[task]
        guest = wire.Guest(
            task, known.spec.user, node.name, known.spec.epoch, log=known.spec.log_at_home
        )
        if known.status.ended:
            return replace(guest, state="ended", exit_code=known.exit_code, signal=known.signal)
        return replace(guest, state="lost") if known.status is Status.UNKNOWN else guest

    def _guest_now(self, task: str) -> wire.Guest | None:
        """As ``_guest``; while a move may still be turned back, as it was before it."""
        move = self._moves.unplaced(task)
        if move is None:
            return self._guest(task)
        spec = self._registry.where[task].tasks[task].spec
        if spec.home == move.source:
            return None
        return wire.Guest(task, spec.user, move.source, move.epoch, log=spec.log_at_home)

    def reported(self, node: Node) -> Iterator[do.Action]:
        """A node is back, and its pid map whole: as a home it hears of all its guests."""
        yield from self._tell_all(node)
        for task, relay in list(self.relays.items()):
            there = self._registry.where.get(task)
            if not relay.done and node.name in (there and there.name, relay.sent):
                yield from self._pass_on(relay)

    def _tell_all(self, node: Node) -> Iterator[do.Action]:
        if node.control is None:
            return
        for task in [task for task, (home, _) in self._told.items() if home == node.name]:
            del self._told[task]
        guests = []
        for task, there in self._registry.where.items():
            if there.tasks[task].spec.home == node.name and (guest := self._guest_now(task)):
                self._told[task] = node.name, guest
                guests.append(guest)
        for begin in range(0, max(1, len(guests)), BATCH):
            is_last = begin + BATCH >= len(guests)
            batch = tuple(guests[begin:begin + BATCH])
            yield do.Send(node.control, wire.Guests(batch, "last" if is_last else "more"))

    def forgotten(self, task: str) -> Iterator[do.Action]:
        """The task is not known any more."""
        yield from self._look(task)
        self._told.pop(task, None)
        self._due.pop(task, None)
        self._under_way.discard(task)
        if self.relays.pop(task, None) is not None:
            yield do.DropRelay(task)

    # ---- signals ---------------------------------------------------------------------------

    def caught(self, node: Node, caught: wire.Caught) -> Iterator[do.Action]:
        """The task's shadow, at its home, was sent a signal."""
        there = self._registry.where.get(caught.task)
        known = self.relays.get(caught.task)
        if there is None or there.tasks[caught.task].spec.home != node.name:
            yield from self._took(node, caught.task, caught.id)  # nobody to pass it on to
        elif known is not None and known.id >= caught.id:
            if known.done:
                yield from self._took(node, caught.task, caught.id)
        else:
            relay = do.KeepRelay(caught.task, caught.id, caught.number)
            self.relays[caught.task] = relay
            yield from self._note(
                "info", f"{signal_name(caught.number)} for {caught.task} on {there.name} was sent "
                f"to its shadow on {node.name}", caught.task,
            )
            yield from self._pass_on(relay)

    @staticmethod
    def _took(node: Node, task: str, number: int) -> Iterator[do.Action]:
        if node.control is not None:
            yield do.Send(node.control, wire.Took(task, number))

    def _pass_on(self, relay: do.KeepRelay) -> Iterator[do.Action]:
        """To the node that it may have been sent to already, else to the one with the task."""
        task = relay.task
        there = self._registry.where.get(task)
        if task in self._under_way or there is None:
            return
        asked = self._registry.nodes.get(relay.sent) if relay.sent else there
        if asked is None or asked.state is State.LEFT:
            # It may have done it, and will never say: to send it again might do it twice.
            yield from self._finish(relay, f"{relay.sent} was deregistered before it answered")
            return
        if not asked.connected or (not relay.sent and self._is_undecided(task)):
            self._later(task)
            return
        self._due.pop(task, None)
        if not relay.sent:
            relay = self._keep(replace(relay, sent=asked.name))
            yield relay
            yield do.Commit()
        yield from self._send(relay, asked)

    def _is_undecided(self, task: str) -> bool:
        return task in self._registry.held or self._moves.unplaced(task) is not None

    def _send(self, relay: do.KeepRelay, node: Node) -> Iterator[do.Action]:
        self._under_way.add(relay.task)

        def then(answer: wire.Message) -> Iterator[do.Action]:
            assert isinstance(answer, wire.Done)
            self._under_way.discard(relay.task)
            if self.relays.get(relay.task) == relay:
                yield from self._answered(relay, node, answer)

        order = self._orders.number()
        signal = wire.Signal(order, (relay.task,), relay.number, relay=relay.id)
        for action in self._orders.send(node, signal, order, self._now, then):
            if isinstance(action, do.Send):
                action = replace(action, recorded=True)
            yield action

    def _answered(
        self, relay: do.KeepRelay, node: Node, answer: wire.Done
    ) -> Iterator[do.Action]:
        there = self._registry.where.get(relay.task)
        if answer.code in _SILENCE:
            self._later(relay.task)  # asked again, it says whether it has done it
        elif answer.code in _LATER or (answer.code in _ABSENT and there is not node):
            free = self._keep(replace(relay, sent=""))
            yield free
            if answer.code in _LATER:
                self._later(relay.task)
            else:
                yield from self._pass_on(free)
        else:
            absent = answer.code in _ABSENT
            yield from self._finish(relay, "" if absent else answer.text if answer.code else "")

    def _finish(self, relay: do.KeepRelay, trouble: str) -> Iterator[do.Action]:
        self._due.pop(relay.task, None)
        yield self._keep(replace(relay, done=True))
        there = self._registry.where.get(relay.task)
        if trouble and there is not None:
            yield from self._note(
                "warning", f"{signal_name(relay.number)} for {relay.task}, sent to its shadow, "
                f"came to nothing: {trouble}", relay.task,
            )
        home = self._registry.nodes.get(there.tasks[relay.task].spec.home) if there else None
        if home is not None:
            yield from self._took(home, relay.task, relay.id)

    def _keep(self, relay: do.KeepRelay) -> do.KeepRelay:
        self.relays[relay.task] = relay
        return relay

    def _note(
        self, level: Literal["info", "warning"], text: str, task: str
    ) -> Iterator[do.Action]:
        node = self._registry.where[task].name
        yield from self._history.add(self._wall, level, text, node=node, task=task)

    # ---- time ------------------------------------------------------------------------------

    def _later(self, task: str) -> None:
        self._due[task] = self._now + AGAIN_S

    def late(self) -> Iterator[do.Action]:
        """Tries again what could not act."""
        for task, due in list(self._due.items()):
            if due <= self._now:
                del self._due[task]
                relay = self.relays.get(task)
                if relay is not None and not relay.done:
                    yield from self._pass_on(relay)

    def deadline(self) -> float:
        """Monotonic second at which ``late`` is wanted; infinity: never."""
        return min(self._due.values(), default=float("inf"))
