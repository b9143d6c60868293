"""The cores in a world of lost, late and doubled words, crashes and pauses: the promises hold.

``bin/check --seeds N`` tries other seeds than the usual 2,000; ``bin/check --seed K`` one again.
"""

import gc

import pytest

from tests.sim.cluster import Cluster
from tests.sim.world import SHOWN

#: Seeds in one test: enough to name a failure among others.
CHUNK = 100


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    one, count = metafunc.config.getoption("seed"), metafunc.config.getoption("seeds")
    starts = range(0, count, CHUNK)
    chunks = [range(s, min(count, s + CHUNK)) for s in starts] if one is None else [[one]]
    metafunc.parametrize("seeds", chunks, ids=[f"{c[0]}-{c[-1]}" for c in chunks])


def play(seed: int) -> None:
    """One seed; a failure says which and what came before."""
    cluster = Cluster(seed)
    try:
        cluster.run()
    except Exception as err:
        told = "\n".join(cluster.world.trace)
        raise AssertionError(
            f"seed {seed} (again: bin/check -k sim --seed {seed}): {type(err).__name__}: {err}\n"
            f"the last {SHOWN} of its lines:\n{told}"
        ) from err


def test_every_promise_holds_whatever_fails(seeds: range) -> None:
    gc.disable()
    try:
        for seed in seeds:
            play(seed)
    finally:
        gc.enable()
