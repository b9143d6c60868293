"""A shadow at its home, as a table.  Pure.

Rules:
* at most one process stands for a task, and none while the task itself is here;
* what it catches is on record before it is told, and told till the master took it;
* SIGKILL is the one signal that it does not catch: from then on none stands for the task, and the
  guest's end is on its way;
* whatever else ends it, another is made, with the same duties and another pid.

What is not in the table is refused: ``advance`` is its only reader.
"""

from enum import StrEnum

from godwit.errors import TaskError


class Phase(StrEnum):
    WANTED = "wanted"  # there is to be a process
    STANDING = "standing"
    ENDING = "ending"  # it was told how to end
    OVER = "over"  # there is none; what it caught may still be on its way


class Cause(StrEnum):
    AWAY = "away"  # the task is elsewhere
    MADE = "made"
    DIED = "died"  # the process, of whatever
    KILLED = "killed"  # by SIGKILL that somebody sent
    CALLED_OFF = "called off"  # the guest has ended, or the task comes home


TABLE: dict[Phase, dict[Cause, Phase]] = {
    Phase.WANTED: {
        Cause.AWAY: Phase.WANTED, Cause.MADE: Phase.STANDING, Cause.CALLED_OFF: Phase.OVER,
    },
    Phase.STANDING: {
        Cause.AWAY: Phase.STANDING, Cause.DIED: Phase.WANTED, Cause.KILLED: Phase.OVER,
        Cause.CALLED_OFF: Phase.ENDING,
    },
    Phase.ENDING: {
        Cause.AWAY: Phase.ENDING, Cause.DIED: Phase.OVER, Cause.KILLED: Phase.OVER,
        Cause.CALLED_OFF: Phase.ENDING,
    },
    Phase.OVER: {Cause.AWAY: Phase.WANTED, Cause.CALLED_OFF: Phase.OVER},
}


def advance(phase: Phase, cause: Cause) -> Phase:
    """The phase that follows.  Raises TaskError when the table has no such step."""
    try:
        return TABLE[phase][cause]
    except KeyError:
        text = f"a shadow that is {phase.value} cannot be {cause.value}"
        raise TaskError("bad-step", text) from None
