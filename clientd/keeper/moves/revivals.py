"""Tasks of processes that start from a snapshot: its files are put back, its processes made again.

They are made as those of a task that moves here (clientd.keeper.moves.imaged): stopped, in a frozen
cgroup, as children of this keeper.  The rule: that they run is on record, durably, before they do;
so a task whose launch is on record and whose start is not has never run, and is begun anew by the
keeper that finds it so.  What was to be done after that record, the next keeper does.
"""

import os
import time
from collections import deque
from contextlib import suppress
from functools import partial

from clientd.keeper.births import Births
from clientd.keeper.criu import Criu
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.imaged import Imaged, told
from clientd.keeper.moves.places import Places
from clientd.keeper.moves.restoring import Then
from clientd.keeper.moves.table import Part
from clientd.keeper.moves.ways import Images
from clientd.keeper.records import Moved, Started
from clientd.keeper.register import code_of
from clientd.keeper.tools import Tools
from clientd.keeper.watch import Watch
from godwit import failpoint
from godwit.errors import TaskError
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task

#: Starts at the same time: each has an image unpacked, and all of its memory read.
MOST = 4
_IMAGE = "image"
_OLD = ".old"


class Unpacked(Images):
    """The images of starts, each in the folder of its own."""

    def __init__(self, places: Places):
        super().__init__("", "")
        self._places = places

    def path(self, move: str) -> str:
        return os.path.join(self._places.folder(move), _IMAGE)

    def in_memory(self, move: str) -> str:
        return ""

    def beside(self, make: bool = False) -> str:
        return ""


class Revivals:
    """All of one node's; each is called by its task where moves are called by their own ids."""

    def __init__(self, tools: Tools, watch: Watch, births: Births):
        self._register = tools.register
        self._containment = tools.containment
        self._gate = tools.gate
        self._boot = tools.boot
        self._watch = watch
        self._births = births
        self._places = births.starts
        self._imaged = Imaged(
            tools, watch, births, Unpacked(self._places), self._heard, self._places, self._put_back
        )
        self._waiting: deque[Spec] = deque()
        self._under_way: dict[str, Spec] = {}
        #: It is known whether there is a CRIU.
        self._is_known = False

    def use_criu(self, found: Criu | None, without: str = "") -> None:
        """See Imaged.use; what waited for it begins, or is refused."""
        self._imaged.use(found, without)
        self._is_known = True
        self._begin_some()

    def launch(self, spec: Spec) -> None:
        """Begins when its turn has come.  Raises TaskError: nothing came of it."""
        self._births.keeping(spec.snapshot).check(spec)
        # What it runs as, and does, is in the images, as of a task that moves here.
        if err := self._gate.objection_to_guest(spec, 0):
            raise err
        self._waiting.append(spec)
        self._begin_some()

    def withdraw(self, task: str) -> None:
        """It is not wanted any more, if it has not started yet."""
        self._waiting = deque(spec for spec in self._waiting if spec.task != task)
        if task in self._under_way:
            self._drop(task)

    def withdraw_all(self, why: str) -> None:
        for task in [*(spec.task for spec in self._waiting), *self._under_way]:
            self.withdraw(task)
            self._register.refuse(task, "stopping", why)

    # ---- step by step ----------------------------------------------------------------------

    def _begin_some(self) -> None:
        while self._is_known and self._waiting and len(self._under_way) < MOST:
            spec = self._waiting.popleft()
            self._under_way[spec.task] = spec
            try:
                self._begin(spec)
            except (OSError, TaskError) as err:
                self._fail(spec.task, *told(err))

    def _begin(self, spec: Spec) -> None:
        """Raises OSError, TaskError."""
        task = spec.task
        self._places.make(task)
        self._unlink_log(task)  # an earlier keeper's, which nothing was written to
        self._imaged.birth(do.Birth(task, Task(spec), fresh=True))
        path = os.path.join(self._places.folder(task), _IMAGE)
        kept = self._births.keeping(spec.snapshot)
        kept.unpack(spec.snapshot, partial(self._unpacked, spec, path), path)

    def _unpacked(self, spec: Spec, path: str, image: int, complaint: str) -> None:
        task = spec.task
        if task not in self._under_way:
            return
        try:
            if complaint:
                raise TaskError("bad-snapshot", complaint)
            size = os.fstat(image).st_size
            self._imaged.load(do.LoadCopy(task, task, path, size), _record(task))
        except (OSError, TaskError) as err:
            self._fail(task, *told(err))

    def _put_back(self, task: str, folder: str, then: Then) -> None:
        self._births.restoring.begin(self._under_way[task], folder, then)

    def _heard(self, event: do.Event) -> None:
        match event:
            case do.Loaded():
                self._loaded(event)
            case do.Failed(task, code, text):
                self._fail(task, code, text)
            case do.Gone(task):
                self._fail(task, "died", "its processes ended before they ran")
            case do.WentOn(task):
                self._went_on(task)

    def _loaded(self, event: do.Loaded) -> None:
        """On record first; then it may run."""
        task = event.move
        if task not in self._under_way:
            return
        started = Started(
            task, event.pid, event.start_ticks, self._boot, self._births.log_path(task), time.time()
        )
        try:
            failpoint.hit("revived.before")
            self._register.record(started, True, task)
        except OSError as err:
            self._fail(task, code_of(err), f"the journal of this node: {err.strerror}")
            return
        failpoint.hit("revived.after")
        del self._under_way[task]
        self._imaged.settle_in(_record(task))
        self._register.say("started", f"{task} (pid {event.pid})")
        self._thaw(task)
        self._begin_some()

    def _thaw(self, task: str) -> None:
        try:
            self._imaged.thaw(task, task)
        except (OSError, TaskError) as err:  # it has ended, and that is told as of any task
            self._register.log("warning", f"{task}, started from a snapshot: {err}", task=task)
            self._went_on(task)

    def _went_on(self, task: str) -> None:
        self._imaged.drop(task)

    # ---- what comes to nothing -------------------------------------------------------------

    def _fail(self, task: str, code: str, text: str) -> None:
        if task in self._under_way:
            self._drop(task)
            self._register.refuse(task, code, text)
            self._begin_some()

    def _drop(self, task: str) -> None:
        """Nothing of it is left."""
        del self._under_way[task]
        if not self._imaged.discard(task, task):
            self._containment.discard(task)
        self._imaged.drop(task)
        self._unlink_log(task)

    def _unlink_log(self, task: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._births.log_path(task))

    # ---- a keeper that is new --------------------------------------------------------------

    def again(self, spec: Spec) -> None:
        """An earlier keeper's launch, whose start is not on record: none of it has run."""
        self._containment.discard(spec.task)
        self._waiting.append(spec)

    def adopt(self) -> None:
        """Tasks whose start is on record run, if they did not yet; what else an earlier keeper
        left of starts is removed."""
        for name in self._places.all():
            known = self._register.tasks.get(name)
            runs = known is not None and known.status is Status.RUNNING
            if runs and name in self._watch.roots and self._is_of_processes(name):
                self._thaw(name)
            else:
                # Its name is free for who begins it anew.
                folder = self._places.folder(name)
                os.rename(folder, folder + _OLD)
                self._imaged.drop(name + _OLD)

    def _is_of_processes(self, task: str) -> bool:
        return self._register.tasks[task].spec.kind != "python"


def _record(task: str) -> Moved:
    return Moved(task, task, 1, Part.RESERVED)
