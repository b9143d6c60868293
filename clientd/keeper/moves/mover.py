"""Does what the moves' core wants, with runners, files and the journal; and tells it what came.

Events are taken one after the other, and each event's actions in their order: a durable record is
on the disk before the next action is begun, and when it cannot be written, no other is.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

from clientd.keeper import processes
from clientd.keeper.births import Births
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.core import Moves
from clientd.keeper.moves.table import Part
from clientd.keeper.records import Moved
from clientd.keeper.register import code_of
from clientd.keeper.runners import Born, Gone, Told, Unborn
from clientd.keeper.tools import Tools
from clientd.keeper.watch import Root, Watch, usage
from godwit import failpoint
from godwit.errors import TaskError
from godwit.task import control
from godwit.task.record import Task

#: Seconds that a thawed copy has for its first step before the move is told of without it.
FIRST_STEP_S = 0.02


@dataclass(slots=True)
class Guest:
    """A copy that was born for a move, and is no task of this node's yet."""

    move: str
    pid: int = 0
    start_ticks: int = 0


class Mover:
    """The moves of one keeper."""

    def __init__(self, tools: Tools, watch: Watch, births: Births):
        self._register = tools.register
        self._containment = tools.containment
        self._loop = tools.loop
        self._watch = watch
        self._births = births
        self._runners = births.runners
        #: Of the images, which the agent writes and reads.
        self._images = os.path.join(births.state, "agent", "moves")
        self._core = Moves(tools.register.ledger, tools.boot, self._images)
        self._boot = tools.boot
        self._guests: dict[str, Guest] = {}
        #: task -> when it was told to freeze, CLOCK_MONOTONIC.
        self._freezing: dict[str, float] = {}
        #: task -> the Thawed of a copy whose first step has not been heard of.
        self._thawed: dict[str, control.Thawed] = {}
        self._events: deque[do.Event] = deque()
        self._busy = False
        self.standings = self._core.standings

    # ---- events ----------------------------------------------------------------------------

    def handle(self, event: do.Event) -> None:
        """Now, or after what is being done."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                self._act_on(self._events.popleft())
        finally:
            self._busy = False

    def _act_on(self, event: do.Event) -> None:
        for action in self._core.handle(event):
            if isinstance(action, do.Note):
                if not self._note(action):
                    return
            else:
                try:
                    self._perform(action)
                except (TaskError, OSError) as err:
                    self._failed(action, err)

    def _failed(self, action: do.Action, err: TaskError | OSError) -> None:
        move = getattr(action, "move", "")
        code = err.code if isinstance(err, TaskError) else code_of(err)
        text = str(err) if isinstance(err, TaskError) else f"{err.filename}: {err.strerror}"
        self._register.log("warning", f"move {move}: {text}")
        if isinstance(action, do.Thaw):
            self._events.append(do.Gone(move))
        elif not isinstance(action, do.DropFiles):
            self._events.append(do.Failed(move, code, text))

    def of_task(self, task: str) -> Moved | None:
        """The move, not settled here, that has this task."""
        return self._core.of_task(task)

    # ---- records ---------------------------------------------------------------------------

    def _note(self, note: do.Note) -> bool:
        """False: nothing that follows is to be done."""
        record = note.record
        failpoint.hit(f"move.{record.part.value}.before")
        try:
            self._register.record(record, note.durable, record.task)
        except OSError as err:
            self._register.log(
                "severe", f"move {record.move} of {record.task} cannot be put on record: "
                f"{err.strerror}", task=record.task,
            )
            text = f"the journal of this node: {err.strerror}"
            self._events.append(do.Unwritten(record, code_of(err), text))
            return False
        failpoint.hit(f"move.{record.part.value}.after")
        why = f" ({record.text})" if record.text else ""
        self._register.say(f"move {record.part.value}", f"{record.task} ({record.move}){why}")
        if record.pid is not None and record.part in (Part.CONSUMED, Part.RESUMING):
            self._settle_in(record)
        return True

    def _settle_in(self, record: Moved) -> None:
        """The copy is this node's task from now on, watched as any."""
        guest = self._guests.pop(record.task, None)
        if guest is None:
            return
        ended = self._runners.hand_over(record.task)
        root = Root(record.task, guest.pid, guest.start_ticks, True)
        if ended is None:
            self._watch.add(root)
        else:
            status, used = ended
            self._births.ended(root, status, usage(used))

    # ---- actions ---------------------------------------------------------------------------

    def _perform(self, action: do.Action) -> None:
        match action:
            case do.Tell(word):
                self._register.tell(word)
            case do.Birth():
                self._birth(action)
            case do.FreezeCopy():
                self._freeze(action)
            case do.LoadCopy():
                self._load(action)
            case do.Thaw(move, task):
                self._reach(task)
                self._runners.say(task, control.Thaw(move))
            case do.KillCopy(move, task):
                self._kill(move, task)
            case do.DropFiles(move, task, log):
                self._drop_files(move, task, log)
            case do.ForgetTask(task):
                self._births.forget(task)
            case do.Note():
                raise AssertionError("a Note is put on record by _note")
            case _:
                assert_never(action)

    def _image(self, move: str) -> str:
        return os.path.join(self._images, move)

    def _birth(self, action: do.Birth) -> None:
        task = action.task.id
        if action.fresh:
            os.close(self._new_image(action.move))
        self._guests[task] = Guest(action.move)
        try:
            self._births.guest(action.task.spec, action.source, fresh=action.fresh)
        except TaskError:
            self._guests.pop(task, None)
            raise

    def _new_image(self, move: str) -> int:
        """Open for writing, and empty.  Raises OSError."""
        os.makedirs(self._images, 0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._image(move), flags, 0o600)
        owner = os.stat(self._images)
        if owner.st_uid != os.geteuid():
            os.fchown(fd, owner.st_uid, owner.st_gid)
        return fd

    def _freeze(self, action: do.FreezeCopy) -> None:
        self._reach(action.task)
        fd = self._new_image(action.move)
        try:
            self._freezing[action.task] = time.monotonic()
            self._runners.say(action.task, control.Freeze(action.move), fd)
        finally:
            os.close(fd)

    def _reach(self, task: str) -> None:
        """A runner that an earlier keeper had born is connected to.  Raises TaskError."""
        if not self._runners.holds(task):
            self._runners.connect(task)

    def _load(self, action: do.LoadCopy) -> None:
        record = self._register.ledger.moves[action.move]
        spec = (record.incoming or self._register.tasks[action.task]).spec
        fd = os.open(action.image, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            program = spec.argv[0].decode("utf-8", "surrogateescape")
            word = control.Load(action.move, program, spec.digest, action.size)
            self._runners.say(action.task, word, fd)
        finally:
            os.close(fd)

    def _kill(self, move: str, task: str) -> None:
        guest = self._guests.get(task)
        if guest is not None and guest.move == move:
            del self._guests[task]
            self._runners.end(task)
            self._containment.discard(task)
            self._events.append(do.Gone(move))
        elif task in self._watch.roots and self.of_task(task) is not None:
            self._containment.kill(self._register.tasks[task], True)
        else:
            self._events.append(do.Gone(move))

    def _drop_files(self, move: str, task: str, log: bool) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._image(move))
        if log and task not in self._register.tasks:
            with suppress(FileNotFoundError):
                os.unlink(self._births.log_path(task))

    # ---- what runners say ------------------------------------------------------------------

    def told(self, task: str, word: Told) -> bool:
        """False: this word is of no move's."""
        guest = self._guests.get(task)
        if guest is not None:
            self._guest_said(task, guest, word)
            return True
        match word:
            case control.Written(move, size, ms, at, wall, files):
                begun = self._freezing.pop(task, at)
                log_size = os.stat(self._register.tasks[task].log).st_size
                phases = {"freeze": max(0.0, (at - begun) * 1e3), "snapshot": ms}
                names = tuple({os.fsencode(os.path.normpath(file.path)) for file in files})
                self.handle(do.StoodStill(move, size, log_size, at, wall, phases, names))
            case control.Synced(move, _, ms):
                self.handle(do.Synced(move, {"sync": ms}))
            case control.Thawed():
                self._thawed[task] = word
                self._loop.alarm(f"step {task}", FIRST_STEP_S, lambda: self._went_on(task, None))
            case control.Stepped():
                self._loop.silence(f"step {task}")
                self._went_on(task, word)
            case control.Failed(code, text, move) if move:
                self.handle(do.Failed(move, code, text))
            case _:
                return False
        return True

    def _went_on(self, task: str, step: control.Stepped | None) -> None:
        thawed = self._thawed.pop(task, None)
        if thawed is None:
            return
        first = step or thawed
        phases = {"first_output": (first.at - thawed.at) * 1e3} if step else {}
        self.handle(do.WentOn(thawed.move, first.at, first.wall, phases))

    def _guest_said(self, task: str, guest: Guest, word: Told) -> None:
        match word:
            case Born(pid):
                process = processes.look(pid)
                guest.pid, guest.start_ticks = pid, process.start_ticks if process else 0
                self._births.prepare(task)
            case control.Prepared():
                self.handle(do.Warm(guest.move, self._births.log_path(task)))
            case control.Loaded(move, ms):
                self.handle(do.Loaded(move, guest.pid, guest.start_ticks, {"restore": ms}))
            case Unborn(code, text):
                self._guests.pop(task, None)
                self.handle(do.Failed(guest.move, code, text))
            case control.Failed(code, text):
                self.handle(do.Failed(guest.move, code, text))
            case Gone():
                self._guests.pop(task, None)
                self._containment.discard(task)
                self.handle(do.Gone(guest.move))

    # ---- ends ------------------------------------------------------------------------------

    def ended(self, root: Root) -> bool:
        """A task's process has ended; false: that is the task's own end."""
        record = self.of_task(root.task)
        if record is None:
            return False
        self._freezing.pop(root.task, None)
        self._thawed.pop(root.task, None)
        self._runners.drop(root.task)
        kept = record.part in (Part.FROZEN, Part.FINISHING)
        self.handle(do.Gone(record.move))
        if record.part is Part.FINISHING:
            self._containment.discard(root.task)
        return kept

    # ---- a keeper that is new --------------------------------------------------------------

    def adopt(self, found: Callable[[str], list[processes.Process]]) -> None:
        """Carries on with the moves of an earlier keeper; ``found`` tells what runs of a task."""
        for record in list(self._register.ledger.moves.values()):
            if not record.part.settled:
                self._adopt(record, found(record.task))

    def _adopt(self, record: Moved, found: list[processes.Process]) -> None:
        task = self._register.tasks.get(record.task)
        root = self._root_of(record, task)
        if root is not None:
            with suppress(ProcessLookupError):
                self._watch.add(root)
        elif found:  # what a move had born, and never gave a state
            self._containment.discard(record.task)
        self.handle(do.Returned(record.move, root is not None))

    def _root_of(self, record: Moved, task: Task | None) -> Root | None:
        """The process that has, or is to have, the task's one life here."""
        if record.part in (Part.RESERVED, Part.PREPARED):
            return None
        names = [(record.pid, record.start_ticks, record.boot)]
        if task is not None:
            names.append((task.pid, task.start_ticks, task.boot))
        for pid, ticks, boot in names:
            if pid is None or boot != self._boot:
                continue
            there = processes.look(pid)
            if there is not None and there.start_ticks == ticks:
                return Root(record.task, pid, ticks, False)
        return None
