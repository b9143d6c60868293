"""A task as data: what was asked for (Spec), what became of it (Task), what it used (Usage).

These structs are both the keeper's journal and the wire's words, so a node and its master can
never mean different things by a field.  Command words, paths and environment are bytes, because
that is what execve takes; ``command`` shows them as text.
"""

import shlex
import signal as signals

from msgspec import Struct

from godwit.task.lifecycle import Status


class Usage(Struct, frozen=True, omit_defaults=True):
    """Resource use, as getrusage(2) has it: seconds, bytes, counts."""

    utime_s: float = 0.0
    stime_s: float = 0.0
    maxrss_bytes: int = 0
    #: A child's ru_maxrss includes what its parent had at the fork; when the figure is no more
    #: than that, the child's own peak is somewhere below it.
    maxrss_is_bound: bool = False
    minflt: int = 0
    majflt: int = 0
    inblock: int = 0
    oublock: int = 0
    nvcsw: int = 0
    nivcsw: int = 0


class Spec(Struct, frozen=True, omit_defaults=True):
    """One launch as asked for.  Never changes in a task's life."""

    task: str
    #: The words for execvp; with ``shell`` one word, a line for /bin/sh -c; of kind ``python``
    #: the program (``CountProcess``, ``module:Class``, ``file.py:Class``) and its arguments.
    argv: tuple[bytes, ...]
    shell: bool = False
    kind: str = "shell"
    home: str = ""
    name: str = ""
    #: Empty: the node's files folder.
    cwd: bytes = b""
    env: dict[bytes, bytes] = {}
    #: Empty: whoever clientd runs as.
    user: str = ""
    #: Of a Python program whose source came with the launch: its sha256, hex; else empty.
    digest: str = ""
    #: Position among the copies of one `execute --count N`; the task reads it as GODWIT_INDEX.
    index: int = 0
    #: A remote command typed at the prompt: shown while it runs, first to be forgotten.
    oneoff: bool = False
    epoch: int = 1
    #: Wall clock, for display: seconds since 1970.
    asked_at: float = 0.0
    #: In a pid namespace of its own, where the node can: all it starts ends with it, and it can be
    #: moved as it is.
    contained: bool = False
    #: While it is elsewhere, its output is written into a log at its home, too.
    log_at_home: bool = False
    #: It starts from this snapshot, which its node has; else empty.
    snapshot: str = ""

    @property
    def command(self) -> str:
        """The command as a person would type it; bytes that are no UTF-8 are shown as \\xNN."""
        words = [word.decode("utf-8", "backslashreplace") for word in self.argv]
        return words[0] if self.shell else shlex.join(words)


class Snapshot(Struct, frozen=True, omit_defaults=True):
    """The state of a task that its node keeps, to start another from."""

    id: str
    #: Of the task that it is of.
    spec: Spec
    #: When, seconds since 1970.
    at: float
    #: Bytes, of the image and as it is kept.
    size: int
    packed: int = 0
    #: How long the task stood still for it.
    blackout_ms: float = 0.0
    #: Files that the task had open for writing, by the names it has for them.
    writes: tuple[bytes, ...] = ()


class Task(Struct, frozen=True, omit_defaults=True):
    """One task as its node knows it."""

    spec: Spec
    status: Status = Status.STARTING
    pid: int | None = None
    #: Field 22 of /proc/PID/stat, clock ticks since boot: with ``boot`` and ``pid`` it names one
    #: process for ever, whatever the kernel does with pids.
    start_ticks: int = 0
    boot: str = ""
    exit_code: int | None = None
    #: Number of the signal that ended it.
    signal: int | None = None
    core_dumped: bool = False
    #: Why, in one line, when the status alone does not say it.
    reason: str = ""
    log: str = ""
    #: Wall clock, for display.
    started_at: float = 0.0
    ended_at: float = 0.0
    usage: Usage | None = None

    @property
    def id(self) -> str:
        return self.spec.task


def signal_name(number: int) -> str:
    """SIGTERM for 15, SIGRTMIN+3 for 37; SIG<n> for a number this libc has no name for."""
    try:
        return signals.Signals(number).name
    except ValueError:
        if signals.SIGRTMIN < number < signals.SIGRTMAX:
            return f"SIGRTMIN+{number - signals.SIGRTMIN}"
        return f"SIG{number}"


def shell_status(task: Task) -> int:
    """The exit status a shell would show: the code, 128+n for a signal, 125 when not known."""
    if task.exit_code is not None:
        return task.exit_code
    if task.signal is not None:
        return 128 + task.signal
    return 125
