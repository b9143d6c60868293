"""Python tasks from their launch till they have begun, and runners for those that move here.

A task is STARTING till its runner has said Begun: then its program was found and constructed, and
runs.  One whose runner says Failed, or ends, was never a task.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from msgspec import Struct

from clientd.keeper import processes
from clientd.keeper.kept import Kept
from clientd.keeper.lodged import Lodged
from clientd.keeper.moves.objects import Objects
from clientd.keeper.moves.places import Places
from clientd.keeper.moves.restoring import Restoring
from clientd.keeper.parcels import Parcels
from clientd.keeper.processes import Process
from clientd.keeper.records import Started, Stepped, told_by
from clientd.keeper.runners import Born, Gone, Plan, Runners, Told, Unborn
from clientd.keeper.sources import Sources
from clientd.keeper.tools import Tools
from clientd.keeper.watch import Ended, Root, Watch, usage
from godwit import failpoint
from godwit.errors import TaskError
from godwit.task import control, packets
from godwit.task.lifecycle import Cause
from godwit.task.record import Spec, signal_name

UNWATCHED = "ended while clientd was not running"
#: Words that ps(1) shows are cut to this many bytes.
_SHOWN = 1000


class _Launch(Struct):
    """A task that has not begun."""

    spec: Spec
    pid: int = 0
    #: Our child; else an earlier keeper's.
    is_child: bool = True
    #: Why nothing comes of it.
    failed: control.Failed | None = None


class Births:
    """See the module.  What runners say that is of no launch is passed on."""

    def __init__(
        self, tools: Tools, watch: Watch, ended: Ended, forget: Callable[[str], None],
        pass_on: Callable[[str, Told], object],
    ):
        """``ended`` gets the root of a task that ended in the moment that it began."""
        self._register = tools.register
        self._spawner = tools.spawner
        self._containment = tools.containment
        self._boot = tools.boot
        self._watch = watch
        self.ended = ended
        self.forget = forget
        self._pass_on = pass_on
        state = os.path.dirname(os.fsdecode(tools.spawner.place.files))
        #: The agent's folder.
        self.agent = os.path.join(state, "agent")
        self.sources = Sources(os.path.join(state, "sources"))
        #: Snapshots that this node keeps.
        self.kept = Kept(tools.register, tools.errands, os.path.join(state, "kept"))
        #: Where starts from snapshots have what they need meanwhile.
        self.starts = Places(state, "starts")
        self.restoring = Restoring(tools.errands, tools.spawner.place.files)
        self._objects = Objects(tools.errands, self.starts, self.restoring)
        #: And those that it keeps for others.
        self.lodged = Lodged(
            tools.register, tools.errands, os.path.join(state, "lodged"), Parcels(self.agent),
            tools.gate,
        )
        self._launches: dict[str, _Launch] = {}
        self._guests: dict[str, tuple[Spec, bytes]] = {}
        self.runners = Runners(
            tools.loop, tools.register.log, os.path.join(state, "run"),
            tools.spawner.place.mark, tools.others, self._told,
        )

    def log_path(self, task: str) -> str:
        return self._spawner.log_path(task)

    def keeping(self, snapshot: str) -> Kept:
        """Who has that snapshot, if anybody has."""
        return self.lodged if self.kept.found(snapshot) is None else self.kept

    # ---- launches ------------------------------------------------------------------------------

    def launch(self, spec: Spec) -> None:
        """Has the task's runner born and told to begin.  Raises TaskError: nothing came of it."""
        if spec.snapshot:
            self.keeping(spec.snapshot).check(spec)
        source = self.sources.open(spec.digest) if spec.digest and not spec.snapshot else -1
        try:
            self._launches[spec.task] = _Launch(spec)
            self._birth(spec, self._spawner.open_log(spec.task))
            if spec.snapshot:
                self._unpack(spec)
            else:
                self._say_begin(spec, source)
        except TaskError:
            self._drop(spec.task)
            raise
        finally:
            packets.close([source])

    def _birth(self, spec: Spec, log: int) -> None:
        """Takes the log's descriptor.  Raises TaskError."""
        try:
            plan = self._plan(spec)
            # The zygote, if there is none yet, begins where we are.
            self._containment.leave()
            cgroup = self._room(spec.task)
            try:
                self.runners.birth(spec.task, plan, log, cgroup)
            finally:
                packets.close([cgroup])
        finally:
            os.close(log)

    def _plan(self, spec: Spec) -> Plan:
        around = self._spawner.surroundings(spec)
        words = b"\0".join(spec.argv)[:_SHOWN].split(b"\0")
        user = around.user
        return Plan(
            tuple(words), around.environment, around.cwd, self._spawner.place.limit,
            (user.pw_name, user.pw_uid, user.pw_gid) if user else None,
        )

    def _room(self, task: str) -> int:
        try:
            return self._containment.room(task)
        except OSError as err:
            raise TaskError("containment", f"its cgroup: {err.strerror}") from err

    def _say_begin(self, spec: Spec, source: int) -> None:
        fds = (source,) if source >= 0 else ()
        begin = control.Begin(os.fsdecode(spec.argv[0]), spec.argv[1:], spec.digest)
        self.runners.say(spec.task, begin, *fds)

    def _unpack(self, spec: Spec) -> None:
        """Raises TaskError."""
        self.keeping(spec.snapshot).unpack(spec.snapshot, partial(self._unpacked, spec))

    def _unpacked(self, spec: Spec, image: int, complaint: str) -> None:
        if spec.task not in self._launches:
            return
        if complaint:
            self._give_up(spec.task, TaskError("bad-snapshot", complaint))
            return
        image = os.dup(image)
        self._objects.open(spec, image, partial(self._opened, spec, image))

    def _opened(self, spec: Spec, image: int, complaint: str) -> None:
        """The image is its object's alone, and its files are where they were."""
        try:
            if spec.task not in self._launches:
                return
            if complaint:
                self._give_up(spec.task, TaskError("files", complaint))
            else:
                self._load(spec, image)
        except TaskError as err:
            self._give_up(spec.task, err)
        finally:
            os.close(image)

    def _load(self, spec: Spec, image: int) -> None:
        """Raises TaskError."""
        if spec.digest:
            source = self.sources.open(spec.digest)
            try:
                program = os.fsdecode(spec.argv[0])
                self.runners.say(spec.task, control.Prepare(program, spec.digest), source)
            finally:
                os.close(source)
        load = control.Load(
            spec.snapshot, os.fsdecode(spec.argv[0]), spec.digest, os.fstat(image).st_size
        )
        self._say(spec.task, load, image)

    def _say(self, task: str, word: control.Orders, *fds: int) -> None:
        try:
            self.runners.say(task, word, *fds)
        except TaskError as err:
            self._give_up(task, err)

    def _give_up(self, task: str, err: TaskError) -> None:
        self.runners.end(task)
        self._refuse(task, err.code, str(err))

    def _found(self, launch: _Launch, phase: control.Phase) -> None:
        """The runner of an earlier keeper's launch says how far it is."""
        spec = launch.spec
        if phase in ("loaded", "running"):  # the latter answers again as it has
            self._say(spec.task, control.Thaw(spec.snapshot))
            return
        try:
            self._unpack(spec)
        except TaskError as err:
            self._give_up(spec.task, err)

    def resume(self, spec: Spec, leader: Process) -> None:
        """The launch of an earlier keeper goes on: its runner is there.  Raises TaskError."""
        self._launches[spec.task] = _Launch(spec, leader.pid, is_child=False)
        source = self.sources.open(spec.digest) if spec.digest and not spec.snapshot else -1
        try:
            self.runners.connect(spec.task)
            if not spec.snapshot:  # else its State says how far it is
                self._say_begin(spec, source)
        except TaskError:
            del self._launches[spec.task]
            raise
        finally:
            packets.close([source])

    def withdraw(self, task: str) -> None:
        """It is not wanted any more, if it has not begun yet."""
        if task in self._launches:
            self.runners.end(task)
            self._drop(task)

    def withdraw_all(self, why: str) -> None:
        for task in list(self._launches):
            self.withdraw(task)
            self._register.refuse(task, "stopping", why)

    def _drop(self, task: str) -> None:
        """Nothing came of it."""
        del self._launches[task]
        self.runners.drop(task)
        self._containment.discard(task)
        self._unlink_log(task)
        self._prune()

    def _unlink_log(self, task: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.log_path(task))

    def _prune(self) -> None:
        """Source texts that no launch waits for are dropped."""
        if not self._launches:
            self.sources.prune(())

    # ---- what runners say ----------------------------------------------------------------------

    def _told(self, task: str, word: Told) -> None:
        launch = self._launches.get(task)
        if launch is None:
            self._pass_on(task, word)
            return
        match word:
            case Born(pid):
                launch.pid = pid
            case control.State(phase) if launch.spec.snapshot and not launch.is_child:
                self._found(launch, phase)
            case control.Loaded(move) if move == launch.spec.snapshot != "":
                self._say(task, control.Thaw(move))
            case control.Begun() | control.Thawed():
                self._begun(task, launch)
            case control.Failed():
                launch.failed = word
            case Unborn(code, text):
                self._refuse(task, code, text)
            case Gone(status):
                failed = launch.failed or control.Failed("ended", _end_text(status))
                self._refuse(task, failed.code, failed.text)

    def _refuse(self, task: str, code: str, text: str) -> None:
        self._drop(task)
        self._register.refuse(task, code, text)

    def _begun(self, task: str, launch: _Launch) -> None:
        del self._launches[task]
        failpoint.hit("begun.before")
        process = processes.look(launch.pid)  # not waited for: it is there, if only as a zombie
        ticks = process.start_ticks if process else 0
        root = Root(task, launch.pid, ticks, launch.is_child)
        started = Started(
            task, root.pid, ticks, self._boot, self.log_path(task), time.time()
        )
        self._register.note(started, task)
        self._register.say("started", f"{task} (pid {root.pid})")
        ended = self.runners.hand_over(task)
        if ended is None:
            self._go_on(root)
        else:
            status, used = ended
            self.ended(root, status, usage(used))
        self._prune()

    def _go_on(self, root: Root) -> None:
        try:
            self._watch.add(root)
        except ProcessLookupError:
            lost = Stepped(root.task, Cause.LOST, UNWATCHED, time.time())
            self._register.note(lost, root.task)

    # ---- for moves -----------------------------------------------------------------------------

    def guest(self, spec: Spec, source: bytes, fresh: bool) -> None:
        """Has a runner born for a task that may move here.

        ``fresh``: its log is made, for the agent to write; else it is there.  Raises TaskError.
        """
        log = self.guest_log(spec.task, fresh)
        self._guests[spec.task] = (spec, source)
        try:
            self._birth(spec, log)
        except TaskError:
            del self._guests[spec.task]
            self._containment.discard(spec.task)
            if fresh and not self._is_kept_here(spec.task):
                self._unlink_log(spec.task)
            raise

    def guest_log(self, task: str, fresh: bool) -> int:
        """The log of a task that may move here, open: made for the agent to write if it is to be
        ``fresh``, else it is there.  Raises TaskError."""
        if not fresh or self._is_kept_here(task):
            return self._open_again(task)
        return self._new_log(task)

    def home_log(self, task: str) -> int:
        """The log of a task that is elsewhere, open: made if it is not there.  Raises TaskError."""
        if not os.path.lexists(self.log_path(task)):
            return self._new_log(task)
        log = self._open_again(task)
        self._give_to_agent(log)
        return log

    def _is_kept_here(self, task: str) -> bool:
        """It was written on while the task was elsewhere: most of it is here already."""
        known = self._register.ledger.shadows.get(task)
        return known is not None and known.log and os.path.lexists(self.log_path(task))

    def _new_log(self, task: str) -> int:
        log = self._spawner.open_log(task)
        self._give_to_agent(log)
        return log

    def folder(self, spec: Spec) -> bytes:
        """The task's working directory here."""
        return os.path.join(self._spawner.place.files, spec.cwd)

    def own_folder(self, spec: Spec) -> bytes:
        """That as a real path, if what is below it goes where the task does; else nothing."""
        return b"" if spec.cwd.startswith(b"/") else os.path.realpath(self.folder(spec))

    @property
    def files(self) -> bytes:
        """The folder of working directories."""
        return self._spawner.place.files

    def _give_to_agent(self, log: int) -> None:
        """Whoever the agent runs as."""
        try:
            owner = os.stat(self.agent)
        except FileNotFoundError:
            return
        if owner.st_uid != os.geteuid():
            os.fchown(log, owner.st_uid, owner.st_gid)

    def _open_again(self, task: str) -> int:
        path = self.log_path(task)
        try:
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as err:
            raise TaskError("log", f"its log {path}: {err.strerror}") from err

    def prepare(self, task: str) -> None:
        """Tells a guest that was born to import its program; answered by Prepared or Failed."""
        spec, source = self._guests.pop(task)
        fds = [packets.in_memory(source)] if source else []
        try:
            program = os.fsdecode(spec.argv[0])
            self.runners.say(task, control.Prepare(program, spec.digest), *fds)
        finally:
            packets.close(fds)

    def close(self) -> None:
        """Runners run on."""
        self.runners.close()


def _end_text(status: int | None) -> str:
    if status is None:
        return "its process ended before it began"
    code, number, _ = told_by(status)
    how = signal_name(number) if number else f"code {code}"
    return f"its process ended before it began ({how})"
