"""Copies: who sends, who receives, over which connection; as the master's core sees it."""

import pytest

from godwit.task.record import Usage
from godwit.wire import messages as m
from godwit.wire import operations as op
from godwit.wire.preface import Show
from masterd import actions as do
from masterd import events as on
from masterd.orders import ANSWER_S
from tests.mastering import OPERATOR, FakeNode, Mastering

HERE = op.Place(b"/here")
N1, N2 = op.Place(b"/a", "n1"), op.Place(b"/b", "n2")


def two() -> tuple[Mastering, FakeNode, FakeNode]:
    world = Mastering()
    return world, world.node("n1"), world.node("n2")


def transfer(world: Mastering) -> m.Transfer:
    (order,) = world.sends(m.Transfer)
    return order


def problem(world: Mastering) -> op.Problem:
    (reply,) = world.replies()
    assert isinstance(reply, op.Problem)
    return reply


def under_way() -> tuple[Mastering, FakeNode, FakeNode, int, int]:
    """A direct copy from n1 to n2; the orders of sender and receiver."""
    world, sender, receiver = two()
    world.ask(op.Copy(5, N1, N2))
    receiving = transfer(world).order
    receiver.say(m.Listening(receiving, 4444))
    return world, sender, receiver, transfer(world).order, receiving


# ---- with the operator's machine -----------------------------------------------------------


def test_an_upload_is_a_ticket_a_splice_and_the_nodes_word() -> None:
    world, node, _ = two()
    assert world.ask(op.Copy(5, HERE, N1)) == [op.Ticket(5, "ticket1", "send")]
    assert transfer(world) == m.Transfer(1, "ticket1", "receive", b"/a", "master")
    assert world.bulk(8, "ticket1", "receive", "n1") == []
    assert world.bulk(9, "ticket1", "send") == [do.Splice(9, 8)]
    node.say(m.Moved(1, 5, 10))
    assert not world.replies()  # the operator sees its own end
    node.say(m.Copied(1, 10, 1, b"/a/x", ("w",)))
    assert world.replies() == [op.CopyDone(5, 10, 1, b"/a/x", ("w",))] and world.is_idle()


def test_a_download_has_the_other_role() -> None:
    world, _, _ = two()
    assert world.ask(op.Copy(5, N1, HERE)) == [op.Ticket(5, "ticket1", "receive")]
    assert transfer(world).role == "send"


def test_a_failure_on_the_node_is_the_answer_and_drops_what_waits() -> None:
    world, node, _ = two()
    world.ask(op.Copy(5, HERE, N1))
    world.bulk(9, "ticket1", "send")
    node.say(m.Done(1, "ENOSPC", "disk full"))
    assert problem(world) == op.Problem(5, "ENOSPC", "n1: disk full")
    assert do.DropBulk(9) in world.last and world.is_idle()
    assert world.bulk(10, "ticket1", "receive", "n1") == [do.DropBulk(10)]


@pytest.mark.parametrize("gone", [on.OperatorGone(OPERATOR), on.Asked(OPERATOR, op.Cancel(5))])
def test_a_copy_that_nobody_wants_is_abandoned(gone: on.Event) -> None:
    world, node, _ = two()
    world.ask(op.Copy(5, HERE, N1))
    world.bulk(9, "ticket1", "send")
    assert world(gone) == [do.Send(node.control, m.Abandon(1)), do.DropBulk(9)]
    assert world.is_idle() and node.say(m.Copied(1, 1, 1, b"")) == []


@pytest.mark.parametrize(("ticket", "role"), [("ticket9", "send"), ("", "send")])
def test_an_unknown_ticket_opens_nothing(ticket: str, role: str) -> None:
    world, _, _ = two()
    world.ask(op.Copy(5, HERE, N1))
    assert world.bulk(9, ticket, "send") == [do.DropBulk(9)]


def test_a_side_is_taken_once() -> None:
    world, _, _ = two()
    world.ask(op.Copy(5, HERE, N1))
    world.bulk(9, "ticket1", "send")
    assert world.bulk(10, "ticket1", "send") == [do.DropBulk(10)]


def test_a_node_that_goes_away_ends_its_copy() -> None:
    for replace in (False, True):
        world, node, _ = two()
        world.ask(op.Copy(5, HERE, N1))
        if replace:
            node.join()
        else:
            node.cut()
        assert problem(world).code == "lost" and world.is_idle()


@pytest.mark.parametrize(("copy", "code"), [
    (op.Copy(5, HERE, HERE), "usage"), (op.Copy(5, HERE, op.Place(b"", "nope")), "no-such-node"),
    (op.Copy(5, HERE, op.Place(b"", "n1,n2")), "bad-nodes"),
    (op.Copy(5, HERE, op.Place(b"", "away")), "unreachable"),
])
def test_what_cannot_be_copied_is_refused(copy: op.Copy, code: str) -> None:
    world, _, _ = two()
    world.node("away").cut()
    world.ask(copy)
    assert problem(world).code == code and world.is_idle()


# ---- between two nodes ---------------------------------------------------------------------


def test_two_nodes_meet_directly() -> None:
    world, sender, receiver = two()
    assert world.ask(op.Copy(5, N1, N2)) == []
    assert transfer(world) == m.Transfer(
        1, "ticket1", "receive", b"/b", "", ("leaf of n1",)
    )
    receiver.say(m.Listening(1, 4444))
    assert transfer(world) == m.Transfer(
        2, "ticket1", "send", b"/a", "10.0.0.1:4444", ("leaf of n2",)
    )
    receiver.say(m.Moved(1, 5, 10))
    assert world.replies() == [op.Progress(5, done=5, total=10)]
    sender.say(m.Moved(2, 6, 10))
    assert not world.replies()
    sender.say(m.Copied(2, 10, 1, b"/a"))
    assert not world.replies()
    receiver.say(m.Copied(1, 10, 1, b"/b"))
    assert world.replies() == [op.CopyDone(5, 10, 1, b"/b")] and world.is_idle()


def test_where_the_sender_does_not_get_through_the_master_relays() -> None:
    world, sender, receiver, sending, receiving = under_way()
    sender.say(m.Done(sending, "unreachable", "refused"))
    assert world.last[0] == do.Send(receiver.control, m.Abandon(receiving))
    orders = {order.role: order for order in world.sends(m.Transfer)}
    assert {order.ticket for order in orders.values()} == {"ticket2"}
    assert {order.address for order in orders.values()} == {"master"}
    assert receiver.say(m.Done(receiving, "dropped", "no longer wanted")) == []
    world.bulk(8, "ticket2", "send", "n1")
    assert world.bulk(9, "ticket2", "receive", "n2") == [do.Splice(8, 9)]
    sender.say(m.Copied(orders["send"].order, 1, 1, b""))
    receiver.say(m.Copied(orders["receive"].order, 1, 1, b"/b"))
    assert world.replies() == [op.CopyDone(5, 1, 1, b"/b")] and world.is_idle()


def test_the_side_that_failed_first_is_named() -> None:
    world, sender, receiver, sending, receiving = under_way()
    receiver.say(m.Done(receiving, "cut", "the connection broke"))
    assert not world.replies()
    sender.say(m.Done(sending, "ENOENT", "/a: no such file"))
    assert problem(world) == op.Problem(5, "ENOENT", "n1: /a: no such file") and world.is_idle()


def test_a_receiver_that_fails_before_it_listens_ends_the_copy() -> None:
    world, _, receiver = two()
    world.ask(op.Copy(5, N1, N2))
    receiver.say(m.Done(1, "EROFS", "read-only"))
    assert problem(world).code == "EROFS" and world.is_idle()


@pytest.mark.parametrize("which", ["send", "receive"])
def test_when_one_side_goes_away_the_other_is_not_waited_for_long(which: str) -> None:
    world, sender, receiver, sending, receiving = under_way()
    gone, stays = (sender, receiver) if which == "send" else (receiver, sender)
    gone.cut()
    assert not world.replies()
    world.wait(ANSWER_S, stays)
    assert problem(world).code == "lost" and world.is_idle()
    order = receiving if which == "send" else sending
    assert do.Send(stays.control, m.Abandon(order)) in world.last


def test_a_second_listening_starts_no_second_sender() -> None:
    _world, _, receiver, _, receiving = under_way()
    assert receiver.say(m.Listening(receiving, 5555)) == []


def test_a_node_tells_only_of_its_own_transfer() -> None:
    _world, sender, _receiver, _sending, receiving = under_way()
    for message in (m.Moved(receiving, 1, 2), m.Copied(receiving, 1, 1, b""),
                    m.Done(receiving, "x", "x"), m.Listening(receiving, 5)):
        assert sender.say(message) == []


@pytest.mark.parametrize("answer", [m.Done(1), m.Measured(1, Usage())])
def test_an_answer_of_the_wrong_kind_is_a_failure(answer: m.Message) -> None:
    world, node, _ = two()
    world.ask(op.Copy(5, HERE, N1))
    node.say(answer)
    assert problem(world).code == "bad-answer" and world.is_idle()


def test_nodes_on_the_masters_machine_are_not_reachable_from_elsewhere() -> None:
    world, _sender, _receiver = two()
    world.core.registry.nodes["n2"].address = "127.0.0.1:5"
    world.ask(op.Copy(5, N1, N2))
    assert {order.address for order in world.sends(m.Transfer)} == {"master"}


def test_a_node_that_waits_is_called_for_a_relayed_copy() -> None:
    world, node, _ = two()
    world.core.registry.nodes["n1"].host = "10.0.0.7"
    world.ask(op.Copy(5, N1, HERE))
    assert transfer(world).address == ""
    node.say(m.Listening(1, 4444))
    (dial,) = world.done(do.DialBulk)
    assert (dial.host, dial.port, dial.show) == ("10.0.0.7", 4444, Show("ticket1", "send"))
    world(on.BulkFailed("ticket1", "refused"))
    assert problem(world).code == "unreachable" and world.is_idle()
    assert do.Send(node.control, m.Abandon(1)) in world.last
    assert world(on.BulkFailed("ticket1", "refused")) == []
