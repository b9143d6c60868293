"""What each verdict of the master's does in each part; what it does not, it only asks.  Pure.

The rule: a verdict may come late or twice.  One that is not for where the move stands is answered
with what is on record.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.freezing import Freezing
from clientd.keeper.moves.frozen import Frozen
from clientd.keeper.moves.here import Here, step, tell
from clientd.keeper.moves.prepared import Prepared
from clientd.keeper.moves.table import Cause, Part
from clientd.keeper.records import Moved


class Verdicts:
    """See the module."""

    def __init__(self, here: Here, freezing: Freezing, frozen: Frozen, prepared: Prepared):
        self._here = here
        self._freezing = freezing
        self._frozen = frozen
        self._prepared = prepared

    def verdict(self, order: orders.Verdict) -> Iterator[do.Action]:
        record = self._here.ledger.moves.get(order.move)
        if record is None:
            yield from self._unknown(order)
            return
        match order.verdict, record.part:
            case "commit", Part.PREPARED if order.epoch == record.epoch:
                yield from self._prepared.commit(record)
            case "commit", Part.RESERVED:
                pass  # no vote was given: not the master we know
            case "abort", Part.FREEZING:
                yield from self._freezing.unfreeze(record, Cause.ABORTED, "", "")
            case ("abort" | "resume" as verdict), Part.FROZEN:
                cause = Cause.ABORTED if verdict == "abort" else Cause.REVERTED
                yield from self._frozen.resume(step(record, cause, epoch=order.epoch))
            case ("abort" | "resume"), Part.RESUMING:
                yield from self._frozen.resume_again(record)
            case "abort", (Part.RESERVED | Part.PREPARED):
                yield from self._prepared.give_up(record, Cause.ABORTED)
            case "finish", Part.FROZEN:
                yield from self._frozen.finish(record)
            case "finish", Part.FINISHING:
                yield do.KillCopy(record.move, record.task)
            case "end", _:
                yield from self._prepared.end(order, record)
            case _:  # "ask" among them
                yield from tell(record)

    def _unknown(self, order: orders.Verdict) -> Iterator[do.Action]:
        """A move that this node has no record of: it never voted here, or the record is lost."""
        told = Moved(order.move, order.task, order.epoch, Part.LOST, text="no record of this move")
        task = self._here.ledger.tasks.get(order.task)
        match order.verdict:
            case "abort" | "ask" if task is not None:
                unfrozen = replace(told, part=Part.UNFROZEN, text="", epoch=task.spec.epoch)
                yield do.Note(unfrozen)  # a freeze of it that is late is refused by this
                yield from tell(unfrozen)
            case "abort" | "ask":
                discarded = replace(told, part=Part.DISCARDED, text="")
                yield do.Note(discarded)  # as late a reserve of it
                yield from tell(discarded)
            case "finish":
                yield from tell(replace(told, part=Part.FINISHED, text=""))
            case "resume":
                yield from tell(replace(
                    told, part=Part.RESUMED, code="lost" if task is None else ""
                ))
            case "end":
                yield from self._prepared.end(order, None)
                if order.move:
                    yield from tell(replace(told, part=Part.DISCARDED, text=""))
            case "commit":
                yield from tell(replace(told, code="lost"))
