"""An empty copy takes over a frozen state: born, warm, loaded; then it may run.  Pure.

At the destination by the master's verdict, and at a source whose frozen copy has died.  The rule:
that the state has been used is on record, durably, before the copy runs; so it never runs twice.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from clientd.keeper.moves import actions as do
from clientd.keeper.moves.here import Copy, Here, Ready, step, tell
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.records import Moved
from godwit.task.record import Task


class Copies:
    """See the module."""

    def __init__(self, here: Here):
        self._here = here

    def bear(self, record: Moved, task: Task) -> Iterator[do.Action]:
        """For a verdict that is ours: its log and image are here."""
        copy = self._here.copy(record.move)
        copy.ready, copy.wanted = Ready.BORN, True
        yield do.Birth(record.move, task)

    def warm(self, record: Moved) -> Iterator[do.Action]:
        if self._here.copy(record.move).wanted:  # a verdict waits for it
            yield from self.load(record)
        else:
            yield from self.discard(record)

    def load(self, record: Moved) -> Iterator[do.Action]:
        self._here.copy(record.move).ready = Ready.LOADING
        yield do.LoadCopy(record.move, record.task, record.image, record.size)

    def loaded(self, record: Moved, event: do.Loaded) -> Iterator[do.Action]:
        if self._here.copy(record.move).wanted:
            yield from self.take_over(record, event)
        else:
            yield from self.discard(record)

    def take_over(self, record: Moved, loaded: do.Loaded) -> Iterator[do.Action]:
        """On record first, so that this state never runs twice; then it may run."""
        taken = replace(
            record, pid=loaded.pid, start_ticks=loaded.start_ticks, boot=self._here.boot
        )
        if record.part is Part.PREPARED:
            taken = step(taken, Cause.COMMITTED)
        yield do.Note(replace(taken, image=""), durable=True)
        yield do.Thaw(record.move, record.task)

    def went_on(self, event: do.WentOn) -> Iterator[do.Action]:
        record = self._here.ledger.moves[event.move]
        if record.part not in (Part.CONSUMED, Part.RESUMING):
            return
        copy = self._here.copies.pop(event.move, Copy())
        drains = record.lazy and record.part is Part.CONSUMED and not copy.drained
        done = step(
            record, Cause.DRAINS if drains else Cause.THAWED, at=event.at, wall=event.wall,
            phases={**record.phases, **copy.phases, **event.phases},
        )
        yield do.Note(done)
        if not drains:
            yield do.DropFiles(record.move, record.task)
        yield from tell(done)

    def drop(self, record: Moved) -> Iterator[do.Action]:
        """The next time that the verdict is told, another is born."""
        copy = self._here.copy(record.move)
        copy.ready, copy.loaded, copy.wanted = Ready.ABSENT, None, False
        yield do.KillCopy(record.move, record.task)

    def discard(self, record: Moved) -> Iterator[do.Action]:
        """Nothing of what came, or was to come, is needed."""
        self._here.copies.pop(record.move, None)
        yield do.KillCopy(record.move, record.task)
        yield do.DropFiles(record.move, record.task, log=True)
