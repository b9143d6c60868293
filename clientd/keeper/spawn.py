"""Starts one program as a task: its own session, its log, nothing else of ours.

posix_spawn does it without copying our page tables; only a change of user, and to begin in another
cgroup, need fork.  What cannot be executed is an error here, at once.
"""

import errno
import os
import pwd
import resource
from contextlib import suppress

from msgspec import Struct

from clientd.keeper import below, environment, forked
from clientd.keeper.apart import Apart
from clientd.keeper.forked import RESET, probe
from godwit.errors import TaskError
from godwit.task.record import Spec


class Place(Struct, frozen=True):
    """Where this node's tasks live; the same for all of them."""

    node: str
    #: Told to each task as GODWIT_KEEPER: which clientd of this machine started it.
    mark: str
    #: Folder of the tasks' logs.
    logs: str
    #: Where a task starts that asks for no other folder.
    files: bytes
    #: RLIMIT_NOFILE for tasks, and our own.
    limit: tuple[int, int]
    own_limit: tuple[int, int]
    #: Who besides us reads the logs: the agent's group, if it is another user; -1: nobody.
    readers: int = -1


class Surroundings(Struct, frozen=True):
    """What a task finds around it."""

    #: None: whoever we are.
    user: pwd.struct_passwd | None
    environment: dict[bytes, bytes]
    cwd: bytes


class Spawned(Struct, frozen=True):
    """The program's process; and its init, our child in its stead, or 0 for one that has none."""

    pid: int
    init: int = 0
    #: Of a program that has an init; else -1.
    pidfd: int = -1
    #: 0: it is there still, to be looked at.
    start_ticks: int = 0


class Spawner:
    """Starts tasks; holds /dev/null open for their stdin."""

    def __init__(self, place: Place, apart: Apart | None = None):
        """``apart``: how tasks get a pid namespace, where that can be."""
        self.place = place
        self.apart = apart
        self._null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._user = environment.of_user(*myself(), os.environb)

    def close(self) -> None:
        os.close(self._null)

    def log_path(self, task: str) -> str:
        return os.path.join(self.place.logs, f"{task}.log")

    def spawn(self, spec: Spec, cgroup: int = -1) -> Spawned:
        """The task's root, whose program is already executing.

        It begins in the cgroup whose folder is open as ``cgroup``, else in ours.  Raises
        TaskError, naming what is wrong, and then nothing is left of it.  Our own working
        directory may be the task's afterwards.
        """
        environment.check(spec)
        user = forked.find_user(spec.user) if spec.user else None
        if user is not None and user.pw_uid == os.geteuid():
            user = None
        log = self._open_log(spec.task)
        try:
            if user is not None or cgroup >= 0 or (self.apart and spec.contained):
                return self._fork(spec, log, user, cgroup)
            return Spawned(self._spawn(spec, log))
        except TaskError:
            os.unlink(self.log_path(spec.task))
            raise
        finally:
            os.close(log)

    def surroundings(self, spec: Spec) -> Surroundings:
        """For a process that executes nothing.  Raises TaskError."""
        environment.check(spec)
        user = forked.find_user(spec.user) if spec.user else None
        if user is not None and user.pw_uid == os.geteuid():
            user = None
        own = self._user if user is None else environment.of_user(
            user.pw_name, user.pw_dir, user.pw_shell, os.environb
        )
        return Surroundings(user, self._environment(own, spec), self.cwd(spec))

    def open_log(self, task: str) -> int:
        """Made now, and to be appended to.  Raises TaskError."""
        return self._open_log(task)

    def _open_log(self, task: str) -> int:
        path = self.log_path(task)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with suppress(FileNotFoundError):
                return self._for_readers(os.open(path, flags, 0o640))
            os.makedirs(self.place.logs, exist_ok=True)
            return self._for_readers(os.open(path, flags, 0o640))
        except FileExistsError:
            # Its record is lost, but it has run.
            raise TaskError("EEXIST", f"a task {task} was started here before") from None
        except OSError as err:
            raise _failure(err, f"its log {path}") from err

    def _for_readers(self, log: int) -> int:
        if self.place.readers >= 0:
            os.fchown(log, -1, self.place.readers)
        return log

    def _spawn(self, spec: Spec, log: int) -> int:
        cwd = self.cwd(spec)
        try:
            os.chdir(cwd)
        except OSError as err:
            raise _failure(err, f"its working directory {_text(cwd)}") from err
        words = environment.words(spec)
        env = self._environment(self._user, spec)
        file = environment.choose(words[0], env[b"PATH"], probe)
        # Tasks get the limit that we were started with; the kernel copies ours.
        resource.setrlimit(resource.RLIMIT_NOFILE, self.place.limit)
        try:
            return os.posix_spawn(
                file, words, env, setsid=True, setsigdef=RESET, setsigmask=(),
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, self._null, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ),
            )
        except OSError as err:
            raise _refusal(words[0], file, err.errno or errno.EIO) from err
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.place.own_limit)

    def _own(self, user: pwd.struct_passwd | None) -> dict[bytes, bytes]:
        """A user's own environment."""
        if user is None:
            return self._user
        return environment.of_user(user.pw_name, user.pw_dir, user.pw_shell, os.environb)

    def _fork(
        self, spec: Spec, log: int, user: pwd.struct_passwd | None, cgroup: int
    ) -> Spawned:
        words, env, cwd = (
            environment.words(spec), self._environment(self._own(user), spec), self.cwd(spec)
        )
        program = forked.Program(
            user, cgroup, environment.candidates(words[0], env[b"PATH"]), words, env, cwd,
            self._null, log, self.place.limit,
        )
        try:
            if self.apart and spec.contained:
                uid = user.pw_uid if user else os.geteuid()
                init, found = below.spawn(program, self.apart.init(uid))
                return Spawned(found.pid, init, found.pidfd, found.start_ticks)
            return Spawned(forked.spawn(program))
        except OSError as err:
            raise _failure(err, "its process") from err
        except forked.StepFailed as failed:
            if failed.step == "exec" or failed.number == errno.E2BIG:
                # To say why, look for it as we would have.
                file = environment.choose(
                    words[0], env[b"PATH"], lambda file: probe(_meant(cwd, file))
                )
                raise _refusal(words[0], _meant(cwd, file), failed.number) from failed
            what = f"its working directory {_text(cwd)}" if failed.step == "chdir" else failed.step
            if user:
                what += f" (as {user.pw_name})"
            raise _failure(OSError(failed.number, os.strerror(failed.number)), what) from failed

    def cwd(self, spec: Spec) -> bytes:
        """The working directory that a task has here."""
        return os.path.join(self.place.files, spec.cwd)

    def _environment(self, user: dict[bytes, bytes], spec: Spec) -> dict[bytes, bytes]:
        return environment.of_task(user, spec, self.place.node, self.place.mark)


def _refusal(word: bytes, file: bytes, number: int) -> TaskError:
    missing = number == errno.ENOENT and os.path.exists(file)
    meaning = f"its interpreter is missing{_interpreter(file)}" if missing else ""
    return environment.refusal(word, number, meaning)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _meant(cwd: bytes, file: bytes) -> bytes:
    """The file as whoever stands in ``cwd`` means it; no name is no file, and not the folder."""
    return os.path.join(cwd, file) if file else file


def _interpreter(file: bytes) -> str:
    """What a script's first line asks for."""
    with suppress(OSError), open(file, "rb") as script:
        first = script.readline(256)
        if first.startswith(b"#!") and (asked := first[2:].split()):
            return ": " + asked[0].decode("utf-8", "backslashreplace")
    return ""


def _failure(err: OSError, what: str) -> TaskError:
    code = errno.errorcode.get(err.errno or 0, str(err.errno))
    return TaskError(code, f"{what}: {err.strerror}")


def myself() -> tuple[str, str, str]:
    """Name, home and shell of the user we run as; a user without a passwd(5) line has a number."""
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:
        return str(os.geteuid()), "/", "/bin/sh"
    return user.pw_name, user.pw_dir, user.pw_shell
