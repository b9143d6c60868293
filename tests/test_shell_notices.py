"""Many events as few lines."""

import pytest

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire.operations import Event
from masterd.nodes import describe_end
from masterd.shell import notices


def ended(number: int, code: int | None = 0, signal: int | None = None) -> Event:
    """As the master words it."""
    status = Status.FAILED if code is signal is None else Status.EXITED
    spec = Spec(f"task{number:04}", (b"true",), name="night on node2")
    task = Task(spec, status, exit_code=code, signal=signal, reason="no such program")
    return Event(0.0, "info", describe_end("node1", task), "node1", spec.task)


def said(text: str) -> Event:
    return Event(0.0, "warning", text, "node1")


CASES: list[tuple[list[Event], list[str]]] = [
    ([], []),
    ([ended(1)], ["-- task0001 (night on node2) on node1 exited 0: true"]),
    ([ended(1), ended(2, 7), ended(3, None, 9)], [
        "-- task0001 (night on node2) on node1 exited 0: true",
        "-- task0002 (night on node2) on node1 exited 7: true",
        "-- task0003 (night on node2) on node1 was ended by SIGKILL: true",
    ]),
    ([ended(n) for n in range(998)] + [ended(998, 1), ended(999, 1)],
     ["-- 1,000 tasks ended: 998 exit 0, 2 exit 1"]),
    ([ended(1, None, 9), ended(2), ended(3, None), ended(4)],
     ["-- 4 tasks ended: 2 exit 0, 1 SIGKILL, 1 failed"]),
    ([ended(n, n % 6) for n in range(12)],
     ["-- 12 tasks ended: 2 exit 0, 2 exit 1, 2 exit 2, 2 exit 3, 4 other"]),
    ([said("node1 went"), said("node1 is back"), said("node1 went")],
     ["-- node1 is back", "-- node1 went (2 times)"]),
    ([said(f"node{n} went") for n in range(20)],
     ["-- 12 more before these: see `events`", *(f"-- node{n} went" for n in range(12, 20))]),
    ([said("node1 went"), ended(1)],
     ["-- node1 went", "-- task0001 (night on node2) on node1 exited 0: true"]),
    ([said("node\x1b[2J\n\x9b")], ["-- node\\x1b[2J\\n\\x9b"]),
    ([said("x on node1 exited 0: a name of no task")] * 5,
     ["-- x on node1 exited 0: a name of no task (5 times)"]),
]


@pytest.mark.parametrize(("events", "lines"), CASES)
def test_events_are_told_in_few_lines(events: list[Event], lines: list[str]) -> None:
    assert notices.lines(events) == lines
