"""A move that a node tells of and this master has no verdict of on record.  Pure.

The database was damaged, or may be an older one.  The verdict may have been given: so the move is
``unsure``, and is never committed here.  What each end says leads out of it:

    the source is frozen    -> the destination is told to give up; once it has, durably,
                               the source goes on (aborted)
    the destination runs it -> the source ends its frozen copy (ran)
    the source runs it      -> the destination gives up what it has (aborted, reverted)
    the source is finished  -> the destination's word stands (done)

Nothing else does: the destination may have run it and be lost, or cannot be reached, or the source
can not: then it is held, and a person's to resolve.  In particular a prepared copy is not given up
before the source has said that it still has its own.
"""

from typing import Literal

from msgspec import Struct

from godwit.task.record import Task
from godwit.wire.messages import Standing
from masterd.moves.table import Move, State

CODE = "no-record"
RESTARTED = "restarted"
REASON = "the master had lost its record of this move"
#: Words of a node that make a move of a kind known again.
TELLING = ("frozen", "prepared")


class Next(Struct, frozen=True):
    """What follows from a word."""

    what: Literal["aborted", "reverted", "ran", "done", "held"]
    owing: tuple[str, ...] = ()
    reason: str = ""


def found(node: str, said: Standing, task: Task | None, owner: str, wall: float) -> Move | None:
    """The move as it can be known from one node's word; None when that is not to be believed.

    A node speaks only for itself: the task must be its own, or the other end's, or nobody's.
    """
    if said.state not in TELLING or owner not in (node, said.peer, ""):
        return None
    at_source = said.state == "frozen"
    source, target = (node, said.peer) if at_source else (said.peer, node)
    return Move(
        said.move, said.task, source, target, task.spec.kind if task is not None else "",
        said.epoch if at_source else said.epoch - 1, State.UNSURE, code=CODE, reason=REASON,
        begun_at=wall,
    )


def follows(move: Move, name: str, said: Standing, is_frozen: bool) -> Next | None:
    """What a word leads to; None: nothing yet.  ``is_frozen``: the source has said so."""
    if name == move.source:
        return _source_said(move, said)
    match said.state:
        case "discarded" | "refused" | "renounced" if is_frozen:
            return Next("aborted", (move.source,))
        case "running":
            return Next("ran", (move.source,))
        case "unfrozen" if said.epoch > move.epoch:  # it has the task, and no trace of the move
            return Next("ran", (move.source,))
        case "unfrozen" if is_frozen:  # what it has is older, and a late copy is refused
            return Next("aborted", (move.source,))
        case "lost":
            return Next("held", reason=f"{name} may have run it: {said.text}")
    return None


def _source_said(move: Move, said: Standing) -> Next | None:
    match said.state:
        case "unfrozen" | "resumed" if said.epoch > move.epoch + 1:
            return Next("reverted", (move.target,))
        case "unfrozen" | "resumed":
            return Next("aborted", (move.target,))
        case "finished":
            return Next("done")
        case "discarded":
            return Next("held", reason=f"{move.source} has neither the task nor its record")
    return None
