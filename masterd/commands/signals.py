"""Signals as people write them: 9, KILL, SIGKILL, kill, RTMIN+3."""

import re
import signal

from godwit.errors import UsageError
from godwit.task.record import signal_name

_NUMBER = re.compile(r"[0-9]{1,3}")
_REAL_TIME = re.compile(r"RT(MIN|MAX)([+-][0-9]{1,2})?")

#: Names without their SIG, aliases (IOT, CLD, POLL) included.
_NUMBERS = {
    name[3:]: int(number) for name, number in signal.Signals.__members__.items()
    if not name.startswith("SIGRT")
}


def number(word: str) -> int:
    """The number of the signal that ``word`` names, 1..64.  Raises UsageError (status 2)."""
    found = int(word) if _NUMBER.fullmatch(word) else _named(word.upper().removeprefix("SIG"))
    if not 1 <= found <= signal.SIGRTMAX:
        raise UsageError(
            f"no signal {word!r}", code="no-signal",
            hint="a name like TERM or SIGTERM, or a number from 1 to 64", exit_status=2,
        )
    return found


def looks_like_one(word: str) -> bool:
    """``word`` after a dash means a signal: a number, or the name of one."""
    return bool(_NUMBER.fullmatch(word)) or _named(word.upper().removeprefix("SIG")) > 0


def _named(name: str) -> int:
    real_time = _REAL_TIME.fullmatch(name)
    if not real_time:
        return _NUMBERS.get(name, 0)
    base = signal.SIGRTMIN if real_time[1] == "MIN" else signal.SIGRTMAX
    found = base + int(real_time[2] or 0)
    return found if signal.SIGRTMIN <= found <= signal.SIGRTMAX else 0


__all__ = ["looks_like_one", "number", "signal_name"]
