"""The destination after its vote: only the verdict says whether the copy runs.  Pure.

The rule: once the verdict is ours, the copy runs once, or it is on record, durably, that it never
will.  A copy whose epoch has passed ends.

The image here is not synced: the source's is, and is kept until this copy runs.  So it is good for
another copy when this one or the keeper dies, and not when the machine was started again.
"""

from collections.abc import Iterator

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.copies import Copies
from clientd.keeper.moves.here import Here, Ready, step, tell
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.records import Moved

REBOOTED = "its machine was started again before it could run there"


class Prepared:
    """See the module."""

    def __init__(self, here: Here, copies: Copies):
        self._here = here
        self._copies = copies

    def commit(self, record: Moved) -> Iterator[do.Action]:
        copy = self._here.copy(record.move)
        copy.wanted = True
        if copy.ready is Ready.LOADED and copy.loaded is not None:
            yield from self._copies.take_over(record, copy.loaded)
        elif copy.ready is Ready.WARM:
            yield from self._copies.load(record)
        elif record.boot != self._here.boot:
            yield from self.renounce(record, "rebooted", REBOOTED)
        elif copy.ready is Ready.ABSENT:  # this keeper is not the one that voted, or it died
            assert record.incoming is not None
            yield from self._copies.bear(record, record.incoming)

    def renounce(self, record: Moved, code: str, text: str) -> Iterator[do.Action]:
        """The verdict was ours, and the copy can never run."""
        renounced = step(record, Cause.RENOUNCED, code=code, text=text)
        yield do.Note(renounced, durable=True)
        yield from self._copies.discard(record)
        yield from tell(renounced)

    def give_up(self, record: Moved, cause: Cause) -> Iterator[do.Action]:
        """What came for a move, or was to come, never runs here."""
        discarded = step(record, cause)
        yield do.Note(discarded, durable=record.part.voted)
        yield from self._copies.discard(record)
        yield from tell(discarded)

    def lose(self, record: Moved, code: str, text: str) -> Iterator[do.Action]:
        """The copy may have run, and is gone."""
        lost = step(record, Cause.LOST, code=code, text=text)
        yield do.Note(lost, durable=record.lazy)  # it may still run, and is to be ended
        yield from tell(lost)

    def end(self, order: orders.Verdict, record: Moved | None) -> Iterator[do.Action]:
        """Our copy, if there is one, is of an epoch that has passed.

        It ends before that is on record: a copy without a record would run on unseen.
        """
        task = self._here.ledger.tasks.get(order.task)
        passed = task is not None and task.spec.epoch < order.epoch
        if record is None or record.epoch >= order.epoch or record.part.at_source:
            # One that stands still for a move waits for that move's own verdict.
            if passed and self._here.of_task(order.task) is None:
                yield do.ForgetTask(order.task)
            if record is not None:
                yield from tell(record)
        elif record.part in (Part.RESERVED, Part.PREPARED):
            yield from self.give_up(record, Cause.SUPERSEDED)
        else:
            if passed:
                yield do.ForgetTask(order.task)
            if record.part in (Part.CONSUMED, Part.LOST, Part.DRAINING, Part.RUNNING):
                self._here.copies.pop(record.move, None)
                record = step(record, Cause.SUPERSEDED)
                yield do.Note(record)
            yield from tell(record)
