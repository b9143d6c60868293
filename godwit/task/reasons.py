"""Why a task cannot move, in words: a reason, and what of itself may be in its way, by kind.

clientd finds those kinds on the task's node: clientd.keeper.traits, clientd.keeper.sockets.
"""

from typing import Literal

from msgspec import Struct

Word = Literal["yes", "if", "no"]


class Reason(Struct, frozen=True, omit_defaults=True):
    """Why not, or why only if."""

    code: str
    text: str
    fix: str = ""
    verdict: Word = "no"


_CLOSE = "it can move once that is closed"

#: kind -> the reason; {} is what was named of it.
OBSTACLES: dict[str, Reason] = {
    "tty": Reason("tty", "it has a terminal: {}", "start it with execute: tasks have none"),
    "tcp": Reason("tcp", "it has a TCP connection to {}", _CLOSE),
    "inet": Reason(
        "inet", "it has a network socket ({}); CRIU before 4.2 saves none on this kernel",
        "it can move if this CRIU was mended, or once that is closed", "if",
    ),
    "unix-socket": Reason(
        "unix-socket", "it has a Unix socket whose other end is outside of it: {}", _CLOSE
    ),
    "unix-unseen": Reason(
        "unix-unseen", "it has a Unix socket whose other end cannot be seen: {}",
        "it can move if that is its own, too", "if",
    ),
    "socket": Reason("socket", "it has a socket of a kind that cannot be saved: {}", _CLOSE),
    "pipe": Reason("pipe", "it has a pipe to a process outside of it: {}", _CLOSE),
    "pipe-unseen": Reason(
        "pipe-unseen", "it has one end of a pipe whose other end cannot be seen: {}",
        "it can move if that is closed", "if",
    ),
    "lease": Reason("lease", "it has a lease, which a copy of the file would break: {}", _CLOSE),
    "namespace": Reason(
        "namespace", "a process of it has a namespace of its own: {}",
        "it can move once that process has ended",
    ),
    "other-user": Reason(
        "other-user", "a process of it runs as {}, and clientd there has no CAP_SYS_RESOURCE",
        "give clientd that",
    ),
    "sysv": Reason(
        "sysv", "it has System V shared memory, which cannot be saved: {}",
        "it can move once that is detached",
    ),
    "io-uring": Reason("io-uring", "it uses io_uring, which cannot be saved"),
    "device": Reason("device", "it uses a device: {}", _CLOSE),
    "file-kind": Reason(
        "file-kind", "it has a descriptor of a kind that cannot be saved: {}", _CLOSE
    ),
    "traced": Reason("traced", "a debugger holds it: pid {}", "end the debugger"),
    "deleted": Reason(
        "deleted", "it has a file open that was deleted: {}", "it can move if that is small", "if"
    ),
    # CRIU mounts a proc file system inside of the init for a moment, with the init's rights.
    "init": Reason(
        "init", "it was started as {} by an earlier clientd, in a way that cannot be saved",
        "tasks that are started from now on can move",
    ),
    "many": Reason(
        "many", "it has more open than is looked at: {}",
        "it can move if nothing else of it stands in its way", "if",
    ),
}

#: Of a kind that a newer clientd found.
_UNKNOWN = Reason("obstacle", "something of it that this master does not know is in the way: {}")


def named(kind: str, name: str) -> Reason:
    """The reason that an obstacle of this kind is."""
    known = OBSTACLES.get(kind, _UNKNOWN)
    return Reason(known.code, known.text.format(name), known.fix, known.verdict)
