"""A command line while it is typed: its words as shlex will have them, and how to quote one."""

import re
from dataclasses import dataclass

#: What needs a backslash before it outside of quotes: for shlex, and for sh where a person
#: uses the same line there.
_SPECIAL = re.compile(r"""[\s'"\\|&;<>()$`*?\[\]#~!{}]""")


@dataclass(frozen=True, slots=True)
class Word:
    """One word: where it starts, as it was typed, what it means, the quote it is still in."""

    start: int
    typed: str
    value: str
    quote: str = ""


def split(line: str) -> list[Word]:
    """The words of ``line``; the last one is what the cursor is in: empty after a space."""
    words = []
    start = 0
    while True:
        start += len(line[start:]) - len(line[start:].lstrip())
        word = _word(line, start)
        words.append(word)
        start += len(word.typed)
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
        elif char in "'\"" and not quote:
            quote = char
        elif char.isspace() and not quote:
            return Word(start, line[start:position], value)
        else:
            value += char
    return Word(start, line[start:], value, quote)


def quoted(value: str, quote: str, *, finished: bool = True) -> str:
    """``value`` as it is typed after the opening ``quote``, if any; a space follows it at last."""
    if not quote:
        return _SPECIAL.sub(r"\\\g<0>", value) + " " * finished
    inner = value.replace("'", "'\\''") if quote == "'" else re.sub(r'["\\]', r"\\\g<0>", value)
    return quote + inner + (quote + " ") * finished
