"""The wandering in short, so that it cannot rot; and that it finds what is bad."""

import os
from pathlib import Path

import pytest

from tests.real.hosts import hosts_here
from tests.real.wandering import Figures, Plan, compare, wander

__all__ = ["hosts_here"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="CRIU needs root")
@pytest.mark.usefixtures("hosts_here")
@pytest.mark.timeout(300)
def test_a_short_wandering_finds_nothing_bad(tmp_path: Path) -> None:
    figures = wander(tmp_path, Plan(moves=5, seed=3))
    assert figures.bad() == [], figures.table()
    assert figures.counts["moves begun"] == 5
    assert figures.counts["moves done"] > 0 < figures.counts["lines written"]


@pytest.mark.parametrize(("counted", "lost", "repeated"), [
    ([], 0, 0), ([0, 1, 2], 0, 0), ([0, 2], 1, 0), ([0, 1, 1, 2], 0, 1), ([0, 3, 3], 2, 1),
])
def test_what_is_missing_and_what_is_there_again_is_counted(
    counted: list[int], lost: int, repeated: int
) -> None:
    assert compare(counted) == (lost, repeated)


def test_what_has_to_be_none_is_bad_with_its_example() -> None:
    figures = Figures()
    figures.add("moves begun", 3)
    figures.add("lines lost", 0, "nothing was")
    assert figures.bad() == []
    figures.add("double lives", 1, "t1 node1 -> node2, agent of node1")
    assert figures.bad() == ["double lives: 1; t1 node1 -> node2, agent of node1"]
    lines = [line.split() for line in figures.table().splitlines()]
    assert ["double", "lives", "1", "BAD"] in lines
    assert ["lines", "lost", "0"] in lines
