"""The destination before its vote: a task is to come, and may still be refused.  Pure.

A warm copy and the log are made before the source stands still; the vote is given, durably, once
the frozen state has been loaded.  The rule: this node promises to run nothing that it has not
loaded.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves import refusals
from clientd.keeper.moves.copies import Copies
from clientd.keeper.moves.here import Here, Ready, step, tell
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.records import Moved


class Reserved:
    """See the module."""

    def __init__(self, here: Here, copies: Copies, objects: refusals.Objects):
        self._here = here
        self._copies = copies
        self._objects = objects

    def reserve(self, order: orders.Reserve) -> Iterator[do.Action]:
        known = self._here.ledger.moves.get(order.move)
        if known is not None:
            yield from tell(known)
            return
        task = order.task
        record = Moved(
            order.move, task.id, order.epoch, Part.RESERVED, peer=order.peer, incoming=task,
            image=self._here.image(order.move), lazy=order.lazy,
        )
        problem = refusals.of_coming(self._here, order, self._objects)
        if problem:
            yield from tell(replace(record, part=Part.REFUSED, code=problem[0], text=problem[1]))
            return
        yield do.Note(record)
        self._here.copy(order.move).ready = Ready.BORN
        yield do.Birth(order.move, task, fresh=True, source=order.source)

    def warm(self, event: do.Warm) -> Iterator[do.Action]:
        move, log = event.move, event.log
        record = self._here.ledger.moves[move]
        self._here.copy(move).ready = Ready.WARM
        if record.part is not Part.RESERVED:
            yield from self._copies.warm(record)
            return
        assert record.incoming is not None
        incoming = replace(record.incoming, log=log)
        record = replace(record, incoming=incoming, image=event.image or record.image)
        yield do.Note(record)
        yield do.Tell(orders.Landing(move, log, record.image))

    def landed(self, move: str, size: int) -> Iterator[do.Action]:
        record = self._here.ledger.moves.get(move)
        if record is not None and record.part is Part.RESERVED:
            record = replace(record, size=size)
            yield do.Note(record)
            yield from self._copies.load(record)

    def loaded(self, event: do.Loaded) -> Iterator[do.Action]:
        record, copy = self._here.ledger.moves[event.move], self._here.copy(event.move)
        copy.ready, copy.loaded, copy.phases = Ready.LOADED, event, event.phases
        if record.part is not Part.RESERVED:
            yield from self._copies.loaded(record, event)
            return
        # The image need not outlive this boot: without it, the source is the one that goes on.
        voted = step(record, Cause.VOTED, phases=event.phases, boot=self._here.boot)
        yield do.Note(voted, durable=True)
        yield from tell(voted)

    def refuse(self, record: Moved, code: str, text: str) -> Iterator[do.Action]:
        refused = step(record, Cause.REFUSED, code=code, text=text)
        yield do.Note(refused)
        yield from self._copies.discard(record)
        yield from tell(refused)
