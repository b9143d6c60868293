"""Templates of commands: fixed words with typed holes, and which commands fit them.  Pure.

    ["/usr/bin/render", "--frame={int:frame}", "{path:scene}", "{one:draft|final}"]

A template fixes the program, the number of words and all text outside of its holes.  To allow a
program whatever its arguments would be no boundary: too many can be made to run another one.

    {int:NAME}    decimal digits, at most 18; no sign, which would look like an option
    {word:NAME}   letters, digits, _ . @ + -; the first a letter, a digit or _
    {path:NAME}   a path in a folder that is open to copies; not one of its steps is ``..``
    {one:A|B|C}   one of these

``{{`` and ``}}`` stand for braces.  A word has at most one hole.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

#: Where a path that fills a hole may lead is asked of this.
MayReach = Callable[[bytes], bool]

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[^{}]+|[{}]")
_HOLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")

#: What fills a hole, by its kind.
_FILLINGS = {
    "int": rb"[0-9]{1,18}",
    "word": rb"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,254}",
    "path": rb"[^\0]{1,4095}",
}
KINDS = "{int:NAME}, {word:NAME}, {path:NAME} or {one:A|B|C}"

#: What /bin/sh takes as it stands: no expansion, no quoting, no second command.
_PLAIN = re.compile(rb"[A-Za-z0-9_./:@+,-]+(?: +[A-Za-z0-9_./:@+,=-]+)*")


class Word(Struct, frozen=True):
    """One word of a template; what is found as ``path`` is a path."""

    pattern: re.Pattern[bytes]

    def fits(self, word: bytes, may_reach: MayReach) -> bool:
        found = self.pattern.fullmatch(word)
        if found is None:
            return False
        path = found.groupdict().get("path")
        return path is None or (_is_straight(path) and may_reach(path))


class Template(Struct, frozen=True):
    """A command that may be run; ``text`` is how it was written."""

    text: str
    program: bytes
    words: tuple[Word, ...]

    def fits(self, command: Sequence[bytes], may_reach: MayReach) -> bool:
        return len(command) == len(self.words) and all(
            word.fits(given, may_reach) for word, given in zip(self.words, command, strict=True)
        )


def compile_template(written: Sequence[str]) -> Template:
    """Raises ValueError, saying what would be right."""
    if not written:
        raise ValueError("a template begins with a program")
    if not written[0].startswith("/") or "{" in written[0]:
        raise ValueError(
            f"{written[0]!r} begins a template: write the program's whole path, without holes"
        )
    if any("\0" in word for word in written):
        raise ValueError("a word of a template has no NUL byte in it")
    program = written[0].replace("}}", "}").encode()
    return Template(" ".join(written), program, tuple(map(_compile_word, written)))


def _compile_word(written: str) -> Word:
    pattern, holes = b"", 0
    for piece in _PIECE.finditer(written):
        if piece[1] is not None:
            pattern += _hole(piece[1], bare=piece[0] == written)
            holes += 1
        elif piece[0] in "{}":
            raise ValueError(f"{written!r} has a brace alone: write {{{{ or }}}} for a brace")
        else:
            text = piece[0][0] if piece[0] in ("{{", "}}") else piece[0]
            pattern += re.escape(text.encode())
    if holes > 1:
        raise ValueError(f"{written!r} has {holes} holes: a word has at most one")
    return Word(re.compile(pattern, re.DOTALL))


def _hole(written: str, bare: bool) -> bytes:
    """A pattern for what stands between braces; ``bare``: it is the whole word."""
    kind, colon, name = written.partition(":")
    if kind == "one" and colon:
        choices = [choice.encode() for choice in name.split("|")]
        if not all(choices):
            raise ValueError(f"{{{written}}} has an empty choice: write {{one:A|B|C}}")
        return b"(?:" + b"|".join(map(re.escape, choices)) + b")"
    if kind not in _FILLINGS or not _HOLE_NAME.fullmatch(name):
        raise ValueError(f"{{{written}}} is no hole: write {KINDS}")
    filling = _FILLINGS[kind]
    if kind == "path":
        # A path that is the whole word must not be taken for an option.
        return b"(?P<path>" + (b"(?!-)" if bare else b"") + filling + b")"
    return filling


def _is_straight(path: bytes) -> bool:
    return b".." not in path.split(b"/")


def plain_words(line: bytes) -> tuple[bytes, ...]:
    """The words that /bin/sh would execute as they stand; none for a line that it reads further.

    Of a program with its whole path nothing is looked up, and such a line sets no variable.
    """
    return tuple(line.split()) if line.startswith(b"/") and _PLAIN.fullmatch(line) else ()


def any_fits(
    templates: Iterable[Template], commands: Sequence[Sequence[bytes]], may_reach: MayReach
) -> bool:
    """One of the ways to put a command fits one of the templates."""
    return any(
        template.fits(command, may_reach) for template in templates for command in commands
    )
