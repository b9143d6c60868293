"""What Tab offers after ``godwit`` in another shell.  Pure."""

from collections.abc import Callable

from msgspec import Struct

from masterd.shell.completion import Scene, complete
from masterd.shell.words import QUOTES, Word, split

#: Of godwit itself, before the command.
OPTIONS = ("--state ", "--version ", "--help ")
#: A command of godwit alone, and those that it has not.
ALSO = ("shell ",)
WITHIN_A_SHELL = ("use ", "exit ", "detach ")


class Asked(Struct, frozen=True):
    """A line as far as the cursor, taken apart: which master it is for, and the command."""

    line: str
    words: list[Word]
    #: As it was typed; None where it was not.
    state: str | None
    #: Which word is the command; past the last where the cursor is in an option's value.
    command: int


def asked(line: str) -> Asked:
    """``line`` begins with the program's name."""
    words = split(line)
    place, state = 1, None
    while place < len(words) - 1 and words[place].value.startswith("-"):
        name, equals, value = words[place].value.partition("=")
        place += 1
        if name == "--state" and not equals:
            value = words[place].value
            place += 1
        if name == "--state":
            state = value
    return Asked(line, words, state, place)


def offers(it: Asked, word: str, scene: Callable[[], Scene]) -> list[str]:
    """What may replace ``word``, the part at the cursor that the shell takes for a word.

    Shells break words at more characters than spaces, and leave out an opening quote.
    """
    last = it.words[-1]
    if len(it.words) < 2 or not last.typed.endswith(word):
        return []
    kept = len(last.typed) - len(word)
    return [answer[kept:] for answer in _answers(it, last, scene)]


def without_close(it: Asked, offer: str) -> str:
    """For a shell that writes the closing quote itself."""
    quote = it.words[-1].open
    return offer.removesuffix(f"{quote} ") if quote in QUOTES else offer


def _answers(it: Asked, last: Word, scene: Callable[[], Scene]) -> list[str]:
    if it.command >= len(it.words):
        # A folder stands there: the shell's own completion knows those.
        return []
    if it.command == len(it.words) - 1:
        if last.typed.startswith("-"):
            return [option for option in OPTIONS if option.startswith(last.typed)]
        _, names = complete(last.typed, Scene())
        also = [name for name in ALSO if name.startswith(last.typed)]
        return [*(name for name in names if name not in WITHIN_A_SHELL), *also]
    return complete(it.line[it.words[it.command].start :], scene())[1]
