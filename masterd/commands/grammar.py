"""Words -> what a command was given, by its docopt text.

docopt judges and names the arguments.  Three things are done before it sees them:

* ``kill -9 TASK`` is spelt out as ``--signal 9``: docopt takes what looks like a negative number
  for an argument;
* a mistake is found and named here, because docopt only says that there is one;
* docopt gets a stand-in for each argument, and one for all of a repeated one (``TASK...``,
  ``CMD...``): its time grows with the square of their number, it takes a ``--`` among them for an
  argument, and it leaves nothing for an argument after them (``TASK... NODE``).
"""

import contextlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import docopt
from msgspec import Struct, field

from godwit.errors import UsageError
from masterd.commands import signals

#: What docopt sees in place of an argument.
STAND_IN = "x"

#: The dots of a repeated argument that others follow.
_DOTS_WITHIN = re.compile(r"(?<=[A-Z])\.\.\.(?= [A-Z]{2})")
_ARGUMENT = re.compile(r"(\[?)([A-Z]{2,})(\.\.\.)?\]?(\.\.\.)?")


class Option(Struct, frozen=True):
    """One option of a command: how it is written, and whether a value follows."""

    short: str | None
    long: str | None
    takes_value: bool
    repeats: bool

    @property
    def name(self) -> str:
        return self.long or self.short or ""


class Argument(Struct, frozen=True):
    """One positional argument of a command."""

    name: str
    required: bool
    repeats: bool


class Grammar(Struct, frozen=True):
    """What a docopt text allows."""

    doc: str
    usage: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    options_first: bool


class Words(Struct):
    """One command line, its options told from its arguments."""

    options: list[tuple[Option, str | None]] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    help: bool = False


@lru_cache(maxsize=64)
def grammar(doc: str, options_first: bool = False) -> Grammar:
    """The grammar of a docopt text with one usage pattern."""
    sections = docopt.parse_docstring_sections(doc)
    usage = " ".join(sections.usage_body.split())
    repeated = re.findall(r"\[(-\S+)[^]]*\]\.\.\.", usage)
    options = tuple(
        Option(o.short, o.longer, bool(o.argcount), o.short in repeated or o.longer in repeated)
        for o in docopt.parse_options(sections.after_usage)
    )
    bare = re.sub(r"\[(options|-[^]]*)\](\.\.\.)?", "", usage)
    arguments = tuple(
        Argument(name, not bracket, bool(inner or outer))
        for bracket, name, inner, outer in _ARGUMENT.findall(bare)
    )
    return Grammar(doc, usage, options, arguments, options_first)


def parse(rules: Grammar, words: list[str]) -> dict[str, Any] | None:
    """What was given, by docopt's names; None when it was a call for help.

    Raises UsageError (status 2), naming the mistake, when ``words`` are not as the usage says.
    """
    told = Words()
    _tell_apart(rules, words, told)
    if told.help:
        return None
    _check_options(rules, told)
    _check_count(rules, told)
    return _judge(rules, told)


def wants_json(rules: Grammar, words: list[str]) -> bool:
    """JSON was asked for, as far as can be told of words that may be wrong."""
    told = Words()
    with contextlib.suppress(UsageError):
        _tell_apart(rules, words, told)
    return any(
        option.long == "--json" or (option.long == "--output" and value in ("json", "jsonl"))
        for option, value in told.options
    )


def spell_out_signal(words: list[str]) -> list[str]:
    """``-9``, ``-KILL`` and ``-SIGKILL`` as ``--signal=9`` and so on."""
    end = words.index("--") if "--" in words else len(words)
    before = ["", *words]
    return [
        f"--signal={word[1:]}" if place < end and _is_signal(word, before[place]) else word
        for place, word in enumerate(words)
    ]


def _is_signal(word: str, before: str) -> bool:
    return word[:1] == "-" and before not in ("-s", "--signal") and signals.looks_like_one(word[1:])


def wrong(rules: Grammar, message: str) -> UsageError:
    """Wrong usage, with the right one as the hint."""
    return UsageError(message, code="usage", hint=f"usage: {rules.usage}", exit_status=2)


def _tell_apart(rules: Grammar, words: list[str], told: Words) -> None:
    """Fills ``told`` as far as the first mistake, which it raises."""
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            told.arguments += words[position:]
            break
        if word in ("-h", "--help"):
            told.help = True
        elif len(word) < 2 or word[0] != "-":
            told.arguments.append(word)
            if rules.options_first:
                told.arguments += words[position:]
                break
        elif word.startswith("--"):
            position += _long(rules, told, word, words[position : position + 1])
        else:
            position += _cluster(rules, told, word, words[position : position + 1])


def _long(rules: Grammar, told: Words, word: str, following: list[str]) -> int:
    """Takes in ``--name[=value]``; how many words after it belong to it."""
    name, equals, value = word.partition("=")
    option = _option(rules, name)
    if not option.takes_value:
        if equals:
            raise wrong(rules, f"{option.name} takes no value")
        told.options.append((option, None))
        return 0
    if equals:
        told.options.append((option, value))
        return 0
    told.options.append((option, _value(rules, option, following)))
    return 1


def _cluster(rules: Grammar, told: Words, word: str, following: list[str]) -> int:
    """Takes in ``-abc`` or ``-nVALUE``; how many words after it belong to it."""
    for position, letter in enumerate(word[1:], 2):
        option = _option(rules, f"-{letter}")
        if not option.takes_value:
            told.options.append((option, None))
        elif word[position:]:
            told.options.append((option, word[position:]))
            return 0
        else:
            told.options.append((option, _value(rules, option, following)))
            return 1
    return 0


def _option(rules: Grammar, name: str) -> Option:
    """The option of this name or of this unambiguous beginning of a long name."""
    exact = [o for o in rules.options if name in (o.short, o.long)]
    longer = [o for o in rules.options if name[:2] == "--" and (o.long or "").startswith(name)]
    for found in (exact, longer):
        if len(found) == 1:
            return found[0]
    if len(longer) > 1:
        raise wrong(rules, f"{name} may be {' or '.join(o.name for o in longer)}")
    raise wrong(rules, f"no option {name}")


def _value(rules: Grammar, option: Option, following: list[str]) -> str:
    if not following or following[0] == "--":
        raise wrong(rules, f"{option.name} needs a value")
    return following[0]


def _check_options(rules: Grammar, told: Words) -> None:
    names = [option.name for option, _ in told.options if not option.repeats]
    for name in names:
        if names.count(name) > 1:
            raise wrong(rules, f"{name} is given twice")


def _check_count(rules: Grammar, told: Words) -> None:
    given = len(told.arguments)
    missing = [a.name for a in rules.arguments[given:] if a.required]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise wrong(rules, f"{' and '.join(missing)} {verb} missing")
    if not any(a.repeats for a in rules.arguments) and given > len(rules.arguments):
        raise wrong(rules, f"{told.arguments[len(rules.arguments)]!r} is one argument too many")


def _judge(rules: Grammar, told: Words) -> dict[str, Any]:
    """docopt's own answer, with the arguments put back for their stand-ins."""
    argv = [_written(option, value) for option, value in told.options]
    argv += [STAND_IN] * min(len(told.arguments), len(rules.arguments))
    try:
        given = dict(docopt.docopt(_DOTS_WITHIN.sub("", rules.doc), argv, False))
    except docopt.DocoptExit as err:
        raise wrong(rules, "not as the usage says") from err
    return {**given, **_named(rules.arguments, told.arguments)}


def _named(arguments: Sequence[Argument], words: list[str]) -> dict[str, str | list[str]]:
    """The words of each argument; those after a repeated one are taken from the end."""
    names = [argument.name for argument in arguments]
    many = next((place for place, a in enumerate(arguments) if a.repeats), None)
    if many is None:
        return dict(zip(names, words, strict=False))
    end = max(many, len(words) - len(names[many + 1 :]))
    return {
        **dict(zip(names[:many], words, strict=False)),
        names[many]: words[many:end],
        **dict(zip(names[many + 1 :], words[end:], strict=False)),
    }


def _written(option: Option, value: str | None) -> str:
    if value is None:
        return option.name
    return f"{option.name}={value}" if option.long else option.name + value
