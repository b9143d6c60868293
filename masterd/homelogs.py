"""What tasks write elsewhere, on its way to the logs at their homes.  Pure.

    node: Chunk -> home: Log -> home: Kept, which is credit for the node

The home says how far it has a log, on its stream; from there on the log is followed like an
operator's, over moves and lost connections.  So a byte comes once, and where one came twice it
would be written to the place that it has already.
"""

from collections import deque
from collections.abc import Iterator

from msgspec import Struct, field

from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.follows import Follows
from masterd.registry import Node, Registry


class Copy(Struct):
    """One log on its way home."""

    task: str
    home: Node
    #: The home's stream on which it was asked for.
    link: int
    #: What was sent and is not acknowledged: where each piece ends, and its bytes.
    sent: deque[tuple[int, int]] = field(default_factory=deque)


class HomeLogs:
    """All of them.  To ``follows`` each is an operator, whose number is below 0."""

    def __init__(self, registry: Registry, follows: Follows):
        self._registry = registry
        self._follows = follows
        self._last = 0
        #: By the number.
        self._copies: dict[int, Copy] = {}
        #: task -> the number.
        self._of: dict[str, int] = {}

    def kept(self, node: Node, kept: wire.Kept) -> Iterator[do.Action]:
        """A home has the log of this task up to a byte."""
        there = self._registry.where.get(kept.task)
        if there is None or there is node or there.tasks[kept.task].spec.home != node.name:
            yield from self.stop(kept.task)
            return
        number = self._of.get(kept.task, 0)
        copy = self._copies.get(number)
        if copy is None or copy.link != node.stream:
            yield from self._begin(node, kept, there)
        else:
            yield from self._acknowledge(number, copy, kept.offset)

    def _begin(self, node: Node, kept: wire.Kept, there: Node) -> Iterator[do.Action]:
        yield from self.stop(kept.task)
        if node.stream is None:
            return
        self._last -= 1
        self._copies[self._last] = Copy(kept.task, node, node.stream)
        self._of[kept.task] = self._last
        yield from self._follows.copy(self._last, kept.task, there, kept.offset)

    def _acknowledge(self, number: int, copy: Copy, offset: int) -> Iterator[do.Action]:
        count = 0
        while copy.sent and copy.sent[0][0] <= offset:
            count += copy.sent.popleft()[1]
        if count:
            yield from self._follows.took(number, op.Took(0, copy.task, count))

    def stop(self, task: str) -> Iterator[do.Action]:
        """The task is at home, or its home does not want it any more."""
        number = self._of.pop(task, 0)
        if number:
            del self._copies[number]
            yield from self._follows.cancel(number)

    def lost(self, node: Node) -> Iterator[do.Action]:
        """A home cannot be heard: it asks anew when it is back."""
        for copy in [copy for copy in self._copies.values() if copy.home is node]:
            yield from self.stop(copy.task)

    def answered(self, number: int, reply: op.Reply) -> Iterator[do.Action]:
        """What the follow of this number brings."""
        copy = self._copies.get(number)
        if copy is None:
            return
        match reply:
            case op.Output(offset=offset, data=data, dropped=dropped):
                copy.sent.append((offset + len(data), len(data)))
                yield do.Send(copy.link, wire.Log(copy.task, offset, data, dropped))
            case op.Tasks():  # it has ended, or is gone
                del self._copies[number], self._of[copy.task]
