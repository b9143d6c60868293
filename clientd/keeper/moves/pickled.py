"""Python tasks: their runner pickles the object between two steps, another unpickles it."""

import os
import time
from collections.abc import Iterable

from msgspec import Struct

from clientd.keeper import processes
from clientd.keeper.births import Births
from clientd.keeper.moves import actions as do
from clientd.keeper.moves import openfiles
from clientd.keeper.moves.aside import LIMIT_S, Aside
from clientd.keeper.moves.growing import Growing
from clientd.keeper.moves.parcel import OBJECT, Notes
from clientd.keeper.moves.places import Places
from clientd.keeper.moves.ways import LARGE, Hear, Images
from clientd.keeper.records import Moved
from clientd.keeper.register import code_of
from clientd.keeper.runners import Born, Gone, Told, Unborn
from clientd.keeper.tools import Tools
from clientd.keeper.watch import Root, Watch, usage
from godwit.errors import TaskError
from godwit.task import control

#: Seconds that a thawed copy has for its first step before the move is told of without it.
FIRST_STEP_S = 0.02


class Guest(Struct):
    """A runner that was born for a move, and is no task of this node's yet."""

    move: str
    pid: int = 0
    start_ticks: int = 0


class Pickled:
    """See the module, and clientd.keeper.moves.ways.Way."""

    def __init__(self, tools: Tools, watch: Watch, births: Births, images: Images, hear: Hear):
        self._register = tools.register
        self._containment = tools.containment
        self._loop = tools.loop
        self._watch = watch
        self._births = births
        self._runners = births.runners
        self._images = images
        self._hear = hear
        self._growing = Growing(tools.loop, hear)
        self._guests: dict[str, Guest] = {}
        #: task -> when it was told to freeze, CLOCK_MONOTONIC.
        self._freezing: dict[str, float] = {}
        self._aside = Aside(tools.errands, births.kept)
        self._places = Places(os.path.dirname(births.agent))
        self._errands = tools.errands
        #: task -> the Thawed of a copy whose first step has not been heard of.
        self._thawed: dict[str, control.Thawed] = {}

    # ---- what is asked of it ---------------------------------------------------------------

    def birth(self, action: do.Birth) -> None:
        task = action.task.id
        self._guests[task] = Guest(action.move)
        try:
            self._births.guest(action.task.spec, action.source, fresh=action.fresh)
        except BaseException:
            del self._guests[task]
            raise

    def freeze(self, action: do.FreezeCopy) -> None:
        self._reach(action.task)
        fd = self._images.open(action.move, os.O_RDWR)
        try:
            self._freezing[action.task] = time.monotonic()
            self._runners.say(action.task, control.Freeze(action.move), fd)
        finally:
            os.close(fd)
        if not action.kept:
            path = self._images.path(action.move)
            self._growing.watch(action.move, lambda: os.stat(path).st_size >= LARGE)

    def _reach(self, task: str) -> None:
        """A runner that an earlier keeper had born is connected to.  Raises TaskError."""
        if not self._runners.holds(task):
            self._runners.connect(task)

    def load(self, action: do.LoadCopy, record: Moved) -> None:
        spec = (record.incoming or self._register.tasks[action.task]).spec
        fd = self._images.open(action.move, os.O_RDONLY)
        try:
            program = os.fsdecode(spec.argv[0])
            word = control.Load(action.move, program, spec.digest, action.size)
            self._runners.say(action.task, word, fd)
        finally:
            os.close(fd)

    def thaw(self, move: str, task: str) -> None:
        self._reach(task)
        self._runners.say(task, control.Thaw(move))

    def discard(self, move: str, task: str) -> bool:
        guest = self._guests.get(task)
        if guest is None or guest.move != move:
            return False
        del self._guests[task]
        self._runners.end(task)
        self._containment.discard(task)
        return True

    def settle_in(self, record: Moved) -> None:
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

    def ended(self, task: str) -> None:
        self._freezing.pop(task, None)
        self._thawed.pop(task, None)
        self._runners.drop(task)

    def keep(self, action: do.Keep, still_ms: float) -> None:
        """With its files it is as the images of processes are, of which it is the largest."""
        move = action.move

        def packed() -> None:
            self.drop(move)
            self._images.drop(move)

        if not self._aside.files(move):
            writes = self._aside.writes(move)
            self._births.kept.take(move, self._images.path(move), still_ms, writes)
            packed()
            return
        try:
            os.rename(self._images.path(move), os.path.join(self._aside.folder(move), OBJECT))
        except OSError as err:
            self._births.kept.fail(move, code_of(err), f"its snapshot: {err.strerror}")
            packed()
            return
        self._aside.pack(move, still_ms, packed)

    def _set_aside(self, task: str, move: str) -> None:
        """What is kept of it is its object and its files: see clientd.keeper.moves.aside."""
        known, root = self._register.tasks[task], self._watch.roots.get(task)
        if root is None:
            return  # it has ended, and that is told

        def copied(err: OSError | TaskError | None) -> None:
            if err is None:
                self._hear(do.Apart(move, self._register.ledger.moves[move].at))
            else:
                self._hear(do.Failed(move, "files", f"its files: {err}"))

        try:
            top = self._births.own_folder(known.spec)
            opened = openfiles.look(top, root.pid, known.log, self._images.path(move))
            folder = self._places.make(move, "held")
            Notes(known.log, "").write(folder)
            self._aside.begin(move, folder, opened, copied)
        except (OSError, TaskError) as err:
            copied(err)

    def drop(self, move: str) -> None:
        self._growing.leave(move)
        if not self._aside.drop(move):
            return
        for path in self._places.of(move):
            self._errands.run(("/bin/rm", "-rf", path), lambda _: None, LIMIT_S)

    # ---- what runners say ------------------------------------------------------------------

    def told(self, task: str, word: Told) -> None:
        """What is of no move is of no interest."""
        guest = self._guests.get(task)
        if guest is not None:
            self._guest_said(task, guest, word)
            return
        if not self._is_of(task, word):
            return
        match word:
            case control.Written(move, size, ms, at, wall, files):
                self._growing.leave(move)
                begun = self._freezing.pop(task, at)
                log_size = os.stat(self._register.tasks[task].log).st_size
                phases = {"freeze": max(0.0, (at - begun) * 1e3), "snapshot": ms}
                self._hear(do.StoodStill(
                    move, size, log_size, at, wall, phases, travelling(files)
                ))
            case control.Synced(move) if self._register.ledger.moves[move].kept:
                self._set_aside(task, move)
            case control.Synced(move, ms):
                self._hear(do.Synced(move, {"sync": ms}))
            case control.Thawed():
                self._thawed[task] = word
                self._loop.alarm(f"step {task}", FIRST_STEP_S, lambda: self._went_on(task, None))
            case control.Stepped():
                self._loop.silence(f"step {task}")
                self._went_on(task, word)
            case control.Failed(code, text, move) if move:
                self._hear(do.Failed(move, code, text))

    def _is_of(self, task: str, word: Told) -> bool:
        """It speaks of a move of its own task: the process may say anything."""
        record = self._register.ledger.moves.get(getattr(word, "move", ""))
        return record is not None and record.task == task and task in self._register.tasks

    def _went_on(self, task: str, step: control.Stepped | None) -> None:
        thawed = self._thawed.pop(task, None)
        if thawed is None:
            return
        first = step or thawed
        phases = {"first_output": (first.at - thawed.at) * 1e3} if step else {}
        self._hear(do.WentOn(thawed.move, first.at, first.wall, phases))

    def _guest_said(self, task: str, guest: Guest, word: Told) -> None:
        match word:
            case Born(pid):
                process = processes.look(pid)
                guest.pid, guest.start_ticks = pid, process.start_ticks if process else 0
                self._births.prepare(task)
            case control.Prepared():
                self._hear(do.Warm(guest.move, self._births.log_path(task)))
            case control.Loaded(move, ms) if move == guest.move:
                self._hear(do.Loaded(move, guest.pid, guest.start_ticks, {"restore": ms}))
            case Unborn(code, text):
                del self._guests[task]
                self._hear(do.Failed(guest.move, code, text))
            case control.Failed(code, text):
                self._hear(do.Failed(guest.move, code, text))
            case Gone():
                del self._guests[task]
                self._containment.discard(task)
                self._hear(do.Gone(guest.move))


def travelling(files: Iterable[control.OpenFile]) -> tuple[bytes, ...]:
    """Those below the task's working directory; what is elsewhere must be at the destination."""
    paths = dict.fromkeys(os.path.normpath(os.fsencode(file.path)) for file in files)
    return tuple(path for path in paths if path[:1] != b"/" and path.split(b"/")[0] != b"..")
