"""Launches: accepted durably, then started a few in each turn of the loop."""

import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable

from clientd.keeper import byhand, processes
from clientd.keeper.births import Births
from clientd.keeper.moves.revivals import Revivals
from clientd.keeper.records import Noted, Started
from clientd.keeper.register import code_of
from clientd.keeper.spawn import Spawned
from clientd.keeper.tools import Tools
from clientd.keeper.watch import Root, Watch
from godwit import failpoint
from godwit.errors import TaskError
from godwit.names import is_task_id
from godwit.task.record import Spec

#: Launches in one turn of the loop, so that exits and orders never wait for long.
BATCH = 32


class Launches:
    """Accepted tasks that wait for their turn."""

    def __init__(
        self, tools: Tools, watch: Watch, births: Births, revivals: Revivals,
        occupied: Callable[[], int],
    ):
        """``births``: of python tasks; ``revivals``: of others, from snapshots.  ``occupied``:
        how many tasks have a process."""
        self._register = tools.register
        self._gate = tools.gate
        self._occupied = occupied
        self._spawner = tools.spawner
        self._containment = tools.containment
        self._boot = tools.boot
        self._watch = watch
        self._births = births
        self._revivals = revivals
        self._pending: deque[Spec] = deque()

    def __bool__(self) -> bool:
        return bool(self._pending)

    def accept(self, specs: Iterable[Spec], source: bytes = b"") -> None:
        """Takes launches; an id that was seen before is told of, and never started again.

        ``source``: the text of a python program.
        """
        fresh: dict[str, Spec] = {}
        occupied = self._occupied() + len(self._pending)
        for spec in specs:
            if not is_task_id(spec.task):
                self._register.reject(spec.task, "bad-id", f"{spec.task!r} is no task id")
            elif spec.task in fresh or self._register.tell_again(spec.task):
                continue
            elif err := self._gate.objection(spec, occupied + len(fresh)):
                # On record, so that a late double of it is refused again.
                self._register.refuse(spec.task, err.code, str(err))
            else:
                fresh[spec.task] = spec
        if fresh and self._keep(source, fresh) and self._register.accept(tuple(fresh.values())):
            self._pending.extend(fresh.values())

    def _keep(self, source: bytes, specs: Iterable[str]) -> bool:
        """The source is on the disk, if there is one; else all are rejected."""
        try:
            if source:
                self._births.sources.keep(source)
        except OSError as err:
            for task in specs:
                self._register.reject(task, code_of(err), f"{err.filename}: {err.strerror}")
            return False
        return True

    def withdraw(self, task: str) -> None:
        """It is not wanted any more, if it has not started yet."""
        self._births.withdraw(task)
        self._revivals.withdraw(task)
        self._pending = deque(spec for spec in self._pending if spec.task != task)

    def withdraw_all(self, why: str) -> None:
        self._births.withdraw_all(why)
        self._revivals.withdraw_all(why)
        while self._pending:
            self._register.refuse(self._pending.popleft().task, "stopping", why)

    def start_some(self) -> None:
        """Starts the next few."""
        many = len(self._pending) >= BATCH
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            for _ in range(min(BATCH, len(self._pending))):
                self._start(self._pending.popleft(), many, peak)
        finally:
            self._containment.leave()
            os.chdir("/")

    def _start(self, spec: Spec, many: bool, peak: int) -> None:
        task = spec.task
        failpoint.hit("spawn.before")
        try:
            if spec.kind == "python":
                self._births.launch(spec)
                return
            if spec.snapshot:
                self._revivals.launch(spec)
                return
            if spec.kind == byhand.KIND:
                self._adopt(spec)
                return
            spawned = self._spawn(spec, many)
        except TaskError as err:
            self._containment.leave()
            self._containment.clear(task)
            self._register.refuse(task, err.code, str(err))
            return
        failpoint.hit("spawn.after")
        pid, ticks = spawned.pid, spawned.start_ticks
        if not ticks:
            # Not waited for: it is there, if only as a zombie.
            process = processes.look(pid)
            ticks = process.start_ticks if process else 0
        log = self._spawner.log_path(task)
        self._register.note(Started(task, pid, ticks, self._boot, log, time.time()), task)
        self._watch.add(Root(task, pid, ticks, True, peak, spawned.init, spawned.pidfd))
        self._register.say("started", f"{task} (pid {pid})")

    def _adopt(self, spec: Spec) -> None:
        """It runs already: nothing is started.  Raises TaskError."""
        found = byhand.find(spec, self._gate)
        task, process = spec.task, found.process
        if process.pid in self._watch.by_pid:
            raise TaskError("task", f"{process.pid} belongs to a task already")
        log = self._spawner.log_path(task)
        without = byhand.link_log(process.pid, log)
        try:
            self._watch.add(Root(task, process.pid, process.start_ticks, False))
        except OSError as err:
            byhand.unlink_log(log)
            raise TaskError("ESRCH", f"there is no process {process.pid} here") from err
        self._register.note(Started(
            task, process.pid, process.start_ticks, self._boot, "" if without else log, time.time()
        ), task)
        about = f"started by hand: {found.command}"
        self._register.note(Noted(task, f"{about}; {without}" if without else about), task)
        self._register.say("adopted", f"{task} (pid {process.pid})")

    def _spawn(self, spec: Spec, many: bool) -> Spawned:
        try:
            cgroup = self._containment.enter(spec.task, many)
        except OSError as err:
            raise TaskError("containment", f"its cgroup: {err.strerror}") from err
        try:
            return self._spawner.spawn(spec, cgroup)
        finally:
            if cgroup >= 0:
                os.close(cgroup)
