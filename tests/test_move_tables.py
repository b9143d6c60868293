"""Both tables of a move: each pair of a state and a cause is in the table, or refused."""

import itertools

import pytest

from clientd.keeper.moves import table as node
from godwit.errors import TaskError
from masterd.moves import table as master


@pytest.mark.parametrize(("part", "cause"), list(itertools.product(node.Part, node.Cause)))
def test_a_part_goes_where_the_table_says_or_nowhere(part: node.Part, cause: node.Cause) -> None:
    if cause in node.TABLE[part]:
        assert node.advance(part, cause) is node.TABLE[part][cause]
    else:
        with pytest.raises(TaskError, match=f"{part.value} here cannot be {cause.value}"):
            node.advance(part, cause)


@pytest.mark.parametrize(("state", "cause"), list(itertools.product(master.State, master.Cause)))
def test_a_move_goes_where_the_table_says_or_nowhere(
    state: master.State, cause: master.Cause
) -> None:
    if cause in master.TABLE[state]:
        assert master.advance(state, cause) is master.TABLE[state][cause]
    else:
        with pytest.raises(TaskError, match=f"{state.value} cannot be {cause.value}"):
            master.advance(state, cause)


def reachable(part: node.Part) -> set[node.Part]:
    found, left = {part}, [part]
    while left:
        for after in node.TABLE[left.pop()].values():
            if after not in found:
                found.add(after)
                left.append(after)
    return found


def test_every_part_begins_at_one_end_and_stays_there() -> None:
    source, target = reachable(node.Part.FREEZING), reachable(node.Part.RESERVED)
    assert source | target == set(node.Part) and not source & target
    assert source == {part for part in node.Part if part.at_source}


def test_only_a_verdict_leads_out_of_a_vote() -> None:
    verdicts = {
        node.Cause.ABORTED, node.Cause.REVERTED, node.Cause.FINISHED, node.Cause.COMMITTED,
        node.Cause.SUPERSEDED,
    }
    assert set(node.TABLE[node.Part.FROZEN]) <= verdicts
    # That a copy can never be loaded here is no verdict; but it cannot lead to one that runs.
    assert set(node.TABLE[node.Part.PREPARED]) - verdicts == {node.Cause.RENOUNCED}
    assert reachable(node.Part.RENOUNCED) == {node.Part.RENOUNCED}


def test_a_state_is_used_once() -> None:
    """Nothing leads from a part in which it may have run to another use of it."""
    uses = {node.Part.CONSUMED, node.Part.RESUMING}
    for part in (node.Part.CONSUMED, node.Part.RESUMING, node.Part.UNFROZEN):
        assert not (reachable(part) - {part}) & uses
    assert node.Part.RESUMING not in reachable(node.Part.FINISHING)
    assert node.Part.CONSUMED not in reachable(node.Part.DISCARDED)


def test_a_move_is_committed_by_votes_alone_and_never_after_an_abort() -> None:
    ways = [
        (state, cause) for state, steps in master.TABLE.items() for cause, after in steps.items()
        if after is master.State.COMMITTED
    ]
    assert ways == [(master.State.INTENT, master.Cause.VOTED)]
    assert not master.TABLE[master.State.ABORTED] and not master.TABLE[master.State.REVERTED]


def test_no_silence_turns_a_committed_move_back() -> None:
    spoken = {master.Cause.RAN, master.Cause.RENOUNCED}
    assert set(master.TABLE[master.State.DRAINING]) == spoken
    assert set(master.TABLE[master.State.COMMITTED]) == spoken | {master.Cause.DRAINS}


def test_a_source_is_told_to_end_its_copy_only_when_that_is_not_needed() -> None:
    assert master.State.DONE not in master.TABLE[master.State.DRAINING].values()
    assert node.Part.RUNNING in node.TABLE[node.Part.DRAINING].values()
    assert node.Part.DRAINING.told != node.Part.RUNNING.told


def test_the_epoch_grows_by_one_at_each_change_of_owner() -> None:
    epochs = {
        state: master.Move("m", "t", "n1", "n2", "python", 7, state).owner_epoch
        for state in master.State
    }
    assert epochs == {
        master.State.INTENT: 7, master.State.UNSURE: 7, master.State.ABORTED: 7,
        master.State.COMMITTED: 8, master.State.DRAINING: 8, master.State.RAN: 8,
        master.State.DONE: 8, master.State.REVERTED: 9,
    }


def test_what_is_settled_at_a_node_waits_for_nothing() -> None:
    waiting = {part for part in node.Part if not part.settled}
    assert waiting == {
        node.Part.FREEZING, node.Part.FROZEN, node.Part.RESUMING, node.Part.FINISHING,
        node.Part.RESERVED, node.Part.PREPARED, node.Part.CONSUMED, node.Part.DRAINING,
    }
