"""Does what the shadows' core wants, with processes, pipes and the journal; and tells it what came.

Each has a pipe, STATE/shadows/TASK, which the process itself holds open at both ends: what it
wrote is there for the next keeper, too.  A record is taken out once it is on the disk here.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import assert_never

from clientd.keeper import forked, orders, pidfd, processes
from clientd.keeper.records import Relayed, Shadow, Shadowed
from clientd.keeper.register import code_of
from clientd.keeper.shadows import actions as do
from clientd.keeper.shadows import process
from clientd.keeper.shadows.core import MOST
from clientd.keeper.shadows.core import Shadows as Core
from clientd.keeper.shadows.table import Phase
from clientd.keeper.tools import Tools
from clientd.keeper.watch import UNREAPED_S
from godwit.errors import TaskError
from godwit.task.record import signal_name

#: Seconds till a process that could not be made, or was ended, is made again; twice as many each
#: time that it could not be made, up to the other.
AGAIN_S = 1.0
AGAIN_MOST_S = 60.0
#: Seconds that a process has to end as it was told; then SIGKILL ends it.
FINISH_S = 2.0
#: Seconds between two looks at whether one is stopped that is not our child: no one tells us.
LOOK_S = 0.5


class Standing:
    """A process, as long as it is there."""

    def __init__(self, pid: int, start_ticks: int, is_child: bool, fd: int, pipe: int):
        self.pid = pid
        self.start_ticks = start_ticks
        self.is_child = is_child
        self.pidfd = fd
        #: The end that is read; -1: it could not be opened.
        self.pipe = pipe
        self.stopped = False

    def close(self) -> None:
        for fd in (self.pidfd, self.pipe):
            if fd >= 0:
                os.close(fd)


class Shadows:
    """All of one node's."""

    def __init__(self, tools: Tools, state: str, open_log: Callable[[str], int]):
        """``open_log``: the log of a task that is elsewhere, for the agent to write; raises
        TaskError."""
        self._open_log = open_log
        self._log_path = tools.spawner.log_path
        self._loop = tools.loop
        self._register = tools.register
        self._gate = tools.gate
        self._others = tools.others
        self._boot = tools.boot
        self._mark = tools.spawner.place.mark
        self._folder = os.path.join(state, "shadows")
        self._core = Core(tools.register.ledger, tools.boot)
        self._there: dict[str, Standing] = {}
        #: How often in a row the process of a task could not be made.
        self._failures: dict[str, int] = {}
        #: Tasks in the list that is coming in.
        self._listed: set[str] = set()
        self._events: deque[do.Event] = deque()
        self._busy = False

    def first_words(self) -> Iterator[orders.Word]:
        """What a new agent is told."""
        yield from self._core.first_words()
        for shadow in list(self._register.ledger.shadows.values()):
            if shadow.log:
                yield orders.HomeLog(shadow.task, self._log_path(shadow.task))

    # ---- what is ordered -------------------------------------------------------------------

    def obey(self, order: orders.Guests | orders.Took) -> None:
        """What the master says of tasks of this home."""
        if isinstance(order, orders.Took):
            self._handle(do.Took(order.task, order.id))
            return
        for guest in order.guests:
            self._listed.add(guest.task)
            self._handle(do.Told(guest))
        if order.sync != "more":
            if order.sync == "last":
                self._handle(do.Listed(frozenset(self._listed)))
            self._listed.clear()

    def relay(self, task: str, number: int) -> bool:
        """A signal that came by a shadow is to be sent here now: true once, then never again.

        Raises TaskError when that cannot be put on record: then it was not sent.
        """
        if self._register.ledger.relayed.get(task, 0) >= number:
            return False
        try:
            self._register.record(Relayed(task, number), True, task)
        except OSError as err:
            raise TaskError(code_of(err), f"the journal of this node: {err.strerror}") from err
        return True

    def arrives(self, task: str) -> None:
        """The task runs here next: afterwards no process stands for it."""
        self._handle(do.Arrives(task))

    def leave(self) -> None:
        """This node stops for good."""
        self._handle(do.Leaves())

    # ---- events ----------------------------------------------------------------------------

    def _handle(self, event: do.Event) -> None:
        """Now, or after what is being done."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                for action in self._core.handle(self._events.popleft()):
                    self._perform(action)
        finally:
            self._busy = False

    def _perform(self, action: do.Action) -> None:
        match action:
            case do.Note(shadow, durable):
                self._note(shadow, durable)
            case do.Tell(word):
                self._register.tell(word)
            case do.Make(shadow):
                self._make(shadow)
            case do.MakeLater(task):
                pause = min(AGAIN_S * 2 ** self._failures.get(task, 0), AGAIN_MOST_S)
                self._loop.alarm(f"shadow {task}", pause, lambda: self._handle(do.Due(task)))
            case do.Entitle(shadow):
                if shadow.pid is not None:
                    with suppress(OSError):  # it shows where the guest was
                        process.entitle(shadow.pid, shadow.task, shadow.node)
            case do.Finish(shadow):
                self._finish(shadow)
            case do.Kill(shadow):
                self._kill(shadow.task)
            case do.KeepLog(task):
                self._keep_log(task)
            case do.LeaveLog(task, drop):
                self._register.tell(orders.HomeLog(task, ""))
                if drop and task not in self._register.tasks:
                    with suppress(OSError):
                        os.unlink(self._log_path(task))
            case do.Say(level, text, task):
                self._register.log(level, text, task=task)
            case _:
                assert_never(action)

    def _note(self, shadow: Shadow, durable: bool) -> None:
        record = Shadowed(shadow)
        if durable:
            with suppress(OSError):  # a full disk: it waits for room, in memory
                self._register.record(record, True, shadow.task)
                return
        self._register.note(record)

    def _keep_log(self, task: str) -> None:
        try:
            os.close(self._open_log(task))
        except TaskError as err:
            self._register.log("warning", f"the log of {task} at home: {err}", task=task)
        else:
            self._register.tell(orders.HomeLog(task, self._log_path(task)))

    # ---- processes -------------------------------------------------------------------------

    def _make(self, shadow: Shadow) -> None:
        task = shadow.task
        if task in self._there:
            return
        try:
            user = self._gate.user_of(shadow.user)
            pipe, write = self._new_pipe(task)
            try:
                pid = process.make(task, shadow.node, self._mark, user, write)
            except BaseException:
                os.close(pipe)
                raise
            finally:
                os.close(write)
        except (TaskError, forked.StepFailed) as err:
            self._unmade(task, str(err))
            return
        except OSError as err:
            self._unmade(task, err.strerror or str(err))
            return
        self._failures.pop(task, None)
        there = processes.look(pid)  # as a zombie if need be: nobody has waited for it
        ticks = there.start_ticks if there else 0
        self._add(task, Standing(pid, ticks, True, os.pidfd_open(pid), pipe))
        self._register.log(
            "config", f"{task} left for {shadow.node}: pid {pid} is its shadow", task=task
        )
        self._events.append(do.Made(task, pid, ticks))

    def _unmade(self, task: str, why: str) -> None:
        if len(self._failures) > MOST:  # of tasks that have ended since
            self._failures.clear()
        self._failures[task] = min(self._failures.get(task, -1) + 1, 10)
        self._events.append(do.Unmade(task, why))

    def _path(self, task: str) -> str:
        return os.path.join(self._folder, task)

    def _new_pipe(self, task: str) -> tuple[int, int]:
        """The end to read, and that for the process.  Raises OSError."""
        os.makedirs(self._folder, 0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(self._path(task))
        os.mkfifo(self._path(task), 0o600)
        read = os.open(self._path(task), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return read, os.open(self._path(task), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            os.close(read)
            raise

    def _add(self, task: str, there: Standing) -> None:
        self._there[task] = there
        if there.is_child:
            self._others[there.pid] = lambda: self._reap(task)
        else:
            self._loop.alarm(f"look {task}", LOOK_S, lambda: self._look(task))
        self._loop.watch(there.pidfd, lambda events: self._on_end(task, events))
        if there.pipe >= 0:
            self._loop.watch(there.pipe, lambda _: self._read(task))

    def _finish(self, shadow: Shadow) -> None:
        there = self._there.get(shadow.task)
        if there is None:
            self._events.append(do.Died(shadow.task, None, time.time()))
            return
        try:
            process.end(there.pidfd, shadow.status)
        except OSError:  # ESRCH: it is dead; EAGAIN: too many signals wait
            process.kill(there.pidfd)
        self._loop.alarm(f"shadow {shadow.task}", FINISH_S, lambda: self._kill(shadow.task))

    def _kill(self, task: str) -> None:
        there = self._there.get(task)
        if there is not None and process.kill(there.pidfd) and there.is_child:
            self._reap(task)

    # ---- ends ------------------------------------------------------------------------------

    def _on_end(self, task: str, events: int) -> None:
        there = self._there[task]
        if there.is_child:
            self._reap(task)
            return
        status = pidfd.exit_status(there.pidfd, there.pid, there.start_ticks)
        hung_up = bool(events & 0x10)  # EPOLLHUP: its parent has waited for it
        if status is None and not hung_up:
            self._loop.watch(there.pidfd, lambda more: self._on_end(task, more), 0)
            self._loop.alarm(f"shadow {task}", UNREAPED_S, lambda: self._died(task, None))
            return
        self._died(task, status)

    def _reap(self, task: str) -> None:
        there = self._there.get(task)
        if there is None:
            return
        pid, status = os.waitpid(there.pid, os.WNOHANG)
        if pid:
            self._died(task, status)

    def _died(self, task: str, status: int | None) -> None:
        there = self._there.get(task)
        if there is None:
            return
        self._read(task)  # what it still had said
        there = self._there.pop(task)
        self._others.pop(there.pid, None)
        self._loop.silence(f"shadow {task}")
        self._loop.silence(f"look {task}")
        for fd in (there.pidfd, there.pipe):
            if fd >= 0:
                self._loop.forget(fd)
        there.close()
        with suppress(FileNotFoundError):
            os.unlink(self._path(task))
        known = self._register.ledger.shadows.get(task)
        if known is not None and known.phase is Phase.ENDING:
            self._register.log("config", f"the shadow of {task} ended ({_how(status)})", task=task)
        self._handle(do.Died(task, status, time.time()))

    # ---- what it catches -------------------------------------------------------------------

    def _read(self, task: str) -> None:
        """Takes what the process wrote, as much as may wait here."""
        there = self._there[task]
        while there.pipe >= 0:
            if self._core.is_full(task):
                self._loop.forget(there.pipe)
                self._loop.alarm(f"full {task}", LOOK_S, lambda: self._read_on(task))
                return
            caught = process.peek(there.pipe)
            if not caught:
                return
            one = caught[0]
            self._handle(do.Signalled(task, one.number, one.count, time.time()))
            process.drop(there.pipe, 1)

    def _read_on(self, task: str) -> None:
        there = self._there.get(task)
        if there is not None and there.pipe >= 0:
            self._loop.watch(there.pipe, lambda _: self._read(task))

    def look_for_stops(self) -> None:
        """After SIGCHLD: SIGSTOP cannot be caught, but a parent is told that it was stopped.

        That one goes on is told by the process itself: SIGCONT both wakes it and waits for it.
        """
        for task, there in list(self._there.items()):
            if there.is_child:
                with suppress(ChildProcessError):
                    self._look_at_child(task, there.pid)

    def _look_at_child(self, task: str, pid: int) -> None:
        found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        if found is not None and found.si_code == os.CLD_STOPPED:
            self._handle(do.Signalled(task, found.si_status, at=time.time()))

    def _look(self, task: str) -> None:
        there = self._there.get(task)
        if there is None:
            return
        stopped = process.is_stopped(there.pid)
        if stopped and not there.stopped:
            self._handle(do.Signalled(task, signal.SIGSTOP, at=time.time()))
        there.stopped = stopped
        self._loop.alarm(f"look {task}", LOOK_S, lambda: self._look(task))

    # ---- after a restart -------------------------------------------------------------------

    def adopt(self) -> None:
        """Goes on with what an earlier keeper left."""
        shadows = list(self._register.ledger.shadows.values())
        on_record = {(s.task, s.pid, s.start_ticks) for s in shadows if s.boot == self._boot}
        if os.path.isdir(self._folder):
            for task, stray in process.strays(self._mark):
                if (task, stray.pid, stray.start_ticks) not in on_record:
                    _kill_stray(stray)
        for shadow in shadows:
            self._handle(do.Returned(shadow.task, self._take_over(shadow)))

    def _take_over(self, shadow: Shadow) -> bool:
        """Its process is there, and is watched now."""
        there = processes.look(shadow.pid) if shadow.pid is not None else None
        if there is None or shadow.pid is None or shadow.boot != self._boot:
            return False
        if there.start_ticks != shadow.start_ticks or there.is_dead:
            return False
        try:
            fd = os.pidfd_open(shadow.pid)
        except OSError:
            return False
        pipe = -1
        with suppress(OSError):
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            pipe = os.open(self._path(shadow.task), flags)
        self._add(shadow.task, Standing(shadow.pid, shadow.start_ticks, False, fd, pipe))
        self._register.log(
            "config", f"pid {shadow.pid} is still the shadow of {shadow.task}", task=shadow.task
        )
        return True


def _kill_stray(stray: processes.Process) -> None:
    with suppress(OSError):
        fd = os.pidfd_open(stray.pid)
        try:
            now = processes.look(stray.pid)
            if now is not None and now.start_ticks == stray.start_ticks:
                process.kill(fd)
        finally:
            os.close(fd)


def _how(status: int | None) -> str:
    """For the log."""
    if status is None:
        return "status unknown"
    number = status & 0x7F
    return signal_name(number) if number else f"code {status >> 8}"
