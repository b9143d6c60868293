"""Snapshots that pass between nodes, as the agent's core has them: events in, exact actions out."""

import pytest

from clientd import actions as do
from clientd import events as on
from clientd.keeper import orders
from godwit.task.record import Snapshot, Spec
from godwit.wire import messages as m
from tests.test_clientd_core import CONTROL, Driver, joined, sent

ONE = Snapshot("s1234567", Spec("t1234567", (b"P",), kind="python"), 2.5, 100, 50)
LODGE = m.Lodge(4, ONE, 3, "k", ("leaf",))
GIVE = m.Give(4, "t1234567", "s1234567", "h:5", "k", ("leaf",))
BERTH = orders.Berth(4, "s1234567", "p", "/parcels/p", 50)
PACKED = orders.Packed(4, "s1234567", "p", "/parcels/p", 50)


def waiting(message: m.Message, word: orders.Word) -> Driver:
    """A parcel of it has a ship."""
    driver = joined()
    driver.hear(message)
    driver.tell(word)
    return driver


def test_one_that_comes_is_announced_to_the_keeper_which_says_where_it_is_to_be() -> None:
    driver = joined()
    assert driver.hear(LODGE) == [do.Tell(orders.Lodge(4, ONE, 3))]
    assert driver.tell(BERTH) == [
        do.AwaitShip("p", "k", ("leaf",), "", "/parcels/p", size=50)
    ]
    assert driver(on.ShipAwaited("p", 77)) == sent(m.Listening(4, 77))
    assert driver(on.Landed("p", 50, 1.0)) == [do.Tell(orders.Stow(4, "p"))]
    found = (ONE,)
    assert driver.tell(orders.Snapshots(4, found)) == sent(m.Snapshots(4, found))


def test_one_that_goes_is_sent_as_soon_as_the_other_end_is_there() -> None:
    driver = joined()
    assert driver.hear(GIVE) == [do.Tell(orders.Give(4, "t1234567", "s1234567"))]
    assert driver.tell(PACKED) == [do.StartShip("p", "h:5", "k", ("leaf",), "")]
    assert driver(on.ShipProgressed("p", 1, 2)) == []
    assert driver(on.CaughtUp("p")) == [do.ShipImage("p", "/parcels/p", 0, 50)]
    assert driver(on.Shipped("p")) == [do.Tell(orders.DropParcel("p")), *sent(m.Done(4))]


@pytest.mark.parametrize(("message", "word"), [(LODGE, BERTH), (GIVE, PACKED)])
def test_a_ship_that_fails_ends_it_here_and_the_master_hears_why(
    message: m.Message, word: orders.Word
) -> None:
    driver = waiting(message, word)
    assert driver(on.ShipFailed("p", "cut", "it broke")) == [
        do.Tell(orders.DropParcel("p")), *sent(m.Done(4, "cut", "it broke"))
    ]


@pytest.mark.parametrize(("message", "word"), [(LODGE, BERTH), (GIVE, PACKED)])
def test_one_that_is_not_wanted_any_more_is_dropped_with_its_ship(
    message: m.Message, word: orders.Word
) -> None:
    driver = waiting(message, word)
    assert driver.hear(m.Abandon(4)) == [
        do.DropShip("p"), do.Tell(orders.DropParcel("p")),
        *sent(m.Done(4, "dropped", "no longer wanted")), do.DropTransfer(4),
    ]


def test_what_the_keeper_refuses_the_master_hears() -> None:
    driver = joined()
    driver.hear(LODGE)
    assert driver.tell(orders.Acted(4, "policy", "no")) == sent(m.Done(4, "policy", "no"))
    assert driver.agent.parcels.waiting == {}


@pytest.mark.parametrize("word", [
    BERTH, PACKED, orders.Berth(5, "s1234567", "p", "/p", 1),
    orders.Berth(4, "other123", "p", "/p", 1),
])
def test_a_parcel_that_nobody_asked_for_on_this_connection_is_dropped(word: orders.Word) -> None:
    driver = joined()
    driver.hear(GIVE if isinstance(word, orders.Berth) and word == BERTH else LODGE)
    if isinstance(word, orders.Berth) and word == BERTH:
        assert driver.tell(word) == [do.Tell(orders.DropParcel("p"))]
        return
    driver(on.LinkClosed(CONTROL, "reset"))
    assert driver.tell(word) == [do.Tell(orders.DropParcel("p"))]


def test_a_number_that_a_new_connection_uses_again_gets_no_other_snapshots_parcel() -> None:
    driver = joined()
    driver.hear(LODGE)
    driver(on.LinkClosed(CONTROL, "reset"))
    driver.tick()
    driver.join(stream=False)
    other = m.Lodge(4, Snapshot("s7654321", ONE.spec, 3.0, 10, 5), 3, "k2", ("leaf",))
    driver.hear(other)
    assert driver.tell(BERTH) == [do.Tell(orders.DropParcel("p"))]


def test_of_whom_snapshots_are_here_is_told_at_once_and_on_each_connection() -> None:
    driver = joined()
    assert driver.tell(orders.Lodging(("t1234567",))) == sent(m.Lodging(("t1234567",)))
    driver(on.LinkClosed(CONTROL, "reset"))
    assert driver.tell(orders.Lodging(())) == []
    driver.tick()
    assert do.Send(CONTROL, m.Lodging(())) in driver.join(stream=False)


def test_what_is_to_be_dropped_is_the_keepers_to_drop() -> None:
    driver = joined()
    assert driver.hear(m.Unlodge(4, ("t1234567",), ("s1234567",))) == [
        do.Tell(orders.Unlodge(4, ("t1234567",), ("s1234567",)))
    ]
    assert driver.tell(orders.Acted(4)) == sent(m.Done(4))


def test_the_end_of_a_moves_ship_at_its_source_is_nothing_to_a_parcel() -> None:
    driver = joined()
    assert driver(on.Shipped("some move")) == []
