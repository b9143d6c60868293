"""What the agent is to be told at the end of a turn of the loop.  Pure."""

from collections.abc import Iterable, Iterator, Mapping

from clientd.keeper.orders import Changed, Word
from godwit.task.record import Task

#: Tasks in one word, and bytes of their commands after which no other is added.
MOST_TASKS = 256
MOST_BYTES = 1024 * 1024


class News:
    """Collected in a turn: each task that changed is told of once, as it is in the end."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._words: list[Word] = []

    def changed(self, task: str) -> None:
        self._changed[task] = None

    def word(self, word: Word) -> None:
        """To be told after the changes of this turn."""
        self._words.append(word)

    def take(self, tasks: Mapping[str, Task]) -> list[Word]:
        """Everything since the last time."""
        if not self._changed and not self._words:
            return []
        there = [tasks[task] for task in self._changed if task in tasks]
        words = [*map(Changed, batches(there)), *self._words]
        self._changed, self._words = {}, []
        return words


def batches(tasks: Iterable[Task]) -> Iterator[tuple[Task, ...]]:
    """As many as may go into one word each time."""
    batch: list[Task] = []
    size = 0
    for task in tasks:
        weight = _weight(task)
        if batch and (len(batch) == MOST_TASKS or size + weight > MOST_BYTES):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(task)
        size += weight
    if batch:
        yield tuple(batch)


def _weight(task: Task) -> int:
    """Bytes, about, of what may be long."""
    spec = task.spec
    return sum(map(len, spec.argv)) + sum(len(k) + len(v) for k, v in spec.env.items())
