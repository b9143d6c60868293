"""The operator's end of the socket, against a master that does as it is told."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.errors import PeerError, UsageError
from godwit.wire import operations as op
from godwit.wire.preface import Show
from masterd.client import Client, Interrupted, MasterGone, TimedOut
from masterd.commands import interrupts
from tests.scripted import GONE, Scripted, node


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        yield master


@pytest.fixture
def client(master: Scripted) -> Iterator[Client]:
    client = Client.connect(master.state)
    yield client
    client.close()


def test_a_connection_begins_by_attaching(master: Scripted, client: Client) -> None:
    assert master.asked == [op.Attach(1, version=op.VERSION)]
    assert client.attached is not None and client.attached.version == "1.2.3"


def test_an_answer_is_told_by_its_kind(master: Scripted, client: Client) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("node1"),)))
    assert client.ask(op.ListNodes(0), op.Nodes).nodes[0].name == "node1"
    with pytest.raises(PeerError, match="ListNodes with something else"):
        client.ask(op.ListNodes(0), op.Tasks)


def test_a_problem_is_raised_with_all_that_it_says(master: Scripted, client: Client) -> None:
    master.says(op.ListNodes, op.Problem(0, "no-such-node", "no node 'x'", "try y", 2))
    with pytest.raises(UsageError) as caught:
        client.ask(op.ListNodes(0, "x"), op.Nodes)
    error = caught.value
    told = (error.code, error.message, error.hint, error.exit_status)
    assert told == ("no-such-node", "no node 'x'", "try y", 2)


def test_answers_on_the_way_come_before_the_last(master: Scripted, client: Client) -> None:
    master.says(op.Deregister, op.Progress(0, "node1 ends"), op.Ok(0))
    with client.stream(op.Deregister(0, "all")) as answers:
        assert [type(reply) for reply in answers] == [op.Progress, op.Ok]


def test_answers_to_others_are_not_mixed_up(master: Scripted, client: Client) -> None:
    master.says(op.ListTasks, op.Tasks(0, ()))
    master.answers[op.ListNodes] = lambda asked: [op.Tasks(999, ()), op.Nodes(asked.id, ())]
    with client.stream(op.ListNodes(0)) as answers:
        client.ask(op.ListTasks(0, ()), op.Tasks)
        assert [type(reply) for reply in answers] == [op.Nodes]


def test_who_stops_listening_cancels(master: Scripted, client: Client) -> None:
    master.says(op.Deregister, op.Progress(0, "one"), op.Progress(0, "two"))
    with client.stream(op.Deregister(0, "all")) as answers:
        next(iter(answers))
    master.says(op.ListNodes, op.Nodes(0, ()))
    client.ask(op.ListNodes(0), op.Nodes)
    assert master.got(op.Cancel) == [op.Cancel(answers.id)]


def test_who_heard_the_last_answer_cancels_nothing(master: Scripted, client: Client) -> None:
    master.says(op.ListNodes, op.Nodes(0, ()))
    client.ask(op.ListNodes(0), op.Nodes)
    client.ask(op.ListNodes(0), op.Nodes)
    assert master.got(op.Cancel) == []


def test_a_posted_request_is_answered_meanwhile(master: Scripted, client: Client) -> None:
    master.says(op.PauseTasks, op.Ok(0, "posted"))
    master.says(op.ListNodes, op.Nodes(0, ()))
    got: list[op.Reply] = []
    client.post(op.PauseTasks(0, ()), got.append)
    client.ask(op.ListNodes(0), op.Nodes)
    assert [reply.text for reply in got if isinstance(reply, op.Ok)] == ["posted"]


def test_notices_are_kept_until_somebody_looks(master: Scripted, client: Client) -> None:
    event = op.Event(1.0, "info", "node2 is up")
    master.answers[op.ListNodes] = lambda asked: [op.Notice(1, event), op.Nodes(asked.id, ())]
    client.ask(op.ListNodes(0), op.Nodes)
    assert client.pump() == [event]
    assert client.pump() == []


@pytest.mark.parametrize(("request_", "status"), [
    (op.ListNodes(0), 1), (op.FollowLogs(0, ("x",)), 1),
    (op.Execute(0, "all", (b"x",)), 125), (op.AwaitTasks(0, ("x",)), 125),
])
def test_a_master_that_goes_away_leaves_in_doubt_only_what_changes_things(
    master: Scripted, client: Client, request_: op.Request, status: int
) -> None:
    master.says(type(request_), GONE)
    with pytest.raises(MasterGone) as caught:
        client.ask(request_, op.Tasks)
    assert caught.value.exit_status == status
    assert client.closed


def test_bytes_that_are_no_reply_close_the_connection(master: Scripted, client: Client) -> None:
    master.answers[op.ListNodes] = lambda asked: [_Odd(asked.id)]
    with pytest.raises(PeerError, match="not a reply"):
        client.ask(op.ListNodes(0), op.Nodes)
    assert client.closed


class _Odd(op.Reply, frozen=True, tag="Odd"):
    pass


def test_a_lost_connection_is_noticed_without_reading(master: Scripted, client: Client) -> None:
    assert not client.lost()
    master.says(op.Cancel, GONE)
    client.tell(op.Cancel(1))
    while not client.lost():
        time.sleep(0.001)
    assert client.closed


def test_a_signal_is_an_event_among_the_answers(master: Scripted, client: Client) -> None:
    master.answers[op.AwaitTasks] = lambda asked: []
    with (
        interrupts.caught(signal.SIGUSR1) as wake,
        client.stream(op.AwaitTasks(0, ("x",)), wake) as answers,
    ):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert next(iter(answers)) == Interrupted(signal.SIGUSR1)


def test_past_its_deadline_a_wait_is_over(master: Scripted, client: Client) -> None:
    master.answers[op.AwaitTasks] = lambda asked: []
    with (
        client.stream(op.AwaitTasks(0, ("x",)), deadline=time.monotonic()) as answers,
        pytest.raises(TimedOut) as caught,
    ):
        next(iter(answers))
    assert caught.value.exit_status == 124


def test_text_that_is_no_utf8_is_refused_before_it_is_sent(
    master: Scripted, client: Client
) -> None:
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        client.ask(op.ListNodes(0, os.fsdecode(b"node\xff")), op.Nodes)
    assert caught.value.exit_status == 2
    master.says(op.ListNodes, op.Nodes(0, ()))
    client.ask(op.ListNodes(0), op.Nodes)


def test_a_state_folder_with_a_long_name_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    with Scripted(deep) as master:
        Client.connect(master.state).close()


def test_a_master_that_is_not_there_is_named_with_a_way_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Client.connect(str(tmp_path))
    assert caught.value.message == f"no master runs in {tmp_path}"
    assert caught.value.hint == f"start one: bin/masterd --state {tmp_path}"
    assert caught.value.exit_status == 1


def test_a_bulk_connection_shows_its_ticket_first(master: Scripted, client: Client) -> None:
    shown: list[Show] = []
    seen = threading.Event()

    def take(_link: object, show: Show) -> None:
        shown.append(show)
        seen.set()

    master.bulk = take
    with client.open_bulk("ticket", "send"):
        assert seen.wait(5)
    assert shown == [Show("ticket", "send")]
