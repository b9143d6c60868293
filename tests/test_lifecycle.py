"""The life of a task: every step is in the table or refused."""

import itertools

import pytest

from godwit.errors import TaskError
from godwit.task.lifecycle import TABLE, Cause, Status, advance

#: The table once more, read the other way: what each cause does.
STEPS = {
    Cause.STARTED: {Status.STARTING: Status.RUNNING},
    Cause.REFUSED: {Status.STARTING: Status.FAILED},
    Cause.PAUSED: {Status.RUNNING: Status.PAUSED},
    Cause.RESUMED: {Status.PAUSED: Status.RUNNING},
    Cause.FROZE: {Status.RUNNING: Status.FROZEN},
    Cause.THAWED: {Status.FROZEN: Status.RUNNING, Status.HELD: Status.RUNNING},
    Cause.HELD: {Status.FROZEN: Status.HELD},
    Cause.ENDED: dict.fromkeys(set(Status) - {Status.EXITED, Status.FAILED}, Status.EXITED),
    Cause.LOST: dict.fromkeys(
        set(Status) - {Status.EXITED, Status.FAILED, Status.UNKNOWN}, Status.UNKNOWN
    ),
    Cause.FOUND: {Status.UNKNOWN: Status.RUNNING},
}


@pytest.mark.parametrize(("status", "cause"), [*itertools.product(Status, Cause)])
def test_a_step_is_in_the_table_or_refused(status: Status, cause: Cause) -> None:
    if status in STEPS[cause]:
        assert advance(status, cause) is STEPS[cause][status]
    else:
        with pytest.raises(TaskError) as refused:
            advance(status, cause)
        assert refused.value.code == "bad-step"
        assert status.value in str(refused.value) and cause.value in str(refused.value)


def test_every_status_has_a_row() -> None:
    assert set(TABLE) == set(Status)


@pytest.mark.parametrize("status", Status)
def test_what_ended_stays_so_and_is_not_alive(status: Status) -> None:
    assert status.ended == (not TABLE[status])
    assert not (status.ended and status.alive)


def test_every_status_can_be_reached() -> None:
    reached = {Status.STARTING}
    while more := {s for one in reached for s in TABLE[one].values()} - reached:
        reached |= more
    assert reached == set(Status)
