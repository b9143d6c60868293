"""Older forms of commands, as they are typed at the prompt.  Pure.

They begin with what they are about, not with a command's name:

    TASK -fromLocation FROM -toLocation TO       transfer TASK FROM TO
    TASK -toLocation TO                          move TASK TO
"""

from collections.abc import Sequence

FROM, TO = "-fromLocation", "-toLocation"
#: What is right, for who nearly wrote it.
FORM = f"write TASK {FROM} FROM {TO} TO, or transfer TASK FROM TO"


def today(words: Sequence[str]) -> list[str] | None:
    """The command that ``words`` mean; None when they are of no older form.

    Empty when they begin like one and are none.  Only a second word of the form counts: where one
    of its options comes later, the line is some other program's.
    """
    if len(words) < 2 or words[1] not in (FROM, TO):
        return None
    task, *rest = words
    given = dict(zip(rest[::2], rest[1::2], strict=False))
    if len(rest) != 2 * len(given) or not {TO} <= given.keys() <= {FROM, TO}:
        return []
    if FROM in given:
        return ["transfer", "--", task, given[FROM], given[TO]]
    return ["move", "--", task, given[TO]]
