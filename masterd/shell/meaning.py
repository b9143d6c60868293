"""What a line means: nothing, a command, a line for the nodes, or a mistake.  Pure."""

import shlex
from dataclasses import dataclass

from masterd import commands
from masterd.shell.words import split


@dataclass(frozen=True, slots=True)
class Nothing:
    """An empty line or a comment."""


@dataclass(frozen=True, slots=True)
class Words:
    """One of our commands and its arguments."""

    words: list[str]


@dataclass(frozen=True, slots=True)
class Remote:
    """For /bin/sh -c on the chosen nodes; ``first`` is its first word."""

    line: str
    first: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """Nothing is run."""

    text: str


Meaning = Nothing | Words | Remote | Mistake


def meaning(line: str) -> Meaning:
    """Only the first word decides, as it stands: quoted (``'list'``) it is for the nodes."""
    line = line.strip()
    if not line or line.startswith("#"):
        return Nothing()
    first = line.split(maxsplit=1)[0]
    if commands.find(first) is None:
        return Remote(line, first)
    try:
        return Words(shlex.split(line))
    except ValueError as err:
        return Mistake(f"{first}: {_unbalanced(line, str(err))}; nothing was run")


def _unbalanced(line: str, reason: str) -> str:
    """Which quote was left open, from what shlex says."""
    if "escaped" in reason:
        return "a backslash at the end has nothing to escape"
    quote = split(line)[-1].quote
    return f"no closing {quote}" if quote else reason.lower()
