"""Several requests at once on one connection, against a master that does as it is told."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from masterd.client import Client, Interrupted, MasterGone
from masterd.commands import interrupts
from masterd.together import Together
from tests.scripted import GONE, Scripted


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        yield master


@pytest.fixture
def client(master: Scripted) -> Iterator[Client]:
    client = Client.connect(master.state)
    yield client
    client.close()


REQUESTS = [op.Deregister(0, "a"), op.Deregister(0, "b")]


def test_each_answer_comes_with_the_place_of_its_request(
    master: Scripted, client: Client
) -> None:
    waiting: list[int] = []

    def answer(asked: op.Deregister) -> list[op.Reply]:
        waiting.append(asked.id)
        if len(waiting) < 2:
            return [op.Progress(asked.id, "soon")]
        return [op.Problem(waiting[1], "no", "not b"), op.Ok(waiting[0])]

    master.answers[op.Deregister] = answer
    with interrupts.caught() as wake, Together(client, REQUESTS, wake) as answers:
        got = list(answers)
    assert [(place, type(reply)) for place, reply in got if place == 0] == [
        (0, op.Progress), (0, op.Ok),
    ]
    assert [(place, type(reply)) for place, reply in got if place == 1] == [(1, op.Problem)]
    master.says(op.ListNodes, op.Nodes(0, ()))
    assert client.ask(op.ListNodes(0), op.Nodes).nodes == ()
    assert master.got(op.Cancel) == []


def test_who_leaves_early_cancels_what_is_not_answered(master: Scripted, client: Client) -> None:
    def answer(asked: op.Deregister) -> list[op.Reply]:
        return [op.Ok(asked.id)] if asked.nodes == "a" else []

    master.answers[op.Deregister] = answer
    with interrupts.caught() as wake, Together(client, REQUESTS, wake) as answers:
        assert next(iter(answers)) == (0, op.Ok(2))
    master.says(op.ListNodes, op.Nodes(0, ()))
    client.ask(op.ListNodes(0), op.Nodes)
    assert master.got(op.Cancel) == [op.Cancel(3)]


def test_a_signal_comes_after_the_answers_before_it(master: Scripted, client: Client) -> None:
    def answer(asked: op.Deregister) -> list[op.Reply]:
        if asked.nodes == "b":
            os.kill(os.getpid(), signal.SIGINT)
            return []
        return [op.Ok(asked.id)]

    master.answers[op.Deregister] = answer
    with (
        interrupts.caught(signal.SIGINT) as wake,
        Together(client, REQUESTS, wake) as answers,
    ):
        each = iter(answers)
        assert [next(each), next(each)] == [(0, op.Ok(2)), (-1, Interrupted(signal.SIGINT))]


def test_a_master_that_goes_away_is_an_error_for_all(master: Scripted, client: Client) -> None:
    master.says(op.Deregister, GONE)
    with (
        pytest.raises(MasterGone, match="the outcome is unknown"),
        interrupts.caught() as wake, Together(client, REQUESTS, wake) as answers,
    ):
        list(answers)
    assert client.closed
