"""Many seeds of tasks that move through bad luck of several kinds: the promises hold.

``bin/check --seeds N`` flies other worlds than the usual, as many as it plays of the rest of the
simulator; ``bin/check -k flights --seed K`` flies one seed of every luck again.
"""

import gc

import pytest

from tests.sim.flights import LUCKS, World
from tests.sim.flying_operator import fly

#: Of the seeds that are asked for, so many are flown with each luck: a world is a longer story.
SHARE = 40
#: Seeds in one test.
CHUNK = 50
#: Besides done and aborted: how moves of the usual seeds end, or stand, with a luck that is bad
#: enough for that to come often.
ENDS = {"power": {"reverted", "held"}, "reckless": {"reverted"}, "amnesia": {"held"}}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" not in metafunc.fixturenames:
        return
    one, count = metafunc.config.getoption("seed"), metafunc.config.getoption("seeds") // SHARE
    starts = range(0, max(1, count), CHUNK)
    chunks = [range(s, min(max(1, count), s + CHUNK)) for s in starts] if one is None else [[one]]
    metafunc.parametrize("seeds", chunks, ids=[f"{c[0]}-{c[-1]}" for c in chunks])


@pytest.mark.parametrize("name", LUCKS)
def test_no_luck_is_so_bad_that_a_task_is_doubled_or_lost(name: str, seeds: range) -> None:
    ends: set[str] = set()
    gc.disable()
    try:
        for seed in seeds:
            again = f"{name} seed {seed} (again: bin/check -k flights --seed {seed})"
            try:
                ends |= ends_of(fly(seed, LUCKS[name], tasks=1 + seed % 3))
            except AssertionError as err:
                raise AssertionError(f"{again}: {err}") from err
    finally:
        gc.enable()
    if len(seeds) == CHUNK and seeds[0] == 0:  # else too few to say, or others than usual
        assert ends >= {"done", "aborted"} | ENDS.get(name, set()), ends


def ends_of(world: World) -> set[str]:
    """How the moves on the master's record ended, and whether one is held."""
    held = {"held" for task in world.tasks if world.is_held(task)}
    return held | {move.state.value for move in world.master.moves.values()}


def test_without_bad_luck_every_move_is_done_or_taken_back() -> None:
    for seed in range(10):
        world = fly(seed, LUCKS["none"], tasks=3)
        ends = {(m.state.value, m.code) for m in world.master.moves.values()}
        assert ends <= {("done", ""), ("aborted", "cancelled")} and ("done", "") in ends, ends


def test_a_seed_replays() -> None:
    first, second = (fly(7, LUCKS["hard"], tasks=2).trace for _ in range(2))
    assert first == second


@pytest.mark.parametrize("seed", [738, 918])
def test_a_task_that_its_source_lost_to_a_forgotten_move_is_known_where_it_runs(seed: int) -> None:
    fly(seed, LUCKS["amnesia"], tasks=1 + seed % 3)
