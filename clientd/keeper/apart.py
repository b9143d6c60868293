"""Tasks in a pid namespace of their own, below an init: pid_namespaces(7).

So all that a task ever starts ends with it, whatever it does, and its pids are its own: they are
the same on every machine that it may be restored on.

Fact: pid 1 of a namespace gets no signal from inside that it has no handler for, and of those
from outside SIGKILL and SIGSTOP alone; and it has to wait for orphans.  So a program cannot be
pid 1 as it is: an init goes first (clientd.keeper.init), and the program is pid 2, and leads a
session.  The init ends when the program does, and with it the kernel ends everything else.

Fact: an init tells 128+n of a program that signal n ended, which a program may just as well say
by itself.  What really happened is told by a pidfd of the program's (clientd.keeper.pidfd).

Fact: to save a task, CRIU makes a folder in its init's working directory and mounts a proc file
system there for a moment, with the init's rights.  So an init stands where nobody else can put
something in the way of that: in a folder of its user's, in one that only root may enter.
"""

import itertools
import os
import re
from contextlib import suppress
from zlib import crc32

from clientd.keeper import forked, init, processes
from clientd.keeper.below import CLONE_NEWPID, Init
from godwit import places
from godwit.errors import StartError, TaskError

#: Folders for a user's inits to stand in: of two in one only one can be saved at a time.
STANDS = 64
_STAND = re.compile(r"\d{1,10}\.\d\d")


class Apart:
    """What this node's inits are made of."""

    def __init__(self, folder: str | None = None) -> None:
        """``folder``: where the init is put, and inits stand, at the same path on every machine.

        Raises StartError when this machine, or our rights, do not allow it.
        """
        if os.geteuid() != 0:
            raise StartError("clientd does not run as root")
        try:
            _try()
        except OSError as err:
            raise StartError(f"pid namespaces: {err.strerror}") from err
        folder = folder or places.state_home()
        self._init = os.fsencode(install(folder))
        self._top = os.path.join(folder, "inits")
        try:
            os.makedirs(self._top, exist_ok=True)
            os.chmod(self._top, 0o700)
        except OSError as err:
            raise StartError(f"{err.filename}: {err.strerror}") from err
        self._numbers = itertools.cycle(range(STANDS))

    def init(self, uid: int) -> Init:
        """For the next task, of this user's.  Raises OSError."""
        return Init(self._init, os.fsencode(self._made(f"{uid}.{next(self._numbers):02}")))

    def stand(self, path: str, uid: int | None) -> str:
        """Where an init stood, on this node or another; it is there afterwards.

        ``uid``: whose it is; None: ours, and an earlier clientd's may stand anywhere.  Raises
        OSError; TaskError for what is no folder for inits of this user's.
        """
        top, name = os.path.split(path)
        if top == os.path.realpath(self._top) and _STAND.fullmatch(name):
            if int(name.partition(".")[0]) == (os.geteuid() if uid is None else uid):
                return self._made(name)
        elif uid is None:
            return path
        raise TaskError("stand", f"its init stands in {path!r}")

    def _made(self, name: str) -> str:
        path = os.path.join(self._top, name)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        os.chown(path, int(name.partition(".")[0]), -1)
        return path


def _try() -> None:
    """Once, with a child that only ends.  Raises OSError."""
    pid = forked.fork_into(-1, CLONE_NEWPID)
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def install(folder: str) -> str:
    """Where the init is, by a name that says which it is: CRIU restores a process on files of the
    same path.  Raises StartError.
    """
    machine = os.uname().machine
    if machine not in init.CODE:
        raise StartError(f"there is no init for {machine}")
    content = init.image(machine)
    path = os.path.join(folder, f"init-{crc32(content):08x}")
    try:
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
