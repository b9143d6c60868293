"""Images that are being written: when what there is of one goes ahead."""

import pytest

from clientd.keeper import orders, processes
from clientd.keeper.loop import Loop
from clientd.keeper.moves import actions as do
from clientd.keeper.moves import imaged
from clientd.keeper.moves.core import Moves
from clientd.keeper.moves.growing import Growing
from clientd.keeper.moves.table import Part
from clientd.keeper.records import Kept, Ledger, Moved
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task

TASK = Task(Spec("t0000001", (b"count",), kind="python", home="n1", epoch=1), Status.RUNNING, pid=7)


class Watching:
    """A loop with one image, looked at."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.heard: list[do.Event] = []
        self.sizes: list[int] = []
        growing = Growing(self.loop, self.heard.append)
        self.leave = growing.leave
        growing.watch("m1", self.is_much)

    def is_much(self) -> bool:
        if not self.sizes:
            raise FileNotFoundError
        return self.sizes.pop(0) > 10

    def turns(self, *sizes: int) -> list[do.Event]:
        """As long as it is looked at."""
        self.sizes += sizes
        while self.loop._alarms:
            self.loop.turn(wait=True)
        return self.heard


@pytest.mark.parametrize(("sizes", "left"), [((0, 5, 11, 20), 1), ((11,), 0)])
def test_an_image_goes_ahead_once_there_is_much_of_it(sizes: tuple[int, ...], left: int) -> None:
    watching = Watching()
    assert watching.turns(*sizes) == [do.Grows("m1")]
    assert len(watching.sizes) == left


def test_one_that_is_gone_or_left_is_looked_at_no_more() -> None:
    assert Watching().turns(1) == []
    watching = Watching()
    watching.leave("m1")
    assert watching.turns(11) == [] and watching.sizes == [11]


@pytest.mark.parametrize("part", list(Part))
def test_it_goes_ahead_of_a_task_that_is_freezing_and_of_no_other(part: Part) -> None:
    ledger = Ledger()
    ledger.apply(Kept(TASK))
    ledger.moves["m1"] = Moved("m1", TASK.id, 1, part, image="i")
    done = [*Moves(ledger, "boot", "images").handle(do.Grows("m1"))]
    told = [do.Tell(orders.Growing("m1", "i"))]
    assert done == (told if part is Part.FREEZING else [])


def test_what_is_kept_goes_nowhere() -> None:
    ledger = Ledger()
    ledger.apply(Kept(TASK))
    ledger.moves["m1"] = Moved("m1", TASK.id, 1, Part.FREEZING, image="i", kept=True)
    assert [*Moves(ledger, "boot", "images").handle(do.Grows("m1"))] == []


@pytest.mark.parametrize(("sizes", "second"), [({1: 0, 7: 90, 8: 40}, 40), ({1: 5}, 0)])
def test_only_the_largest_process_can_have_more_than_what_the_second_has(
    monkeypatch: pytest.MonkeyPatch, sizes: dict[int, int], second: int
) -> None:
    monkeypatch.setattr(processes, "tree", lambda init: iter(sizes))
    monkeypatch.setattr(processes, "memory", lambda pids: sum(sizes[pid] for pid in pids))
    assert imaged._second(1) == second
