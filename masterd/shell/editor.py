"""The line editor: GNU readline set up for this shell, and its Tab."""

import locale
import readline
from collections.abc import Callable
from contextlib import suppress

from masterd.shell.completion import Scene, complete

SETTINGS = (
    # A paste of several lines runs them one by one.
    "set enable-bracketed-paste off",
    "set show-all-if-ambiguous on",
    # A pager below the prompt would wait for keys that a script does not send.
    "set page-completions off",
    # Bytes over 127 are themselves also where the locale knows only ASCII.
    "set convert-meta off",
    "set input-meta on",
    "set output-meta on",
    "tab: complete",
)


def set_up(scene: Callable[[], Scene]) -> None:
    """Settings over the person's own inputrc, which readline has read when it was imported."""
    # Python reads and writes UTF-8 in the C locale (PEP 540); its readline module goes by the
    # locale and would refuse to remember a line with other letters.
    if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX"):
        with suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    for setting in SETTINGS:
        readline.parse_and_bind(setting)
    readline.set_auto_history(False)
    readline.set_completer_delims(" \t\n")
    readline.set_completer(Completer(scene))


class Completer:
    """readline's completer: called with 0, 1, 2, ... until it has no more.

    readline replaces from its own idea of a word's start, the last space, so of an answer that
    holds a space in quotes only the rest is given.
    """

    def __init__(self, scene: Callable[[], Scene]):
        self._scene = scene
        self._answers: list[str] = []

    def __call__(self, text: str, state: int) -> str | None:
        if state == 0:
            self._answers = self._find()
        return self._answers[state] if state < len(self._answers) else None

    def _find(self) -> list[str]:
        begin, end = readline.get_begidx(), readline.get_endidx()
        start, answers = complete(readline.get_line_buffer()[:end], self._scene())
        return [answer[begin - start :] for answer in answers]
