"""Many events as few lines."""

import pytest

from godwit.wire.operations import Event
from masterd.shell import notices


def ended(number: int, outcome: str = "exit 0") -> Event:
    return Event(0.0, "info", f"task {number} ended: {outcome}", "node1", f"task{number}")


def said(text: str) -> Event:
    return Event(0.0, "warning", text, "node1")


CASES: list[tuple[list[Event], list[str]]] = [
    ([], []),
    ([ended(1)], ["-- task 1 ended: exit 0"]),
    ([ended(1), ended(2), ended(3)], [f"-- task {n} ended: exit 0" for n in (1, 2, 3)]),
    ([ended(n) for n in range(998)] + [ended(998, "exit 1"), ended(999, "exit 1")],
     ["-- 1,000 tasks ended: 998 exit 0, 2 exit 1"]),
    ([ended(n, f"exit {n % 6}") for n in range(12)],
     ["-- 12 tasks ended: 2 exit 0, 2 exit 1, 2 exit 2, 2 exit 3, 4 other"]),
    ([said("node1 went"), said("node1 is back"), said("node1 went")],
     ["-- node1 is back", "-- node1 went (2 times)"]),
    ([said(f"node{n} went") for n in range(20)],
     ["-- 12 more before these: see `events`", *(f"-- node{n} went" for n in range(12, 20))]),
    ([said("node1 went"), ended(1)], ["-- node1 went", "-- task 1 ended: exit 0"]),
    ([said("node\x1b[2J\n\x9b")], ["-- node\\x1b[2J\\n\\x9b"]),
    ([Event(0.0, "info", "a command that says ended: x", "node1")],
     ["-- a command that says ended: x"]),
]


@pytest.mark.parametrize(("events", "lines"), CASES)
def test_events_are_told_in_few_lines(events: list[Event], lines: list[str]) -> None:
    assert notices.lines(events) == lines
