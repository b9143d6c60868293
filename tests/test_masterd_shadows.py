"""What the master tells homes of their guests, and how a signal goes from a shadow to its guest."""

from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd import events as on
from tests.mastering import FakeNode, Mastering

ID = "t0000001"
HERE = Task(Spec(ID, (b"P",), kind="python", home="n1", user="bob"), Status.RUNNING, pid=7)
THERE = replace(HERE, spec=replace(HERE.spec, epoch=2), pid=9)
AWAY = m.Guest(ID, "bob", "n2", 2)


class Apart:
    """A task of n1 that is at n2."""

    def __init__(self) -> None:
        self.master = Mastering()
        self.home = self.master.node("n1")
        self.node = self.master.node("n2", THERE)

    def signals(self) -> list[m.Signal]:
        return self.master.sends(m.Signal)

    def caught(self, number: int = 15, at: int = 5) -> list[m.Signal]:
        self.home.say(m.Caught(ID, at, number))
        return self.signals()

    def done(self, signal: m.Signal, code: str = "", node: FakeNode | None = None) -> None:
        (node or self.node).say(m.Done(signal.order, code, code))

    def took(self) -> list[m.Took]:
        return self.master.sends(m.Took)

    def again(self, node: FakeNode, *tasks: Task) -> None:
        """The node's connection is lost, and made anew."""
        node.cut()
        node.join()
        node.say(m.Report(tasks))

    def reborn(self) -> "Apart":
        """Another master that has read what this one recorded."""
        other = Apart.__new__(Apart)
        other.master = Mastering()
        for action in self.master.all:
            if isinstance(action, do.KeepRelay):
                other.master.core.shadows.relays[action.task] = action
        other.home = other.master.node("n1")
        other.node = other.master.node("n2", THERE)
        return other


def guests(master: Mastering) -> list[m.Guests]:
    return master.sends(m.Guests)


def moved(master: Mastering, source: FakeNode, target: FakeNode, task: Task) -> None:
    """The task moves, from the request to the destination's word that it runs."""
    master.ask(op.MoveTask(master.id(), ID, target.name))
    (reserve,) = master.sends(m.Reserve)
    move, epoch = reserve.move, reserve.epoch
    target.say(m.Standing(move, ID, epoch, "reserved", port=9))
    source.say(m.Standing(move, ID, epoch - 1, "frozen", at=1.0, wall=1.0))
    target.say(m.Standing(move, ID, epoch, "prepared"))
    target.say(m.Changed((replace(task, spec=replace(task.spec, epoch=epoch)),)))
    target.say(m.Standing(move, ID, epoch, "running", at=1.1, wall=1.1))


# ---- guests --------------------------------------------------------------------------------


def test_a_home_hears_of_all_its_guests_when_it_comes() -> None:
    apart = Apart()
    apart.again(apart.home)
    assert guests(apart.master) == [m.Guests((AWAY,), "last")]


def test_a_node_without_guests_hears_that() -> None:
    apart = Apart()
    apart.again(apart.node, THERE)
    assert guests(apart.master) == [m.Guests((), "last")]


def test_a_home_hears_at_once_of_a_guest_that_it_was_not_told_of() -> None:
    master = Mastering()
    master.node("n1")
    node = master.node("n2")
    node.say(m.Changed((THERE,)))
    assert guests(master) == [m.Guests((AWAY,))]
    node.say(m.Changed((replace(THERE, status=Status.PAUSED),)))
    assert guests(master) == []


def test_a_home_hears_of_a_move_once_the_task_runs_there() -> None:
    master = Mastering()
    home, node = master.node("n1", HERE), master.node("n2")
    moved(master, home, node, HERE)
    assert guests(master) == [m.Guests((AWAY,))]
    told = [a.message for a in master.all if isinstance(a, do.Send)]
    assert [t for t in told if isinstance(t, m.Guests) and t.guests] == [m.Guests((AWAY,))]


def test_a_task_at_home_is_nobodys_guest() -> None:
    apart = Apart()
    moved(apart.master, apart.node, apart.home, THERE)
    assert guests(apart.master) == []
    apart.again(apart.home, replace(THERE, spec=replace(THERE.spec, epoch=3)))
    assert guests(apart.master) == [m.Guests((), "last")]


def test_while_a_move_may_be_turned_back_a_home_hears_what_was_before_it() -> None:
    apart = Apart()
    apart.master.ask(op.MoveTask(apart.master.id(), ID, "n1"))
    (reserve,) = apart.master.sends(m.Reserve)
    apart.home.say(m.Standing(reserve.move, ID, 3, "reserved", port=9))
    apart.node.say(m.Standing(reserve.move, ID, 2, "frozen"))
    apart.home.say(m.Standing(reserve.move, ID, 3, "prepared"))  # and now it is committed
    apart.again(apart.home)
    assert guests(apart.master) == [m.Guests((AWAY,), "last")]


def test_a_home_hears_how_its_guest_ended() -> None:
    apart = Apart()
    apart.node.say(m.Changed((replace(THERE, status=Status.EXITED, exit_code=3),)))
    assert guests(apart.master) == [m.Guests((m.Guest(ID, "bob", "n2", 2, "ended", 3),))]
    apart.again(apart.home)
    assert guests(apart.master) == [m.Guests((m.Guest(ID, "bob", "n2", 2, "ended", 3),), "last")]


def test_a_home_hears_that_its_guest_is_lost_and_found() -> None:
    apart = Apart()
    apart.node.say(m.Changed((replace(THERE, status=Status.UNKNOWN),)))
    assert guests(apart.master) == [m.Guests((replace(AWAY, state="lost"),))]
    apart.node.say(m.Changed((THERE,)))
    assert guests(apart.master) == [m.Guests((AWAY,))]


def test_a_guest_whose_node_is_silent_is_still_there() -> None:
    apart = Apart()
    apart.node.cut()
    apart.master.wait(60, apart.home)
    assert guests(apart.master) == []


def test_a_home_hears_that_its_guest_was_removed() -> None:
    apart = Apart()
    apart.again(apart.home)
    apart.node.say(m.Forgotten((ID,)))
    assert guests(apart.master) == [m.Guests((replace(AWAY, state="removed"),))]


def test_many_guests_come_in_several_messages() -> None:
    master = Mastering()
    many = [
        replace(THERE, spec=replace(THERE.spec, task=f"g{number:07}")) for number in range(300)
    ]
    master.node("n2", *many)
    master.node("n1", stream=False)
    told = guests(master)
    assert [(len(each.guests), each.sync) for each in told] == [(256, "more"), (44, "last")]


# ---- signals -------------------------------------------------------------------------------


def test_a_signal_goes_to_the_node_that_has_the_task_and_then_the_home_hears() -> None:
    apart = Apart()
    (signal,) = apart.caught()
    assert (signal.tasks, signal.number, signal.relay, signal.whole) == ((ID,), 15, 5, False)
    assert apart.took() == []
    apart.done(signal)
    assert apart.took() == [m.Took(ID, 5)]


def test_the_history_says_where_a_signal_came_from() -> None:
    apart = Apart()
    apart.caught()
    (event,) = apart.master.done(do.KeepEvent)
    assert event.event.text == f"SIGTERM for {ID} on n2 was sent to its shadow on n1"
    assert apart.caught() == [] and apart.master.done(do.KeepEvent) == []


def test_it_is_on_record_where_it_goes_before_it_goes() -> None:
    apart = Apart()
    apart.caught()
    kinds = [type(action) for action in apart.master.last]
    assert apart.master.done(do.KeepRelay) == [do.KeepRelay(ID, 5, 15, "n2")]
    assert kinds.index(do.KeepRelay) < kinds.index(do.Commit) < kinds.index(do.Send)
    assert apart.master.done(do.Send)[-1].recorded


def test_what_is_said_twice_is_done_once() -> None:
    apart = Apart()
    (signal,) = apart.caught()
    assert apart.caught() == []
    apart.done(signal)
    assert apart.caught() == [] and apart.took() == [m.Took(ID, 5)]
    assert apart.caught(1, 6) != []


def test_a_node_that_went_away_is_asked_again_whether_it_did_it() -> None:
    apart = Apart()
    apart.caught()
    apart.again(apart.node, THERE)
    (again,) = apart.signals()
    assert (again.relay, again.number) == (5, 15)
    apart.done(again)
    assert apart.took() == [m.Took(ID, 5)]


def test_a_signal_waits_for_a_node_that_is_away() -> None:
    apart = Apart()
    apart.node.cut()
    assert apart.caught() == []
    apart.master.wait(5, apart.home)
    assert apart.signals() == [] and apart.took() == []
    apart.again(apart.node, THERE)
    assert len(apart.signals()) == 1


def test_a_master_that_is_new_goes_on_with_what_is_on_record() -> None:
    apart = Apart()
    apart.caught()
    other = apart.reborn()
    (signal,) = [
        a.message for a in other.master.all
        if isinstance(a, do.Send) and isinstance(a.message, m.Signal)
    ]
    assert signal.relay == 5
    assert other.caught() == []
    other.done(signal)
    assert other.took() == [m.Took(ID, 5)]


def test_a_task_that_stands_still_for_a_move_hears_it_where_it_goes_on() -> None:
    apart = Apart()
    third = apart.master.node("n3")
    (signal,) = apart.caught()
    apart.done(signal, "moving")
    assert apart.took() == []
    moved(apart.master, apart.node, third, THERE)
    (again,) = [s for s in apart.master.all if isinstance(s, do.Send) and s.link == third.control
                and isinstance(s.message, m.Signal)]
    assert isinstance(again.message, m.Signal) and again.message.relay == 5
    apart.done(again.message, node=third)
    assert apart.took() == [m.Took(ID, 5)]


def test_where_it_may_have_acted_is_asked_before_it_goes_elsewhere() -> None:
    apart = Apart()
    third = apart.master.node("n3")
    (signal,) = apart.caught()
    moved(apart.master, apart.node, third, THERE)
    assert all(
        a.link != third.control for a in apart.master.all
        if isinstance(a, do.Send) and isinstance(a.message, m.Signal)
    )
    apart.done(signal, "no-task")  # it left before it came
    (again,) = apart.master.done(do.Send)
    assert again.link == third.control and isinstance(again.message, m.Signal)


def test_what_acted_there_is_not_done_again_elsewhere() -> None:
    apart = Apart()
    third = apart.master.node("n3")
    (signal,) = apart.caught()
    moved(apart.master, apart.node, third, THERE)
    apart.done(signal)
    assert apart.signals() == [] and apart.took() == [m.Took(ID, 5)]


def test_a_signal_for_what_has_ended_is_done_with() -> None:
    apart = Apart()
    (signal,) = apart.caught()
    apart.done(signal, "ended")
    assert apart.took() == [m.Took(ID, 5)]


def test_what_a_node_refuses_is_said_in_the_history() -> None:
    apart = Apart()
    (signal,) = apart.caught()
    apart.done(signal, "EPERM")
    (event,) = apart.master.done(do.KeepEvent)
    assert "SIGTERM" in event.event.text and "EPERM" in event.event.text
    assert apart.took() == [m.Took(ID, 5)]


def test_a_full_disk_there_delays_it() -> None:
    apart = Apart()
    (signal,) = apart.caught()
    apart.done(signal, "ENOSPC")
    assert apart.took() == []
    apart.master.wait(3, apart.home, apart.node)
    assert len(apart.signals()) == 1


def test_only_its_home_speaks_for_a_guest() -> None:
    apart = Apart()
    other = apart.master.node("n3")
    other.say(m.Caught(ID, 5, 9))
    assert apart.signals() == []
    assert apart.took() == [m.Took(ID, 5)]


def test_a_signal_for_a_task_that_nobody_knows_is_done_with() -> None:
    apart = Apart()
    apart.home.say(m.Caught("gone0000", 5, 9))
    assert apart.took() == [m.Took("gone0000", 5)]


def test_a_removed_task_leaves_nothing_on_record() -> None:
    apart = Apart()
    (signal,) = apart.caught()
    apart.node.say(m.Forgotten((ID,)))
    assert apart.master.done(do.DropRelay) == [do.DropRelay(ID)]
    apart.done(signal)
    assert apart.master.core.shadows.relays == {}
    assert apart.master.core.shadows.deadline() == float("inf")


# ---- logs at home --------------------------------------------------------------------------

LOGGED = replace(THERE, spec=replace(THERE.spec, log_at_home=True))


class Logged(Apart):
    """A task whose log is wanted at home, too, and a home that has 100 bytes of it."""

    def __init__(self) -> None:
        self.master = Mastering()
        self.home = self.master.node("n1")
        self.node = self.master.node("n2", LOGGED)
        self.kept(100)
        (self.follow,) = self.master.sends(m.Follow)

    def kept(self, offset: int) -> list[do.Action]:
        return self.master(on.Received(self.home.stream, m.Kept(ID, offset)))

    def logs(self) -> list[m.Log]:
        return self.master.sends(m.Log)

    def chunk(self, offset: int, data: bytes, dropped: int = 0) -> list[m.Log]:
        self.node.say(m.Chunk(self.follow.stream, offset, data, dropped))
        return self.logs()


def test_a_home_is_told_that_a_log_is_wanted() -> None:
    logged = Logged()
    logged.again(logged.home)
    assert guests(logged.master) == [m.Guests((replace(AWAY, log=True),), "last")]


def test_a_log_at_home_goes_on_at_the_byte_where_it_ends() -> None:
    logged = Logged()
    assert (logged.follow.task, logged.follow.offset, logged.follow.live) == (ID, 100, True)
    assert logged.chunk(100, b"abc") == [m.Log(ID, 100, b"abc")]
    assert logged.chunk(100, b"abc") == []  # what came before
    assert logged.chunk(110, b"x", 7) == [m.Log(ID, 110, b"", 7), m.Log(ID, 110, b"x")]


def test_what_home_has_is_credit_for_the_node() -> None:
    logged = Logged()
    logged.chunk(100, b"abc")
    logged.chunk(103, b"de")
    logged.kept(103)
    assert logged.master.sends(m.Credit) == [m.Credit(logged.follow.stream, 3)]
    logged.kept(103)
    assert logged.master.sends(m.Credit) == []
    logged.kept(105)
    assert logged.master.sends(m.Credit) == [m.Credit(logged.follow.stream, 2)]


def test_a_home_that_comes_again_asks_from_where_it_is() -> None:
    logged = Logged()
    logged.chunk(100, b"abc")
    logged.home.cut("stream")
    logged.home.join("stream")
    logged.kept(103)
    (follow,) = logged.master.sends(m.Follow)
    assert follow.offset == 103 and follow.stream != logged.follow.stream
    assert logged.master.sends(m.Unfollow) == [m.Unfollow(logged.follow.stream)]


def test_a_log_goes_on_from_the_node_to_which_the_task_moved() -> None:
    logged = Logged()
    third = logged.master.node("n3")
    logged.chunk(100, b"abc")
    moved(logged.master, logged.node, third, LOGGED)
    (again,) = logged.master.sends(m.Follow)
    assert again.offset == 103
    third.say(m.Chunk(again.stream, 103, b"d"))
    assert logged.logs() == [m.Log(ID, 103, b"d")]


def test_nothing_is_sent_to_a_home_to_which_the_task_has_come() -> None:
    logged = Logged()
    moved(logged.master, logged.node, logged.home, LOGGED)
    assert not logged.master.core.follows._streams
    logged.kept(100)
    assert logged.master.sends(m.Follow) == []


def test_only_its_home_has_the_log_of_a_task() -> None:
    logged = Logged()
    other = logged.master.node("n3")
    logged.master(on.Received(other.stream, m.Kept(ID, 0)))
    assert logged.master.sends(m.Follow) == []


def test_when_the_task_has_ended_and_all_was_sent_nothing_is_left() -> None:
    logged = Logged()
    logged.node.say(m.Changed((replace(LOGGED, status=Status.EXITED, exit_code=0),)))
    logged.node.say(m.Ended(logged.follow.stream, 100))
    assert logged.master.is_idle() and not logged.master.core.homelogs._copies


def test_a_removed_task_leaves_nothing_to_be_sent() -> None:
    logged = Logged()
    logged.node.say(m.Forgotten((ID,)))
    assert logged.master.is_idle() and not logged.master.core.homelogs._copies


def test_a_move_may_be_asked_for_with_a_log_at_home() -> None:
    master = Mastering()
    master.node("n1", HERE)
    master.node("n2")
    master.ask(op.MoveTask(master.id(), ID, "n2", log_at_home=True))
    (reserve,) = master.sends(m.Reserve)
    assert reserve.task.spec.log_at_home
