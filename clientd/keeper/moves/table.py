"""A node's part in one move, as a table.  Pure.

Rules, from which all of it follows:
* **Permit.**  A copy runs here only by a record of ours that says so: a move that is ``consumed``,
  or ``unfrozen``, ``resuming`` or ``resumed`` at its source.
* **Vote.**  Until ``frozen`` (source) or ``prepared`` (destination) this node may refuse alone.
  From then on it waits for the master's verdict, for ever if need be: no cause but a verdict
  leads out of these two, whatever the time, and whatever else dies.
* **Once.**  ``consumed`` is on record before the copy may run, and nothing leads from it to
  another restore: the frozen state has one activation.
* The source keeps its frozen copy and its image until ``finishing``.
* A copy that drains runs here, and needs the source: it is told as running once it does not.
* What leads out of a vote is on record, durably, before anything is done for it.

What is not in the table is refused: ``advance`` is its only reader.
"""

from enum import StrEnum

from godwit.errors import TaskError
from godwit.wire.messages import MoveState


class Part(StrEnum):
    """Where this node stands; the value is what its journal says."""

    # The source.
    FREEZING = "freezing"
    UNFROZEN = "unfrozen"  # refused; it never stood still, or runs again
    FROZEN = "frozen"  # voted
    RESUMING = "resuming"  # the verdict is ours; the copy may run
    RESUMED = "resumed"
    FINISHING = "finishing"  # the verdict is the other's; the copy is being killed
    FINISHED = "finished"
    # The destination.
    RESERVED = "reserved"
    REFUSED = "refused"
    PREPARED = "prepared"  # voted
    DISCARDED = "discarded"
    CONSUMED = "consumed"  # the verdict is ours; the copy may run, and may have
    DRAINING = "draining"  # it runs, and some of its memory is still at the source
    RUNNING = "running"
    RENOUNCED = "renounced"  # the verdict was ours, and the copy can never run
    LOST = "lost"  # the copy may have run, and is gone

    @property
    def settled(self) -> bool:
        """Nothing more comes of it here by itself."""
        return not TABLE[self] or self in (Part.RUNNING, Part.LOST)

    @property
    def voted(self) -> bool:
        """Only a verdict leads on."""
        return self in (Part.FROZEN, Part.PREPARED)

    @property
    def at_source(self) -> bool:
        return self in _SOURCE

    @property
    def told(self) -> MoveState | None:
        """The word for it in a Standing; None where there is nothing to be told yet."""
        return _TOLD.get(self)


class Cause(StrEnum):
    """What leads from one to the next."""

    REFUSED = "refused"
    VOTED = "voted"
    ABORTED = "aborted"  # verdict: the source's
    REVERTED = "reverted"  # verdict: the source's after all
    FINISHED = "finished"  # verdict: it runs at the destination
    COMMITTED = "committed"  # verdict: the destination's
    THAWED = "thawed"
    DRAINS = "drains"  # thawed, its memory still to come
    DRAINED = "drained"
    KILLED = "killed"
    RENOUNCED = "renounced"
    LOST = "lost"
    SUPERSEDED = "superseded"  # verdict: another node owns a later epoch


TABLE: dict[Part, dict[Cause, Part]] = {
    Part.FREEZING: {
        Cause.REFUSED: Part.UNFROZEN,
        Cause.VOTED: Part.FROZEN,
        Cause.ABORTED: Part.UNFROZEN,
    },
    Part.FROZEN: {
        Cause.ABORTED: Part.RESUMING,
        Cause.REVERTED: Part.RESUMING,
        Cause.FINISHED: Part.FINISHING,
    },
    Part.RESUMING: {Cause.THAWED: Part.RESUMED, Cause.LOST: Part.RESUMED},
    Part.FINISHING: {Cause.KILLED: Part.FINISHED},
    Part.UNFROZEN: {},
    Part.RESUMED: {},
    Part.FINISHED: {},
    Part.RESERVED: {
        Cause.REFUSED: Part.REFUSED,
        Cause.VOTED: Part.PREPARED,
        Cause.ABORTED: Part.DISCARDED,
        Cause.SUPERSEDED: Part.DISCARDED,
    },
    Part.PREPARED: {
        Cause.ABORTED: Part.DISCARDED,
        Cause.SUPERSEDED: Part.DISCARDED,
        Cause.COMMITTED: Part.CONSUMED,
        Cause.RENOUNCED: Part.RENOUNCED,
    },
    Part.CONSUMED: {
        Cause.THAWED: Part.RUNNING,
        Cause.DRAINS: Part.DRAINING,
        Cause.LOST: Part.LOST,
        Cause.SUPERSEDED: Part.DISCARDED,
    },
    Part.DRAINING: {
        Cause.DRAINED: Part.RUNNING,
        Cause.LOST: Part.LOST,
        Cause.SUPERSEDED: Part.DISCARDED,
    },
    Part.LOST: {Cause.SUPERSEDED: Part.DISCARDED},
    Part.REFUSED: {},
    Part.DISCARDED: {},
    Part.RUNNING: {Cause.SUPERSEDED: Part.DISCARDED},
    Part.RENOUNCED: {},
}

_SOURCE = frozenset({
    Part.FREEZING, Part.UNFROZEN, Part.FROZEN, Part.RESUMING, Part.RESUMED, Part.FINISHING,
    Part.FINISHED,
})

_TOLD: dict[Part, MoveState] = {
    Part.UNFROZEN: "unfrozen", Part.FROZEN: "frozen", Part.RESUMED: "resumed",
    Part.FINISHED: "finished", Part.REFUSED: "refused", Part.PREPARED: "prepared",
    Part.DISCARDED: "discarded", Part.DRAINING: "draining", Part.RUNNING: "running",
    Part.RENOUNCED: "renounced", Part.LOST: "lost",
}


def advance(part: Part, cause: Cause) -> Part:
    """The part that follows.  Raises TaskError when the table has no such step."""
    try:
        return TABLE[part][cause]
    except KeyError:
        text = f"a move that is {part.value} here cannot be {cause.value}"
        raise TaskError("bad-step", text) from None
