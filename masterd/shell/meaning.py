"""What a line means: nothing, a command, a line for the nodes, or a mistake.  Pure."""

import re

from msgspec import Struct

from masterd import commands
from masterd.shell import older
from masterd.shell.words import SPACE, split

#: What ends the first word: no other space, for another is a character like any.
_FIRST = re.compile(f"[{SPACE}]")


class Nothing(Struct, frozen=True):
    """An empty line or a comment."""


class Words(Struct, frozen=True):
    """One of our commands and its arguments."""

    words: list[str]


class Remote(Struct, frozen=True):
    """For /bin/sh -c on the chosen nodes; ``first`` is its first word."""

    line: str
    first: str


class Mistake(Struct, frozen=True):
    """Nothing is run."""

    text: str


Meaning = Nothing | Words | Remote | Mistake


def meaning(line: str) -> Meaning:
    """Only the first word decides, as it stands: quoted (``'list'``) it is for the nodes."""
    line = line.strip(SPACE)
    if not line or line.startswith("#"):
        return Nothing()
    first = _FIRST.split(line, 1)[0]
    if commands.find(first) is None:
        return _older(line) or Remote(line, first)
    words = split(line)
    if words[-1].open:
        return Mistake(f"{first}: {UNBALANCED[words[-1].open]}; nothing was run")
    return Words([word.value for word in words])


def _older(line: str) -> Meaning | None:
    """What a line that begins with no command means, if it has an older form of one."""
    if not any(sign in line for sign in older.SIGNS):
        return None
    typed = split(line)
    words = older.today([word.value for word in typed])
    if words is None or typed[0].typed != typed[0].value:
        return None
    return Words(words) if words else Mistake(f"{older.FORM}; nothing was run")


UNBALANCED = {
    "'": "no closing '",
    '"': 'no closing "',
    "\\": "a backslash at the end has nothing to escape",
}
