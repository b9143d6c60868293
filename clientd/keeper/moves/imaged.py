"""Processes as they are: CRIU saves all of a task's namespace, and makes it again elsewhere.

At the source a task is stopped by CRIU and fenced by its cgroup's freezer: SIGCONT from whoever
may send it does not let a frozen copy run.  At the destination its copy is made stopped, in a
cgroup that is frozen, too, as a child of this keeper.

CRIU, tar and sync are errands: meanwhile the keeper does what else there is to do.  A dump is never
cut short, for CRIU runs code of its own inside of the task while it dumps; whoever wants it back
meanwhile waits for the dump's end.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from clientd.keeper import below, criu, processes, stats, traits, whose
from clientd.keeper.births import Births
from clientd.keeper.criu import Criu, Dumped, Restored, Waiting
from clientd.keeper.errands import Outcome
from clientd.keeper.moves import actions as do
from clientd.keeper.moves import lazily, openfiles, parcel
from clientd.keeper.moves.aside import Aside
from clientd.keeper.moves.growing import Growing
from clientd.keeper.moves.lazily import Lazily
from clientd.keeper.moves.parcel import Head, Notes
from clientd.keeper.moves.places import Places
from clientd.keeper.moves.restoring import Then
from clientd.keeper.moves.ways import LARGE, Hear, Images
from clientd.keeper.records import Moved
from clientd.keeper.tools import Tools
from clientd.keeper.watch import Root, Watch
from godwit.errors import TaskError
from godwit.ship.words import CARRIED
from godwit.task.record import Spec
from godwit.task.verdict import Ids

_SHELL = "/bin/sh"
#: Gets the task and the folder of its images.
Prepare = Callable[[str, str, Then], None]
#: Executes what follows in the cgroup whose folder is the first word.
_INSIDE = (_SHELL, "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"')
#: Seconds for tar or sync, of any size.
LIMIT_S = 600.0
#: Dumps that are tried before a move is given up, when others are in the way.
TRIES = 50
#: Seconds between two looks at an earlier keeper's dump, and till it is given up.
LOOK_S = 0.02
#: Seconds that a pager has to hang up, so that CRIU lets go of the task whose pages it serves.
PATIENCE_S = 3.0


def at_once(task: str, folder: str, then: Then) -> None:
    """There is nothing to prepare."""
    then(None)


class _Dump(Struct):
    """A task that is being frozen."""

    move: str
    init: int
    began: float
    #: CRIU has not ended: nothing may be done to the task.
    is_open: bool = True
    #: The task is to go on as soon as it can, and nothing is to come of this.
    unwanted: bool = False
    #: Its folder is to go, too.
    dropped: bool = False
    #: Its memory stays in it.
    lazy: bool = False
    #: It goes nowhere: it is set aside, and goes on.
    kept: bool = False
    #: The part of its image that went ahead; its size is known in the end.
    head: Head = field(default_factory=Head)
    phases: dict[str, float] = field(default_factory=dict)


class _Guest(Struct):
    """A copy that has not run here."""

    move: str
    #: As whom it was started, where one was named.
    user: str = ""
    #: That user, if not root.
    ids: Ids | None = None
    #: What is to restore it, where it could be started beforehand.
    waiting: Waiting | None = None
    #: The errand that is under way for it.
    errand: int = 0
    init: int = 0
    root: Root | None = None
    began: float = 0.0
    #: Its memory comes later.
    lazy: bool = False


class Imaged:
    """See the module, and clientd.keeper.moves.ways.Way."""

    def __init__(
        self, tools: Tools, watch: Watch, births: Births, images: Images, hear: Hear,
        places: Places | None = None, prepare: Prepare = at_once,
    ):
        """``places``: where images lie, if not where those of moves do.  ``prepare``: what is
        done before processes are restored from a folder."""
        self._node = tools.spawner.place.node
        self._apart = tools.spawner.apart
        self._register = tools.register
        self._containment = tools.containment
        self._loop = tools.loop
        self._others = tools.others
        self._errands = tools.errands
        self._watch = watch
        self._births = births
        self._images = images
        self._hear = hear
        self._places = places or Places(os.path.dirname(births.agent))
        self._prepare = prepare
        self._growing = Growing(tools.loop, hear)
        self._dumps: dict[str, _Dump] = {}
        self._guests: dict[str, _Guest] = {}
        self._aside = Aside(tools.errands, births.kept)
        self._lazily = Lazily(tools, images, self._places, hear)
        #: Moves whose task CRIU is letting go of: when that was asked for; and those of them whose
        #: files are to go then.
        self._parting: dict[str, float] = {}
        self._dropped: set[str] = set()
        self._criu: Criu | None = None
        self._without = "clientd is still looking for CRIU"

    def use(self, found: Criu | None, without: str = "") -> None:
        """What freezes and restores from now on; or why nothing does."""
        self._criu, self._without = found, without

    def _need_criu(self) -> Criu:
        if self._criu is None:
            raise TaskError("criu", self._without)
        return self._criu

    # ---- the source ------------------------------------------------------------------------

    def freeze(self, action: do.FreezeCopy) -> None:
        found, task = self._need_criu(), action.task
        root = self._watch.roots.get(task)
        if task in self._dumps:
            raise TaskError("busy", f"an earlier move of {task} is still being undone")
        if root is None or not root.init:
            raise TaskError("plain", f"{task} has no pid namespace of its own")
        if not self._containment.freeze(self._register.tasks[task], False):
            raise TaskError("containment", f"{task} has no cgroup of its own")
        folder = self._places.make(action.move, "dump")
        notes = self._notes_of(task, root.init)
        notes.write(folder)
        notes.write(self._places.make(action.move))
        dump = _Dump(
            action.move, root.init, time.monotonic(), lazy=action.lazy, kept=action.kept
        )
        then = partial(self._dumped, task, dump, folder)
        if action.lazy:
            self._lazily.dump(found, action.move, root.init, folder, then)
        else:
            self._save(task, dump, folder, TRIES)
            if not action.kept:
                least = max(LARGE, _second(root.init))
                self._growing.watch(action.move, partial(self._goes_ahead, dump, folder, least))
        self._dumps[task] = dump

    def _goes_ahead(self, dump: _Dump, folder: str, least: int) -> bool:
        """The memory image that is to be the largest becomes the head of the parcel, while CRIU,
        which has it open, writes on.  Raises OSError."""
        head = parcel.largest(folder)
        if head.size <= least:
            return False
        self._images.take(dump.move, os.path.join(folder, head.name))
        dump.head = head
        return True

    def _save(self, task: str, dump: _Dump, folder: str, tries: int) -> None:
        """Fact: CRIU makes a folder, proc.crtools, where the task's init stands for a moment; so of
        two that stand in one place (clientd.keeper.apart) only one can be dumped at a time.  The
        other is tried again."""
        then = partial(self._saved, task, dump, folder, tries)
        pid = self._need_criu().dump(dump.init, folder, then)
        self._places.say_dumper(dump.move, pid)

    def _saved(self, task: str, dump: _Dump, folder: str, tries: int, dumped: Dumped) -> None:
        is_crowded = dumped.complaint is not None and dumped.complaint.code == "crowded"
        if not is_crowded or tries <= 1 or dump.head.name:
            self._dumped(task, dump, folder, dumped)
            return

        def again() -> None:
            if dump.unwanted or self._dumps.get(task) is not dump:
                self._dumped(task, dump, folder, dumped)
                return
            try:
                self._save(task, dump, folder, tries - 1)
            except (OSError, TaskError) as err:
                dump.is_open = False
                self._fail(task, dump, err)

        self._loop.alarm(f"dump {dump.move} again", LOOK_S, again)

    def _notes_of(self, task: str, init: int) -> Notes:
        known = self._register.tasks[task]
        return Notes(
            os.path.realpath(known.log), os.path.realpath(os.fsdecode(self._births.files)),
            tuple(sorted(criu.stopped_in(init))), whose.ids(self._watch.roots[task].pid),
            os.readlink(f"/proc/{init}/cwd"),
        )

    def _dumped(self, task: str, dump: _Dump, folder: str, dumped: Dumped) -> None:
        dump.is_open = False
        self._growing.leave(dump.move)
        if self._dumps.get(task) is not dump:  # the task has ended
            self._clear(dump)
        elif dumped.complaint:
            del self._dumps[task]
            self._clear(dump)
            if not dump.unwanted:
                self._hear(do.Failed(dump.move, dumped.complaint.code, str(dumped.complaint)))
        elif dump.unwanted:
            del self._dumps[task]
            self._part(dump.move, task, lambda: None)
            self._clear(dump)
        else:
            try:
                if dump.kept:
                    self._set_aside(task, dump, folder, dumped.figures)
                else:
                    self._take(task, dump, folder, dumped)
            except (OSError, TaskError) as err:
                self._fail(task, dump, err)

    def _set_aside(self, task: str, dump: _Dump, folder: str, figures: dict[str, int]) -> None:
        """Fences the task till its open files are copied; no more of it is needed for what is kept.

        Raises OSError, TaskError.
        """
        known, root = self._register.tasks[task], self._watch.roots[task]
        self._containment.freeze(known, True)
        at = time.monotonic() - (time.time() - stood_still(folder, figures))

        def copied(err: OSError | TaskError | None) -> None:
            if self._dumps.get(task) is not dump:
                return
            if err is None:
                self._hear(do.Apart(dump.move, at))
            else:
                self._fail(task, dump, err)

        opened = openfiles.look(self._births.own_folder(known.spec), root.init, known.log)
        self._aside.begin(dump.move, folder, opened, copied)

    def keep(self, action: do.Keep, still_ms: float) -> None:
        def packed() -> None:
            self.drop(action.move)
            self._images.drop(action.move)

        self._aside.pack(action.move, still_ms, packed)

    def _clear(self, dump: _Dump) -> None:
        if dump.dropped:
            self.drop(dump.move)

    def _fail(self, task: str, dump: _Dump, err: OSError | TaskError) -> None:
        """It is to be let go, as the core will say."""
        del self._dumps[task]
        code, text = told(err)
        self._hear(do.Failed(dump.move, code, text))

    def _take(self, task: str, dump: _Dump, folder: str, dumped: Dumped) -> None:
        """Fences the task, and has its images packed.  Raises OSError."""
        self._containment.freeze(self._register.tasks[task], True)
        wall = (
            lazily.stood_still(folder) if dump.lazy else stood_still(folder, dumped.figures)
        )
        at = time.monotonic() - (time.time() - wall)
        dump.phases = {
            "freeze": max(0.0, (at - dump.began) * 1e3),
            "snapshot": max(0.0, (time.monotonic() - at) * 1e3),
        }
        if dump.head.name:
            head = replace(dump.head, size=os.stat(self._images.path(dump.move)).st_size)
        elif (head := parcel.largest(folder)).name:
            self._images.take(dump.move, os.path.join(folder, head.name))
        fd = self._images.open(dump.move, os.O_WRONLY | os.O_APPEND)
        then = partial(self._packed, task, dump, fd, head, (at, wall))
        if parcel.rest_of(folder) > parcel.LITTLE:
            words = (_SHELL, "-c", parcel.PACK, "pack", folder)
            self._errands.run(words, then, LIMIT_S, {3: fd})
            return
        try:
            parcel.pack(fd, folder)
        except OSError:
            os.close(fd)
            raise
        then(None)

    def _packed(
        self, task: str, dump: _Dump, fd: int, head: Head, when: tuple[float, float],
        outcome: Outcome | None,
    ) -> None:
        """``outcome``: tar's, if it did it."""
        try:
            if self._dumps.get(task) is not dump:
                return
            if outcome is not None and not outcome.fine:
                raise TaskError("pack", f"its snapshot could not be written: {last(outcome)}")
            size = parcel.close(fd, head)
            known, root = self._register.tasks[task], self._watch.roots[task]
            files = self._open_files(known.spec, root.init)
        except (OSError, TaskError) as err:
            self._fail(task, dump, err)
            return
        finally:
            os.close(fd)
        now = time.monotonic()
        dump.phases["snapshot"] = (now - when[0]) * 1e3
        self._hear(do.StoodStill(
            dump.move, size, os.stat(known.log).st_size, *when, dump.phases, files
        ))
        words = (_SHELL, "-c", 'exec sync -d "$0"', self._images.path(dump.move))
        self._errands.run(words, partial(self._synced, task, dump, now), LIMIT_S)

    def _synced(self, task: str, dump: _Dump, began: float, outcome: Outcome) -> None:
        if self._dumps.get(task) is not dump:
            return
        del self._dumps[task]
        if outcome.fine:
            self._hear(do.Synced(dump.move, {"sync": (time.monotonic() - began) * 1e3}))
        else:
            text = f"its snapshot could not be written: {last(outcome)}"
            self._hear(do.Failed(dump.move, "sync", text))

    def _open_files(self, spec: Spec, init: int) -> tuple[bytes, ...]:
        """What the task has open below its working directory, to travel with it: by names
        relative to that.  Raises TaskError.

        Fact: what is written to a mapping shows as another mtime once for each page, and not for
        each write; who looks only at that sees an old file.  So those are touched.
        """
        if spec.cwd.startswith(b"/"):
            return ()
        top = os.path.realpath(self._births.folder(spec)) + b"/"
        found = set()
        for pid in processes.tree(init):
            mapped = traits.written_by_mapping(pid)
            with suppress(OSError):
                for name in os.listdir(f"/proc/{pid}/fd"):
                    link = os.readlink(os.fsencode(f"/proc/{pid}/fd/{name}"))
                    if link.startswith(top) and os.path.isfile(link):
                        found.add(link.removeprefix(top))
                        if link in mapped:
                            os.utime(f"/proc/{pid}/fd/{name}")
        if len(found) > CARRIED:
            raise TaskError("too-many", f"it has over {CARRIED} files open")
        return tuple(sorted(found))

    # ---- the destination -------------------------------------------------------------------

    def birth(self, action: do.Birth) -> None:
        """Its log, its cgroup, and a CRIU that waits for its images."""
        found, task = self._need_criu(), action.task.id
        folder = self._births.folder(action.task.spec)
        if not os.path.isdir(folder):
            raise TaskError("cwd", f"its working directory {os.fsdecode(folder)} is not there")
        inside, user = self._inside(task), action.task.spec.user
        log, waiting = self._births.guest_log(task, action.fresh), None
        try:
            if not whose.ids_here(user):
                waiting = found.wait(log, inside)
        finally:
            os.close(log)
        guest = self._guests[task] = _Guest(action.move, user, waiting=waiting)
        guest.errand = waiting.pid if waiting else 0
        image = self._images.in_memory(action.move)
        self._hear(do.Warm(action.move, self._births.log_path(task), image))

    def _inside(self, task: str) -> tuple[str, ...]:
        """What executes CRIU in the cgroup of the task, which is made.  Raises OSError,
        TaskError."""
        cgroup = self._containment.room(task)
        if cgroup < 0:
            raise TaskError("containment", "this node has no cgroups to fence a copy with")
        try:
            return (*_INSIDE, os.readlink(f"/proc/self/fd/{cgroup}"))
        finally:
            os.close(cgroup)

    def load(self, action: do.LoadCopy, record: Moved) -> None:
        self._need_criu()
        guest = self._guests[action.task]
        guest.began, guest.lazy = time.monotonic(), record.lazy
        # On the file system of the image: a part of it is linked there.  What feeds a copy later is
        # found again where all is that lasts.
        is_quick = self._images.in_memory(action.move) and not guest.lazy
        places = Places(self._images.beside(make=True)) if is_quick else self._places
        folder = places.make(action.move, "load")
        fd = self._images.open(action.move, os.O_RDONLY)
        try:
            found = parcel.opened(fd)
            if found.head.name:
                self._images.lend(action.move, os.path.join(folder, found.head.name))
            if found.is_little:
                found.unpack(fd, folder)
                self._prepare(action.task, folder, partial(self._ready, action.task, guest, folder))
                return
            guest.errand = self._errands.run(
                (_SHELL, "-c", parcel.UNPACK, "unpack", folder),
                partial(self._unpacked, action.task, guest, folder), LIMIT_S, {3: fd},
            )
        finally:
            os.close(fd)

    def _unpacked(self, task: str, guest: _Guest, folder: str, outcome: Outcome) -> None:
        if self._guests.get(task) is not guest:
            return
        then = partial(self._ready, task, guest, folder)
        if outcome.fine:
            self._prepare(task, folder, then)
        else:
            then(TaskError("unpack", f"its snapshot cannot be read: {last(outcome)}"))

    def _ready(
        self, task: str, guest: _Guest, folder: str, err: OSError | TaskError | None
    ) -> None:
        if self._guests.get(task) is not guest:
            return
        try:
            if err is not None:
                raise err
            self._begin(task, guest, folder)
        except (OSError, TaskError) as err:
            code, text = told(err)
            self._hear(do.Failed(guest.move, code, text))

    def _begin(self, task: str, guest: _Guest, folder: str) -> None:
        """All of its images are there.  Raises OSError, TaskError."""
        if guest.lazy:
            restore = partial(self._restore_told, task, guest, folder)
            self._lazily.feed(self._need_criu(), guest.move, folder, restore)
        else:
            self._restore(task, guest, folder)

    def _restore_told(self, task: str, guest: _Guest, folder: str) -> None:
        if self._guests.get(task) is not guest:
            return
        try:
            self._restore(task, guest, folder)
        except (OSError, TaskError) as err:
            code, text = told(err)
            self._hear(do.Failed(guest.move, code, text))

    def _restore(self, task: str, guest: _Guest, folder: str) -> None:
        """Raises OSError, TaskError."""
        notes = Notes.read(folder)
        for reason in whose.differences(guest.user, notes.ids, self._node):
            raise TaskError(reason.code, reason.text)
        notes.write(self._places.make(guest.move))
        guest.ids = whose.ids_here(guest.user)
        stand = self._stand(notes, guest.ids)
        then = partial(self._restored, task, guest)
        if guest.waiting and guest.waiting.restore(folder, notes.log, then, lazy=guest.lazy):
            guest.errand = guest.waiting.pid
            return
        files = {notes.log: self._births.guest_log(task, fresh=False)}
        try:
            if guest.ids is not None:
                files[stand] = os.open(stand, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                _give(folder, guest.ids)
            guest.errand = self._need_criu().restore(
                folder, then, files=files, before=self._inside(task), user=guest.ids,
                options=("--lazy-pages",) if guest.lazy else (),
            )
        finally:
            for fd in files.values():
                os.close(fd)

    def _stand(self, notes: Notes, user: Ids | None) -> str:
        """Where its init is to stand, which is there.  Raises OSError, TaskError."""
        if self._apart is None:
            raise TaskError("apart", "this node has no pid namespaces")
        return self._apart.stand(notes.stand, user.uid if user else None)

    def _restored(self, task: str, guest: _Guest, restored: Restored) -> None:
        wanted = self._guests.get(task) is guest
        if restored.program is None or restored.complaint:
            if wanted and restored.complaint:
                text = str(restored.complaint)
                self._hear(do.Failed(guest.move, restored.complaint.code, text))
            elif not wanted:
                self._containment.discard(task)
            return
        program = restored.program
        guest.init = restored.init
        guest.root = Root(
            task, program.pid, program.start_ticks, True, 0, restored.init, program.pidfd
        )
        self._others[guest.init] = partial(self._reap, task, guest)
        if not wanted:
            criu.end(guest.init)
            return
        self._containment.fence(task, True)
        try:
            self._check_rights(guest)
            if guest.lazy:
                self._lazily.hold(guest.move)
        except (OSError, TaskError) as err:
            self._hear(do.Failed(guest.move, *told(err)))
            return
        took_ms = (time.monotonic() - guest.began) * 1e3
        self._hear(do.Loaded(guest.move, program.pid, program.start_ticks, {"restore": took_ms}))

    def _check_rights(self, guest: _Guest) -> None:
        """Raises OSError, TaskError."""
        if guest.ids is None:
            return
        found = whose.excess(guest.init, processes.tree(guest.init), guest.ids, below.RIGHTS)
        if found:
            raise TaskError("rights", f"what was restored is not {guest.user}'s alone: {found}")

    def _reap(self, task: str, guest: _Guest) -> None:
        """A copy that never ran has ended."""
        pid, _, _ = os.wait4(guest.init, os.WNOHANG)
        if not pid:
            return
        del self._others[pid]
        if guest.root is not None and guest.root.pidfd >= 0:
            os.close(guest.root.pidfd)
        if self._guests.get(task) is guest:
            del self._guests[task]
            self._containment.discard(task)
            self._hear(do.Gone(guest.move))

    def discard(self, move: str, task: str) -> bool:
        guest = self._guests.get(task)
        if guest is None or guest.move != move:
            return False
        del self._guests[task]
        if guest.errand:
            self._errands.end(guest.errand)
        if guest.init:
            criu.end(guest.init)
        self._containment.discard(task)
        return True

    def settle_in(self, record: Moved) -> None:
        guest = self._guests.pop(record.task, None)
        if guest is None or guest.root is None:
            return
        del self._others[guest.init]
        self._watch.add(guest.root)

    # ---- both ------------------------------------------------------------------------------

    def thaw(self, move: str, task: str) -> None:
        self._growing.leave(move)
        dump = self._dumps.get(task)
        if dump is not None and dump.is_open:
            dump.unwanted = True
            return
        self._dumps.pop(task, None)
        self._part(
            move, task, lambda: self._hear(do.WentOn(move, time.monotonic(), time.time(), {}))
        )

    def watch_drain(self, move: str, task: str) -> None:
        """See clientd.keeper.moves.actions.WatchDrain."""
        self._lazily.watch(move)

    def _part(self, move: str, task: str, then: Callable[[], None]) -> None:
        """Lets the task go, once CRIU has.  Raises TaskError when there is none."""
        if self._lazily.serves(move):
            self._hang_up(move)
        elif not self._places.dumper(move):  # an earlier keeper's CRIU may still be at it
            self._let_go(move, task)
            then()
            self._parted(move)
            return
        self._loop.alarm(f"dump {move}", LOOK_S, lambda: self._part_later(move, task, then))

    def _hang_up(self, move: str) -> None:
        """The first time in order, and then now and again by force."""
        now, asked = self._loop.now(), self._parting.get(move)
        if asked is None or now - asked > PATIENCE_S:
            self._parting[move] = now
            self._lazily.hang_up(move, by_force=asked is not None)

    def _part_later(self, move: str, task: str, then: Callable[[], None]) -> None:
        if task in self._watch.roots:
            self._part(move, task, then)
        else:
            self._parted(move)

    def _parted(self, move: str) -> None:
        self._parting.pop(move, None)
        if move in self._dropped:
            self._dropped.discard(move)
            self.drop(move)

    def _let_go(self, move: str, task: str) -> None:
        """Stopped processes go on first, and run once the cgroup thaws: all at once.

        Raises TaskError when there is none.
        """
        root = self._watch.roots.get(task)
        if root is None:
            raise TaskError("gone", f"no process of {task} is left")
        stopped: tuple[int, ...] = ()
        with suppress(OSError, TaskError):
            stopped = self._places.notes(move).stopped
        criu.thaw(root.init or root.pid, stopped)
        self._containment.fence(task, False)

    def ended(self, task: str) -> None:
        dump = self._dumps.pop(task, None)
        if dump is not None:
            self._growing.leave(dump.move)
            dump.dropped = True

    def drop(self, move: str) -> None:
        if move in self._parting:
            self._dropped.add(move)
            return
        for dump in self._dumps.values():
            if dump.move == move and dump.is_open:
                dump.dropped = True
                return
        self._lazily.drop(move)
        self._aside.drop(move)
        for places in self._all_places():
            for path in places.of(move):
                self._remove(places, path)

    def _remove(self, places: Places, path: str) -> None:
        def gone(_: Outcome) -> None:
            if places is not self._places:
                places.prune()

        self._errands.run(("/bin/rm", "-rf", path), gone, LIMIT_S)

    def _all_places(self) -> Iterator[Places]:
        yield self._places
        if quick := self._images.beside():
            yield Places(quick)

    def sweep(self, moves: set[str]) -> None:
        """Removes what is of none of these moves: an earlier keeper's."""
        for places in self._all_places():
            for move in places.all():
                if move not in moves:
                    self.drop(move)


def stood_still(folder: str, figures: dict[str, int]) -> float:
    """When the first of a task's processes was stopped, by the wall clock.

    CRIU writes how long it took to stop them, and how long they stood still then, when it is
    done; a file's time is of the clock's last tick, so it may be some ms early and is never late.
    """
    took_us = figures.get("freezing_us", 0) + figures.get("frozen_us", 0)
    return os.stat(os.path.join(folder, stats.DUMPED)).st_mtime - took_us / 1e6


def _give(folder: str, user: Ids) -> None:
    """The images are his who restores them: nobody else may go where they are.  Raises OSError."""
    for path in (folder, *(entry.path for entry in os.scandir(folder))):
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def _second(init: int) -> int:
    """Bytes of memory that all processes of a namespace have at most, but for the largest: a memory
    image with more than that is that one's, however much is still to come."""
    return sorted((0, *(processes.memory((pid,)) for pid in processes.tree(init))))[-2]


def last(outcome: Outcome) -> str:
    """What a program said last."""
    said = outcome.said.splitlines()
    return said[-1] if said else "it said nothing"


def told(err: OSError | TaskError) -> tuple[str, str]:
    if isinstance(err, TaskError):
        return err.code, str(err)
    return "files", f"{err.filename}: {err.strerror}"
