"""When the bell rings, on a clock of the test's own."""

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from godwit.wire.operations import Event
from masterd.shell.board import AGAIN, BELL, KEPT, PACE, SETTLE, Board

EVENT = Event(0.0, "info", "node1 is back")
HERE = threading.get_ident()


@pytest.fixture
def rings() -> Iterator[list[int]]:
    heard: list[int] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(BELL, hear)
    yield heard
    signal.signal(BELL, before)


def test_an_event_rings_once_it_had_time_for_company(rings: list[int]) -> None:
    board = Board()
    board.open(HERE)
    assert board.due() is None
    board.put([EVENT], now=10.0)
    assert board.due() == 10.0 + SETTLE
    board.ring(10.0)
    assert not rings
    board.ring(10.0 + SETTLE)
    assert len(rings) == 1


def test_a_bell_that_nobody_heard_rings_again(rings: list[int]) -> None:
    board = Board()
    board.open(HERE)
    board.put([EVENT], now=10.0)
    board.ring(11.0)
    assert board.due() == 11.0 + AGAIN
    board.ring(11.0 + AGAIN)
    assert len(rings) == 2


def test_the_person_is_not_interrupted_twice_in_a_row() -> None:
    board = Board()
    board.open(HERE)
    board.put([EVENT], now=10.0)
    assert board.take(now=10.1) == [EVENT]
    board.put([EVENT], now=10.2)
    assert board.due() == 10.1 + PACE


def test_company_does_not_put_the_bell_off() -> None:
    board = Board()
    board.open(HERE)
    board.put([EVENT], now=10.0)
    board.put([EVENT], now=10.04)
    assert board.due() == 10.0 + SETTLE


def test_no_bell_rings_while_the_prompt_is_closed(rings: list[int]) -> None:
    board = Board()
    board.open(HERE)
    board.put([EVENT], now=10.0)
    board.shut()
    assert board.due() is None
    board.ring(11.0)
    assert not rings
    assert board.take(now=11.0) == [EVENT]


def test_what_waits_when_the_prompt_opens_is_due() -> None:
    board = Board()
    board.put([EVENT], now=10.0)
    board.open(HERE)
    assert board.due() == 10.0 + SETTLE


def test_only_the_newest_are_kept_while_nobody_looks() -> None:
    board = Board()
    board.put([Event(float(n), "info", "") for n in range(KEPT + 5)], now=0.0)
    kept = board.take(now=1.0)
    assert (len(kept), kept[0].at) == (KEPT, 5.0)


def test_a_signal_rings_until_the_main_thread_shows_that_it_is_awake(rings: list[int]) -> None:
    board = Board()
    board.open(HERE)
    board.signalled(now=10.0)
    assert board.due() == 10.0 + SETTLE
    board.ring(10.0 + SETTLE)
    board.ring(10.0 + SETTLE + AGAIN)
    assert len(rings) == 2
    board.take(now=11.0)
    assert board.due() is None


def test_a_signal_that_closed_the_prompt_rings_no_bell(rings: list[int]) -> None:
    board = Board()
    board.open(HERE)
    board.signalled(now=10.0)
    board.shut()
    board.open(HERE)
    assert board.due() is None
    board.ring(11.0)
    assert not rings


def test_a_signal_rings_also_while_a_notice_keeps_its_pace(rings: list[int]) -> None:
    board = Board()
    board.open(HERE)
    board.put([EVENT], now=10.0)
    board.take(now=10.1)
    board.put([EVENT], now=10.2)
    board.signalled(now=10.3)
    assert board.due() == 10.3 + SETTLE
    board.ring(10.3 + SETTLE)
    assert len(rings) == 1 and board.due() == 10.3 + SETTLE + AGAIN


def test_a_signal_while_the_prompt_is_closed_rings_no_bell() -> None:
    board = Board()
    board.signalled(now=10.0)
    board.open(HERE)
    assert board.due() is None
