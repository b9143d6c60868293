"""The thread that listens, against a socket that speaks the master's protocol."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from godwit.wire import operations as op
from masterd.client import Client
from masterd.shell.board import BELL, Board
from masterd.shell.watch import BACK, GONE, Watch
from tests.real.fake_master import FakeMaster, node

DEADLINE_S = 10.0


@contextmanager
def watching(state: Path) -> Iterator[tuple[Watch, Board]]:
    board = Board()
    watch = Watch(lambda: Client.connect(str(state), notices=True), board)
    with watch.running():
        yield watch, board


class Prompt:
    """Sits in the main thread and takes what the bell announces."""

    def __init__(self, board: Board):
        self.board = board
        self.taken: list[op.Event] = []
        self.bells = 0

    def hear(self, number: int = 0, _frame: object = None) -> None:
        self.bells += number == BELL
        self.taken += self.board.take(time.monotonic())

    def wait(self, count: int) -> list[str]:
        deadline = time.monotonic() + DEADLINE_S
        while len(self.taken) < count and time.monotonic() < deadline:
            signal.sigtimedwait([], 0.01)
        return [event.text for event in self.taken]


@contextmanager
def prompt(board: Board) -> Iterator[Prompt]:
    sits = Prompt(board)
    before = signal.signal(BELL, sits.hear)
    board.open(threading.get_ident())
    sits.hear()  # what came before rings no bell
    try:
        yield sits
    finally:
        board.shut()
        signal.signal(BELL, before)


def listened_to(master: FakeMaster) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while master.listeners == 0 and time.monotonic() < deadline:
        signal.sigtimedwait([], 0.01)
    return master.listeners > 0


def test_a_notice_wakes_the_one_at_the_prompt(tmp_path: Path) -> None:
    with FakeMaster(tmp_path) as master, watching(tmp_path) as (_, board), prompt(board) as sits:
        assert listened_to(master)
        master.notice("node1 went", "node1 is back")
        assert sits.wait(2) == ["node1 went", "node1 is back"]


def test_a_notice_that_comes_with_the_answer_to_the_call_is_heard(tmp_path: Path) -> None:
    master = FakeMaster(tmp_path)
    master.early = ("node1 went",)
    with master, watching(tmp_path) as (_, board), prompt(board) as sits:
        assert sits.wait(1) == ["node1 went"]


def test_a_notice_while_a_command_runs_is_there_at_the_next_prompt(tmp_path: Path) -> None:
    with FakeMaster(tmp_path) as master, watching(tmp_path) as (watch, board):
        assert listened_to(master)
        master.notice("node1 went")
        # The listing comes after the notice on the same connection.
        assert watch.nodes(DEADLINE_S)
        assert [event.text for event in board.take(0.0)] == ["node1 went"]


def test_a_master_that_goes_and_comes_back_is_said_once_each(tmp_path: Path) -> None:
    with FakeMaster(tmp_path) as master, watching(tmp_path) as (_, board), prompt(board) as sits:
        assert listened_to(master)
        master.stop()
        assert sits.wait(1) == [GONE]
        master.start()
        assert sits.wait(2) == [GONE, BACK]
        assert listened_to(master)
        master.notice("node1 is back")
        assert sits.wait(3)[2:] == ["node1 is back"]


def test_a_listing_is_asked_for_at_most_once_a_second(tmp_path: Path) -> None:
    with FakeMaster(tmp_path) as master, watching(tmp_path) as (watch, _):
        began = time.monotonic()
        for _ in range(20):
            assert [n.name for n in watch.nodes(DEADLINE_S)] == ["node1", "node2"]
        seconds = int(time.monotonic() - began)
        assert sum(isinstance(asked, op.ListNodes) for asked in master.asked) <= 2 + seconds


def test_a_master_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    with FakeMaster(tmp_path) as master, watching(tmp_path) as (watch, _):
        assert listened_to(master)
        master.answering.clear()
        master.nodes = (node("node3"),)
        assert watch.nodes(0.05) == () and not master.answering.is_set()
        master.answering.set()
        assert watch.nodes(DEADLINE_S)[0].name == "node3"


def test_a_watch_without_a_master_ends_at_once(tmp_path: Path) -> None:
    with watching(tmp_path) as (watch, board), prompt(board) as sits:
        assert sits.wait(1) == [GONE]
        assert watch.nodes(0.01) == ()


@pytest.mark.parametrize("attempt", range(5))
def test_nothing_is_left_of_a_watch_that_ended(attempt: int, tmp_path: Path) -> None:
    # Of pytest-xdist's own, one that has logged something is among them.
    before = threading.enumerate()
    with FakeMaster(tmp_path), watching(tmp_path):
        pass
    assert set(threading.enumerate()) <= set(before)


def test_a_signal_that_woke_nobody_at_the_prompt_is_rung_for(tmp_path: Path) -> None:
    """Python runs the signal's own handler when the bell wakes the main thread."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    with watching(tmp_path) as (_, board), prompt(board) as sits:
        assert sits.wait(1) == [GONE]
        sits.bells = 0
        os.kill(os.getpid(), signal.SIGUSR1)
        deadline = time.monotonic() + DEADLINE_S
        while not sits.bells and time.monotonic() < deadline:
            signal.sigtimedwait([], 0.01)
        assert sits.bells and board.due() is None
    signal.signal(signal.SIGUSR1, before)


def test_a_watch_that_ended_hears_of_no_signal(tmp_path: Path) -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with watching(tmp_path):
        assert signal.set_wakeup_fd(before) != before
    assert signal.set_wakeup_fd(before) == before
