"""Runners, the processes of python tasks, as the keeper talks to them.

Each listens on a socket below the state folder, which we make before it is born; so a keeper
that was started anew finds it again.  Everything is told by one callback, and never from within
a call to us.
"""

import errno
import os
import resource
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from select import EPOLLIN, EPOLLOUT
from socket import AF_UNIX, SOCK_SEQPACKET, socket

import msgspec
from msgspec import Struct, field

from clientd.keeper.loop import Loop
from clientd.keeper.nursery import Nursery
from clientd.keeper.zygote_words import Birth
from clientd.keeper.zygote_words import Born as Answer
from godwit.errors import MessageError, TaskError
from godwit.log import Log
from godwit.task import control, packets


class Born(Struct, frozen=True):
    """The runner is there, warm and our child; what is said to it reaches it."""

    pid: int


class Unborn(Struct, frozen=True):
    """There is no runner, and nothing is left of it."""

    code: str
    text: str


class Gone(Struct, frozen=True):
    """The runner has ended, or is ending; nothing more comes of it."""

    #: As wait(2) has it, when it was ours to wait for.
    status: int | None = None


Told = Born | Unborn | Gone | control.Answers


class Plan(Struct, frozen=True):
    """What a runner is born with."""

    #: What ps(1) is to show.
    words: tuple[bytes, ...]
    environment: dict[bytes, bytes]
    cwd: bytes
    limit: tuple[int, int]
    user: tuple[str, int, int] | None = None


class _Line(Struct):
    """One runner's connection."""

    link: socket | None = None
    #: Of the runner, while it is ours to wait for.
    pid: int = 0
    #: How it ended meanwhile.
    ended: tuple[int, resource.struct_rusage] | None = None
    unsent: deque[tuple[bytes, list[int]]] = field(default_factory=deque)


class Runners:
    """All runners that are not dropped, by task."""

    def __init__(
        self, loop: Loop, log: Log, folder: str, mark: str,
        others: dict[int, Callable[[], None]], told: Callable[[str, Told], None],
    ):
        """``folder``: of the sockets; made at need.  ``told(task, word)`` gets all there is."""
        self._loop = loop
        self._log = log
        self._folder = folder
        self._others = others
        self._told = told
        self._lines: dict[str, _Line] = {}
        self._nursery = Nursery(loop, log, mark, others, self._born)

    # ---- births ------------------------------------------------------------------------------

    def birth(self, task: str, plan: Plan, log: int, cgroup: int = -1) -> None:
        """Has a runner born; answered by Born or Unborn.  Raises TaskError.

        ``log`` becomes its stdout and stderr; it begins in the cgroup whose folder is open as
        ``cgroup``.  Both stay the caller's.  We must be in no task's cgroup.
        """
        try:
            fds = [packets.in_memory(msgspec.msgpack.encode(plan.environment))]
            try:
                listener = self._listen(task)
                with listener:
                    fds += [log, listener.fileno(), *([cgroup] if cgroup >= 0 else [])]
                    birth = Birth(task, plan.words, plan.cwd, plan.limit, plan.user)
                    self._nursery.ask(birth, fds)
            finally:
                os.close(fds[0])
        except OSError as err:
            self._unlink(task)
            raise TaskError(_code(err), f"its process: {err.strerror}") from err
        self._lines[task] = _Line()

    def _born(self, answer: Answer) -> None:
        if answer.pid and not _is_ours(answer.pid):
            # It was ended at once, and waited for with all that nobody knows.
            answer = Answer(answer.task, 0, answer.step or "its process was ended", answer.number)
        task, pid = answer.task, answer.pid
        line = self._lines.get(task)
        if pid:
            self._others[pid] = partial(self._reap, pid, line)
        if line is None:  # dropped while it was being born
            self._discard(task, pid)
            return
        if not answer.step:
            line.pid = pid
            try:
                self._open(task, line)
            except OSError as err:
                self._discard(task, pid)
                answer = Answer(task, 0, "its control socket", err.errno or 0)
            else:
                self._told(task, Born(pid))
                self._flush(task, line)
                return
        del self._lines[task]
        self._unlink(task)
        self._told(task, _unborn(answer))

    def _discard(self, task: str, pid: int) -> None:
        """A runner that nobody wants any more."""
        self._unlink(task)
        if pid in self._others:  # not waited for, so the pid is its own
            os.kill(pid, signal.SIGKILL)

    def _reap(self, pid: int, line: _Line | None) -> None:
        """After SIGCHLD: its status is kept till somebody asks."""
        ended, status, used = os.wait4(pid, os.WNOHANG)
        if not ended:
            return
        del self._others[pid]
        task = next((task for task, one in self._lines.items() if one is line), "")
        if line is None or not task:
            return
        line.pid, line.ended = 0, (status, used)
        self._receive(task, line)
        if self._lines.get(task) is line:
            self._hang_up(line)
            self._told(task, Gone(status))

    def hand_over(self, task: str) -> tuple[int, resource.struct_rusage] | None:
        """From now on the runner is the caller's to wait for.

        What wait4(2) said, if it has ended already: then Gone was told, or is yet to be.
        """
        line = self._lines[task]
        self._others.pop(line.pid, None)
        line.pid = 0
        return line.ended

    # ---- connections -------------------------------------------------------------------------

    def connect(self, task: str) -> None:
        """To a runner that an earlier keeper had born.  Raises TaskError: there is none."""
        line = self._lines[task] = _Line()
        try:
            self._open(task, line)
        except OSError as err:
            del self._lines[task]
            raise TaskError("no-runner", f"{task}: its process: {err.strerror}") from err

    def holds(self, task: str) -> bool:
        """Something can be said to it."""
        return task in self._lines

    def say(self, task: str, word: control.Orders, *fds: int) -> None:
        """Says something; once it is born, if it is not yet.  The descriptors stay the caller's.

        Raises TaskError when there is no such runner, or no descriptor left.
        """
        line = self._lines.get(task)
        if line is None:
            raise TaskError("no-runner", f"{task} has no process that could be told")
        try:
            line.unsent.append((control.encode(word), [os.dup(fd) for fd in fds]))
        except OSError as err:
            raise TaskError(_code(err), f"{task}: {err.strerror}") from err
        self._flush(task, line)

    def drop(self, task: str) -> None:
        """Nothing more is said to it or heard of it; it runs on."""
        line = self._lines.pop(task, None)
        self._unlink(task)
        if line is not None:
            self._hang_up(line)

    def end(self, task: str) -> None:
        """SIGKILL to a runner that was not handed over, and drop it."""
        line = self._lines.get(task)
        self.drop(task)
        if line is not None and line.pid:
            self._discard(task, line.pid)

    def _flush(self, task: str, line: _Line) -> None:
        if line.link is None:
            return
        ready = partial(self._on_ready, task, line)
        try:
            while line.unsent:
                payload, fds = line.unsent[0]
                packets.send(line.link, payload, fds)
                packets.close(fds)
                line.unsent.popleft()
        except BlockingIOError:
            self._loop.watch(line.link.fileno(), ready, EPOLLIN | EPOLLOUT)
            return
        except OSError:  # it is gone; reading says so, too
            pass
        self._loop.watch(line.link.fileno(), ready, EPOLLIN)

    def _on_ready(self, task: str, line: _Line, events: int) -> None:
        if events & EPOLLOUT:
            self._flush(task, line)
        if events & ~EPOLLOUT and not self._receive(task, line):
            self._lost(task, line)

    def _receive(self, task: str, line: _Line) -> bool:
        """Tells all that is there; false when there is no more to come."""
        try:
            while line.link and (got := packets.receive(line.link, apart=False)):
                packets.close(got[1])
                self._told(task, control.decode_answer(got[0]))
        except BlockingIOError:
            return True
        except (OSError, MessageError) as err:
            self._log("warning", f"the process of {task}: {err}", task=task)
        return False

    def _lost(self, task: str, line: _Line) -> None:
        """It hung up: it is ending, as a rule."""
        self._hang_up(line)
        if self._lines.get(task) is not line:
            return
        if line.pid:
            os.kill(line.pid, signal.SIGKILL)  # if it only pretends; SIGCHLD tells the rest
        else:
            del self._lines[task]  # it may be connected to again
            if line.ended is None:
                self._told(task, Gone())

    def _hang_up(self, line: _Line) -> None:
        if line.link is not None:
            self._loop.forget(line.link.fileno())
            line.link.close()
            line.link = None
        for _, fds in line.unsent:
            packets.close(fds)
        line.unsent.clear()

    # ---- sockets -----------------------------------------------------------------------------

    def _listen(self, task: str) -> socket:
        """The socket that a runner will accept us on.  Raises OSError."""
        os.makedirs(self._folder, 0o700, exist_ok=True)
        self._unlink(task)
        listener = socket(AF_UNIX, SOCK_SEQPACKET)
        try:
            with _short(self._folder) as folder:
                listener.bind(f"{folder}/{task}")
            listener.listen(4)
        except OSError:
            listener.close()
            raise
        return listener

    def _open(self, task: str, line: _Line) -> None:
        """Raises OSError."""
        line.link = socket(AF_UNIX, SOCK_SEQPACKET)
        line.link.setblocking(False)
        try:
            with _short(self._folder) as folder:
                line.link.connect(f"{folder}/{task}")
        except OSError:
            line.link.close()
            line.link = None
            raise
        self._loop.watch(line.link.fileno(), partial(self._on_ready, task, line))

    def _unlink(self, task: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, task))

    def close(self) -> None:
        """Hangs up everywhere; runners run on, and are found again by their sockets."""
        for line in self._lines.values():
            self._hang_up(line)
        self._lines.clear()
        self._nursery.close()


def _is_ours(pid: int) -> bool:
    """A child that has not been waited for; its pid is no other's."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@contextmanager
def _short(folder: str) -> Iterator[str]:
    """The folder under a name that fits into a socket's address, 108 bytes: unix(7)."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _unborn(answer: Answer) -> Unborn:
    if not answer.number:
        return Unborn(answer.step, "the process that starts python tasks ended")
    code = errno.errorcode.get(answer.number, str(answer.number))
    return Unborn(code, f"{answer.step}: {os.strerror(answer.number)}")


def _code(err: OSError) -> str:
    return errno.errorcode.get(err.errno or 0, str(err.errno))
