"""Records that are not on the disk yet: of each thing the newest, of history so many.  Pure.

While the disk is full they wait here, and take no more memory than what they are about.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import assert_never

from masterd import actions as do

Record = (
    do.KeepFact | do.KeepNode | do.DropNode | do.KeepLeaves | do.KeepToken | do.DropToken
    | do.KeepTask | do.DropTask | do.KeepMove | do.KeepSource | do.DropSource
    | do.KeepRelay | do.DropRelay | do.KeepEvent | do.KeepLodger | do.DropLodger
    | do.KeepSchedule | do.DropSchedule | do.KeepHeir | do.DropHeir
)
#: Lines of history that wait; the oldest go.
EVENTS = 10_000


class Backlog:
    """Added to one by one; written, and emptied, all at once."""

    def __init__(self) -> None:
        #: By the row that it is about.
        self._rows: dict[tuple[str, str], Record] = {}
        self._events: deque[do.KeepEvent] = deque(maxlen=EVENTS)

    def add(self, record: Record) -> None:
        """It takes the place of what was said of the same row before."""
        match record:
            case do.KeepEvent():
                self._events.append(record)
            case do.KeepFact(name):
                self._rows["facts", name] = record
            case do.KeepNode(name) | do.DropNode(name):
                self._rows["nodes", name] = record
            case do.KeepLeaves(name):
                self._rows["leaves", name] = record
            case do.KeepToken(token) | do.DropToken(token):
                self._rows["tokens", token] = record
            case do.KeepTask(task=task):
                self._rows["tasks", task.id] = record
            case do.DropTask(task):
                self._rows["tasks", task] = record
            case do.KeepMove(move, node, task):
                self._rows["moves", move.id] = do.KeepMove(move)
                if task is not None:
                    self._rows["tasks", task.id] = do.KeepTask(node, task)
            case do.KeepSource(digest) | do.DropSource(digest):
                self._rows["sources", digest] = record
            case do.KeepRelay(task) | do.DropRelay(task):
                self._rows["relays", task] = record
            case do.KeepLodger(task, node) | do.DropLodger(task, node):
                self._rows["lodgers", f"{task} {node}"] = record
            case do.KeepSchedule(task) | do.DropSchedule(task):
                self._rows["schedules", task] = record
            case do.KeepHeir(task) | do.DropHeir(task):
                self._rows["heirs", task] = record
            case _:
                assert_never(record)

    def __len__(self) -> int:
        return len(self._rows) + len(self._events)

    def __iter__(self) -> Iterator[Record]:
        return chain(self._rows.values(), self._events)

    def clear(self) -> None:
        self._rows.clear()
        self._events.clear()
