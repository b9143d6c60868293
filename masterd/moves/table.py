"""A move as the master has it on record, as a table.  Pure.

Rules:
* **Verdict.**  ``committed``, ``aborted`` and ``reverted`` are one durable write each, of the move
  and of the task's owner together, before any message tells of it.  Messages only repeat what
  is on record; so late and doubled ones are still true.
* A move is committed once both nodes have voted, and never after it was aborted.
* No silence turns a committed move back: only the destination's own word that it will never run
  the copy, or a person's.  Until then it is held.
* The source keeps what it has until the destination needs it no more: not while it drains.
* The epoch grows by one at each change of owner.
* A move that a node tells of and that is not on record is ``unsure``: its verdict may have been
  given and lost.  So is one without a verdict on record when a master starts: the record may be
  an older one.  It is never committed; masterd/moves/found.py says what leads out of it.

What is not in the table is refused: ``advance`` is its only reader.
"""

from enum import StrEnum

from msgspec import Struct

from godwit.errors import TaskError


class State(StrEnum):
    INTENT = "intent"
    UNSURE = "unsure"  # its verdict may have been given, though it is not on record
    COMMITTED = "committed"  # the destination's, which has not said yet that it runs
    DRAINING = "draining"  # it runs there, and some of its memory is still at the source
    RAN = "ran"  # the destination said so; the source's frozen copy is to go
    DONE = "done"
    ABORTED = "aborted"
    REVERTED = "reverted"

    @property
    def at_target(self) -> bool:
        """The destination owns the task."""
        return self in (State.COMMITTED, State.DRAINING, State.RAN, State.DONE)


class Cause(StrEnum):
    RESTARTED = "restarted"  # the master, which knows only what is on record
    VOTED = "voted"  # both have
    ABORTED = "aborted"
    DRAINS = "drains"
    RAN = "ran"
    RENOUNCED = "renounced"  # the destination, or a person for it
    FINISHED = "finished"


TABLE: dict[State, dict[Cause, State]] = {
    State.INTENT: {
        Cause.VOTED: State.COMMITTED, Cause.ABORTED: State.ABORTED, Cause.RESTARTED: State.UNSURE,
    },
    State.UNSURE: {
        Cause.ABORTED: State.ABORTED, Cause.RAN: State.RAN, Cause.RENOUNCED: State.REVERTED,
        Cause.FINISHED: State.DONE,
    },
    State.COMMITTED: {
        Cause.DRAINS: State.DRAINING, Cause.RAN: State.RAN, Cause.RENOUNCED: State.REVERTED,
    },
    # It has run: only a person, or what a person said beforehand, leads back to the source.
    State.DRAINING: {Cause.RAN: State.RAN, Cause.RENOUNCED: State.REVERTED},
    # A person may have said so, and the source tells that it never stood still, or runs.
    State.RAN: {Cause.FINISHED: State.DONE, Cause.RENOUNCED: State.REVERTED},
    State.DONE: {},
    State.ABORTED: {},
    State.REVERTED: {},
}


class Move(Struct, frozen=True, omit_defaults=True):
    """One move on record."""

    id: str
    task: str
    source: str
    target: str
    kind: str
    #: The task's at its source, when the move began.
    epoch: int
    state: State = State.INTENT
    #: ``hold`` or ``resume``: what becomes of it when the destination may have run it, and died.
    on_unknown: str = "hold"
    #: Nodes that have not answered the last verdict yet.
    owing: tuple[str, ...] = ()
    code: str = ""
    reason: str = ""
    blackout_ms: float = 0.0
    blackout_is_bound: bool = False
    size: int = 0
    #: Of a task that is moved as it is: how (masterd.moves.budget), and its memory, bytes.
    way: str = ""
    memory: int = 0
    #: What was asked for and promised, if anything was.
    budget_ms: float = 0.0
    predicted_ms: float = 0.0
    phases_ms: dict[str, float] = {}
    #: Of the task as it was before, kept by its source.
    snapshot: str = ""
    begun_at: float = 0.0
    ended_at: float = 0.0

    @property
    def settled(self) -> bool:
        """Both nodes have done what the verdict wants of them."""
        return self.state is State.DONE or (
            self.state in (State.ABORTED, State.REVERTED) and not self.owing
        )

    @property
    def owner_epoch(self) -> int:
        """The task's, by the verdict."""
        if self.state is State.REVERTED:
            return self.epoch + 2
        return self.epoch + 1 if self.state.at_target else self.epoch


def advance(state: State, cause: Cause) -> State:
    """The state that follows.  Raises TaskError when the table has no such step."""
    try:
        return TABLE[state][cause]
    except KeyError:
        text = f"a move that is {state.value} cannot be {cause.value}"
        raise TaskError("bad-step", text) from None
