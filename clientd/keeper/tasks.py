"""All tasks of a node: started, watched, signalled, ended, forgotten; each step on record first."""

import errno
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from clientd.keeper import orders, pidfd, processes
from clientd.keeper.adoption import (
    UNTOLD,
    UNWATCHED,
    Sight,
    decide,
    leader_of,
    left_text,
    unrecorded,
)
from clientd.keeper.containment import Containment
from clientd.keeper.endings import Endings
from clientd.keeper.journal import Journal
from clientd.keeper.loop import Loop
from clientd.keeper.news import News
from clientd.keeper.records import (
    Accepted,
    Exited,
    Forgotten,
    Ledger,
    Noted,
    Records,
    Refused,
    Started,
    Stepped,
    told_by,
)
from clientd.keeper.spawn import Spawner
from clientd.keeper.watch import Root, Watch
from godwit.errors import TaskError
from godwit.log import Log
from godwit.names import is_task_id
from godwit.task.lifecycle import Cause, Status, advance
from godwit.task.record import Spec, Task, Usage, signal_name

#: Launches in one turn of the loop, so that exits and orders never wait for long.
BATCH = 32
#: Seconds till a process that was found ending has ended.
JUST_ENDING_S = 0.05


@dataclass(frozen=True, slots=True)
class Tools:
    """What tasks are kept with."""

    loop: Loop
    log: Log
    journal: Journal
    ledger: Ledger
    spawner: Spawner
    containment: Containment
    news: News
    #: This boot of the machine.
    boot: str
    #: Who waits for which of our children that are no task's.
    others: dict[int, Callable[[], None]]


class Tasks:
    """See the module."""

    def __init__(self, tools: Tools):
        self._tools = tools
        self._ledger = tools.ledger
        self._news = tools.news
        self._containment = tools.containment
        self._watch = Watch(tools.loop, self._ended, tools.others)
        self._endings = Endings(tools.loop, self._kill, self._is_gone)
        self._pending: deque[Spec] = deque()
        #: Tasks that have ended while processes of theirs run on.
        self._left: set[str] = set()
        self._trouble = ""
        self._said: dict[str, list[str]] = {}

    # ---- what there is ---------------------------------------------------------------------

    @property
    def is_launching(self) -> bool:
        """Accepted tasks wait for their turn."""
        return bool(self._pending)

    def running(self) -> list[str]:
        return list(self._watch.roots)

    def occupied(self) -> list[str]:
        """Tasks with a process, their root or another."""
        return [*self._watch.roots, *self._left]

    def _known(self, task: str) -> Task:
        try:
            return self._ledger.tasks[task]
        except KeyError:
            raise TaskError("no-task", f"{task}: no such task on this node") from None

    def _alive(self, task: str) -> Task:
        known = self._known(task)
        if known.status is Status.STARTING:
            raise TaskError("starting", f"{task} has not started yet")
        if task not in self._watch.roots:
            raise TaskError("ended", f"{task} has ended")
        return known

    def _note(self, record: Records, *changed: str) -> None:
        """The one way in which anything changes.  Raises TaskError, and then nothing has."""
        self._ledger.apply(record)
        self._tools.journal.append(record)
        for task in changed:
            self._news.changed(task)

    # ---- starting --------------------------------------------------------------------------

    def accept(self, specs: Iterable[Spec]) -> None:
        """Takes launches; an id that was seen before is told of, and never started again."""
        fresh: dict[str, Spec] = {}
        for spec in specs:
            if not is_task_id(spec.task):
                self._reject(spec.task, "bad-id", f"{spec.task!r} is no task id")
            elif not self._seen(spec.task):
                fresh.setdefault(spec.task, spec)
        if not fresh:
            return
        accepted = Accepted(tuple(fresh.values()))
        try:
            self._tools.journal.commit(accepted)
        except OSError as err:
            for task in fresh:
                self._reject(task, _code(err), f"the journal of this node: {err.strerror}")
            return
        self._ledger.apply(accepted)
        self._pending.extend(accepted.specs)

    def _seen(self, task: str) -> bool:
        if task in self._ledger.tasks:
            self._news.changed(task)
        elif refused := self._ledger.refused.get(task):
            self._reject(task, refused.code, refused.text)
        elif task in self._ledger.forgotten:
            self._news.word(orders.Forgotten((task,)))
        else:
            return False
        return True

    def _reject(self, task: str, code: str, text: str) -> None:
        self._news.word(orders.Rejected(task, code, text))

    def launch_some(self) -> None:
        """Starts the next of the accepted tasks."""
        many = len(self._pending) >= BATCH
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            for _ in range(min(BATCH, len(self._pending))):
                self._launch(self._pending.popleft(), many, peak)
        finally:
            self._containment.leave()
            os.chdir("/")

    def _launch(self, spec: Spec, many: bool, peak: int) -> None:
        try:
            pid = self._spawn(spec, many)
        except TaskError as err:
            self._containment.leave()
            self._containment.clear(spec.task)
            self._refuse(spec.task, err.code, str(err))
            return
        process = processes.look(pid)
        ticks = process.start_ticks if process else 0
        log = self._tools.spawner.log_path(spec.task)
        self._note(
            Started(spec.task, pid, ticks, self._tools.boot, log, time.time()), spec.task
        )
        self._watch.add(Root(spec.task, pid, ticks, True, peak))
        self._say("started", f"{spec.task} (pid {pid})")

    def _spawn(self, spec: Spec, many: bool) -> int:
        try:
            cgroup = self._containment.enter(spec.task, many)
        except OSError as err:
            raise TaskError("containment", f"its cgroup: {err.strerror}") from err
        try:
            return self._tools.spawner.spawn(spec, cgroup)
        finally:
            if cgroup >= 0:
                os.close(cgroup)

    def _refuse(self, task: str, code: str, text: str) -> None:
        self._note(Refused(task, code, text))
        self._reject(task, code, text)
        self._say("refused", f"{task} ({text})")

    def withdraw_pending(self, why: str) -> None:
        """Starts none of the accepted tasks that have not started yet."""
        while self._pending:
            self._refuse(self._pending.popleft().task, "stopping", why)

    # ---- ends ------------------------------------------------------------------------------

    def reap(self) -> None:
        """After SIGCHLD: waits for everything that ended."""
        if self._watch.reap():
            self._look_after_left()

    def _ended(self, root: Root, status: int | None, used: Usage | None) -> None:
        task, now = root.task, time.time()
        known = self._ledger.tasks[task]
        left = self._containment.left(known, root.is_child, self._children())
        if left is not None:
            self._left.add(task)
        if left == 0:
            self._tools.loop.alarm("left", JUST_ENDING_S, self._look_after_left)
        reason = left_text(left) if left else ""
        self._say("ended", f"{task} ({_how(status)})")
        if status is not None:
            self._note(Exited(task, status, now, used, reason), task)
        else:
            reason = "; ".join(filter(None, (UNTOLD, reason)))
            self._note(Stepped(task, Cause.LOST, reason, now), task)

    def _children(self) -> tuple[int, ...]:
        return (*self._watch.by_pid, *self._tools.others)

    def _look_after_left(self) -> None:
        """What tasks left behind may have ended now."""
        left = [self._ledger.tasks[task] for task in self._left]
        for task in self._containment.emptied(left, self._children()):
            self._left.discard(task)
            known = self._ledger.tasks[task]
            if known.status is Status.EXITED and known.reason:
                self._note(Noted(task, ""), task)

    def _kill(self, task: str) -> None:
        self._containment.kill(self._ledger.tasks[task], task in self._watch.roots)

    def _is_gone(self, task: str) -> bool:
        if task in self._watch.roots:
            return False
        self._look_after_left()
        return task not in self._left

    # ---- what is done to tasks -------------------------------------------------------------

    def signal(self, task: str, number: int) -> str:
        """To the task's process group.  What there is to say of it.  Raises TaskError."""
        if number not in signal.valid_signals():
            raise TaskError("bad-signal", f"{number} is no signal")
        known = self._alive(task)
        root = self._watch.roots[task]
        try:
            pidfd.signal_group(root.pidfd, root.pid, number)
        except ProcessLookupError:
            raise TaskError("ended", f"{task} has ended") from None
        except OSError as err:
            raise TaskError(_code(err), f"{task}: {err.strerror}") from err
        self._say(signal_name(number), task)
        if known.status is Status.PAUSED and number != signal.SIGKILL:
            return f"{task} is paused: {signal_name(number)} acts when it is resumed"
        return ""

    def pause(self, task: str, resume: bool) -> None:
        """Stops all of a task where it is, or lets it go on.  Raises TaskError."""
        known = self._alive(task)
        cause = Cause.RESUMED if resume else Cause.PAUSED
        advance(known.status, cause)
        try:
            if not self._containment.freeze(known, not resume):
                root = self._watch.roots[task]
                number = signal.SIGCONT if resume else signal.SIGSTOP
                pidfd.signal_group(root.pidfd, root.pid, number)
        except OSError as err:
            raise TaskError(_code(err), f"{task}: {err.strerror}") from err
        self._note(Stepped(task, cause), task)
        self._say(cause.value, task)

    def terminate(self) -> None:
        """SIGTERM to every task; those that are paused go on, to hear it."""
        for task in self.running():
            with suppress(TaskError):
                self.signal(task, signal.SIGTERM)
                if self._ledger.tasks[task].status is Status.PAUSED:
                    self.pause(task, resume=True)

    def end(self, task: str, done: Callable[[bool], None]) -> None:
        """Kills everything the task ever started; then tells whether nothing is left.

        Raises TaskError when there is nothing to end.
        """
        known = self._known(task)
        if task not in self._watch.roots:
            if known.status is Status.UNKNOWN:
                # Nobody watches what it may have left.
                self._left.add(task)
            elif task not in self._left:
                self._alive(task)
        self._endings.begin(task, done)

    def forget(self, task: str, done: Callable[[bool], None]) -> None:
        """Ends all of a task, then drops its record and log.  Raises TaskError."""
        known = self._known(task)
        if known.status is Status.STARTING:
            self._pending = deque(spec for spec in self._pending if spec.task != task)
        occupied = task in self._watch.roots or task in self._left
        if not occupied and known.status is not Status.UNKNOWN:
            self._drop([task])
            done(True)
            return

        def ended(gone: bool) -> None:
            if gone:
                self._drop([task])
            done(gone)

        self.end(task, ended)

    def _drop(self, tasks: list[str]) -> None:
        there = [task for task in tasks if task in self._ledger.tasks]
        if not there:
            return
        logs = [self._ledger.tasks[task].log for task in there]
        self._note(Forgotten(tuple(there)))
        for log in filter(None, logs):
            with suppress(OSError):
                os.unlink(log)
        self._news.word(orders.Forgotten(tuple(there)))
        self._say("forgotten", *there)

    # ---- each turn -------------------------------------------------------------------------

    def settle(self) -> None:
        """Writes down what this turn brought; before anybody is told."""
        self._drop(self._ledger.surplus(self._left))
        for verb, whom in self._said.items():
            self._tools.log("config", f"{verb}: {', '.join(whom)}")
        self._said.clear()
        journal = self._tools.journal
        failed = journal.flush()
        self._say_once(f"the journal cannot be written: {failed.strerror}" if failed else "")
        if journal.is_overgrown:
            self.compact()

    def _say(self, verb: str, *whom: str) -> None:
        """For the log: one line a turn for all to which the same happened."""
        self._said.setdefault(verb, []).extend(whom)

    def _say_once(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                self._tools.log("severe", trouble)
            else:
                self._tools.log("info", "the journal can be written again")

    def compact(self) -> None:
        try:
            self._tools.journal.compact(self._ledger.snapshot())
        except OSError as err:
            self._tools.log("warning", f"the journal cannot be compacted: {err.strerror}")

    # ---- after a restart -------------------------------------------------------------------

    def adopt(self, found: Mapping[str, list[processes.Process]]) -> None:
        """Goes on with what an earlier keeper started; ``found`` is what runs of it."""
        now = time.time()
        for task in list(self._ledger.tasks.values()):
            if not task.status.ended:
                self._adopt(task, found.get(task.id, []), now)
            elif task.id in found:
                self._left.add(task.id)
        for name, there in found.items():
            if name not in self._ledger.tasks and is_task_id(name) and there:
                self._note(unrecorded(name, self._sight(name, None, there), self._tools.boot, now))
                self._go_on(name)
        self._look_after_left()

    def _adopt(self, task: Task, found: list[processes.Process], now: float) -> None:
        record = decide(task, self._sight(task.id, task.pid, found), self._tools.boot, now)
        if record is not None:
            self._note(record)
        if found:
            self._left.add(task.id)
        self._go_on(task.id)

    def _sight(self, task: str, pid: int | None, found: list[processes.Process]) -> Sight:
        leader = leader_of(found)
        return Sight(
            processes.look(pid) if pid else None, found, self._tools.spawner.log_path(task),
            processes.command_line(leader.pid) if leader else (),
        )

    def _go_on(self, task: str) -> None:
        """Watches a task that runs."""
        known = self._ledger.tasks[task]
        if known.status.alive and known.pid:
            self._left.discard(task)
            try:
                self._watch.add(Root(task, known.pid, known.start_ticks, False))
            except OSError:
                self._note(Stepped(task, Cause.LOST, UNWATCHED, time.time()))
        self._tools.log("info", _told(self._ledger.tasks[task]), task=task)


def _how(status: int | None) -> str:
    """For the log."""
    if status is None:
        return "status unknown"
    code, number, _ = told_by(status)
    return signal_name(number) if number else f"code {code}"


def _told(task: Task) -> str:
    """For the log."""
    why = f": {task.reason}" if task.reason else ""
    return f"{task.id} is {task.status.value}{why}"


def _code(err: OSError) -> str:
    return errno.errorcode.get(err.errno or 0, str(err.errno))
