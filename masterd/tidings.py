"""What nodes tell of tasks: what of it is believed, and who hears of it.  Pure."""

from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec.structs import replace

from godwit.log import Level
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.wire import messages as wire
from masterd import actions as do
from masterd.follows import Follows
from masterd.homelogs import HomeLogs
from masterd.launches import Launches
from masterd.moves.core import Moves
from masterd.nodes import describe_end
from masterd.pruning import surplus_tasks
from masterd.registry import Node, Registry
from masterd.shadows import Shadows
from masterd.sources import Sources
from masterd.waits import Waits

#: Tasks told of by a node that does not have them, of which the last words are kept.
DOUBTED_KEPT = 1000


class Note(Protocol):
    """Adds to the history."""

    def __call__(
        self, text: str, *, node: str = "", task: str = "", notice: bool = False,
        level: Level = "info",
    ) -> Iterator[do.Action]: ...


class Tidings:
    """The only one who changes what is known of a task, moves apart."""

    def __init__(
        self, registry: Registry, note: Note, launches: Launches, follows: Follows, waits: Waits,
        moves: Moves, shadows: Shadows, homelogs: HomeLogs, sources: Sources,
        forgotten: Callable[[str, bool], Iterator[do.Action]],
    ):
        """``forgotten`` hears of a task that there is no more, and whether it has surely ended."""
        self._forgotten = forgotten
        self._registry = registry
        self._note = note
        self._launches = launches
        self._follows = follows
        self._waits = waits
        self._moves = moves
        self._shadows = shadows
        self._homelogs = homelogs
        self._sources = sources

    def changed(self, node: Node, tasks: tuple[Task, ...]) -> Iterator[do.Action]:
        """A node tells of its tasks, and perhaps of others'."""
        for task in tasks:
            other = self._registry.where.get(task.id)
            if other is not None and other is not node:
                if self._moves.is_part(node, task.id):
                    self._moves.claimed(node, task)  # it stands still, or is about to go
                    continue
                known = other.tasks[task.id]
                if not known.status.alive and known.spec.epoch < task.spec.epoch:
                    # It went on elsewhere after it was lost there, by a record that is lost too.
                    self._registry.drop(task.id)
                    yield from self._update(node, task)
                    yield from self._moves.look_again(task.id)
                    continue
                is_copy = task.status.alive and task.status is not Status.FROZEN
                if is_copy and task.spec.epoch < other.tasks[task.id].spec.epoch:
                    yield from self._supersede(node, task, other)
                    continue
                # A node speaks only for itself.
                self._doubt(node, task)
                yield from self._note(
                    f"{node.name} told of {task.id}, which is on {other.name}: not believed",
                    node=node.name, task=task.id, level="warning",
                )
                continue
            yield from self._update(node, task)

    def _doubt(self, node: Node, task: Task) -> None:
        """It is believed once the other node has no such task: this record may be an older one."""
        self._registry.doubted.pop(task.id, None)
        self._registry.doubted[task.id] = node, task
        if len(self._registry.doubted) > DOUBTED_KEPT:
            del self._registry.doubted[next(iter(self._registry.doubted))]

    def _supersede(self, node: Node, task: Task, owner: Node) -> Iterator[do.Action]:
        """A copy of an epoch that has passed ends on contact."""
        yield from self._note(
            f"{node.name} has a copy of {task.id} from before it moved to {owner.name}: ending it",
            node=node.name, task=task.id, level="warning",
        )
        if node.control is not None:
            epoch = owner.tasks[task.id].spec.epoch
            yield do.Send(node.control, wire.Verdict("", task.id, epoch, "end"))

    def _update(self, node: Node, task: Task) -> Iterator[do.Action]:
        before = node.tasks.get(task.id)
        if before == task:
            return
        self._registry.put(node, task)
        yield do.KeepTask(node.name, task)
        yield from self._tell_of(node, before, task)
        yield from self._launches.changed(task)
        yield from self._waits.changed(task.id)
        yield from self._follows.changed(task)
        if task.status.ended or task.status is Status.UNKNOWN:
            yield from self._moves.ended(task.id)
        yield from self._shadows.look(task.id)

    def _tell_of(self, node: Node, before: Task | None, task: Task) -> Iterator[do.Action]:
        if before is not None and before.status is task.status:
            return
        if task.status.ended or task.status is Status.UNKNOWN:
            known = before is not None and before.status is not Status.STARTING
            yield from self._note(
                describe_end(node.name, task), node=node.name, task=task.id,
                notice=not task.spec.oneoff and (known or before is not None),
            )
        elif before is None or before.status is Status.STARTING:
            yield from self._note(
                f"{task.id} runs on {node.name} as pid {task.pid}: {task.spec.command[:80]}",
                node=node.name, task=task.id,
            )
        else:
            yield from self._note(
                f"{task.id} on {node.name} is {task.status.value}", node=node.name, task=task.id
            )

    def reported(self, node: Node) -> Iterator[do.Action]:
        """The pid map is whole: what it does not name is no longer there."""
        yield from self._launches.reported(node)
        for task in [t for t in node.tasks.values() if t.id not in node.reporting]:
            if self._moves.is_part(node, task.id):
                # It has been given the task and may not have heard of it; or an end tells.
                self._moves.missed(node, task.id)
                continue
            if task.status is Status.STARTING:
                if not self._launches.is_waiting(task.id):
                    # What was recorded last may have been lost with an earlier master.
                    reason = f"{node.name} has no record of it: never started, or removed since"
                    yield from self._update(
                        node, replace(task, status=Status.UNKNOWN, reason=reason)
                    )
            elif task.status is not Status.UNKNOWN or task.pid is not None:
                yield from self.forget(node, task.id, surely=task.status.ended)
        node.reporting.clear()
        for name in surplus_tasks(node):
            yield from self.forget(node, name)
        yield from self._moves.reported(node)
        yield from self._shadows.reported(node)

    def rejected(self, node: Node, task: str, code: str, text: str) -> Iterator[do.Action]:
        """Nothing came of this launch; it never was a task."""
        known = node.tasks.get(task)
        if known is not None and known.status is Status.STARTING:
            yield from self.forget(node, task, code, text)

    def forget(
        self, node: Node, task: str, code: str = "forgotten", text: str = "the task was removed",
        *, surely: bool = True,
    ) -> Iterator[do.Action]:
        """``surely``: somebody wanted that, or it had ended for certain."""
        if task not in node.tasks:
            return
        digest = node.tasks[task].spec.digest
        self._registry.drop(task)
        yield do.DropTask(task)
        yield from self._sources.spare(digest)
        yield from self._launches.gone(node, task, code, text)
        yield from self._follows.forgotten(task, code, text)
        yield from self._waits.changed(task)
        yield from self._moves.ended(task)
        yield from self._forgotten(task, surely)
        yield from self._shadows.forgotten(task)
        yield from self._homelogs.stop(task)
        other, claim = self._registry.doubted.pop(task, (node, None))
        if claim is not None and other is not node and other.connected:
            yield from self._update(other, claim)
        yield from self._moves.look_again(task)
