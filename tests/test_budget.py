"""Which way a task is moved to keep to a budget: predicted from its memory and from past moves."""

import pytest
from msgspec.structs import replace

from godwit.task.reasons import Reason
from masterd.moves.budget import (
    FIRST,
    LATER,
    PICKLED_MS,
    STOP,
    Choice,
    Cost,
    choose,
    choose_pickled,
    learnt,
)
from masterd.moves.table import Move, State

MIB, GIB = 1 << 20, 1 << 30
NODES = ("n1", "n2")


def flown(way: str, memory: int, blackout_ms: float, target: str = "n2") -> Move:
    return Move(
        "m", "t", "n1", target, "shell", 1, State.DONE, way=way, memory=memory,
        blackout_ms=blackout_ms,
    )


def chosen(budget_ms: float, memory: int, *past: Move, **more: object) -> Choice:
    choice = choose(budget_ms, memory, NODES, past, **more)  # type: ignore[arg-type]
    assert isinstance(choice, Choice)
    return choice


def test_before_any_move_it_is_predicted_as_it_was_measured_once() -> None:
    assert learnt(STOP, *NODES, ()) == FIRST[STOP]
    assert 2000 < FIRST[STOP].ms(GIB) < 4000
    assert 200 < FIRST[LATER].ms(GIB) < 400


def test_a_cost_is_what_is_fixed_and_what_grows_with_the_memory() -> None:
    assert Cost(0.1, 1e-9).ms(0) == 100.0
    assert Cost(0.1, 1e-9).ms(2 * 10**9) == 2100.0


def test_small_moves_tell_what_is_fixed_and_big_ones_what_grows() -> None:
    past = [flown(STOP, 0, 80.0), flown(STOP, GIB, 1080.0)]
    found = learnt(STOP, *NODES, past)
    assert found.fixed_s == pytest.approx(0.08)
    assert found.ms(GIB) == pytest.approx(1080.0)
    assert found.ms(GIB // 2) == pytest.approx(580.0)
    assert learnt(LATER, *NODES, past) == FIRST[LATER]


def test_moves_between_the_same_nodes_count_before_all_others() -> None:
    far = [flown(STOP, 0, 900.0, "n3")] * 3
    assert learnt(STOP, *NODES, far).fixed_s == pytest.approx(0.9)
    assert learnt(STOP, *NODES, [*far, flown(STOP, 0, 70.0)]).fixed_s == pytest.approx(0.07)
    assert learnt(STOP, "n2", "n1", [*far, flown(STOP, 0, 70.0)]).fixed_s == pytest.approx(0.07)


def test_one_odd_move_does_not_change_what_is_predicted() -> None:
    past = [flown(STOP, 0, ms) for ms in (80.0, 81.0, 5000.0)]
    assert learnt(STOP, *NODES, past).fixed_s == pytest.approx(0.081)


def test_a_bound_and_a_move_of_another_kind_teach_nothing() -> None:
    bound = replace(flown(STOP, 0, 900.0), blackout_is_bound=True)
    unknown = flown(STOP, 0, 0.0)
    python = flown("", 0, 5.0)
    assert learnt(STOP, *NODES, [bound, unknown, python]) == FIRST[STOP]


def test_nothing_learnt_makes_a_prediction_below_nothing() -> None:
    past = [flown(LATER, GIB, 10.0)]
    assert learnt(LATER, *NODES, past).ms(4 * GIB) >= learnt(LATER, *NODES, past).ms(0) > 0


def test_what_is_safe_at_any_moment_is_taken_when_it_keeps_to_the_budget() -> None:
    choice = chosen(5000.0, GIB)
    assert (choice.way, choice.memory, choice.budget_ms) == (STOP, GIB, 5000.0)
    assert choice.predicted_ms == FIRST[STOP].ms(GIB) <= 5000.0


def test_memory_follows_later_when_that_alone_keeps_to_it() -> None:
    choice = chosen(350.0, GIB)
    assert (choice.way, choice.predicted_ms) == (LATER, FIRST[LATER].ms(GIB))


def test_what_no_way_keeps_to_is_refused_with_the_prediction_and_what_would_change_it() -> None:
    refused = choose(50.0, GIB, NODES, ())
    assert isinstance(refused, Reason)
    assert refused.code == "budget"
    for way in (STOP, LATER):
        assert f"{FIRST[way].ms(GIB):.0f} ms by {way}" in refused.text
    assert f"at least {FIRST[LATER].ms(GIB):.0f} ms" in refused.fix
    assert "--anyway" in refused.fix


def test_without_post_copy_the_refusal_says_why_there_is_none() -> None:
    refused = choose(350.0, GIB, NODES, (), without_later="n2: no userfaultfd")
    assert isinstance(refused, Reason)
    assert LATER not in refused.text
    assert refused.fix.endswith("n2: no userfaultfd")


def test_whoever_wants_it_anyway_gets_what_comes_nearest() -> None:
    assert chosen(50.0, GIB, anyway=True).way == LATER
    assert chosen(50.0, MIB, anyway=True).way == STOP
    assert chosen(50.0, GIB, anyway=True, without_later="no").way == STOP


def test_a_python_task_is_predicted_by_what_its_moves_took() -> None:
    assert choose_pickled(100.0, 12, False) == Choice("", 0, 100.0, 12.0)
    assert choose_pickled(100.0, None, False) == Choice("", 0, 100.0, float(PICKLED_MS))
    refused = choose_pickled(5.0, 12, False)
    assert isinstance(refused, Reason)
    assert "12 ms" in refused.text
    assert choose_pickled(5.0, 12, True) == Choice("", 0, 5.0, 12.0)
