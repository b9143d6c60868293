"""The soak in short, so that it cannot rot; and that it finds what is bad."""

import threading
from pathlib import Path

import pytest

from godwit.wire import operations as op
from tests.real.soak import Plan, soak
from tests.real.soaking.figures import RULES, Figures
from tests.real.soaking.writers import Reader, expected


@pytest.mark.timeout(450)
def test_a_short_soak_finds_nothing_bad(tmp_path: Path) -> None:
    plan = Plan(seconds=12, nodes=3, kills=4, frames=1000, seed=1, every=16)
    figures = soak(tmp_path, plan)
    assert figures.bad() == [], figures.table()


def test_a_figure_is_bad_by_its_rule_alone() -> None:
    figures = Figures(kills=2, frames=1)
    counted = [name for name, rule in RULES.items() if rule == "some"]
    for name in (*counted, "masters killed", "agents killed", "malformed frames tried"):
        figures.add(name)
    assert [line.partition(":")[0] for line in figures.bad()] == ["masters killed", "agents killed"]
    figures.add("masters killed")
    figures.add("agents killed")
    assert figures.bad() == []
    figures.add("launches doubled", 1, "job-1 ran twice")
    figures.add("statuses unknown, with a cause")
    assert figures.bad() == ["launches doubled: 1; job-1 ran twice"]
    assert "none  BAD" in figures.table()


@pytest.mark.parametrize(("offsets", "lost", "doubled"), [
    ((0, 100, 200), 0, 0), ((0, 100, 100, 200), 0, 100), ((0, 200), 100, 0),
])
def test_a_reader_tells_lost_bytes_from_doubled_ones(
    offsets: tuple[int, ...], lost: int, doubled: int
) -> None:
    figures, whole = Figures(0, 0), expected()[:300]
    reader = Reader(whole, figures, "t")
    reader.begin()
    for offset in offsets:
        reader.take(op.Output(1, "t", offset, whole[offset : offset + 100]))
    reader.end()
    assert figures["bytes lost to followers"] == lost
    assert figures["bytes doubled to followers"] == doubled


def test_a_reader_that_is_given_others_bytes_says_so() -> None:
    figures, whole = Figures(0, 0), expected()[:300]
    reader = Reader(whole, figures, "t")
    reader.take(op.Output(1, "t", 0, whole[:100][::-1]))
    assert figures["bytes lost to followers"] == 100


def test_figures_are_counted_by_many_at_once() -> None:
    figures = Figures(0, 0)

    def count() -> None:
        for _ in range(1000):
            figures.add("bytes followed")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert figures["bytes followed"] == 4000
