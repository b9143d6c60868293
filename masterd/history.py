"""The cluster's history: what happened, who hears of it, what is kept.  Pure."""

from collections import deque
from collections.abc import Iterator

from godwit.log import Level
from godwit.wire import operations as op
from masterd import actions as do

#: Events kept in memory for `events` and `inspect`.
KEPT = 10_000


class History:
    """The newest events, and the operators who want to hear of new ones."""

    def __init__(self) -> None:
        self._events: deque[op.Event] = deque(maxlen=KEPT)
        #: Operators at a prompt -> id of their Attach.
        self._listeners: dict[int, int] = {}
        #: (operator, request id) -> what it is about, of those who follow.
        self._followers: dict[tuple[int, int], str] = {}

    def load(self, events: list[op.Event]) -> None:
        """What was kept before this start, oldest first."""
        self._events.extend(events)

    def add(
        self, wall: float, level: Level, text: str, *,
        node: str = "", task: str = "", notice: bool = False,
    ) -> Iterator[do.Action]:
        """Something happened; ``notice``: people at a prompt want to hear of it."""
        event = op.Event(wall, level, text, node, task)
        self._events.append(event)
        yield do.KeepEvent(event)
        for (operator, number), about in self._followers.items():
            if _is_about(event, about):
                yield do.Answer(operator, op.Events(number, (event,), more=True))
        if notice:
            for operator, number in self._listeners.items():
                yield do.Answer(operator, op.Notice(number, event))

    def listen(self, operator: int, number: int) -> None:
        """This operator sits at a prompt."""
        self._listeners[operator] = number

    def answer(self, operator: int, request: op.History, about: str) -> Iterator[do.Action]:
        """The newest events about a node or task; a live request goes on."""
        found = [event for event in self._events if _is_about(event, about)]
        newest = tuple(found[-request.limit :]) if request.limit > 0 else ()
        if request.live:
            self._followers[operator, request.id] = about
        yield do.Answer(operator, op.Events(request.id, newest, more=request.live))

    def cancel(self, operator: int, number: int) -> None:
        self._followers.pop((operator, number), None)

    def gone(self, operator: int) -> None:
        """This operator has left."""
        self._listeners.pop(operator, None)
        for key in [key for key in self._followers if key[0] == operator]:
            del self._followers[key]


def _is_about(event: op.Event, about: str) -> bool:
    return not about or about in (event.node, event.task)
