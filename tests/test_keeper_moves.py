"""The keeper's core of moves: what each verdict does in each part, exactly."""

import pytest

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.core import Moves
from clientd.keeper.moves.table import Part
from clientd.keeper.records import Kept, Ledger, Moved
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire.messages import Standing
from masterd.moves import found
from masterd.moves.table import Move, State

TASK = Task(Spec("t0000001", (b"count",), kind="python", home="n1", epoch=1), Status.RUNNING, pid=7)
VERDICTS = ("commit", "abort", "resume", "finish", "end", "ask")

#: (part, verdict) -> what is done; what is not here only tells where the move stands.
DOES = {
    (Part.FREEZING, "abort"): "unfrozen Thaw DropFiles Tell:unfrozen",
    (Part.FROZEN, "abort"): "resuming! Thaw",
    (Part.FROZEN, "resume"): "resuming! Thaw",
    (Part.FROZEN, "finish"): "finishing! KillCopy",
    (Part.RESUMING, "abort"): "Thaw",
    (Part.RESUMING, "resume"): "Thaw",
    (Part.FINISHING, "finish"): "KillCopy",
    (Part.RESERVED, "abort"): "discarded KillCopy DropFiles Tell:discarded",
    (Part.RESERVED, "end"): "discarded KillCopy DropFiles Tell:discarded",
    (Part.RESERVED, "commit"): "",
    (Part.PREPARED, "abort"): "discarded! KillCopy DropFiles Tell:discarded",
    (Part.PREPARED, "end"): "discarded! KillCopy DropFiles Tell:discarded",
    (Part.PREPARED, "commit"): "Birth",
    (Part.CONSUMED, "end"): "ForgetTask discarded Tell:discarded",
    (Part.DRAINING, "end"): "ForgetTask discarded Tell:discarded",
    (Part.RUNNING, "end"): "ForgetTask discarded Tell:discarded",
    (Part.UNFROZEN, "end"): "ForgetTask Tell:unfrozen",  # it has moved since, by another move
    (Part.RESUMED, "end"): "ForgetTask Tell:resumed",
    (Part.LOST, "end"): "ForgetTask discarded Tell:discarded",
}


def core(part: Part, boot: str = "boot") -> Moves:
    """A keeper that has the move at this part, and the task where it would be."""
    ledger = Ledger()
    at_source = part.at_source
    if at_source and part is not Part.FINISHED:
        running = part in (Part.FREEZING, Part.UNFROZEN, Part.RESUMED)
        status = Status.RUNNING if running else Status.FROZEN
        ledger.apply(Kept(Task(TASK.spec, status, pid=7)))
    record = Moved(
        "m1", TASK.id, 1 if at_source else 2, part, incoming=None if at_source else TASK,
        image="" if part in (Part.RESUMING, Part.CONSUMED) else "images/m1", pid=8, boot="boot",
    )
    if part in (Part.DRAINING, Part.RUNNING, Part.LOST):
        ledger.apply(Moved("m1", TASK.id, 2, Part.CONSUMED, incoming=TASK, pid=8))
    ledger.apply(record)
    return Moves(ledger, boot, "images")


def told(action: do.Action) -> str:
    """A record by its part, with ``!`` when durable; else the action, with the word told."""
    if isinstance(action, do.Note):
        return action.record.part.value + ("!" if action.durable else "")
    if isinstance(action, do.Tell) and isinstance(action.word, orders.Standing):
        return f"Tell:{action.word.state}"
    return type(action).__name__


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("part", list(Part))
def test_a_verdict_does_what_it_says_or_only_asks(part: Part, verdict: str) -> None:
    epoch = {"commit": 2, "end": 3, "resume": 3}.get(verdict, 1)
    order = orders.Verdict("m1", TASK.id, epoch, verdict)  # type: ignore[arg-type]
    done = " ".join(map(told, core(part).handle(do.Ordered(order))))
    word = part.told
    assert done == DOES.get((part, verdict), f"Tell:{word}" if word else "")


def test_a_destination_that_was_started_again_has_no_image_to_count_on() -> None:
    order = orders.Verdict("m1", TASK.id, 2, "commit")
    done = [*core(Part.PREPARED, "another boot").handle(do.Ordered(order))]
    assert " ".join(map(told, done)) == "renounced! KillCopy DropFiles Tell:renounced"


def test_the_epoch_of_a_commit_is_that_of_the_vote() -> None:
    order = orders.Verdict("m1", TASK.id, 7, "commit")
    done = [told(a) for a in core(Part.PREPARED).handle(do.Ordered(order))]
    assert done == ["Tell:prepared"]


@pytest.mark.parametrize(("part", "alive", "want"), [
    (Part.FREEZING, True, "unfrozen Thaw DropFiles Tell:unfrozen"),
    (Part.FREEZING, False, "unfrozen DropFiles Tell:unfrozen"),
    (Part.FROZEN, True, ""),
    (Part.FROZEN, False, ""),
    (Part.RESUMING, True, "Thaw"),
    (Part.RESUMING, False, "resumed KillCopy Tell:resumed"),
    (Part.FINISHING, True, "KillCopy"),
    (Part.FINISHING, False, "KillCopy"),
    (Part.RESERVED, False, "refused KillCopy DropFiles Tell:refused"),
    (Part.PREPARED, False, ""),
    (Part.CONSUMED, True, "Thaw"),
    (Part.CONSUMED, False, "lost Tell:lost"),
    (Part.DRAINING, True, "WatchDrain"),
    (Part.DRAINING, False, "lost Tell:lost"),
])
def test_a_new_keeper_carries_on(part: Part, alive: bool, want: str) -> None:
    assert " ".join(map(told, core(part).handle(do.Returned("m1", alive)))) == want


@pytest.mark.parametrize("part", list(Part))
def test_a_consumed_copy_that_cannot_be_let_run_is_killed_and_no_other(part: Part) -> None:
    done = " ".join(map(told, core(part).handle(do.Unthawed("m1"))))
    assert done == ("KillCopy" if part is Part.CONSUMED else "")


@pytest.mark.parametrize(("verdict", "here", "want"), [
    ("abort", True, "unfrozen Tell:unfrozen"), ("abort", False, "discarded Tell:discarded"),
    ("ask", True, "unfrozen Tell:unfrozen"), ("ask", False, "discarded Tell:discarded"),
    ("finish", False, "Tell:finished"), ("resume", True, "Tell:resumed"),
    ("commit", False, "Tell:lost"), ("end", False, "Tell:discarded"),
    ("end", True, "ForgetTask Tell:discarded"),
])
def test_a_verdict_on_an_unknown_move_never_lets_a_copy_run(
    verdict: str, here: bool, want: str
) -> None:
    ledger = Ledger()
    if here:
        ledger.apply(Kept(TASK))
    order = orders.Verdict("m9", TASK.id, 3, verdict)  # type: ignore[arg-type]
    done = Moves(ledger, "boot", "images").handle(do.Ordered(order))
    assert " ".join(map(told, done)) == want


@pytest.mark.parametrize(("node", "state", "epoch", "frozen", "want"), [
    ("n2", "discarded", 2, True, "aborted"), ("n2", "discarded", 2, False, None),
    ("n2", "refused", 2, True, "aborted"), ("n2", "renounced", 2, True, "aborted"),
    ("n2", "running", 2, False, "ran"), ("n2", "lost", 2, True, "held"),
    ("n2", "unfrozen", 2, True, "ran"), ("n2", "unfrozen", 1, True, "aborted"),
    ("n2", "prepared", 2, True, None), ("n1", "frozen", 1, True, None),
    ("n1", "unfrozen", 1, False, "aborted"), ("n1", "resumed", 3, False, "reverted"),
    ("n1", "finished", 1, False, "done"), ("n1", "discarded", 1, False, "held"),
])
def test_what_a_word_leads_to_without_a_record(
    node: str, state: str, epoch: int, frozen: bool, want: str | None
) -> None:
    move = Move("m1", TASK.id, "n1", "n2", "python", 1, State.UNSURE)
    said = Standing("m1", TASK.id, epoch, state)  # type: ignore[arg-type]
    then = found.follows(move, node, said, frozen)
    assert (then.what if then else None) == want


# ---- checkpoints ---------------------------------------------------------------------------


def kept() -> Moves:
    """A keeper that freezes its task for a checkpoint."""
    ledger = Ledger()
    ledger.apply(Kept(Task(TASK.spec, Status.RUNNING, pid=7)))
    moves = Moves(ledger, "boot", "images")
    order = orders.Freeze("m1", TASK.id, 1, kept=True)
    for action in moves.handle(do.Ordered(order)):
        if isinstance(action, do.Note):
            ledger.apply(action.record)
    return moves


def test_a_checkpoint_is_on_record_before_the_task_stands_still() -> None:
    ledger = Ledger()
    ledger.apply(Kept(Task(TASK.spec, Status.RUNNING, pid=7)))
    order = orders.Freeze("m1", TASK.id, 1, kept=True)
    done = Moves(ledger, "boot", "images").handle(do.Ordered(order))
    assert " ".join(map(told, done)) == "freezing! FreezeCopy"


def acted(moves: Moves, ledger: Ledger, *events: do.Event) -> list[do.Action]:
    """What the last of these led to, once what is to be on record is."""
    done: list[do.Action] = []
    for event in events:
        done = []
        for action in moves.handle(event):
            done.append(action)
            if isinstance(action, do.Note):
                ledger.apply(action.record)
    return done


@pytest.mark.parametrize("events", [
    (do.StoodStill("m1", 5, 9, 3.0, 2.0, {}), do.Synced("m1", {})), (do.Apart("m1", 3.0),),
])
def test_a_task_goes_on_without_a_vote_once_all_is_written_and_that_is_kept(
    events: tuple[do.Event, ...]
) -> None:
    ledger = Ledger()
    ledger.apply(Kept(Task(TASK.spec, Status.RUNNING, pid=7)))
    moves = Moves(ledger, "boot", "images")
    freeze = do.Ordered(orders.Freeze("m1", TASK.id, 1, kept=True))
    assert acted(moves, ledger, freeze)[-1] == do.FreezeCopy(
        "m1", TASK.id, "images/m1", kept=True
    )
    done = acted(moves, ledger, *events)
    assert " ".join(map(told, done)) == "unfrozen Thaw Keep"
    assert done[-1] == do.Keep("m1", TASK.id, "images/m1", 3.0)
    assert [*moves.standings()] == []


def test_what_was_written_of_a_checkpoint_that_was_given_up_is_not_kept() -> None:
    ledger = Ledger()
    ledger.apply(Kept(Task(TASK.spec, Status.RUNNING, pid=7)))
    moves = Moves(ledger, "boot", "images")
    freeze = do.Ordered(orders.Freeze("m1", TASK.id, 1, kept=True))
    assert acted(moves, ledger, freeze, do.AgentLost(), do.Apart("m1", 3.0)) == []


@pytest.mark.parametrize(("event", "want"), [
    (do.Failed("m1", "cannot-travel", "self.x"), "unfrozen Thaw DropFiles Unkept"),
    (do.Gone("m1"), "unfrozen DropFiles Unkept"),
    (do.AgentLost(), "unfrozen Thaw DropFiles Unkept"),
    (do.Returned("m1", True), "unfrozen Thaw DropFiles Unkept"),
])
def test_a_checkpoint_that_fails_is_told_so_and_leaves_the_task(
    event: do.Event, want: str
) -> None:
    done = [*kept().handle(event)]
    assert " ".join(map(told, done)) == want
    assert isinstance(done[-1], do.Unkept) and done[-1].code


def test_what_cannot_be_frozen_is_not_kept() -> None:
    order = orders.Freeze("m2", TASK.id, 1, kept=True)
    done = [*kept().handle(do.Ordered(order))]
    assert " ".join(map(told, done)) == "unfrozen Unkept"
    assert isinstance(done[-1], do.Unkept) and done[-1].code == "moving"
