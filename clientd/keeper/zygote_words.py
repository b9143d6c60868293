"""What the keeper and its zygote say to each other, one word a packet.  Pure."""

from msgspec import Struct

#: Stands for a task id until there is one: of the same length, and no task's.
NO_TASK = b"--------"
#: Room for the words that ps(1) shows, as one word of the zygote's own command line.
ROOM = "." * 1024


class Birth(Struct, frozen=True):
    """Asks for a runner.

    Beside it: a file with its environment, which the zygote does not read, so that what it forks
    later has no trace of it; its log; its listening socket; and its cgroup if it has one.
    """

    task: str
    #: What ps(1) is to show.
    words: tuple[bytes, ...]
    cwd: bytes
    #: RLIMIT_NOFILE.
    limit: tuple[int, int]
    #: Name, user id and group id; None: whoever we are.
    user: tuple[str, int, int] | None = None


class Born(Struct, frozen=True):
    """The answer.  With ``step`` that one failed, by this errno, and what has the pid is ending."""

    task: str
    pid: int
    step: str = ""
    number: int = 0
