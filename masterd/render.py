"""Text for people: aligned tables, short numbers, colours, and nothing that moves the cursor.

Names, commands and output come from nodes, so they are data: every control character is escaped
before it reaches a terminal.
"""

import unicodedata
from collections.abc import Mapping, Sequence

from godwit.log import printable

__all__ = [
    "age", "cells", "colour_wanted", "cut", "human_bytes", "milliseconds", "paint", "printable",
    "screen_text", "table",
]

#: Spaces between two columns.
GAP = 2
#: A column other than the last is cut to this many cells, unless nothing is to be cut.
COLUMN_LIMIT = 40
#: The last column is left at least this many cells, even when the line then wraps.
LAST_LEAST = 12

COLOURS = {
    "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36",
    "dim": "2", "bold": "1",
}
NOTHING: Mapping[str, str] = {}
#: For the prefixes of nodes and tasks, in turn.
WHEEL = ("cyan", "yellow", "green", "magenta", "blue")


def colour_wanted(environ: Mapping[str, str]) -> bool:
    """No NO_COLOR (https://no-color.org) and no terminal that has none."""
    return not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


def paint(text: str, colour: str, on: bool) -> str:
    """``text`` in a colour of COLOURS when ``on``."""
    return f"\033[{COLOURS[colour]}m{text}\033[0m" if on and colour else text


def screen_text(text: str) -> str:
    """A line of a task's output as a terminal may see it: tabs stay, other controls are escaped."""
    return "\t".join(printable(part) for part in text.split("\t"))


def cells(text: str) -> int:
    """How many columns of a terminal ``text`` takes (Unicode UAX #11)."""
    if text.isascii():
        return len(text)
    return sum(_cell(char) for char in text)


def _cell(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` columns, with … where something was left out."""
    if cells(text) <= limit:
        return text
    room = limit - 1
    kept = ""
    for char in text:
        room -= _cell(char)
        if room < 0:
            break
        kept += char
    return kept + "…"


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    right: Sequence[str] = (),
    show_headers: bool = True,
    painted: Mapping[str, str] = NOTHING,
) -> list[str]:
    """Lines of a borderless table; every cell is escaped.

    ``width`` is the screen's, None cuts nothing; ``right`` names the columns set to the right;
    ``painted`` is the text of a cell -> its colour.
    """
    lines = [[printable(cell) for cell in row] for row in rows]
    if show_headers:
        lines.insert(0, list(headers))
    if not lines:
        return []
    if width is not None:
        lines = _fitted(lines, width)
    widths = _widths(lines)
    aligned_right = [header in right for header in headers]
    return [_line(line, widths, aligned_right, painted) for line in lines]


def _widths(lines: list[list[str]]) -> list[int]:
    return [max(map(cells, column)) for column in zip(*lines, strict=True)]


def _fitted(lines: list[list[str]], width: int) -> list[list[str]]:
    """The same lines with cells cut so that they fit, as far as that leaves them readable."""
    fitted = [[*(cut(cell, COLUMN_LIMIT) for cell in line[:-1]), line[-1]] for line in lines]
    taken = sum(_widths([line[:-1] for line in fitted])) + GAP * (len(fitted[0]) - 1)
    last = max(width - taken, LAST_LEAST)
    return [[*line[:-1], cut(line[-1], last)] for line in fitted]


def _line(
    line: Sequence[str], widths: Sequence[int], right: Sequence[bool], painted: Mapping[str, str]
) -> str:
    parts = []
    for cell, width, is_right in zip(line, widths, right, strict=True):
        space = " " * (width - cells(cell))
        shown = paint(cell, painted.get(cell, ""), True)
        parts.append(space + shown if is_right else shown + space)
    return (" " * GAP).join(parts).rstrip()


def human_bytes(count: float) -> str:
    """1536 -> 1.5K; three digits at most, powers of 1024."""
    for unit in ("B", "K", "M", "G", "T"):
        if count < 999.5:
            return f"{count:.1f}{unit}" if unit != "B" and count < 9.95 else f"{count:.0f}{unit}"
        count /= 1024
    return f"{count:.0f}P"


def age(seconds: float) -> str:
    """The two largest units: 5s, 3m12s, 2h5m, 4d1h."""
    whole = max(0, int(seconds))
    for size, unit, smaller, rest in (
        (86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"),
    ):
        if whole >= size:
            left = whole % size // smaller
            return f"{whole // size}{unit}{left}{rest}" if left else f"{whole // size}{unit}"
    return f"{whole}s"


def milliseconds(count: float) -> str:
    """0.4 ms, 41 ms, 1.2 s, 3m12s: three digits at most."""
    if count < 9.95:
        return f"{count:.1f}".removesuffix(".0") + " ms"
    if count < 999.5:
        return f"{count:.0f} ms"
    return f"{count / 1000:.1f} s" if count < 60_000 else age(count / 1000)
