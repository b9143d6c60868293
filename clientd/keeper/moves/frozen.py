"""The source after its vote: its frozen copy and its image wait for the verdict.  Pure.

The rule: it goes on, or ends, by the verdict alone, which is on record, durably, before either.
The image serves only a copy that has died: with it on record, no other has run.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.copies import Copies
from clientd.keeper.moves.here import Here, Ready, step, tell
from clientd.keeper.moves.table import Cause
from clientd.keeper.records import Moved


class Frozen:
    """See the module."""

    def __init__(self, here: Here, copies: Copies):
        self._here = here
        self._copies = copies

    def resume(self, record: Moved) -> Iterator[do.Action]:
        """The task is ours again; on record before it may run."""
        dead = self._here.copy(record.move).dead
        if dead and record.lazy:  # most of its memory was in it, and not in the image
            record = replace(record, image="")
            yield do.Note(record, durable=True)
            yield from self.failed(record, "lost", "it stood still when its machine stopped")
            return
        yield do.Note(record if dead else replace(record, image=""), durable=True)
        if dead:
            yield from self.restore(record)
        else:
            yield do.Thaw(record.move, record.task)

    def resume_again(self, record: Moved) -> Iterator[do.Action]:
        copy = self._here.copy(record.move)
        if not record.image:
            yield do.Thaw(record.move, record.task)
        elif copy.ready is Ready.ABSENT:
            yield from self.restore(record)
        elif copy.ready is Ready.LOADED and copy.loaded is not None:
            yield from self._copies.take_over(record, copy.loaded)

    def restore(self, record: Moved) -> Iterator[do.Action]:
        """The frozen copy is gone: the source takes its own image."""
        yield from self._copies.bear(record, self._here.ledger.tasks[record.task])

    def failed(self, record: Moved, code: str, text: str) -> Iterator[do.Action]:
        """It could not go on."""
        if record.image:
            # It is tried again each time that the verdict is repeated: the image is all
            # that there is of the task.
            yield from self._copies.drop(record)
            return
        lost = step(record, Cause.LOST, code=code, text=text)
        yield do.Note(lost)
        yield do.KillCopy(record.move, record.task)
        yield from tell(lost)

    def finish(self, record: Moved) -> Iterator[do.Action]:
        """It runs at the destination: the frozen copy ends."""
        yield do.Note(step(record, Cause.FINISHED), durable=True)
        yield do.KillCopy(record.move, record.task)

    def finished(self, record: Moved) -> Iterator[do.Action]:
        finished = step(record, Cause.KILLED)
        self._here.copies.pop(record.move, None)
        yield do.Note(finished)
        yield do.DropFiles(record.move, record.task, log=True)
        yield do.Tell(orders.Forgotten((record.task,)))
        yield from tell(finished)
