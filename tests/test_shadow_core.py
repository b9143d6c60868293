"""The keeper's core of shadows: what the master, the process and the task's return make of one."""

import signal
from itertools import pairwise

import pytest

from clientd.keeper import orders
from clientd.keeper.records import Kept, Ledger, Shadow, Shadowed
from clientd.keeper.shadows import actions as do
from clientd.keeper.shadows.core import MOST_WAITING, UNKNOWN, Shadows, status_of
from clientd.keeper.shadows.table import TABLE, Cause, Phase, advance
from godwit.errors import TaskError
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire.messages import Guest

TASK = "t0000001"
AWAY = Guest(TASK, "bob", "n2", 2)


class Home:
    """A core, and a ledger in which is noted what it says."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.core = Shadows(self.ledger, "boot")
        self.at = 1.0

    def __call__(self, event: do.Event) -> list[do.Action]:
        done = []
        for action in self.core.handle(event):
            if isinstance(action, do.Note):
                self.ledger.apply(Shadowed(action.shadow))
            else:
                done.append(action)
        return done

    def stand(self, guest: Guest = AWAY) -> "Home":
        """A shadow whose process is pid 7."""
        self(do.Told(guest))
        self(do.Made(guest.task, 7, 70))
        return self

    def send(self, number: int, count: int = 0) -> list[do.Action]:
        self.at += 1
        return self(do.Signalled(TASK, number, count, self.at))

    @property
    def shadow(self) -> Shadow:
        return self.ledger.shadows[TASK]

    def waiting(self) -> list[int]:
        return [one.number for one in self.shadow.waiting]

    def take(self) -> list[do.Action]:
        return self(do.Took(TASK, self.shadow.waiting[0].id))


def words(actions: list[do.Action]) -> list[orders.Word]:
    return [action.word for action in actions if isinstance(action, do.Tell)]


def kinds(actions: list[do.Action]) -> list[str]:
    return [type(action).__name__ for action in actions if not isinstance(action, do.Say)]


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("phase", Phase)
def test_each_step_is_in_the_table_or_refused(phase: Phase, cause: Cause) -> None:
    if cause in TABLE[phase]:
        assert advance(phase, cause) is TABLE[phase][cause]
    else:
        with pytest.raises(TaskError, match=f"{phase.value} cannot be {cause.value}"):
            advance(phase, cause)


def test_a_task_that_left_gets_a_shadow_of_its_users() -> None:
    home = Home()
    assert home(do.Told(AWAY)) == [do.Make(home.shadow)]
    assert (home.shadow.user, home.shadow.node, home.shadow.phase) == ("bob", "n2", Phase.WANTED)
    assert kinds(home(do.Made(TASK, 7, 70))) == ["Entitle"]
    assert (home.shadow.pid, home.shadow.start_ticks, home.shadow.boot) == (7, 70, "boot")


def test_what_is_told_twice_or_late_changes_nothing() -> None:
    home = Home().stand(Guest(TASK, "bob", "n3", 5))
    assert home(do.Told(Guest(TASK, "bob", "n3", 5))) == []
    assert home(do.Told(AWAY)) == []
    assert home(do.Told(Guest(TASK, "bob", "n2", 2, "ended", 0))) == []
    assert home.shadow.node == "n3"


def test_another_hop_leaves_the_process_and_changes_its_title() -> None:
    home = Home().stand()
    assert home(do.Told(Guest(TASK, "bob", "n3", 3))) == [do.Entitle(home.shadow)]
    assert (home.shadow.pid, home.shadow.node) == (7, "n3")


def test_a_task_that_is_here_gets_no_shadow() -> None:
    home = Home()
    home.ledger.apply(Kept(Task(Spec(TASK, (b"x",), epoch=3), Status.RUNNING)))
    assert home(do.Told(Guest(TASK, "", "n2", 2))) == []
    assert TASK not in home.ledger.shadows


def test_a_frozen_copy_that_is_to_go_is_no_hindrance() -> None:
    home = Home()
    home.ledger.apply(Kept(Task(Spec(TASK, (b"x",), epoch=1), Status.FROZEN)))
    assert kinds(home(do.Told(AWAY))) == ["Make"]


@pytest.mark.parametrize(("guest", "status"), [
    (Guest(TASK, "", "n2", 2, "ended", 7), 7 << 8),
    (Guest(TASK, "", "n2", 2, "ended", 0), 0),
    (Guest(TASK, "", "n2", 2, "ended", signal=11), 11),
    (Guest(TASK, "", "n2", 2, "ended"), UNKNOWN),
    (Guest(TASK, "", "n2", 2, "lost"), 125 << 8),
    (Guest(TASK, "", "n2", 2, "removed"), 9),
])
def test_the_shadow_ends_as_the_guest_did(guest: Guest, status: int) -> None:
    assert status_of(guest) == status
    home = Home().stand()
    assert home(do.Told(guest)) == [do.Finish(home.shadow)]
    assert home.shadow.status == status
    assert home(do.Told(guest)) == []
    home(do.Died(TASK, status))
    assert TASK not in home.ledger.shadows


def test_an_end_that_is_told_of_no_shadow_makes_none() -> None:
    home = Home()
    assert home(do.Told(Guest(TASK, "", "n2", 2, "ended", 0))) == []
    assert not home.ledger.shadows


def test_what_the_master_does_not_name_ends_as_unknown() -> None:
    home = Home().stand()
    assert home(do.Listed(frozenset({TASK}))) == []
    assert home(do.Listed(frozenset())) == [do.Finish(home.shadow)]
    assert home.shadow.status == UNKNOWN


def test_a_guest_that_is_found_again_gets_another_shadow() -> None:
    home = Home().stand()
    home(do.Told(Guest(TASK, "bob", "n2", 2, "lost")))
    home(do.Died(TASK, UNKNOWN))
    assert kinds(home(do.Told(AWAY))) == ["Make"]


# ---- signals -------------------------------------------------------------------------------


def test_signals_are_told_one_at_a_time_in_their_order() -> None:
    home = Home().stand()
    (first,) = words(home.send(signal.SIGTERM, 1))
    assert isinstance(first, orders.Caught) and first.number == signal.SIGTERM
    assert words(home.send(signal.SIGHUP, 2)) == []
    (second,) = words(home.take())
    assert isinstance(second, orders.Caught) and second.number == signal.SIGHUP
    assert second.id > first.id
    assert words(home.take()) == [] and home.waiting() == []


def test_a_signal_is_on_the_disk_before_it_is_told() -> None:
    home = Home().stand()
    actions = list(home.core.handle(do.Signalled(TASK, signal.SIGTERM, 1, 5.0)))
    assert isinstance(actions[0], do.Note) and actions[0].durable
    assert isinstance(actions[-1], do.Tell)


def test_what_an_earlier_keeper_put_on_record_is_not_taken_again() -> None:
    home = Home().stand()
    home.send(signal.SIGTERM, 1)
    assert home.send(signal.SIGTERM, 1) == [] and home.waiting() == [signal.SIGTERM]


def test_standard_signals_wait_once_behind_the_one_that_is_under_way() -> None:
    home = Home().stand()
    for count in range(1, 6):
        home.send(signal.SIGTERM, count)
    assert home.waiting() == [signal.SIGTERM] * 2
    assert home.shadow.taken == 5


def test_signals_of_real_time_wait_each() -> None:
    home = Home().stand()
    for count in range(1, 6):
        home.send(40, count)
    assert home.waiting() == [40] * 5


def test_a_stop_and_its_opposite_do_not_both_wait() -> None:
    home = Home().stand()
    home.send(signal.SIGUSR1, 1)  # under way
    home.send(signal.SIGSTOP)
    home.send(signal.SIGCONT, 2)
    assert home.waiting() == [signal.SIGUSR1, signal.SIGCONT]
    home.send(signal.SIGTSTP, 3)
    assert home.waiting() == [signal.SIGUSR1, signal.SIGTSTP]


def test_no_more_is_taken_than_may_wait() -> None:
    home = Home().stand()
    for count in range(1, MOST_WAITING + 1):
        assert not home.core.is_full(TASK)
        home.send(40, count)
    assert home.core.is_full(TASK)
    home.take()
    assert not home.core.is_full(TASK)


def test_ids_grow_though_the_clock_goes_back_and_the_record_is_lost() -> None:
    home = Home().stand()
    ids = []
    for at in (9.0, 3.0, 3.0):
        home(do.Signalled(TASK, 40, at=at))
        ids.append(home.shadow.waiting[-1].id)
    assert all(one < other for one, other in pairwise(ids))
    later = Home().stand()
    later(do.Signalled(TASK, 40, at=10.0))
    assert later.shadow.last > ids[-1]


def test_a_new_agent_is_told_what_waits() -> None:
    home = Home().stand()
    home.send(signal.SIGTERM, 1)
    home.send(signal.SIGHUP, 2)
    (word,) = home.core.first_words()
    assert (word.task, word.number) == (TASK, signal.SIGTERM)


def test_sigkill_is_for_the_guest_and_no_other_process_is_made() -> None:
    home = Home().stand()
    actions = home(do.Died(TASK, signal.SIGKILL, 5.0))
    (word,) = words(actions)
    assert isinstance(word, orders.Caught) and word.number == signal.SIGKILL
    assert kinds(actions) == ["Tell"] and home.shadow.pid is None
    # It moved before the signal got there.
    assert home(do.Told(Guest(TASK, "bob", "n3", 3))) == []
    assert home.waiting() == [signal.SIGKILL]
    home(do.Told(Guest(TASK, "bob", "n3", 3, "ended", signal=9)))
    assert TASK not in home.ledger.shadows


def test_a_process_that_ends_of_something_else_is_made_again() -> None:
    home = Home().stand()
    assert kinds(home(do.Died(TASK, 3 << 8))) == ["MakeLater"]
    assert home(do.Due(TASK)) == [do.Make(home.shadow)]
    home(do.Made(TASK, 8, 80))
    # Before it blocked it.
    actions = home(do.Died(TASK, signal.SIGTERM, 6.0))
    assert kinds(actions) == ["Tell", "MakeLater"] and home.waiting() == [signal.SIGTERM]


def test_one_that_cannot_be_made_is_tried_again() -> None:
    home = Home()
    home(do.Told(AWAY))
    assert kinds(home(do.Unmade(TASK, "no process"))) == ["MakeLater"]
    assert home(do.Due(TASK)) == [do.Make(home.shadow)]
    home(do.Told(Guest(TASK, "bob", "n2", 2, "ended", 0)))
    assert home(do.Due(TASK)) == []


# ---- the task comes home, the node stops ---------------------------------------------------


def test_a_task_that_comes_home_finds_no_shadow_and_its_signals_follow_it() -> None:
    home = Home().stand()
    home.send(signal.SIGTERM, 1)
    assert kinds(home(do.Arrives(TASK))) == ["Kill"]
    home(do.Died(TASK, signal.SIGKILL, 9.0))
    assert home.waiting() == [signal.SIGTERM]
    home.take()
    assert TASK not in home.ledger.shadows


def test_a_node_that_stops_for_good_leaves_no_shadow() -> None:
    home = Home().stand()
    assert kinds(home(do.Leaves())) == ["Kill"]
    home(do.Died(TASK, signal.SIGKILL, 9.0))
    assert not home.ledger.shadows


# ---- a keeper that is new ------------------------------------------------------------------


def test_a_shadow_that_is_there_is_gone_on_with() -> None:
    home = Home().stand()
    assert home(do.Returned(TASK, True)) == []
    assert home.shadow.pid == 7


@pytest.mark.parametrize("alive", [True, False])
def test_the_shadow_of_a_task_that_came_home_meanwhile_is_ended(alive: bool) -> None:
    home = Home().stand()
    home.ledger.apply(Kept(Task(Spec(TASK, (b"x",), epoch=3), Status.RUNNING)))
    assert kinds(home(do.Returned(TASK, alive))) == ["Kill"]


def test_a_shadow_that_ended_unseen_is_made_again_and_its_guest_is_left_alone() -> None:
    home = Home().stand()
    assert kinds(home(do.Returned(TASK, False))) == ["MakeLater"]
    assert home.waiting() == []


def test_a_shadow_that_was_ending_ends_all_the_same() -> None:
    home = Home().stand()
    home(do.Told(Guest(TASK, "", "n2", 2, "ended", 3)))
    assert home(do.Returned(TASK, True)) == [do.Finish(home.shadow)]
    home(do.Returned(TASK, False))
    assert not home.ledger.shadows


def test_the_journal_says_the_same_in_a_snapshot() -> None:
    home = Home().stand()
    home.send(signal.SIGTERM, 1)
    again = Ledger()
    again.replay(home.ledger.snapshot())
    assert again.shadows == home.ledger.shadows


# ---- the log at home -----------------------------------------------------------------------

LOGGED = Guest(TASK, "bob", "n2", 2, log=True)


def test_a_log_that_is_wanted_is_made_and_outlives_the_shadow() -> None:
    home = Home()
    assert kinds(home(do.Told(LOGGED))) == ["KeepLog", "Make"]
    home(do.Made(TASK, 7, 70))
    home(do.Told(Guest(TASK, "bob", "n2", 2, "ended", 0, log=True)))
    home(do.Died(TASK, 0))
    assert home.shadow.log and home.shadow.pid is None
    assert home(do.Told(Guest(TASK, "bob", "n2", 2, "ended", 0, log=True))) == []


def test_a_log_goes_with_its_task_when_that_is_removed() -> None:
    home = Home().stand(LOGGED)
    assert home(do.Told(Guest(TASK, "bob", "n2", 2, "removed", log=True)))[0] == do.LeaveLog(
        TASK, drop=True
    )
    home(do.Died(TASK, 9))
    assert not home.ledger.shadows


@pytest.mark.parametrize("event", [do.Arrives(TASK), do.Listed(frozenset())])
def test_a_log_is_left_alone_when_the_task_comes_home_or_nobody_knows_it(event: do.Event) -> None:
    home = Home().stand(LOGGED)
    assert home(event)[0] == do.LeaveLog(TASK, drop=False)
    assert not home.shadow.log


def test_a_log_may_be_asked_for_later() -> None:
    home = Home().stand()
    assert kinds(home(do.Told(Guest(TASK, "bob", "n3", 3, log=True)))) == ["KeepLog", "Entitle"]
