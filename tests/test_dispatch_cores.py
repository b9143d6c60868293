"""Every message with every peer once more, past the decoders: what each core does with it.

A core never does what its peer may not ask for, in whatever state: even if a decoder let it pass.
"""

from typing import get_args

import msgspec
import pytest

from clientd import actions as agent_does
from clientd import events as agent_on
from clientd.keeper import orders
from godwit.errors import MessageError
from godwit.task.record import Snapshot, Spec, Task, Usage
from godwit.task.verdict import Place, Traits
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as master_does
from masterd import events as master_on
from tests.mastering import OPERATOR, Mastering
from tests.test_clientd_core import CONTROL, ORPHAN, Driver, joined
from tests.test_dispatch import MASTER, MASTER_STREAM, NODE, NODE_STREAM, TABLE, named
from tests.test_operations import REPLIES, REQUESTS

ORDERS: list[orders.Order] = [
    orders.Start((Spec("t1234567", (b"true",)),)), orders.Signal(1, ("t",), 9),
    orders.Pause(1, ("t",)), orders.Forget(1, ("t",)), orders.Measure(), orders.Stop(),
    orders.Say("info", "x"), orders.Settled("x"), orders.Restart(),
    orders.Reserve("m", Task(Spec("t1234567", (b"P",))), 2), orders.Freeze("m", "t1234567", 1),
    orders.Landed("m", 1), orders.Cut("m", "c", "t"),
    orders.Verdict("m", "t1234567", 1, "abort"), orders.Describe(1, "t1234567"),
    orders.Checkpoint(1, "t1234567", "s1234567", 3), orders.ListSnapshots(1, "t1234567"),
    orders.Lodge(1, Snapshot("s1234567", Spec("t1234567", (b"P",)), 0.0, 1, 1), 3),
    orders.Stow(1, "p"), orders.Give(1, "t1234567", "s1234567"), orders.DropParcel("p"),
    orders.Unlodge(1, ("t1234567",)),
    orders.Survey(1, Spec("t1234567", (b"P",)), (b"/x",)), orders.Guests(()), orders.Took("t", 1),
]
WORDS: list[orders.Word] = [
    orders.Facts("n", "/s", "/l", "b"), orders.Known(()), orders.Changed(()),
    orders.Rejected("t", "c", "t"), orders.Forgotten(("t",)), orders.Acted(1),
    orders.Measured(Usage()), orders.Stopping("r"),
    orders.Able(("shell",)), orders.Standing("m", "t", 1, "frozen"), orders.Landing("m", "l", "i"),
    orders.Growing("m", "i"), orders.Shipping("m", "l", "i", 1, 1),
    orders.Described(1, Traits("x86_64")),
    orders.Snapshots(1, (Snapshot("s1234567", Spec("t1234567", (b"P",)), 0.0, 1),)),
    orders.Surveyed(1, Place("n", "x86_64")), orders.Caught("t", 1, 15), orders.HomeLog("t", "/l"),
    orders.Berth(1, "s1234567", "p", "/p", 1), orders.Packed(1, "s1234567", "p", "/p", 1),
    orders.Lodging(("t1234567",)),
]
#: A node's first word is the one thing that leads anywhere.
NOT_A_HELLO = [message for message, _ in TABLE if not isinstance(message, wire.Hello)]


# ---- the master and who calls it -----------------------------------------------------------


@pytest.mark.parametrize("message", NOT_A_HELLO, ids=named)
def test_a_caller_that_does_not_begin_with_a_hello_is_sent_away(message: wire.Message) -> None:
    world = Mastering()
    link = world.link()
    world.accepted(link)
    done = world(master_on.Received(link, message))
    assert any(isinstance(each, master_does.Close) and each.link == link for each in done)
    assert not world.done(master_does.Open) and not world.done(master_does.Send)
    assert not world.core.registry.nodes
    # And it is not listened to any more.
    assert world(master_on.Received(link, wire.Hello(wire.VERSION, "n1", "id", "run"))) == []


@pytest.mark.parametrize("leaf", ["", "leaf of another", "made by the authority, on no list"])
def test_a_hello_with_another_certificate_than_the_names_is_refused(leaf: str) -> None:
    world = Mastering()
    world.certify("n1")
    world.core.admission.leaves["another"] = ("leaf of another",)
    link = world.link()
    world(master_on.LinkAccepted(link, "10.0.0.9:5", leaf))
    world(master_on.Received(link, wire.Hello(wire.VERSION, "n1", "id", "run")))
    # One on no list at all is sent away before it has said anything.
    refused = [each.message for each in world.all if isinstance(each, master_does.Send)]
    assert [getattr(message, "code", "") for message in refused] == ["certificate"]
    closed = [each.link for each in world.all if isinstance(each, master_does.Close)]
    assert closed == [link] and not world.core.registry.nodes


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=named)
def test_what_only_a_master_says_moves_nothing_when_a_node_says_it(
    message: wire.Message, senders: set[str]
) -> None:
    if senders & {NODE, NODE_STREAM}:
        return
    world = Mastering()
    node = world.node("n1")
    assert world(master_on.Received(node.control, message)) == []
    assert world(master_on.Received(node.stream, message)) == []


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=named)
def test_nothing_is_heard_from_a_link_that_is_nobodys(
    message: wire.Message, senders: set[str]
) -> None:
    world = Mastering()
    world.node("n1")
    assert world(master_on.Received(world.link(), message)) == []


# ---- the agent and who it talks to ---------------------------------------------------------


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=named)
def test_before_the_welcome_an_agent_does_nothing_that_it_is_told(
    message: wire.Message, senders: set[str]
) -> None:
    driver = Driver()
    driver(agent_on.LinkOpened(CONTROL, "control"))
    done = driver.hear(message)
    if isinstance(message, wire.Welcome):
        return
    assert [type(each) for each in done] == [agent_does.Close]


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=named)
def test_who_calls_an_agent_has_to_greet_as_a_master(
    message: wire.Message, senders: set[str]
) -> None:
    driver = Driver(ORPHAN)
    driver(agent_on.LinkAccepted(CONTROL, "10.0.0.9:5"))
    done = driver.hear(message)
    if isinstance(message, wire.Adopt):
        # Of another name than ours: refused.
        assert [type(each) for each in done] == [
            agent_does.Say, agent_does.Send, agent_does.Close,
        ]
    else:
        assert [type(each) for each in done] == [agent_does.Close]


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=named)
def test_what_only_a_node_says_moves_nothing_when_a_master_says_it(
    message: wire.Message, senders: set[str]
) -> None:
    if not senders & {MASTER, MASTER_STREAM}:
        assert joined().hear(message) == []


# ---- operators -----------------------------------------------------------------------------


def test_every_request_and_reply_has_its_example() -> None:
    assert {type(request) for request, _ in REQUESTS} == set(get_args(op.Requests))
    assert {type(reply) for reply, _ in REPLIES} == set(get_args(op.Replies))


@pytest.mark.parametrize("request_", [r for r, _ in REQUESTS if not isinstance(r, op.Attach)])
def test_before_it_attaches_an_operator_is_refused_everything(request_: op.Request) -> None:
    world = Mastering()
    node = world.node("n1")
    before = world.core.registry.nodes["n1"]
    done = world(master_on.Asked(OPERATOR + 1, request_))
    (answer,) = done
    assert isinstance(answer, master_does.Answer) and isinstance(answer.reply, op.Problem)
    assert answer.reply.code == "order" and node.state is before.state


@pytest.mark.parametrize("reply", [reply for reply, _ in REPLIES], ids=named)
def test_a_reply_is_no_request_and_a_nodes_word_is_none(reply: op.Reply) -> None:
    with pytest.raises(MessageError):
        op.decode_request(op.encode(reply))


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=named)
def test_no_message_of_nodes_and_masters_is_an_operators_request(
    message: wire.Message, senders: set[str]
) -> None:
    with pytest.raises(MessageError):
        op.decode_request(wire.encode(message))


# ---- keeper and agent ----------------------------------------------------------------------


def test_every_order_and_word_has_its_example() -> None:
    assert {type(order) for order in ORDERS} == set(get_args(orders.Orders))
    assert {type(word) for word in WORDS} == set(get_args(orders.Words))


@pytest.mark.parametrize("order", ORDERS, ids=lambda each: type(each).__name__)
def test_the_keeper_takes_orders_alone(order: orders.Order) -> None:
    assert orders.decode_order(orders.encode(order)) == order
    with pytest.raises(MessageError):
        orders.decode_word(orders.encode(order))


@pytest.mark.parametrize("word", WORDS, ids=lambda each: type(each).__name__)
def test_the_agent_takes_the_keepers_words_alone(word: orders.Word) -> None:
    assert orders.decode_word(orders.encode(word)) == word
    with pytest.raises(MessageError):
        orders.decode_order(orders.encode(word))


def test_a_masters_message_is_an_order_only_where_the_two_say_the_same() -> None:
    """What the agent passes on unread would be the master's to shape: it never does."""
    passed = set()
    for message, _ in TABLE:
        try:
            orders.decode_order(wire.encode(message))
        except MessageError:
            continue
        passed.add(type(message).__name__)
    # Tags they share; the agent makes each order anew from what it has read.
    assert passed <= {
        "Signal", "Pause", "Forget", "Measure", "Reserve", "Freeze", "Verdict", "Describe",
        "Survey", "Guests", "Took", "Checkpoint", "ListSnapshots", "Lodge", "Give", "Unlodge",
    }


@pytest.mark.parametrize("payload", [
    b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"is": "Facts", "name": "n"}),
    msgspec.msgpack.encode({"is": "Say", "level": "loud", "text": "x"}),
    msgspec.msgpack.encode({"is": "Start", "specs": [{"task": "t"}]}),
])
def test_what_is_no_order_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        orders.decode_order(payload)


def test_a_task_in_a_report_is_taken_for_the_reporting_nodes_own_only() -> None:
    world = Mastering()
    world.node("n1", Task(Spec("t1234567", (b"true",), home="n1"), pid=7))
    other = world.node("n2")
    other.say(wire.Changed((Task(Spec("t1234567", (b"evil",), home="n2"), pid=8),)))
    assert world.core.registry.where["t1234567"].name == "n1"
    other.say(wire.Forgotten(("t1234567",)))
    other.say(wire.Rejected(("t1234567",), "x", "x"))
    assert world.core.registry.where["t1234567"].name == "n1"
