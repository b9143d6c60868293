"""This node's part in every move: events in, actions out.  Pure.

It is made of parts, each with one idea, that share what this node has of its moves
(clientd/keeper/moves/here.py); this module only says which part hears of what.  Every answer to
the agent repeats what is on record, so an order may come late or twice.
"""

from collections.abc import Iterator
from typing import assert_never

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.copies import Copies
from clientd.keeper.moves.draining import Draining
from clientd.keeper.moves.freezing import Freezing
from clientd.keeper.moves.frozen import Frozen
from clientd.keeper.moves.here import Here, standing
from clientd.keeper.moves.mishaps import Mishaps
from clientd.keeper.moves.prepared import Prepared
from clientd.keeper.moves.refusals import Objects
from clientd.keeper.moves.reserved import Reserved
from clientd.keeper.moves.table import Part
from clientd.keeper.moves.verdicts import Verdicts
from clientd.keeper.records import Ledger, Moved


class Moves:
    """The core.  ``handle`` is its only way in."""

    def __init__(
        self, ledger: Ledger, boot: str, images: str, objects: Objects = lambda task: None
    ):
        """``images``: the folder of the images, each called by its move."""
        self._here = here = Here(ledger, boot, images)
        self._copies = copies = Copies(here)
        self._freezing = Freezing(here)
        self._frozen = Frozen(here, copies)
        self._reserved = Reserved(here, copies, objects)
        self._prepared = Prepared(here, copies)
        self._draining = Draining(here, copies, self._reserved, self._prepared)
        self._verdicts = Verdicts(here, self._freezing, self._frozen, self._prepared)
        self._mishaps = Mishaps(
            here, copies, (self._freezing, self._frozen),
            (self._reserved, self._prepared, self._draining),
        )

    def of_task(self, task: str) -> Moved | None:
        """The move, not settled here, that has this task."""
        return self._here.of_task(task)

    def standings(self) -> Iterator[orders.Standing]:
        """For a new agent: where every move stands of which more is to come."""
        for record in self._here.ledger.moves.values():
            # One that is lost waits for nothing, but the master may have to decide for want of it.
            is_lost = record.part is Part.LOST and record.task in self._here.ledger.tasks
            if (is_lost or not record.part.settled) and record.part.told is not None:
                yield standing(record)

    def handle(self, event: do.Event) -> Iterator[do.Action]:
        """What is to be done; to be done one by one, as they come."""
        match event:
            case do.Ordered(order):
                yield from self._ordered(order)
            case do.Warm():
                yield from self._reserved.warm(event)
            case do.Grows(move):
                yield from self._freezing.grows(move)
            case do.StoodStill():
                yield from self._freezing.stood_still(event)
            case do.Synced(move, phases):
                yield from self._freezing.synced(move, phases)
            case do.Apart(move, at):
                yield from self._freezing.apart(move, at)
            case do.Loaded():
                yield from self._reserved.loaded(event)
            case do.WentOn():
                yield from self._copies.went_on(event)
            case do.Drained(move):
                yield from self._draining.drained(move)
            case do.Drying(move, text):
                yield from self._draining.dried(move, text)
            case do.Unthawed(move):
                yield from self._mishaps.unthawed(move)
            case do.Failed(move, code, text):
                yield from self._mishaps.failed(move, code, text)
            case do.Gone(move):
                yield from self._mishaps.gone(move)
            case do.Unwritten(record, code, text):
                yield from self._mishaps.unwritten(record, code, text)
            case do.AgentLost():
                for move in list(self._here.ledger.moves):
                    yield from self._mishaps.cut(move, "agent", "the agent of this node ended")
            case do.Returned(move, alive):
                yield from self._mishaps.returned(move, alive)
            case _:
                assert_never(event)

    def _ordered(
        self, order: orders.Reserve | orders.Freeze | orders.Landed | orders.Cut | orders.Verdict
    ) -> Iterator[do.Action]:
        match order:
            case orders.Reserve():
                yield from self._reserved.reserve(order)
            case orders.Freeze():
                yield from self._freezing.freeze(order)
            case orders.Verdict():
                yield from self._verdicts.verdict(order)
            case orders.Landed(move, size):
                yield from self._reserved.landed(move, size)
            case orders.Cut(move, code, text):
                yield from self._mishaps.cut(move, code, text)
            case _:
                assert_never(order)
