"""What happened elsewhere, as few lines: pure.

One event is one line as the master words it.  Many are counted: a thousand tasks that end while
a person types are one line, not a thousand.
"""

import re
from collections import Counter
from collections.abc import Sequence

from godwit.log import printable
from godwit.wire.operations import Event

#: Marks a line that nobody asked for.
MARK = "-- "
#: As many ends of tasks are shown one by one; more are counted.
TASKS_SHOWN = 3
#: As many other events are shown; of more, the number.
OTHERS_SHOWN = 8
#: Kinds of outcome named in a count; what is left is "other".
OUTCOMES_SHOWN = 4
#: How the master words the end of a task (masterd.nodes.describe_end), and how a count does.
_ENDED = re.compile(r" on \S+ (?:exited (\d+)|was ended by (\S+)|is (failed|unknown))\b")


def lines(events: Sequence[Event]) -> list[str]:
    """What to print, nothing of it able to move a cursor."""
    ends = [event for event in events if _outcome(event)]
    others = [event for event in events if not _outcome(event)]
    said = _told(others, OTHERS_SHOWN)
    said += [_count(ends)] if len(ends) > TASKS_SHOWN else _told(ends, TASKS_SHOWN)
    return [MARK + printable(line) for line in said]


def _told(events: Sequence[Event], most: int) -> list[str]:
    """Each different text once, in the order of its last event."""
    times = Counter(event.text for event in events)
    texts = list(dict.fromkeys(event.text for event in reversed(events)))[::-1]
    told = [text if times[text] == 1 else f"{text} ({times[text]:,} times)" for text in texts]
    if len(told) > most:
        told = [f"{len(told) - most:,} more before these: see `events`", *told[-most:]]
    return told


def _outcome(event: Event) -> str:
    """exit 1, SIGKILL, failed or unknown; empty for an event that is no end of a task."""
    found = _ENDED.search(event.text) if event.task else None
    if not found:
        return ""
    code, signal, word = found.groups()
    return f"exit {code}" if code else signal or word


def _count(ends: Sequence[Event]) -> str:
    """1,000 tasks ended: 998 exit 0, 2 exit 1."""
    outcomes = Counter(map(_outcome, ends)).most_common()
    named = [f"{count:,} {outcome}" for outcome, count in outcomes[:OUTCOMES_SHOWN]]
    rest = sum(count for _, count in outcomes[OUTCOMES_SHOWN:])
    if rest:
        named.append(f"{rest:,} other")
    return f"{len(ends):,} tasks ended: {', '.join(named)}"
