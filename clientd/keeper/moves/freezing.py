"""The source before its vote: its task is to stand still, and may still go on by itself.  Pure.

The rule: that it freezes is on record, durably, before it does; and the vote is given, durably,
once the image is on the disk.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves import refusals
from clientd.keeper.moves.here import Here, step, tell
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.records import Moved


class Freezing:
    """See the module."""

    def __init__(self, here: Here):
        self._here = here

    def freeze(self, order: orders.Freeze) -> Iterator[do.Action]:
        known = self._here.ledger.moves.get(order.move)
        if known is not None:
            yield from tell(known)
            return
        record = Moved(
            order.move, order.task, order.epoch, Part.FREEZING, peer=order.peer,
            lazy=order.lazy, kept=order.kept,
        )
        problem = refusals.of_freezing(self._here, order)
        if problem:
            refused = step(record, Cause.REFUSED, code=problem[0], text=problem[1])
            yield do.Note(refused)
            yield from tell(refused)
            return
        record = replace(record, image=self._here.image(order.move))
        yield do.Note(record, durable=True)
        yield do.FreezeCopy(
            order.move, order.task, record.image, order.lazy, order.kept
        )

    def grows(self, move: str) -> Iterator[do.Action]:
        """What there is of the image goes ahead, and proves nothing: the vote is for all of it."""
        record = self._here.ledger.moves[move]
        if record.part is Part.FREEZING and not record.kept:
            yield do.Tell(orders.Growing(move, record.image))

    def stood_still(self, event: do.StoodStill) -> Iterator[do.Action]:
        record = self._here.ledger.moves[event.move]
        if record.part is not Part.FREEZING:
            return
        yield do.Note(replace(
            record, size=event.size, at=event.at, wall=event.wall, phases=event.phases
        ))
        if record.kept:
            return
        task = self._here.ledger.tasks[record.task]
        yield do.Tell(orders.Shipping(
            record.move, task.log, record.image, event.log_size, event.size, event.files
        ))

    def synced(self, move: str, phases: dict[str, float]) -> Iterator[do.Action]:
        record = self._here.ledger.moves[move]
        if record.kept:
            yield from self.apart(move, record.at)
        elif record.part is Part.FREEZING:
            voted = step(record, Cause.VOTED, phases={**record.phases, **phases})
            yield do.Note(voted, durable=True)
            yield from tell(voted)

    def apart(self, move: str, at: float) -> Iterator[do.Action]:
        """It is needed no more for what is to be kept of it, which no other node can have: so
        there is nothing to vote on."""
        record = self._here.ledger.moves[move]
        if record.part is not Part.FREEZING:
            return
        yield do.Note(step(record, Cause.ABORTED))
        yield do.Thaw(move, record.task)
        yield do.Keep(move, record.task, record.image, at)

    def unfreeze(self, record: Moved, cause: Cause, code: str, text: str) -> Iterator[do.Action]:
        """It goes on at once."""
        thawed = step(record, cause, code=code, text=text)
        yield do.Note(replace(thawed, code="", text=""))
        yield do.Thaw(record.move, record.task)
        yield do.DropFiles(record.move, record.task)
        yield from tell(thawed)

    def died(self, record: Moved) -> Iterator[do.Action]:
        """The task ended instead: its own end, noted as such."""
        ended = step(record, Cause.REFUSED, code="ended", text="the task has ended")
        yield do.Note(replace(ended, code="", text=""))
        yield do.DropFiles(record.move, record.task)
        yield from tell(ended)

    def unwritten(self, record: Moved, code: str, text: str) -> Iterator[do.Action]:
        """That it freezes could not be put on record, so it does not."""
        refused = step(record, Cause.REFUSED, code=code, text=text)
        yield do.Note(replace(refused, code="", text=""))
        yield from tell(refused)
