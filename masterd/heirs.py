"""Tasks that were given up for lost, and which one goes on in the place of each.  Pure.

The rule: an operator's word that a task is lost is final.  Should its node come back and tell that
it runs, it is ended there: the task that was started from its snapshot has its work.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from godwit.task.record import Task
from godwit.wire import messages as wire
from masterd import actions as do
from masterd.orders import Orders
from masterd.registry import Node, Registry

#: Tasks that are remembered so; the oldest go.
MOST = 1000
SIGKILL = 9


class Note(Protocol):
    """Adds to the history."""

    def __call__(
        self, text: str, *, node: str = "", task: str = "", notice: bool = False
    ) -> Iterator[do.Action]: ...


class Heirs:
    """See the module."""

    def __init__(
        self, registry: Registry, orders: Orders, note: Note, now: Callable[[], float]
    ):
        """``now`` is monotonic seconds."""
        self._registry = registry
        self._orders = orders
        self._note = note
        self._now = now
        #: task -> its heir.
        self.all: dict[str, str] = {}
        #: Those that are being ended.
        self._ending: set[str] = set()

    def load(self, records: list[do.KeepHeir]) -> None:
        self.all.update((record.task, record.heir) for record in records)

    def add(self, task: str, heir: str) -> Iterator[do.Action]:
        """The task was given up, and ``heir`` goes on in its place."""
        self.all.pop(task, None)
        self.all[task] = heir
        yield do.KeepHeir(task, heir)
        if len(self.all) > MOST:
            yield from self._drop(next(iter(self.all)))
        node = self._registry.where.get(task)
        if node is not None and node.connected:
            yield from self.told(node, (node.tasks[task],))

    def told(self, node: Node, tasks: tuple[Task, ...]) -> Iterator[do.Action]:
        """A node tells of its tasks."""
        for task in tasks if self.all else ():
            if task.id not in self.all or self._registry.where.get(task.id) is not node:
                continue
            if task.status.ended:
                yield from self._drop(task.id)
            elif task.status.alive and task.id not in self._ending:
                yield from self._end(node, task.id)

    def _end(self, node: Node, task: str) -> Iterator[do.Action]:
        self._ending.add(task)

        def answered(answer: wire.Message) -> Iterator[do.Action]:
            self._ending.discard(task)  # if it still runs, the next that is heard of it ends it
            yield from ()

        yield from self._note(
            f"{task} is back on {node.name}: it was given up for lost, and {self.all[task]} goes "
            "on in its place; ending it", node=node.name, task=task, notice=True,
        )
        number = self._orders.number()
        order = wire.Signal(number, (task,), SIGKILL, whole=True)
        yield from self._orders.send(node, order, number, self._now(), answered)

    def _drop(self, task: str) -> Iterator[do.Action]:
        del self.all[task]
        yield do.DropHeir(task)
