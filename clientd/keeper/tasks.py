"""All tasks of a node: watched, signalled, ended, forgotten, found again after a restart."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from clientd.keeper import byhand, orders, pidfd, processes
from clientd.keeper.adoption import (
    UNTOLD,
    UNWATCHED,
    Sight,
    decide,
    leader_of,
    left_text,
    unrecorded,
)
from clientd.keeper.apart import init_of
from clientd.keeper.births import Births
from clientd.keeper.criu import Criu
from clientd.keeper.endings import Endings
from clientd.keeper.launches import Launches
from clientd.keeper.moves.mover import Mover
from clientd.keeper.moves.revivals import Revivals
from clientd.keeper.moves.table import Part
from clientd.keeper.records import Exited, Forgotten, Noted, Stepped, told_by
from clientd.keeper.register import code_of
from clientd.keeper.shadows.shell import Shadows
from clientd.keeper.tools import Tools
from clientd.keeper.watch import Root, Watch
from godwit import failpoint
from godwit.errors import TaskError
from godwit.names import is_task_id
from godwit.task.lifecycle import Cause, Status, advance
from godwit.task.record import Spec, Task, Usage, signal_name

#: Seconds till a process that was found ending has ended.
JUST_ENDING_S = 0.05


class Tasks:
    """See the module."""

    def __init__(self, tools: Tools):
        self._tools = tools
        self._register = tools.register
        self._containment = tools.containment
        self._watch = Watch(tools.loop, self._ended, tools.others)
        self._endings = Endings(tools.loop, self._kill, self._is_gone)
        self.births = Births(
            tools, self._watch, self._ended, lambda task: self.forget(task, lambda _: None),
            lambda task, word: self.mover.told(task, word),
        )
        self.shadows = Shadows(
            tools, os.path.dirname(self.births.agent), self.births.home_log
        )
        self.revivals = Revivals(tools, self._watch, self.births)
        self.mover = Mover(tools, self._watch, self.births, self.shadows.arrives)
        #: Tasks that have ended while processes of theirs run on.
        self._left: set[str] = set()
        self.launches = Launches(
            tools, self._watch, self.births, self.revivals, lambda: len(self.occupied())
        )

    def use_criu(self, found: Criu | None, without: str = "") -> None:
        """What freezes processes and restores them, once it is known; or why nothing does."""
        self.mover.use_criu(found, without)
        self.revivals.use_criu(found, without)

    # ---- what there is ---------------------------------------------------------------------

    def running(self) -> list[str]:
        return list(self._watch.roots)

    def occupied(self) -> list[str]:
        """Tasks with a process, their root or another."""
        return [*self._watch.roots, *self._left]

    def _alive(self, task: str) -> Task:
        known = self._register.known(task)
        if known.status is Status.STARTING:
            raise TaskError("starting", f"{task} has not started yet")
        if task not in self._watch.roots:
            raise TaskError("ended", f"{task} has ended")
        return known

    # ---- ends ------------------------------------------------------------------------------

    def reap(self) -> None:
        """After SIGCHLD: waits for everything that ended."""
        if self._watch.reap():
            self._look_after_left()
        self.shadows.look_for_stops()

    def _ended(self, root: Root, status: int | None, used: Usage | None) -> None:
        if self.mover.ended(root):
            return
        failpoint.hit("exit.before")
        task, now = root.task, time.time()
        known = self._known(task)
        self.births.runners.drop(task)
        left = self._containment.left(known, root.is_child, self._children())
        if left is not None:
            self._left.add(task)
        if left == 0:
            self._tools.loop.alarm("left", JUST_ENDING_S, self._look_after_left)
        reason = left_text(left) if left else ""
        self._register.say("ended", f"{task} ({_how(status)})")
        if task not in self._register.tasks:
            return  # its place is elsewhere, as the record of a move says
        if status is not None:
            self._register.note(Exited(task, status, now, used, reason), task)
        else:
            reason = "; ".join(filter(None, (UNTOLD, reason)))
            self._register.note(Stepped(task, Cause.LOST, reason, now), task)

    def _children(self) -> tuple[int, ...]:
        return (*self._watch.by_pid, *self._tools.others)

    def _look_after_left(self) -> None:
        """What tasks left behind may have ended now."""
        left = list(map(self._known, self._left))
        for task in self._containment.emptied(left, self._children()):
            self._left.discard(task)
            known = self._known(task)
            if known.status is Status.EXITED and known.reason:
                self._register.note(Noted(task, ""), task)

    def _kill(self, task: str) -> None:
        self._watch.kill_init(task)
        self._containment.kill(self._known(task), task in self._watch.roots)

    def _known(self, task: str) -> Task:
        """Its record; of one that is being ended for a move there may be none any more."""
        return self._register.tasks.get(task) or Task(Spec(task, ()))

    def _is_gone(self, task: str) -> bool:
        if task in self._watch.roots:
            return False
        self._look_after_left()
        return task not in self._left

    # ---- what is done to tasks -------------------------------------------------------------

    def signal(self, task: str, number: int, relay: int = 0) -> str:
        """To the task's process group.  What there is to say of it.  Raises TaskError.

        ``relay``: not if that was done before.
        """
        if number not in signal.valid_signals():
            raise TaskError("bad-signal", f"{number} is no signal")
        if relay and self._register.ledger.relayed.get(task, 0) >= relay:
            return ""
        known = self._alive(task)
        self.stay(task)
        if relay and not self.shadows.relay(task, relay):
            return ""
        try:
            self._send(known, number)
        except ProcessLookupError:
            raise TaskError("ended", f"{task} has ended") from None
        except OSError as err:
            raise TaskError(code_of(err), f"{task}: {err.strerror}") from err
        self._register.say(signal_name(number), task)
        if known.status is Status.PAUSED and number != signal.SIGKILL:
            return f"{task} is paused: {signal_name(number)} acts when it is resumed"
        return ""

    def _send(self, known: Task, number: int) -> None:
        """To its process group; of one that was started by hand, and leads none, to itself."""
        root = self._watch.roots[known.id]
        if known.spec.kind == byhand.KIND:
            process = processes.look(root.pid)
            if process is not None and process.group != root.pid:
                signal.pidfd_send_signal(root.pidfd, number)
                return
        pidfd.signal_group(root.pidfd, root.pid, number)

    def stay(self, task: str) -> None:
        """Raises TaskError while a move has the task standing still: what is done to it then is
        to be done where it goes on."""
        known = self._register.tasks.get(task)
        if known is not None and known.status is Status.FROZEN:
            raise TaskError("moving", f"{task} stands still for a move")

    def is_photographed(self, task: str) -> bool:
        """It stands still for a snapshot, and goes on here in a moment."""
        known, move = self._register.tasks.get(task), self.mover.of_task(task)
        still = known is not None and known.status is Status.FROZEN
        return still and move is not None and move.kept

    def pause(self, task: str, resume: bool) -> None:
        """Stops all of a task where it is, or lets it go on.  Raises TaskError."""
        known = self._alive(task)
        cause = Cause.RESUMED if resume else Cause.PAUSED
        advance(known.status, cause)
        try:
            if not self._containment.freeze(known, not resume):
                self._send(known, signal.SIGCONT if resume else signal.SIGSTOP)
        except OSError as err:
            raise TaskError(code_of(err), f"{task}: {err.strerror}") from err
        self._register.note(Stepped(task, cause), task)
        self._register.say(cause.value, task)

    def terminate(self) -> None:
        """SIGTERM to every task; those that are paused go on, to hear it."""
        for task in self.running():
            with suppress(TaskError):
                self.signal(task, signal.SIGTERM)
                if self._register.tasks[task].status is Status.PAUSED:
                    self.pause(task, resume=True)

    def end(self, task: str, done: Callable[[bool], None]) -> None:
        """Kills everything the task ever started; then tells whether nothing is left.

        Raises TaskError when there is nothing to end.
        """
        known = self._register.known(task)
        if task not in self._watch.roots:
            if known.status is Status.UNKNOWN:
                # Nobody watches what it may have left.
                self._left.add(task)
            elif task not in self._left:
                self._alive(task)
        self._endings.begin(task, done)

    def forget(self, task: str, done: Callable[[bool], None]) -> None:
        """Ends all of a task, then drops its record and log.  Raises TaskError."""
        known = self._register.known(task)
        if known.status is Status.STARTING:
            self.launches.withdraw(task)
        occupied = task in self._watch.roots or task in self._left
        if not occupied and known.status is not Status.UNKNOWN:
            self._drop([task])
            done(True)
            return

        def ended(gone: bool) -> None:
            if gone and task in self._register.tasks:
                self._drop([task])
            elif gone and known.log and self.mover.of_task(task) is None:
                with suppress(OSError):  # a move has dropped its record by now
                    os.unlink(known.log)
            done(gone)

        self.end(task, ended)

    def _drop(self, tasks: list[str]) -> None:
        there = [task for task in tasks if task in self._register.tasks]
        if not there:
            return
        logs = [self._register.tasks[task].log for task in there]
        self._register.note(Forgotten(tuple(there)))
        for log in filter(None, logs):
            with suppress(OSError):
                os.unlink(log)
        self.births.kept.forget(there)
        self._register.tell(orders.Forgotten(tuple(there)))
        self._register.say("forgotten", *there)

    def settle(self) -> None:
        """Forgets the oldest of those that ended, and writes down what this turn brought."""
        self._drop(self._register.ledger.surplus(self._left))
        self._register.settle()

    # ---- after a restart -------------------------------------------------------------------

    def adopt(self, found: Mapping[str, list[processes.Process]]) -> None:
        """Goes on with what an earlier keeper started; ``found`` is what runs of it."""
        now = time.time()
        moving = {
            m.task for m in self._register.ledger.moves.values()
            if not m.part.settled and m.part is not Part.LOST
        }
        for task in list(self._register.tasks.values()):
            if task.id in moving:
                continue  # what becomes of it, the record of its move says
            if not task.status.ended:
                self._adopt(task, found.get(task.id, []), now)
            elif task.id in found:
                self._left.add(task.id)
        for name, there in found.items():
            known = name in self._register.tasks or name in moving
            if not known and is_task_id(name) and there:
                sight = self._sight(name, None, there)
                self._register.note(unrecorded(name, sight, self._tools.boot, now))
                self._go_on(name)
        self.revivals.adopt()
        self.shadows.adopt()  # before a task of this home may go on
        self.mover.adopt(lambda task: found.get(task, []))
        self._look_after_left()

    def _adopt(self, task: Task, found: list[processes.Process], now: float) -> None:
        leader = leader_of(found)
        if task.spec.kind == "python" and task.status is Status.STARTING and leader is not None:
            with suppress(TaskError):  # else it is lost, and ended below
                self.births.resume(task.spec, leader)
                return
            self._containment.discard(task.id)
            found = []
        if task.spec.snapshot and task.status is Status.STARTING and task.spec.kind != "python":
            self.revivals.again(task.spec)
            return
        record = decide(task, self._sight(task.id, task.pid, found), self._tools.boot, now)
        if record is not None:
            self._register.note(record)
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
        known = self._register.tasks[task]
        if known.status.alive and known.pid:
            self._left.discard(task)
            try:
                init = init_of(known.pid)
                self._watch.add(Root(task, known.pid, known.start_ticks, False, init=init))
            except OSError:
                self._register.note(Stepped(task, Cause.LOST, UNWATCHED, time.time()))
        self._register.told_status(task)


def _how(status: int | None) -> str:
    """For the log."""
    if status is None:
        return "status unknown"
    code, number, _ = told_by(status)
    return signal_name(number) if number else f"code {code}"
