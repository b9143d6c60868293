"""Who may join and which certificate is whose: events into the master's core, actions out."""

from typing import Any, TypeVar

import pytest

from godwit.wire import messages as wire
from godwit.wire import operations as op
from godwit.wire.preface import Show
from godwit.wire.tokens import read_token
from masterd import actions as do
from masterd import events as on
from masterd.admission import LONGEST_S, MOST_USES, RENEWALS_S
from masterd.core import Chance, Identity, Master

CA = "ca" * 32
ADDRESS = "10.0.0.7:4000"
T = TypeVar("T")


class Desk:
    """A master's core with an operator at it; the clock stands unless a test moves it."""

    def __init__(self) -> None:
        count = iter(range(1, 10_000))
        self.core = Master(
            Identity("m1", "127.0.0.1:1", "0", 1, "/state", CA),
            Chance(
                lambda: 0.5, lambda: f"task{next(count):04}", lambda: f"{next(count):064x}",
                lambda size: f"{next(count):0{2 * size}x}",
            ),
        )
        self.now = 1000.0
        self.wall = 1e9
        self.links = 0
        #: Its disk takes what is recorded, at once.
        self.records = True
        self.ask(op.Attach(1, op.VERSION))

    def handle(self, event: on.Event) -> list[do.Action]:
        done = self.core.handle(event, self.now, self.wall)
        for confirm in of(done, do.Confirm) if self.records else ():
            done += self.handle(on.Recorded(confirm.number))
        return done

    def ask(self, request: op.Request) -> list[do.Action]:
        return self.handle(on.Asked(1, request))

    def token(self, **limits: Any) -> tuple[str, str]:
        """Id and secret of a new token."""
        (answer,) = of(self.ask(op.MakeToken(2, **limits)), do.Answer)
        assert isinstance(answer.reply, op.TokenMade)
        token = read_token(answer.reply.token)
        assert token.ca == CA
        return token.id, token.secret

    def join(self, token: str, secret: str, name: str = "web7") -> do.Admit | do.Deny:
        done = self.handle(on.JoinAsked(7, token, secret, name, ADDRESS))
        verdict = done[-1]
        assert isinstance(verdict, do.Admit | do.Deny)
        return verdict

    def node(self, name: str = "web7", leaf: str = "leaf1", node: str = "n1") -> int:
        """A certified node that comes; its control link."""
        self.handle(on.Certified(7, name, leaf))
        link = self.call(leaf)
        done = self.hello(link, name, node)
        assert do.Send(link, wire.Welcome("m1")) in done
        return link

    def call(self, leaf: str) -> int:
        self.links += 1
        self.handle(on.LinkAccepted(self.links, ADDRESS, leaf))
        return self.links

    def hello(
        self, link: int, name: str = "web7", node: str = "n1", **more: Any
    ) -> list[do.Action]:
        said = wire.Hello(wire.VERSION, name, node, "agent1", **more)
        return self.handle(on.Received(link, said))


def of(actions: list[do.Action], kind: type[T]) -> list[T]:
    return [action for action in actions if isinstance(action, kind)]


def unrecorded(done: list[do.Action]) -> on.Unrecorded:
    (confirm,) = of(done, do.Confirm)
    return on.Unrecorded(confirm.number, "disk is full")


def texts(actions: list[do.Action]) -> list[str]:
    return [action.event.text for action in of(actions, do.KeepEvent)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


# ---- tokens --------------------------------------------------------------------------------


def test_a_token_is_recorded_before_it_is_told_and_its_secret_is_not(desk: Desk) -> None:
    done = desk.ask(op.MakeToken(2, uses=3, ttl_s=60.0, node="web7"))
    kinds = [type(action) for action in done]
    assert kinds.index(do.KeepToken) < kinds.index(do.Confirm) < kinds.index(do.Answer)
    (kept,) = of(done, do.KeepToken)
    assert (kept.uses, kept.until, kept.node) == (3, desk.wall + 60.0, "web7")
    (answer,) = of(done, do.Answer)
    assert isinstance(answer.reply, op.TokenMade)
    secret = read_token(answer.reply.token).secret
    assert secret not in repr([action for action in done if action is not answer])


@pytest.mark.parametrize("limits", [
    {"uses": 0}, {"uses": -1}, {"uses": MOST_USES + 1}, {"ttl_s": 0.0}, {"ttl_s": -1.0},
    {"ttl_s": LONGEST_S + 1.0}, {"ttl_s": float("nan")}, {"ttl_s": float("inf")},
    {"node": "a/b"}, {"node": "a b"},
])
def test_limits_that_are_none_make_no_token(desk: Desk, limits: dict[str, Any]) -> None:
    (answer,) = desk.ask(op.MakeToken(2, **limits))
    assert isinstance(answer, do.Answer) and isinstance(answer.reply, op.Problem)
    assert not desk.core.admission.tokens


def test_a_token_lets_one_in_and_is_gone_from_the_disk_before_that(desk: Desk) -> None:
    token, secret = desk.token()
    done = desk.handle(on.JoinAsked(7, token, secret, "web7", ADDRESS))
    assert [type(action) for action in done] == [do.DropToken, do.Confirm, do.Admit]
    assert isinstance(desk.join(token, secret, "web8"), do.Deny)


@pytest.mark.parametrize("uses", [1, 2])
def test_a_use_that_cannot_be_recorded_is_given_back_and_the_machine_told(
    desk: Desk, uses: int
) -> None:
    token, secret = desk.token(uses=uses)
    before = desk.core.admission.tokens[token]
    desk.records = False
    asked = desk.handle(on.JoinAsked(7, token, secret, "web7", ADDRESS))
    given, denied = desk.handle(unrecorded(asked))
    desk.records = True
    assert given == before and isinstance(denied, do.Deny) and denied.asked == 7
    assert "disk is full" in denied.text and desk.core.admission.tokens[token] == before
    for _ in range(uses):
        assert isinstance(desk.join(token, secret), do.Admit)
    assert isinstance(desk.join(token, secret), do.Deny)


def test_a_revoked_token_is_not_given_back(desk: Desk) -> None:
    desk.handle(on.Certified(6, "web7", "leaf1"))
    token, secret = desk.token()
    desk.records = False
    asked = desk.handle(on.JoinAsked(7, token, secret, "web7", ADDRESS))
    desk.ask(op.Revoke(3, "web7"))
    (denied,) = desk.handle(unrecorded(asked))
    assert isinstance(denied, do.Deny) and not desk.core.admission.tokens


def test_a_token_that_cannot_be_recorded_is_not_told(desk: Desk) -> None:
    desk.records = False
    dropped, answer = desk.handle(unrecorded(desk.ask(op.MakeToken(2))))
    assert isinstance(dropped, do.DropToken) and not desk.core.admission.tokens
    assert isinstance(answer, do.Answer) and isinstance(answer.reply, op.Problem)
    assert "no token was made" in answer.reply.message and answer.reply.id == 2


def test_what_was_revoked_stays_so_though_it_cannot_be_recorded(desk: Desk) -> None:
    desk.node()
    desk.records = False
    (answer,) = desk.handle(unrecorded(desk.ask(op.Revoke(3, "web7"))))
    assert isinstance(answer, do.Answer) and isinstance(answer.reply, op.Problem)
    assert "it is done" in answer.reply.message and not desk.core.admission.leaves


def test_a_token_with_uses_lets_so_many_in(desk: Desk) -> None:
    token, secret = desk.token(uses=2)
    assert isinstance(desk.join(token, secret, "web1"), do.Admit)
    assert isinstance(desk.join(token, secret, "web2"), do.Admit)
    assert isinstance(desk.join(token, secret, "web3"), do.Deny)


def test_a_token_ends_with_its_time(desk: Desk) -> None:
    token, secret = desk.token(ttl_s=60.0)
    desk.wall += 60.0
    assert isinstance(desk.join(token, secret), do.Deny)
    assert do.DropToken(token) in desk.ask(op.MakeToken(2))


def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(desk: Desk) -> None:
    token, secret = desk.token()
    old, old_secret = desk.token(ttl_s=1.0)
    used, used_secret = desk.token()
    desk.join(used, used_secret, "web1")
    desk.wall += 2
    answers = {
        desk.join(token, secret[:-1] + "x"), desk.join("0" * 16, secret), desk.join(token, ""),
        desk.join(old, old_secret), desk.join(used, used_secret, "web2"), desk.join("", ""),
    }
    assert len(answers) == 1
    assert isinstance(desk.join(token, secret), do.Admit), "wrong guesses spend nothing"


def test_a_refusal_is_noted_without_the_secret(desk: Desk) -> None:
    token, secret = desk.token()
    done = desk.handle(on.JoinAsked(7, token, "5ecre7" + secret[6:], "web7", ADDRESS))
    assert ADDRESS in texts(done)[0]
    assert "5ecre7" not in repr(done)


def test_a_token_for_a_name_is_for_no_other(desk: Desk) -> None:
    token, secret = desk.token(node="web7")
    assert isinstance(desk.join(token, secret, "web8"), do.Deny)
    assert isinstance(desk.join(token, secret, "web7"), do.Admit)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "a\n", "x" * 300, "\x1b[2J"])
def test_a_name_that_is_none_does_not_join(desk: Desk, name: str) -> None:
    token, secret = desk.token()
    assert isinstance(desk.join(token, secret, name), do.Deny)
    assert isinstance(desk.join(token, secret), do.Admit)


def test_no_token_takes_the_name_of_a_node_that_is_there(desk: Desk) -> None:
    desk.node("web7")
    for limits in ({}, {"node": "web7"}):
        verdict = desk.join(*desk.token(**limits))
        assert isinstance(verdict, do.Deny) and verdict.code == "taken"


def test_only_a_token_for_its_name_lets_an_absent_node_join_anew(desk: Desk) -> None:
    link = desk.node("web7")
    desk.handle(on.LinkClosed(link, "cut"))
    verdict = desk.join(*desk.token())
    assert isinstance(verdict, do.Deny) and "dereg web7" in verdict.text
    assert isinstance(desk.join(*desk.token(node="web7")), do.Admit)


# ---- leaves --------------------------------------------------------------------------------


def test_a_leaf_is_on_the_disk_before_it_is_handed_out(desk: Desk) -> None:
    done = desk.handle(on.Certified(7, "web7", "leaf1"))
    kinds = [type(action) for action in done]
    assert done[0] == do.KeepLeaves("web7", ("leaf1",)) and done[-1] == do.Hand(7)
    assert kinds.index(do.KeepLeaves) < kinds.index(do.Commit) < kinds.index(do.Hand)


def test_a_certificate_of_no_node_is_not_listened_to(desk: Desk) -> None:
    done = desk.handle(on.LinkAccepted(1, ADDRESS, "unknown"))
    assert [type(action) for action in done] == [do.Send, do.Close, do.KeepEvent]
    assert isinstance(of(done, do.Send)[0].message, wire.Refuse)
    assert desk.hello(1) == []


def test_refusals_of_one_kind_are_noted_seldom(desk: Desk) -> None:
    done = [desk.handle(on.LinkAccepted(link, ADDRESS, "unknown")) for link in range(1, 101)]
    assert sum(len(of(actions, do.KeepEvent)) for actions in done) == 1


def test_a_leaf_is_for_its_own_name_only(desk: Desk) -> None:
    desk.handle(on.Certified(7, "web8", "leaf8"))
    desk.node("web7", "leaf7")
    done = desk.hello(desk.call("leaf8"), "web7")
    (refusal,) = of(done, do.Send)
    assert isinstance(refusal.message, wire.Refuse) and refusal.message.code == "certificate"
    assert of(done, do.Close) and texts(done)
    assert desk.core.registry.nodes["web7"].connected


def test_the_stream_needs_the_leaf_too(desk: Desk) -> None:
    desk.handle(on.Certified(7, "web8", "leaf8"))
    desk.node("web7", "leaf7")
    done = desk.hello(desk.call("leaf8"), "web7", channel="stream")
    assert of(done, do.Close) and not of(done, do.Open)


def test_a_called_node_must_show_its_leaf_before_it_is_greeted(desk: Desk) -> None:
    desk.handle(on.Certified(7, "web7", "leaf1"))
    desk.ask(op.Register(3, "web7", 1234, "web7"))
    done = desk.handle(on.LinkOpened(1, "web7", "control", "other"))
    assert of(done, do.Close) and not of(done, do.Send)
    done = desk.handle(on.LinkOpened(2, "web7", "control", "leaf1"))
    assert isinstance(of(done, do.Send)[0].message, wire.Adopt)


def test_an_old_leaf_ends_when_the_next_has_been_shown(desk: Desk) -> None:
    link = desk.node("web7", "leaf1")
    (renewal,) = desk.handle(on.Received(link, wire.Renew(b"request")))
    assert renewal == do.Renew(link, "web7", b"request")
    done = desk.handle(on.Certified(9, "web7", "leaf2"))
    assert done[0] == do.KeepLeaves("web7", ("leaf1", "leaf2"))
    assert desk.core.admission.knows("web7", "leaf1")
    done = desk.hello(desk.call("leaf2"))
    assert do.KeepLeaves("web7", ("leaf2",)) in done
    assert not desk.core.admission.is_somebodys("leaf1")


def test_a_node_is_not_certified_again_and_again(desk: Desk) -> None:
    link = desk.node("web7", "leaf1")
    asked = [desk.handle(on.Received(link, wire.Renew(b"r"))) for _ in range(100)]
    assert sum(map(len, asked)) == 1
    desk.now += RENEWALS_S
    assert desk.handle(on.Received(link, wire.Renew(b"r")))


def test_the_leaf_in_use_survives_renewals_that_never_arrived(desk: Desk) -> None:
    desk.node("web7", "leaf1")
    for number in range(5):
        desk.handle(on.Certified(9, "web7", f"next{number}"))
    assert desk.core.admission.leaves["web7"] == ("leaf1", "next4")


# ---- revocation ----------------------------------------------------------------------------


def test_a_revoked_node_is_cut_off_and_cannot_come_back(desk: Desk) -> None:
    link = desk.node("web7", "leaf1")
    stream = desk.call("leaf1")
    desk.hello(stream, channel="stream")
    done = desk.ask(op.Revoke(3, "web7"))
    assert {action.link for action in of(done, do.Close)} == {link, stream}
    kinds = [type(action) for action in done]
    assert done[0] == do.KeepLeaves("web7", ())
    assert kinds.index(do.Confirm) < kinds.index(do.Answer) == len(done) - 1
    assert of(desk.handle(on.LinkAccepted(50, ADDRESS, "leaf1")), do.Close)
    assert desk.handle(on.Received(link, wire.Report(()))) == []


def test_what_was_opened_before_the_revocation_does_not_get_in_after_it(desk: Desk) -> None:
    desk.node("web7", "leaf1")
    waiting = desk.call("leaf1")
    desk.ask(op.Revoke(3, "web7"))
    done = desk.hello(waiting)
    assert of(done, do.Close) and not of(done, do.Open)


def test_tokens_that_a_revoked_node_may_know_end_with_it(desk: Desk) -> None:
    desk.node("web7", "leaf1")
    anybodys, its, others = desk.token(uses=9), desk.token(node="web7"), desk.token(node="web8")
    desk.ask(op.Revoke(3, "web7"))
    assert isinstance(desk.join(*anybodys), do.Deny)
    assert isinstance(desk.join(*its), do.Deny)
    assert isinstance(desk.join(*others, "web8"), do.Admit)


def test_a_revoked_node_joins_with_a_new_token(desk: Desk) -> None:
    desk.node("web7", "leaf1")
    desk.ask(op.Revoke(3, "web7"))
    assert isinstance(desk.join(*desk.token()), do.Admit)
    desk.node("web7", "leaf2")


def test_a_name_that_has_a_certificate_and_never_came_can_be_revoked(desk: Desk) -> None:
    desk.handle(on.Certified(7, "web7", "leaf1"))
    done = desk.ask(op.Revoke(3, "web7"))
    assert isinstance(done[-1], do.Answer) and isinstance(done[-1].reply, op.Ok)
    assert not desk.core.admission.is_somebodys("leaf1")


def test_revoking_twice_harms_nothing(desk: Desk) -> None:
    desk.node("web7", "leaf1")
    for _ in range(2):
        done = desk.ask(op.Revoke(3, "web7"))
        assert isinstance(done[-1], do.Answer) and isinstance(done[-1].reply, op.Ok)


def test_nobody_is_revoked_by_a_name_that_is_not_known(desk: Desk) -> None:
    desk.node("web7", "leaf1")
    (answer,) = desk.ask(op.Revoke(3, "web8"))
    assert isinstance(answer, do.Answer) and isinstance(answer.reply, op.Problem)
    assert desk.core.registry.nodes["web7"].connected


# ---- adoption ------------------------------------------------------------------------------


def test_a_node_that_is_not_ours_is_not_called_without_a_code(desk: Desk) -> None:
    (answer,) = desk.ask(op.Register(3, "web7", 1234, "web7"))
    assert isinstance(answer, do.Answer) and isinstance(answer.reply, op.Problem)
    assert answer.reply.code == "code-needed"


def test_an_adopted_node_is_called_when_it_has_its_certificate(desk: Desk) -> None:
    code = f"gwo1.{'1e' * 32}.{'c0' * 16}"
    assert desk.ask(op.Register(3, "web7", 1234, "web7", code)) == [
        do.Adopt("web7", "web7", 1234, code)
    ]
    desk.handle(on.Certified(9, "web7", "leaf1"))
    assert desk.handle(on.Adopted("web7")) == [do.Dial("web7", "control", "web7", 1234)]


def test_a_failed_adoption_is_answered_and_leaves_nothing(desk: Desk) -> None:
    code = f"gwo1.{'1e' * 32}.{'c0' * 16}"
    desk.ask(op.Register(3, "web7", 1234, "web7", code))
    done = desk.handle(on.DialFailed("web7", "control", "that is not this node's code"))
    (answer,) = of(done, do.Answer)
    assert isinstance(answer.reply, op.Problem) and "code" in answer.reply.message
    assert "web7" not in desk.core.registry.nodes
    assert code not in repr(done)


# ---- transfers -----------------------------------------------------------------------------


def copying(desk: Desk, source: str, target: str) -> list[do.Action]:
    return desk.ask(op.Copy(4, op.Place(b"a", source), op.Place(b"b", target)))


def test_a_ticket_serves_only_who_shows_the_certificate_of_that_side(desk: Desk) -> None:
    desk.node("web7", "leaf7")
    desk.node("web8", "leaf8", "n8")
    (answer,) = of(copying(desk, "web7", ""), do.Answer)
    assert isinstance(answer.reply, op.Ticket)
    ticket = answer.reply.ticket
    for leaf in ("leaf8", "", "unknown"):
        assert desk.handle(on.BulkOpened(1, Show(ticket, "send"), leaf)) == [do.DropBulk(1)]
    for leaf in ("leaf7", "leaf8"):
        assert desk.handle(on.BulkOpened(1, Show(ticket, "receive"), leaf)) == [do.DropBulk(1)]
    assert desk.handle(on.BulkOpened(1, Show(ticket, "send"), "leaf7")) == []
    assert desk.handle(on.BulkOpened(2, Show(ticket, "send"), "leaf7")) == [do.DropBulk(2)]
    assert desk.handle(on.BulkOpened(3, Show(ticket, "receive"), "")) == [do.Splice(1, 3)]
    assert desk.handle(on.BulkOpened(4, Show("0" * 64, "receive"), "")) == [do.DropBulk(4)]


def test_nodes_are_told_whose_certificate_they_are_to_see(desk: Desk) -> None:
    link7 = desk.node("web7", "leaf7")
    link8 = desk.node("web8", "leaf8", "n8")
    desk.handle(on.Certified(9, "web7", "leaf7b"))
    (receive,) = of(copying(desk, "web7", "web8"), do.Send)
    assert receive.link == link8 and isinstance(receive.message, wire.Transfer)
    assert receive.message.leaves == ("leaf7", "leaf7b")
    listening = wire.Listening(receive.message.order, 4711)
    (send,) = of(desk.handle(on.Received(link8, listening)), do.Send)
    assert send.link == link7 and isinstance(send.message, wire.Transfer)
    assert send.message.leaves == ("leaf8",)
    done = desk.handle(on.BulkOpened(1, Show(receive.message.ticket, "send"), "leaf7"))
    assert done == [do.DropBulk(1)], "what goes directly has no business here"
