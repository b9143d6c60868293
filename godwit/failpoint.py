"""Places where a daemon can be made to fail, for tests: GODWIT_FAILPOINT=NAME[@N]:ACTION[,...].

An action is ``kill`` or ``stop`` (SIGKILL, SIGSTOP to this process), ``delay:SECONDS``, or
``errno:NAME``, which raises that OSError.  With ``@N`` only the N-th time that a process comes
there, else each time.  It is said on stderr.  Unset, a failpoint costs one look at an empty dict.

The names, in one place: each stands in the code once, at what its line says.
"""

import errno
import os
import signal
import time

from msgspec import Struct

from godwit.errors import StartError

NAMES = {
    "journal.commit.before": "a launch was asked for, nothing is written",
    "journal.commit.written": "it is written, not yet durable",
    "journal.commit.after": "it is durable, nothing is started",
    "journal.flush.before": "starts and ends of this turn are not written",
    "journal.flush.after": "they are written, nobody was told",
    "journal.compact.before": "the journal is about to be replaced",
    "journal.compact.written": "its successor is durable, not yet in its place",
    "journal.compact.after": "it is in its place, the folder may not know that yet",
    "spawn.before": "a launch is durable, its program is about to start",
    "spawn.after": "its program runs, that is not on record",
    "begun.before": "a python task has begun, that is not on record",
    "kept.about.before": "a snapshot is whole, of which task it is is not written",
    "kept.about.after": "that is written, and it is about to be compressed",
    "kept.name.before": "it is compressed and durable, and has no name",
    "kept.name.after": "it has its name, nobody was told",
    "kept.surplus": "one snapshot too many is about to be dropped",
    "putback.before": "the files of a snapshot are about to be put back where they were",
    "putback.after": "they are there, its processes are not",
    "revived.before": "the processes of a snapshot stand still, their start is not on record",
    "revived.after": "it is on record, they still stand still",
    "exit.before": "the kernel told how it ended, that is not on record",
    "news.before": "all is written, the agent is about to be told",
    "news.after": "the agent was told",
    **{
        f"move.{part}.{when}": f"a move's record '{part}' is {state}"
        for part in (
            "freezing", "unfrozen", "frozen", "resuming", "resumed", "finishing", "finished",
            "reserved", "refused", "prepared", "discarded", "consumed", "draining", "running",
            "renounced", "lost",
        )
        for when, state in (("before", "about to be written"), ("after", "written"))
    },
    "store.issue.before": "the master is about to note what was issued, beside the database",
    "store.commit.before": "the master has records to write, and answers that wait for them",
    "store.commit.after": "they are durable, the answers are not sent",
    "address.written": "where the master listens is written, not yet in its place",
    "private.before": "a key or certificate is about to be written",
    "private.written": "it is durable, not yet in its place",
    "trust.take": "a new certificate is about to replace the old one",
    "identity.before": "who the node is is about to be written",
    "identity.written": "it is durable, not yet in its place",
    "link.send": "a message to a node, a master, an operator or the keeper is about to be sent",
    "joining.send": "a word of a join or an adoption is about to be sent",
    "pages.pass": "a pager has taken 16 MiB more of a task from one node to the other",
    "copy.send": "bytes of a copy are about to be sent",
    "copy.land.before": "files of a copy are complete, none has its name",
    "copy.land.after": "they are durable and have their names",
    "parcel.made": "there is a file for a snapshot to come or to go, the agent does not know",
    "parcel.lent": "a snapshot is open to the agent, which does not know",
    "lodge.before": "a snapshot of another node's task is here, nothing of it is kept",
    "lodge.after": "it is kept, nobody has been told",
    "copy.finish": "all of a copy has landed, the sender does not know",
}


class Armed(Struct):
    """What is to happen at a failpoint, and when."""

    verb: str
    value: str
    #: The turn at which it happens; 0: at each.
    turn: int = 0
    came: int = 0

    def is_due(self) -> bool:
        """Counts one more turn: is it this one?"""
        self.came += 1
        return self.turn in (0, self.came)


def parse(text: str) -> dict[str, Armed]:
    """What GODWIT_FAILPOINT says, by name.  Raises StartError for what means nothing."""
    armed = {}
    for piece in filter(None, text.split(",")):
        place, _, action = piece.partition(":")
        name, at, turn = place.partition("@")
        verb, _, value = action.partition(":")
        sound = {
            "kill": not value, "stop": not value, "errno": hasattr(errno, value or "-"),
            "delay": value.replace(".", "", 1).isdecimal(),
        }.get(verb, False)
        if name not in NAMES or not sound or (at and not turn.isdecimal()):
            raise StartError(f"GODWIT_FAILPOINT: {piece!r} is no failpoint")
        armed[name] = Armed(verb, value, int(turn or 0))
    return armed


_armed = parse(os.environ.get("GODWIT_FAILPOINT", ""))


def hit(name: str) -> None:
    """Fails here if that is wanted; raises OSError for ``errno``."""
    if _armed and name in _armed and _armed[name].is_due():
        _fail(name, _armed[name].verb, _armed[name].value)


def _fail(name: str, verb: str, value: str) -> None:
    os.write(2, f"failpoint {name}: {verb} {value}\n".encode())
    if verb == "errno":
        number = getattr(errno, value)
        raise OSError(number, os.strerror(number))
    if verb == "delay":
        time.sleep(float(value))
    else:
        os.kill(os.getpid(), signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
