"""A move as the agent's core sees it: what it passes on, what it says, what it does once."""

import itertools

import pytest
from msgspec.structs import replace

from clientd import actions as do
from clientd import events as on
from clientd.keeper import orders
from clientd.moves import OVER, SETTLED, TABLE, Cause, Stage
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import messages as m
from tests.test_clientd_core import CONTROL, FACTS, Driver, joined, sent, task

MOVE, TASK, LEAVES = "m1", "aaaaaaaa", ("leaf",)
LOG, IMAGE = "/logs/n1/aaaaaaaa.log", "/state/agent/moves/m1"
FREEZE = m.Freeze(MOVE, TASK, 4, "web8:7", "ticket", LEAVES)
RESERVE = m.Reserve(MOVE, task(TASK), 5, "ticket", LEAVES, b"source")
OWNER = do.Owner(TASK, "", b"")
START = do.StartShip(MOVE, "web8:7", "ticket", LEAVES, f"/logs/{TASK}", OWNER, 7)
RESERVED = m.Standing(MOVE, TASK, 5, "reserved", port=99)


def verdict(word: str, epoch: int = 5) -> m.Verdict:
    return m.Verdict(MOVE, TASK, epoch, word)  # type: ignore[arg-type]


def tell_verdict(word: str, epoch: int = 5) -> do.Tell:
    return do.Tell(orders.Verdict(MOVE, TASK, epoch, word))  # type: ignore[arg-type]


def stands(state: str, epoch: int = 5, **more: object) -> orders.Standing:
    return orders.Standing(MOVE, TASK, epoch, state, **more)  # type: ignore[arg-type]


def said(state: str, epoch: int = 5, **more: object) -> m.Standing:
    return m.Standing(MOVE, TASK, epoch, state, boot="boot", **more)  # type: ignore[arg-type]


def streaming() -> Driver:
    """A source whose ship is on its way."""
    driver = joined(task(TASK))
    assert driver.hear(FREEZE) == [START]
    return driver


def freezing() -> Driver:
    driver = streaming()
    assert driver(on.CaughtUp(MOVE)) == [do.Tell(orders.Freeze(MOVE, TASK, 4))]
    return driver


def waiting() -> Driver:
    """A destination that waits for the source's call."""
    driver = joined()
    driver.hear(RESERVE)
    driver.tell(orders.Landing(MOVE, LOG, IMAGE))
    assert driver(on.ShipAwaited(MOVE, 99)) == sent(RESERVED)
    return driver


def again(driver: Driver) -> list[do.Action]:
    """What is said after the Report on a new connection."""
    driver(on.LinkClosed(CONTROL, "reset"))
    driver.tick()
    done = driver.join(stream=False)
    report = next(i for i, one in enumerate(done)
                  if isinstance(one, do.Send) and isinstance(one.message, m.Report))
    return [one for one in done[report + 1:] if isinstance(one, do.Send)]


STEPS = {
    (Stage.STREAMING, Cause.CAUGHT_UP): Stage.FREEZING,
    (Stage.FREEZING, Cause.GROWS): Stage.SENDING,
    (Stage.FREEZING, Cause.SNAPPED): Stage.SHIPPING,
    (Stage.SENDING, Cause.SNAPPED): Stage.SHIPPING,
    (Stage.ASKED, Cause.LANDING): Stage.OPENING,
    (Stage.OPENING, Cause.OPENED): Stage.WAITING,
    (Stage.WAITING, Cause.LANDED): Stage.LANDED,
}


@pytest.mark.parametrize(("stage", "cause"), [*itertools.product(Stage, Cause)])
def test_a_ships_step_is_in_the_table_or_not_taken(stage: Stage, cause: Cause) -> None:
    assert TABLE[stage].get(cause) is STEPS.get((stage, cause))


# ---- the source ----------------------------------------------------------------------------


def test_a_freeze_streams_the_log_first_and_then_asks_the_keeper() -> None:
    driver = freezing()
    assert driver.tell(orders.Shipping(MOVE, LOG, IMAGE, 70, 9, (b"in", b"out"))) == [
        do.ShipImage(MOVE, IMAGE, 70, 9, (b"in", b"out"))
    ]
    frozen = stands("frozen", 4, size=9, phases={"freeze": 1.0}, at=2.0, wall=3.0)
    assert driver.tell(frozen) == sent(
        said("frozen", 4, size=9, phases={"freeze": 1.0}, at=2.0, wall=3.0)
    )
    assert driver.hear(verdict("finish")) == [tell_verdict("finish"), do.DropShip(MOVE)]
    assert driver.tell(stands("finished", 4)) == sent(said("finished", 4))
    assert not driver.agent.moves.ships and not driver.agent.moves.standings


def test_a_large_snapshot_goes_ahead_while_it_is_written() -> None:
    driver = freezing()
    assert driver.tell(orders.Growing(MOVE, IMAGE)) == [do.ShipGrowing(MOVE, IMAGE)]
    assert driver.tell(orders.Growing(MOVE, IMAGE)) == []
    shipping = orders.Shipping(MOVE, LOG, IMAGE, 70, 9)
    assert driver.tell(shipping) == [do.ShipImage(MOVE, IMAGE, 70, 9)]
    assert driver.tell(orders.Growing(MOVE, IMAGE)) == []


def test_a_freeze_that_comes_again_starts_no_second_ship() -> None:
    driver = streaming()
    assert driver.hear(FREEZE) == []
    driver(on.CaughtUp(MOVE))
    assert driver.hear(FREEZE) == [] and driver(on.CaughtUp(MOVE)) == []
    driver.tell(orders.Shipping(MOVE, LOG, IMAGE, 70, 9))
    assert driver.tell(orders.Shipping(MOVE, LOG, IMAGE, 70, 9)) == []
    driver.tell(stands("frozen", 4))
    assert driver.hear(FREEZE) == sent(said("frozen", 4)), "it is told what has become of it"


@pytest.mark.parametrize(("tasks", "code"), [
    ((), "no-task"), ((task(TASK, Status.EXITED, None),), "ended"),
])
def test_what_does_not_run_here_is_not_shipped(tasks: tuple[Task, ...], code: str) -> None:
    driver = joined(*tasks)
    (send,) = driver.hear(FREEZE)
    assert isinstance(send, do.Send) and isinstance(send.message, m.Standing)
    assert (send.message.state, send.message.code, send.message.epoch) == ("unfrozen", code, 4)
    assert not driver.agent.moves.ships


def test_progress_is_told_while_the_log_streams_only() -> None:
    driver = streaming()
    assert driver(on.ShipProgressed(MOVE, 2, 8)) == sent(
        m.Standing(MOVE, TASK, 4, "streaming", size=2, total=8)
    )
    driver(on.CaughtUp(MOVE))
    assert driver(on.ShipProgressed(MOVE, 3, 8)) == []
    assert again(driver) == [], "it is no record"


def test_a_ship_that_fails_while_it_streams_freezes_nothing() -> None:
    driver = streaming()
    why = m.Standing(MOVE, TASK, 4, "unfrozen", "cut", "broke")
    assert driver(on.ShipFailed(MOVE, "cut", "broke")) == [
        do.Say("warning", "the ship of move m1 failed: broke"), *sent(why)
    ]
    assert driver.hear(FREEZE) == sent(why), "it is not begun again"
    assert again(driver) == sent(why)
    assert driver.hear(verdict("abort")) == [tell_verdict("abort")]
    assert driver.tell(stands("resumed", 4)) == sent(said("resumed", 4))
    assert again(driver) == []


def test_a_ship_that_fails_later_is_the_keepers_to_judge() -> None:
    for driver in (freezing(), freezing()):
        assert driver(on.ShipFailed(MOVE, "cut", "broke"))[1:] == [
            do.Tell(orders.Cut(MOVE, "cut", "broke"))
        ]
        assert not driver.agent.moves.ships


def test_a_task_that_cannot_be_frozen_drops_its_ship() -> None:
    driver = freezing()
    assert driver.tell(stands("unfrozen", 4, code="no", text="self.conn: a socket")) == [
        do.DropShip(MOVE), *sent(said("unfrozen", 4, code="no", text="self.conn: a socket"))
    ]


# ---- the destination -----------------------------------------------------------------------


def test_a_reservation_is_the_keepers_and_then_said_with_its_port() -> None:
    driver = joined()
    ask = do.Tell(orders.Reserve(MOVE, task(TASK), 5, b"source"))
    assert driver.hear(RESERVE) == [ask]
    assert driver.tell(stands("reserved")) == [], "nobody can call yet"
    assert driver.hear(RESERVE) == [ask], "the keeper answers from its record"
    wait = do.AwaitShip(MOVE, "ticket", LEAVES, LOG, IMAGE, OWNER)
    assert driver.tell(orders.Landing(MOVE, LOG, IMAGE)) == [wait]
    assert driver.tell(orders.Landing(MOVE, LOG, IMAGE)) == []
    assert driver.hear(RESERVE) == []
    assert driver(on.ShipAwaited(MOVE, 99)) == sent(RESERVED)
    assert driver.hear(RESERVE) == sent(RESERVED)
    assert again(driver) == sent(RESERVED)


def test_what_has_landed_is_told_to_the_keeper_and_its_time_to_the_master() -> None:
    driver = waiting()
    assert driver(on.Landed(MOVE, 9, 1.5)) == [do.Tell(orders.Landed(MOVE, 9))]
    assert driver(on.Landed(MOVE, 9, 1.5)) == []
    prepared = said("prepared", phases={"restore": 2.0, "wire": 1.5})
    assert driver.tell(stands("prepared", phases={"restore": 2.0})) == sent(prepared)
    assert again(driver) == sent(prepared)
    assert driver.hear(verdict("commit")) == [tell_verdict("commit")]
    assert driver.tell(stands("running", at=7.0)) == [
        do.DropShip(MOVE), *sent(said("running", phases={"wire": 1.5}, at=7.0))
    ]


def test_that_a_task_runs_is_passed_on_once_its_log_is_on_the_disk() -> None:
    driver = waiting()
    driver(on.Landed(MOVE, 9, 1.5))
    driver.tell(stands("prepared"))
    driver.tell(orders.Changed((replace(task(TASK), log=LOG),)))
    assert driver.tell(stands("running", at=7.0)) == [do.SyncLog(MOVE, LOG)]
    assert driver.tell(stands("running", at=7.0)) == [], "it is being done"
    assert again(driver) == sent(said("prepared", phases={"wire": 1.5}))
    assert driver(on.LogSynced(MOVE)) == [
        do.DropShip(MOVE), *sent(said("running", phases={"wire": 1.5}, at=7.0))
    ]
    assert driver(on.LogSynced(MOVE)) == []


def test_a_log_that_cannot_be_synced_is_told_and_does_not_hold_the_move() -> None:
    driver = joined(replace(task(TASK), log=LOG))
    assert driver.tell(stands("running")) == [do.SyncLog(MOVE, LOG)]
    about, *rest = driver(on.LogSynced(MOVE, "Input/output error"))
    assert isinstance(about, do.Say) and about.level == "severe"
    assert rest == sent(said("running"))


def test_a_task_that_was_forgotten_meanwhile_is_not_passed_on() -> None:
    driver = joined(replace(task(TASK), log=LOG))
    driver.tell(stands("running"))
    driver.tell(orders.Forgotten((TASK,)))
    assert driver(on.LogSynced(MOVE)) == []


def test_a_refusal_is_said_again_until_the_verdict() -> None:
    driver = joined()
    driver.hear(RESERVE)
    refused = said("refused", code="no-space", text="full")
    assert driver.tell(stands("refused", code="no-space", text="full")) == [
        do.DropShip(MOVE), *sent(refused)
    ]
    assert driver.hear(RESERVE) == sent(refused)
    assert again(driver) == sent(refused)
    driver.hear(verdict("abort"))
    assert again(driver) == []


@pytest.mark.parametrize("stage", ["opening", "waiting"])
def test_a_ship_that_fails_here_is_the_keepers_to_judge(stage: str) -> None:
    driver = joined()
    driver.hear(RESERVE)
    driver.tell(orders.Landing(MOVE, LOG, IMAGE))
    if stage == "waiting":
        driver(on.ShipAwaited(MOVE, 99))
    assert driver(on.ShipFailed(MOVE, "timeout", "late"))[1:] == [
        do.Tell(orders.Cut(MOVE, "timeout", "late"))
    ]
    assert driver(on.Landed(MOVE, 9, 1.5)) == [], "too late"


# ---- both ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["abort", "finish", "end", "resume"])
def test_a_verdict_against_a_ship_drops_it(word: str) -> None:
    for driver in (streaming(), freezing(), waiting()):
        assert driver.hear(verdict(word)) == [tell_verdict(word), do.DropShip(MOVE)]
        assert driver.hear(verdict(word)) == [tell_verdict(word)], "once"
        assert driver(on.ShipFailed(MOVE, "cut", "x")) == [
            do.Say("warning", "the ship of move m1 failed: x")
        ]


def test_a_commit_leaves_the_ship_alone() -> None:
    assert waiting().hear(verdict("commit")) == [tell_verdict("commit")]


@pytest.mark.parametrize("word", [
    orders.Landing(MOVE, LOG, IMAGE), orders.Shipping(MOVE, LOG, IMAGE, 70, 9),
    stands("reserved"),
])
def test_what_an_earlier_agent_was_asked_is_cut(word: orders.Word) -> None:
    cut = do.Tell(orders.Cut(MOVE, "cut", "this node's agent ended meanwhile"))
    assert joined(task(TASK)).tell(word) == [cut]


@pytest.mark.parametrize("state", sorted(SETTLED | {"frozen", "prepared"}))
def test_a_standing_is_repeated_until_it_is_over_and_sent(state: str) -> None:
    driver = Driver(FACTS)
    assert driver.tell(stands(state)) == [], "nobody to tell yet"
    driver.join(stream=False)
    kept = [] if state in OVER else sent(said(state))
    assert again(driver) == kept
    driver.tell(orders.Forgotten((TASK,)))
    assert again(driver) == []


def test_moves_of_several_tasks_do_not_mix() -> None:
    driver = joined(task("aaaaaaaa"), task("bbbbbbbb"))
    driver.hear(FREEZE)
    other = m.Freeze("m2", "bbbbbbbb", 1, "web9:7", "t2", LEAVES)
    assert driver.hear(other) == [
        do.StartShip(
            "m2", "web9:7", "t2", LEAVES, "/logs/bbbbbbbb", do.Owner("bbbbbbbb", "", b""), 7
        )
    ]
    assert driver(on.CaughtUp("m2")) == [do.Tell(orders.Freeze("m2", "bbbbbbbb", 1))]
    assert driver.agent.moves.ships[MOVE].stage is Stage.STREAMING


def test_files_travel_only_with_a_task_below_the_files_folder() -> None:
    for cwd, user, owner in (
        (b"jobs/x", "ann", do.Owner(TASK, "ann", b"jobs/x")), (b"/srv/x", "ann", None),
    ):
        one = Task(Spec(TASK, (b"Copy",), cwd=cwd, user=user), Status.RUNNING, 7, log="/l")
        driver = joined(one)
        assert driver.hear(FREEZE) == [
            do.StartShip(MOVE, "web8:7", "ticket", LEAVES, "/l", owner, 7)
        ]
        driver = joined()
        driver.hear(m.Reserve(MOVE, one, 5, "ticket", LEAVES))
        assert driver.tell(orders.Landing(MOVE, LOG, IMAGE)) == [
            do.AwaitShip(MOVE, "ticket", LEAVES, LOG, IMAGE, owner)
        ]


def test_a_launch_takes_its_source_along() -> None:
    spec = Spec("", (b"job.py:Job",))
    start = orders.Start((Spec("aaaaaaaa", (b"job.py:Job",)),), b"text")
    assert joined().hear(m.Launch(spec, ("aaaaaaaa",), source=b"text")) == [do.Tell(start)]
