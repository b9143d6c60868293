"""Tasks in a pid namespace of their own, below an init: pid_namespaces(7).

So all that a task ever starts ends with it, whatever it does, and its pids are its own: they are
the same on every machine that it may be restored on.

Fact: pid 1 of a namespace gets no signal from inside that it has no handler for, and of those
from outside SIGKILL and SIGSTOP alone; and it has to wait for orphans.  So a program cannot be
pid 1 as it is: dumb-init goes first, and the program is its only child, pid 2, and leads a
session.  dumb-init ends when the program does, and with it the kernel ends everything else.

Fact: dumb-init tells 128+n of a program that signal n ended, which a program may just as well say
by itself.  What really happened is told by a pidfd of the program's (clientd.keeper.pidfd).
"""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from zlib import crc32

from clientd.keeper import processes, traced
from godwit import places
from godwit.errors import StartError

CLONE_NEWPID = 0x20000000
INIT = "dumb-init"
#: What dumb-init would take from the environment, for which a task means it to be its own.
INITS_OWN = (b"DUMB_INIT_SETSID", b"DUMB_INIT_DEBUG")


class Apart:
    """The namespace we are in, and the way to start children in others."""

    def __init__(self, folder: str | None = None) -> None:
        """``folder``: where dumb-init is put, at the same path on every machine.

        Raises StartError when this machine, or our rights, do not allow it.
        """
        if os.geteuid() != 0:
            raise StartError("clientd does not run as root")
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as err:
            raise StartError(f"{err.filename}: {err.strerror}") from err
        try:
            self.init = os.fsencode(install(folder or places.state_home()))
            self._try()
        except OSError as err:
            os.close(self._own)
            raise StartError(f"pid namespaces: {err.strerror}") from err
        except StartError:
            os.close(self._own)
            raise

    def _try(self) -> None:
        """Once, with a child that only ends.  Raises OSError, StartError."""
        with self.children():
            pid = os.fork()
            if not pid:
                try:
                    traced.trace_me()
                    os._exit(0)
                finally:
                    os._exit(1)
        if os.waitpid(pid, 0)[1]:
            raise StartError("a child cannot be traced here: ptrace(2)")

    @contextmanager
    def children(self) -> Iterator[None]:
        """The first child that is started meanwhile is pid 1 of a new namespace.

        Raises OSError when there can be none.
        """
        self._call(self._libc.unshare(CLONE_NEWPID))
        try:
            yield
        finally:
            self._call(self._libc.setns(self._own, CLONE_NEWPID))

    @staticmethod
    def _call(result: int) -> None:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def words(self, words: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """What init is executed with to start the program.

        It does not pass on SIGCONT: that lets it go on after a freeze, and is not for those of the
        program's processes that had been stopped before.
        """
        return (self.init, b"-r", b"%d:0" % signal.SIGCONT, b"--", *words)

    def close(self) -> None:
        os.close(self._own)


def install(folder: str) -> str:
    """Where dumb-init is, by a name that says which it is.

    CRIU restores a process on files of the same path; the one that was installed with us may be
    anywhere.  Raises StartError.
    """
    beside = os.path.join(os.path.dirname(sys.executable), INIT)
    found = beside if os.access(beside, os.X_OK) else shutil.which(INIT)
    if found is None:
        raise StartError(f"{INIT} is not installed")
    try:
        with open(found, "rb") as file:
            content = file.read()
        path = os.path.join(folder, f"{INIT}-{crc32(content):08x}")
        if not _is_there(path, content):
            _write(path, content)
    except OSError as err:
        raise StartError(f"{err.filename}: {err.strerror}") from err
    return path


def _is_there(path: str, content: bytes) -> bool:
    with suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read() == content and os.access(path, os.X_OK)
    return False


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = f"{path}.{os.getpid()}"
    try:
        with open(new, "wb") as file:
            file.write(content)
        os.chmod(new, 0o755)
        os.rename(new, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(new)


def program_of(init: int) -> int:
    """The pid of an init's program, 0 when it has none.

    Its oldest child: whatever is orphaned there comes later.
    """
    with suppress(OSError), open(f"/proc/{init}/task/{init}/children") as file:
        children = file.read().split()
        return int(children[0]) if children else 0
    return 0


def init_of(pid: int) -> int:
    """The init of the namespace that a program is alone in, or 0 for one that has none."""
    found = processes.look(pid)
    return found.parent if found is not None and is_init(found.parent) else 0


def is_init(pid: int) -> bool:
    """The process is pid 1 of a namespace below ours."""
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("NSpid:"):
                pids = line.split()[1:]
                return len(pids) > 1 and pids[-1] == "1"
    return False
