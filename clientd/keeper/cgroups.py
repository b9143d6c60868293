"""Containment by control groups, version 2: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.

Each task has a cgroup of its own below one of this node's: what it starts stays in it, double
fork and setsid(2) or not, and can be killed, frozen and counted there.

A process joins by being started by a parent that is in the cgroup: the keeper moves itself
there, spawns, and goes on or back home; or it starts a child that begins there.  So nothing of
the task ever runs outside.

Fact: to move a process costs some 20 us when another was moved in the last 20 ms; else it waits
for an RCU grace period, 15 ms.  A child that begins elsewhere (CLONE_INTO_CGROUP) waits for
nothing, but has to be forked, which costs 1 to 2 ms more than posix_spawn.  So for launches that
come thick and fast we move, and for one by itself we fork.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from clientd.keeper.forked import has_clone3
from godwit.errors import StartError

#: Launches at most this many seconds apart come thick and fast: a move after a move costs little.
FAST_S = 0.015

_TASK = "t-"


def own_folder(mountinfo: str, cgroup: str) -> str:
    """The folder of this process's cgroup, from /proc/self/mountinfo and /proc/self/cgroup.

    Raises StartError when there is no version 2 here.
    """
    own = next((line[3:] for line in cgroup.splitlines() if line.startswith("0::")), "")
    for line in mountinfo.splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] != "cgroup2":
            continue
        root, point = (_plain(field) for field in fields[3:5])
        inside = root.rstrip("/") + "/"
        if (own + "/").startswith(inside) and "/.." not in own:
            return os.path.join(point, own[len(inside):]).rstrip("/")
    raise StartError("no cgroup version 2 hierarchy is mounted that this process is in")


def _plain(field: str) -> str:
    """Space, tab, newline and backslash are octal in mountinfo: proc(5)."""
    return field.encode().decode("unicode_escape")


class Cgroups:
    """The cgroups of this node's tasks, and the keeper's own home beside them."""

    def __init__(self, name: str):
        """Makes ``name`` below our own cgroup and moves there.  Raises StartError."""
        self._is_home = False
        self._joined_at = 0.0
        try:
            self._origin = own_folder(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"))
        except OSError as err:
            raise StartError(f"{err.filename}: {err.strerror}") from err
        self.base = os.path.join(self._origin, name)
        home = os.path.join(self.base, "self")
        try:
            os.makedirs(home, exist_ok=True)
            self._home = os.open(os.path.join(home, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
            self.go_home()
        except OSError as err:
            raise StartError(f"cannot use {self.base}: {err.strerror}") from err
        self._can_kill = os.path.exists(os.path.join(home, "cgroup.kill"))  # Linux 5.14
        self._can_begin = self._can_kill and has_clone3()
        self._folders: dict[str, str] = {}
        self._bases = {self.base}

    def survey(self, bases: Iterable[str]) -> list[str]:
        """Finds the tasks' cgroups that earlier keepers left below these folders; whose."""
        for base in (*bases, self.base):
            with suppress(FileNotFoundError):
                for name in os.listdir(base):
                    if name.startswith(_TASK):
                        self._folders[name[len(_TASK):]] = os.path.join(base, name)
                self._bases.add(base)
        return list(self._folders)

    def holds(self, task: str) -> bool:
        """The task has a cgroup."""
        return task in self._folders

    def join(self, task: str, many: bool) -> int:
        """Makes the task's cgroup: a descriptor to start a child in it, or -1 if we went there
        ourselves, so that whatever is spawned from now on is in it.

        ``many``: others follow at once.  Raises OSError.
        """
        folder = os.path.join(self.base, _TASK + task)
        with suppress(FileExistsError):  # of a copy that a move had here, and that has ended
            os.mkdir(folder)
        self._folders[task] = folder
        alone = not many and time.monotonic() - self._joined_at > FAST_S
        self._joined_at = time.monotonic()
        if alone and self._can_begin:
            return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._is_home = False
        _write(os.path.join(folder, "cgroup.procs"), b"0")
        return -1

    def room(self, task: str) -> int:
        """Makes the task's cgroup, and goes nowhere: its folder, open.  Raises OSError.

        Fact: who is started in a cgroup from outside (clone3) is killed at once if cgroup.kill was
        ever written there, up to Linux 6.18 at least: its fork takes the parent's count of kills
        for the cgroup's.  So what a copy of the task had here before is made anew.
        """
        folder = os.path.join(self.base, _TASK + task)
        with suppress(OSError):  # there is none, or it is not empty yet
            os.rmdir(folder)
        with suppress(FileExistsError):
            os.mkdir(folder)
        self._folders[task] = folder
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def go_home(self) -> None:
        """What is spawned from now on is in no task's cgroup."""
        if not self._is_home:
            os.write(self._home, b"0")
            self._is_home = True
            self._joined_at = time.monotonic()

    def members(self, task: str) -> list[int]:
        """Pids of all processes in it; those that have ended and were not waited for count not."""
        return [pid for folder in _below(self._folders[task]) for pid in _pids(folder)]

    def kill(self, task: str) -> None:
        """SIGKILL to all in it; it takes the kernel a moment."""
        folder = self._folders[task]
        with suppress(FileNotFoundError):
            if self._can_kill:
                _write(os.path.join(folder, "cgroup.kill"), b"1")
            else:
                self.kill_each(task)

    def kill_each(self, task: str) -> None:
        """As ``kill``, but leaves a cgroup that others can be started in (see ``room``).

        Frozen, none of them can start another meanwhile; a frozen process can be killed.
        """
        self.freeze(task, True)
        for pid in self.members(task):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.freeze(task, False)

    def freeze(self, task: str, frozen: bool) -> None:
        """Stops all in it where they are, or lets them go on."""
        _write(os.path.join(self._folders[task], "cgroup.freeze"), b"01"[frozen:frozen + 1])

    def clear(self, task: str) -> bool:
        """Removes the task's cgroup; false while a process is in it."""
        folder = self._folders.get(task)
        if folder is None:
            return True
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:  # EBUSY: a process, or a cgroup that the task made below its own
            if not self._clear_below(folder):
                return False
        del self._folders[task]
        return True

    @staticmethod
    def _clear_below(folder: str) -> bool:
        if "populated 1" in _read(os.path.join(folder, "cgroup.events")):
            return False
        try:
            for inner in reversed(list(_below(folder))):
                os.rmdir(inner)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Goes back to where we were started, and leaves no empty folder."""
        for task in list(self._folders):
            self.clear(task)
        with suppress(OSError):
            _write(os.path.join(self._origin, "cgroup.procs"), b"0")
        os.close(self._home)
        for base in self._bases:
            for folder in (os.path.join(base, "self"), base):
                with suppress(OSError):
                    os.rmdir(folder)


def _below(folder: str) -> Iterator[str]:
    """The folder and all below it, each before what is below it."""
    yield folder
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in inner:
            yield from _below(path)


def _pids(folder: str) -> list[int]:
    with suppress(OSError):  # the cgroup went, or is a threaded one
        return [int(pid) for pid in _read(os.path.join(folder, "cgroup.procs")).split()]
    return []


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
