"""Places where a daemon can be made to fail, for tests: GODWIT_FAILPOINT=NAME:ACTION[,...].

An action is ``kill`` or ``stop`` (SIGKILL, SIGSTOP to this process), ``delay:SECONDS``, or
``errno:NAME``, which raises that OSError.  Unset, a failpoint costs one look at an empty dict.

The names, in one place: each stands in the code once, at what its line says.
"""

import errno
import os
import signal
import time

from godwit.errors import StartError

NAMES = {
    "journal.commit.before": "a launch was asked for, nothing is written",
    "journal.commit.written": "it is written, not yet durable",
    "journal.commit.after": "it is durable, nothing is started",
    "journal.flush.before": "starts and ends of this turn are not written",
    "journal.flush.after": "they are written, nobody was told",
    "journal.compact.before": "the journal is about to be replaced",
    "journal.compact.written": "its successor is durable, not yet in its place",
    "spawn.before": "a launch is durable, its program is about to start",
    "spawn.after": "its program runs, that is not on record",
    "begun.before": "a python task has begun, that is not on record",
    "exit.before": "the kernel told how it ended, that is not on record",
    "news.before": "all is written, the agent is about to be told",
    "news.after": "the agent was told",
    **{
        f"move.{part}.{when}": f"a move's record '{part}' is {state}"
        for part in (
            "freezing", "unfrozen", "frozen", "resuming", "resumed", "finishing", "finished",
            "reserved", "refused", "prepared", "discarded", "consumed", "running", "renounced",
            "lost",
        )
        for when, state in (("before", "about to be written"), ("after", "written"))
    },
    "store.commit.before": "the master has records to write, and answers that wait for them",
    "store.commit.after": "they are durable, the answers are not sent",
}


def parse(text: str) -> dict[str, tuple[str, str]]:
    """What GODWIT_FAILPOINT says, by name.  Raises StartError for what means nothing."""
    armed = {}
    for piece in filter(None, text.split(",")):
        name, _, action = piece.partition(":")
        verb, _, value = action.partition(":")
        sound = {
            "kill": not value, "stop": not value, "errno": hasattr(errno, value or "-"),
            "delay": value.replace(".", "", 1).isdecimal(),
        }.get(verb, False)
        if name not in NAMES or not sound:
            raise StartError(f"GODWIT_FAILPOINT: {piece!r} is no failpoint")
        armed[name] = (verb, value)
    return armed


_armed = parse(os.environ.get("GODWIT_FAILPOINT", ""))


def hit(name: str) -> None:
    """Fails here if that is wanted; raises OSError for ``errno``."""
    if _armed and name in _armed:
        _fail(*_armed[name])


def _fail(verb: str, value: str) -> None:
    if verb == "errno":
        number = getattr(errno, value)
        raise OSError(number, os.strerror(number))
    if verb == "delay":
        time.sleep(float(value))
    else:
        os.kill(os.getpid(), signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
