"""Older forms of commands, as they are typed at the prompt.  Pure.

They begin with what they are about, not with a command's name:

    TASK -fromLocation FROM -toLocation TO       transfer TASK FROM TO
    TASK -toLocation TO                          move TASK TO
    PROGRAM ARGS -location NODE                  run NODE PROGRAM ARGS
"""

import re
from collections.abc import Sequence

from godwit.programs import PROGRAMS

FROM, TO = "-fromLocation", "-toLocation"
LOCATION = "-location"
#: A line without any of these is of no older form.
SIGNS = (FROM, TO, LOCATION)
#: What is right, for who nearly wrote it.
FORM = f"write TASK {FROM} FROM {TO} TO, or transfer TASK FROM TO"
#: What `run` takes beside names.
_PROGRAM = re.compile(r"[\w./-]+(:[A-Za-z_]\w*|\.py)")


def today(words: Sequence[str]) -> list[str] | None:
    """The command that ``words`` mean; None when they are of no older form.

    Empty when they begin like one and are none.  Only a second word of the form counts, or the
    last but one after a program: where one of its options comes elsewhere, the line is some other
    program's.
    """
    if _is_run(words):
        return ["run", "--", words[-1], *words[:-2]]
    if len(words) < 2 or words[1] not in (FROM, TO):
        return None
    task, *rest = words
    given = dict(zip(rest[::2], rest[1::2], strict=False))
    if len(rest) != 2 * len(given) or not {TO} <= given.keys() <= {FROM, TO}:
        return []
    if FROM in given:
        return ["transfer", "--", task, given[FROM], given[TO]]
    return ["move", "--", task, given[TO]]


def _is_run(words: Sequence[str]) -> bool:
    if len(words) < 3 or words[-2] != LOCATION:
        return False
    return words[0] in PROGRAMS or _PROGRAM.fullmatch(words[0]) is not None
