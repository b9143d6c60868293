"""A command line's words, finished or still being typed, and how to quote one.

They are the words of shlex.split (POSIX rules), which cannot tell where an unfinished one starts,
and whose time grows with the square of a word's length: a megabyte takes it ten seconds.
"""

import re

from msgspec import Struct

#: Between words; other characters that Unicode calls spaces are part of one.
SPACE = " \t\r\n"
QUOTES = ("'", '"')
#: What needs a backslash before it outside of quotes: for shlex, and for sh where a person
#: uses the same line there.
_SPECIAL = re.compile(r"""[\s'"\\|&;<>()$`*?\[\]#~!{}]""")


class Word(Struct, frozen=True):
    """One word: where it starts, as it was typed, and what it means."""

    start: int
    typed: str
    value: str
    #: What the end of the line left open: a quote, or a backslash.
    open: str = ""


def split(line: str) -> list[Word]:
    """The words of ``line``; the last one is what the cursor is in: empty after a space."""
    words = []
    start = 0
    while True:
        while start < len(line) and line[start] in SPACE:
            start += 1
        words.append(_word(line, start))
        start += len(words[-1].typed)
        if start == len(line):
            return words


def _word(line: str, start: int) -> Word:
    """The word that starts at ``start``, up to the next space outside of quotes."""
    value, quote, escaped = "", "", False
    for position in range(start, len(line)):
        char = line[position]
        if escaped:
            # Between double quotes a backslash is for a quote or a backslash only.
            value += char if quote != '"' or char in '"\\' else "\\" + char
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char == quote:
            quote = ""
        elif char in QUOTES and not quote:
            quote = char
        elif char in SPACE and not quote:
            return Word(start, line[start:position], value)
        else:
            value += char
    return Word(start, line[start:], value, "\\" if escaped else quote)


def quoted(value: str, after: str = "", *, finished: bool = True) -> str:
    """``value`` as it is typed after an opening quote, if any; a space follows what is finished."""
    if after not in QUOTES:
        return _SPECIAL.sub(r"\\\g<0>", value) + " " * finished
    inner = value.replace("'", "'\\''") if after == "'" else re.sub(r'["\\]', r"\\\g<0>", value)
    return after + inner + (after + " ") * finished
