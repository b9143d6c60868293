"""Numbered orders to nodes, and who waits for the answer.  Pure.

Every order is answered once to whoever asked: by the node's Done, by its going away, or by the
time limit.  ``Gather`` turns many such answers into one.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from msgspec import Struct, field

from godwit.wire import messages as wire
from masterd import actions as do
from masterd.registry import Node

#: Seconds a node has to answer an order.
ANSWER_S = 10.0

#: Called with the node's answer; an empty code is success.
Then = Callable[[wire.Message], Iterator[do.Action]]


class Pending(Struct):
    """One order under way."""

    node: Node
    then: Then
    due: float
    #: What a good answer is.
    wanted: type[wire.Message]


class Orders:
    """All orders under way."""

    def __init__(self) -> None:
        self._last = 0
        self._pending: dict[int, Pending] = {}
        #: (due, number), the soonest first; also of orders that were answered since.
        self._due: list[tuple[float, int]] = []

    def number(self) -> int:
        """A number no other order has."""
        self._last += 1
        return self._last

    def send(
        self, node: Node, order: wire.Message, number: int, now: float, then: Then,
        *, within_s: float = ANSWER_S, wanted: type[wire.Message] = wire.Done,
    ) -> Iterator[do.Action]:
        """Sends ``order``, whose number is ``number``; ``then`` gets the answer, always.

        That is a ``wanted``, or a Done with a code when it went wrong.
        """
        if node.control is None:
            yield from then(wire.Done(number, "unreachable", unreachable(node)))
            return
        self._pending[number] = Pending(node, then, 0.0, wanted)
        self.extend(node, number, now, within_s)
        yield do.Send(node.control, order)

    def answered(self, node: Node, number: int, answer: wire.Message) -> Iterator[do.Action]:
        """The node answered.  A node speaks only for itself: another's number is nobody's."""
        pending = self._pending.get(number)
        if pending is None or pending.node is not node:
            return
        del self._pending[number]
        failed = isinstance(answer, wire.Done) and answer.code
        if not failed and not isinstance(answer, pending.wanted):
            text = f"{node.name} answered with {type(answer).__name__}"
            answer = wire.Done(number, "bad-answer", text)
        yield from pending.then(answer)

    def extend(self, node: Node, number: int, now: float, within_s: float) -> None:
        """The order has this much time from now on."""
        pending = self._pending.get(number)
        if pending is not None and pending.node is node:
            pending.due = now + within_s
            if pending.due < float("inf"):
                heappush(self._due, (pending.due, number))

    def lost(self, node: Node) -> Iterator[do.Action]:
        """The node's connection is gone, and with it the answers."""
        text = f"{node.name} went away before it answered"
        yield from self._fail(lambda pending: pending.node is node, "lost", text)

    def late(self, now: float) -> Iterator[do.Action]:
        """Fails the orders whose time is over."""
        yield from self._fail(lambda pending: pending.due <= now, "timeout", "no answer in time")

    def _fail(
        self, which: Callable[[Pending], bool], code: str, text: str
    ) -> Iterator[do.Action]:
        for number in [n for n, pending in self._pending.items() if which(pending)]:
            # One answer may make others unwanted.
            pending = self._pending.pop(number, None)
            if pending is not None:
                yield from pending.then(wire.Done(number, code, text))

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any more."""
        self._pending.pop(number, None)

    def deadline(self) -> float:
        while self._due:
            due, number = self._due[0]
            if number in self._pending and self._pending[number].due == due:
                return due
            heappop(self._due)
        return float("inf")


def unreachable(node: Node) -> str:
    """Why nothing can be asked of a node, for its user."""
    if node.goodbye:
        return f"{node.name} stopped ({node.goodbye})"
    if node.hearable:
        return f"{node.name} is not connected just now"
    return f"{node.name} is {node.state.value}"


class Gather(Struct):
    """Waits for ``left`` answers, then says all."""

    left: int
    finish: Callable[[], Iterator[do.Action]]
    done: bool = field(default=False)

    def one(self) -> Iterator[do.Action]:
        """One more answer is in."""
        self.left -= 1
        if self.left <= 0 and not self.done:
            self.done = True
            yield from self.finish()
