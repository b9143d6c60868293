"""Snapshots that are taken by themselves: of which tasks, how often, when the next is due.  Pure.

A schedule follows its task from node to node, and ends with it.  The rule: a beat at which no
snapshot can be taken is skipped, never made up for: the task's node is away, or it is paused or
moves, or the one before is not done yet.

That something is wrong is told once, and again when it is something else or is over; what goes
well is told to nobody: ``snapshots`` lists what there is.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct

from godwit.errors import UsageError
from godwit.log import Level
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from masterd import actions as do
from masterd.registry import Node, Registry

#: Seconds between two beats: the least and the most.
LEAST_S = 1.0
MOST_S = 31 * 86400.0
#: Seconds after a start of the master within which each first beat comes.
SOON_S = 30.0

#: Told why a snapshot was not taken, or not copied; empty: all is well; None: it was left out.
Done = Callable[[str | None], Iterator[do.Action]]
#: Takes a snapshot of a task and keeps so many.
Take = Callable[[Task, Node, int, Done], Iterator[do.Action]]


class Note(Protocol):
    """Adds to the history."""

    def __call__(
        self, text: str, *, node: str = "", task: str = "", level: Level = "info"
    ) -> Iterator[do.Action]: ...


class Schedule(Struct):
    """Of one task."""

    every_s: float
    keep: int
    #: Monotonic seconds.
    due: float
    #: One is being taken.
    busy: bool = False
    #: What was told last of what is wrong.
    said: str = ""


class Schedules:
    """All of them."""

    def __init__(
        self, registry: Registry, is_moving: Callable[[str], bool], take: Take, note: Note,
        now: Callable[[], float],
    ):
        """``now`` is monotonic seconds."""
        self._registry = registry
        self._is_moving = is_moving
        self._take = take
        self._note = note
        self._now = now
        #: By task.
        self.all: dict[str, Schedule] = {}

    def load(self, records: list[do.KeepSchedule], now: float) -> Iterator[do.DropSchedule]:
        """As an earlier master had them; those of tasks that are not known any more are to go."""
        for one in records:
            if one.task not in self._registry.where:
                yield do.DropSchedule(one.task)
                continue
            due = now + min(one.every_s, SOON_S)
            self.all[one.task] = Schedule(one.every_s, one.keep, due)
            self._registry.every_s[one.task] = one.every_s

    def set(self, task: str, every_s: float, keep: int) -> Iterator[do.Action]:
        """From now on, instead of what there was."""
        self.all[task] = Schedule(every_s, keep, self._now() + every_s)
        self._registry.every_s[task] = every_s
        yield do.KeepSchedule(task, every_s, keep)

    def stop(self, task: str) -> Iterator[do.Action]:
        """No more; none there is as good."""
        if self.all.pop(task, None) is not None:
            del self._registry.every_s[task]
            yield do.DropSchedule(task)

    def changed(self, task: Task) -> Iterator[do.Action]:
        """A task's node told of it."""
        if task.status.ended:
            yield from self.stop(task.id)

    def late(self) -> Iterator[do.Action]:
        """Takes those that are due."""
        now = self._now()
        for task, one in list(self.all.items()):
            if one.due <= now:
                # On the beat, whatever has been missed.
                one.due += one.every_s * (int((now - one.due) / one.every_s) + 1)
                yield from self._beat(task, one)

    def _beat(self, name: str, one: Schedule) -> Iterator[do.Action]:
        node = self._registry.where.get(name)
        if one.busy or node is None or not node.connected or self._is_moving(name):
            return
        task = node.tasks[name]
        if task.status is not Status.RUNNING or name in self._registry.held:
            return
        one.busy = True

        def done(why: str | None) -> Iterator[do.Action]:
            one.busy = False
            if self.all.get(name) is one and why not in (None, one.said):
                assert why is not None
                yield from self._tell(name, one, why)

        yield from self._take(task, node, one.keep, done)

    def _tell(self, task: str, one: Schedule, why: str) -> Iterator[do.Action]:
        node = self._registry.where.get(task)
        about = node.name if node is not None else ""
        one.said = why
        if why:
            text = f"no whole snapshot of {task}, as is due each {one.every_s:g} s: {why}"
            yield from self._note(text, node=about, task=task, level="warning")
        else:
            yield from self._note(f"snapshots of {task} are taken again", node=about, task=task)

    def deadline(self) -> float:
        return min((one.due for one in self.all.values()), default=float("inf"))


def check(every_s: float) -> None:
    """Raises UsageError."""
    if not LEAST_S <= every_s <= MOST_S:
        raise UsageError(
            f"every {every_s:g} s is not between {LEAST_S:g} s and {MOST_S / 86400:g} days",
            code="bad-time", exit_status=2,
        )
