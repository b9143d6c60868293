"""When a signal is an exception."""

import signal

import pytest

from masterd.commands.context import Leave
from masterd.shell.attention import Attention


def test_a_signal_outside_of_work_is_no_exception() -> None:
    Attention().hear(signal.SIGINT, None)


def test_ctrl_c_breaks_off_the_work_at_hand_once() -> None:
    attention = Attention()
    further: list[str] = []

    def work() -> None:
        try:
            attention.hear(signal.SIGINT, None)
        finally:
            attention.hear(signal.SIGINT, None)
            further.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        attention.during(work)
    assert further == ["cleaned up"]
    assert attention.during(lambda: 7) == 7


def test_an_order_to_leave_stands_until_it_can_be_taken() -> None:
    attention = Attention()
    attention.hear(signal.SIGTERM, None)
    for _ in range(2):
        with pytest.raises(Leave) as left:
            attention.during(lambda: 7)
        assert left.value.status == 143


def test_an_order_to_leave_breaks_off_work() -> None:
    attention = Attention()
    with pytest.raises(Leave) as left:
        attention.during(lambda: attention.hear(signal.SIGHUP, None))
    assert left.value.status == 129
