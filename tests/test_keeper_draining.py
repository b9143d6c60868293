"""A copy runs before all of its memory is there: what its node does till then, and if it never is.

At the destination unless said otherwise.
"""

import pytest

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.core import Moves
from clientd.keeper.moves.table import Part
from clientd.keeper.records import Kept, Ledger, Moved
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from tests.test_keeper_moves import told

TASK = Task(Spec("t0000001", (b"count",), kind="shell", home="n1", epoch=1), Status.RUNNING, pid=7)
COPY = do.Loaded("m1", 9, 1, {})


class Node:
    """A keeper's core whose records are in force as soon as they are wanted."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.core = Moves(self.ledger, "boot", "images")

    def hears(self, event: do.Event) -> str:
        done = []
        for action in self.core.handle(event):
            if isinstance(action, do.Note):
                self.ledger.apply(action.record)
            done.append(told(action))
        return " ".join(done)

    def ordered(
        self, order: orders.Reserve | orders.Freeze | orders.Landed | orders.Verdict
    ) -> str:
        return self.hears(do.Ordered(order))

    def verdict(self, word: str, epoch: int = 2) -> str:
        return self.ordered(
            orders.Verdict("m1", TASK.id, epoch, word)  # type: ignore[arg-type]
        )


def prepared() -> Node:
    """A destination that has voted."""
    node = Node()
    node.ordered(orders.Reserve("m1", TASK, 2, peer="n1", lazy=True))
    node.hears(do.Warm("m1", "log"))
    node.ordered(orders.Landed("m1", 10))
    assert node.hears(COPY) == "prepared! Tell:prepared"
    return node


def draining() -> Node:
    node = prepared()
    assert node.verdict("commit") == "consumed! Thaw"
    assert node.hears(do.WentOn("m1", 1.0, 2.0, {})) == "draining Tell:draining"
    return node


def test_it_is_told_as_running_once_it_needs_the_source_no_more() -> None:
    node = draining()
    assert node.verdict("commit") == "Tell:draining"
    assert node.hears(do.Drained("m1")) == "running DropFiles Tell:running"
    assert node.hears(do.Drained("m1")) == ""
    record = node.ledger.moves["m1"]
    assert (record.at, record.wall) == (1.0, 2.0)


def test_what_was_all_there_before_it_ran_never_drains() -> None:
    node = prepared()
    assert node.hears(do.Drained("m1")) == ""
    node.verdict("commit")
    assert node.hears(do.WentOn("m1", 1.0, 2.0, {})) == "running DropFiles Tell:running"


def test_without_its_memory_it_is_lost_on_record_before_it_is_ended() -> None:
    node = draining()
    assert node.hears(do.Drying("m1", "cut")) == "lost! Tell:lost KillCopy DropFiles"
    task = node.ledger.tasks[TASK.id]
    assert (task.status, task.reason) == (Status.UNKNOWN, "cut")
    assert node.ledger.moves["m1"].code == "pages"
    # Whatever comes now, it does not run again.
    assert node.hears(do.Gone("m1")) == ""
    assert node.verdict("commit") == "Tell:lost"
    assert node.verdict("end", 3) == "ForgetTask discarded Tell:discarded"


def test_what_is_lost_before_the_verdict_is_a_refusal_or_renounced() -> None:
    node = Node()
    node.ordered(orders.Reserve("m1", TASK, 2, peer="n1", lazy=True))
    node.hears(do.Warm("m1", "log"))
    assert node.hears(do.Drying("m1", "cut")) == "refused KillCopy DropFiles Tell:refused"
    node = prepared()
    assert node.hears(do.Drying("m1", "cut")) == "KillCopy"
    node.hears(do.Gone("m1"))
    assert node.verdict("commit") == "Birth"
    assert node.hears(do.Warm("m1", "log")) == "LoadCopy"
    assert node.hears(do.Failed("m1", "pages", "cut")) == (
        "renounced! KillCopy DropFiles Tell:renounced"
    )


def test_a_task_that_ends_while_it_drains_has_ended_as_any() -> None:
    assert draining().hears(do.Gone("m1")) == "running DropFiles Tell:running"


@pytest.mark.parametrize(("part", "alive", "want"), [
    (Part.CONSUMED, True, "WatchDrain Thaw"), (Part.CONSUMED, False, "lost! Tell:lost"),
    (Part.DRAINING, True, "WatchDrain"), (Part.DRAINING, False, "lost! Tell:lost"),
])
def test_a_new_keeper_takes_up_where_the_memory_was(part: Part, alive: bool, want: str) -> None:
    node = draining()
    record = node.ledger.moves["m1"]
    again = Node()
    again.ledger.apply(
        Moved("m1", TASK.id, 2, Part.CONSUMED, incoming=TASK, pid=9, lazy=record.lazy)
    )
    again.ledger.apply(
        Moved("m1", TASK.id, 2, part, incoming=TASK, pid=9, boot="boot", lazy=record.lazy)
    )
    assert again.hears(do.Returned("m1", alive)) == want


def frozen() -> Node:
    """A source that has voted."""
    node = Node()
    node.ledger.apply(Kept(Task(
        Spec(TASK.id, (b"count",), kind="shell", home="n1", epoch=1, contained=True),
        Status.RUNNING, pid=7,
    )))
    assert node.ordered(orders.Freeze("m1", TASK.id, 1, "n2", lazy=True)) == "freezing! FreezeCopy"
    node.hears(do.StoodStill("m1", 1, 0, 1.0, 2.0, {}))
    assert node.hears(do.Synced("m1", {})) == "frozen! Tell:frozen"
    return node


def test_a_source_keeps_what_it_has_whatever_breaks_till_it_is_told() -> None:
    node = frozen()
    assert node.hears(do.AgentLost()) == "Tell:frozen"
    assert node.hears(do.Returned("m1", True)) == ""
    assert node.verdict("finish", 2) == "finishing! KillCopy"


def test_a_source_goes_on_from_where_it_stood_still_when_the_copy_is_lost() -> None:
    node = frozen()
    assert node.verdict("resume", 3) == "resuming! Thaw"
    assert node.hears(do.WentOn("m1", 1.0, 2.0, {})) == "resumed DropFiles Tell:resumed"


def test_a_source_whose_machine_stopped_has_nothing_to_go_on_with() -> None:
    """Of a lazy move the image has no memory."""
    node = frozen()
    node.hears(do.Returned("m1", False))
    assert node.verdict("resume", 3) == "resuming! resumed KillCopy Tell:resumed"
    assert node.ledger.moves["m1"].code == "lost"
    assert node.ledger.tasks[TASK.id].status is Status.UNKNOWN
