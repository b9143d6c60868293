"""Does what the moves' core wants, with runners, files and the journal; and tells it what came.

Events are taken one after the other, and each event's actions in their order: a durable record is
on the disk before the next action is begun, and when it cannot be written, no other is.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import assert_never

from clientd.keeper import processes
from clientd.keeper.apart import init_of
from clientd.keeper.births import Births
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.core import Moves
from clientd.keeper.moves.imaged import Imaged
from clientd.keeper.moves.pickled import Pickled
from clientd.keeper.moves.table import Part
from clientd.keeper.moves.ways import Images, Way
from clientd.keeper.orders import Checkpoint, Freeze
from clientd.keeper.records import Moved
from clientd.keeper.register import code_of
from clientd.keeper.tools import Tools
from clientd.keeper.watch import Root, Watch
from godwit import failpoint
from godwit.errors import TaskError
from godwit.task.record import Task

#: Seconds that it may take to remove an image.
LIMIT_S = 60.0


class Mover:
    """The moves of one keeper."""

    def __init__(
        self, tools: Tools, watch: Watch, births: Births, arrives: Callable[[str], None]
    ):
        """``arrives``: hears of each task that is about to run here."""
        self._arrives = arrives
        self._node = tools.spawner.place.node
        #: Tasks that have left and whose log stays.
        self._kept: set[str] = set()
        self._register = tools.register
        self._containment = tools.containment
        self._watch = watch
        self._births = births
        self._images = Images(births.agent, tools.spawner.place.mark)
        self._gate = tools.gate
        self._errands = tools.errands
        self._core = Moves(
            tools.register.ledger, tools.boot, self._images.folder, self._objects
        )
        self._boot = tools.boot
        self._pickled = Pickled(tools, watch, births, self._images, self.handle)
        self._imaged = Imaged(tools, watch, births, self._images, self.handle)
        self._ways: dict[str, Way] = {"python": self._pickled, "shell": self._imaged}
        self._events: deque[do.Event] = deque()
        self._busy = False
        self.standings = self._core.standings
        #: What runners say.
        self.told = self._pickled.told
        #: What freezes processes and restores them, once it is known.
        self.use_criu = self._imaged.use

    def _objects(self, task: Task) -> tuple[str, str] | None:
        """What this node's policy has against a task that may come."""
        err = self._gate.objection_to_guest(task.spec, len(self._watch.roots))
        return (err.code, str(err)) if err else None

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
            is_alive = action.task in self._watch.roots
            self._events.append(do.Unthawed(move) if is_alive else do.Gone(move))
        elif not isinstance(action, do.DropFiles):
            self._events.append(do.Failed(move, code, text))

    def checkpoint(self, order: Checkpoint) -> None:
        """A move to nowhere, whose image is kept.  Raises TaskError, OSError."""
        task = self._register.known(order.task)
        if task.spec.kind == "shell" and (err := self._gate.objection_to_guest(task.spec, 0)):
            raise err  # as it could not be started from it either
        spec = self._births.kept.begin(order)
        self.handle(do.Ordered(Freeze(order.snapshot, order.task, spec.epoch, kept=True)))

    def of_task(self, task: str) -> Moved | None:
        """The move, not settled here, that has this task."""
        return self._core.of_task(task)

    # ---- records ---------------------------------------------------------------------------

    def _note(self, note: do.Note) -> bool:
        """False: nothing that follows is to be done."""
        record = note.record
        if record.part is Part.FINISHED and self._stays_at_home(record.task):
            self._kept.add(record.task)
        try:
            failpoint.hit(f"move.{record.part.value}.before")
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
        if record.part in (Part.CONSUMED, Part.RESUMING):
            self._arrives(record.task)
        if record.part is Part.FINISHED:
            self._leave_snapshots(record.task)
        if record.pid is not None and record.part in (Part.CONSUMED, Part.RESUMING):
            self._way(record.task, record.move).settle_in(record)
        return True

    def _way(self, task: str, move: str = "") -> Way:
        """By the kind of the task, which is here, or comes by this move."""
        known = self._register.tasks.get(task)
        if known is None:
            known = self._register.ledger.moves[move].incoming
        assert known is not None
        return self._ways[known.spec.kind]

    def _leave_snapshots(self, task: str) -> None:
        """They stay here, though the task does not."""
        try:
            self._births.lodged.take_over(self._births.kept, task)
        except OSError as err:
            text = f"snapshots of {task}, which has left: {err.strerror}"
            self._register.log("warning", text, task=task)

    # ---- actions ---------------------------------------------------------------------------

    def _perform(self, action: do.Action) -> None:
        match action:
            case do.Tell(word):
                self._register.tell(word)
            case do.Birth(move, task, fresh):
                if fresh:
                    self._images.make(move, lasts=task.spec.kind == "python")
                self._ways[task.spec.kind].birth(action)
            case do.FreezeCopy(move, task_id):
                self._images.make(move)
                self._way(task_id).freeze(action)
            case do.LoadCopy(move, task_id):
                record = self._register.ledger.moves[move]
                self._way(task_id, move).load(action, record)
            case do.Thaw(move, task_id):
                self._way(task_id, move).thaw(move, task_id)
            case do.WatchDrain(move, task_id):
                self._imaged.watch_drain(move, task_id)
            case do.KillCopy(move, task_id):
                self._kill(move, task_id)
            case do.DropFiles(move, task_id, log):
                self._drop_files(move, task_id, log)
            case do.Keep(move, task_id, at=at):
                self._way(task_id).keep(action, (time.monotonic() - at) * 1e3)
            case do.Unkept(move, code, text):
                self._births.kept.fail(move, code or "aborted", text or "it was given up")
            case do.ForgetTask(task_id):
                self._births.forget(task_id)
            case do.Note():
                raise AssertionError("a Note is put on record by _note")
            case _:
                assert_never(action)

    def _kill(self, move: str, task: str) -> None:
        if any(way.discard(move, task) for way in self._ways.values()):
            self._events.append(do.Gone(move))
        elif task in self._watch.roots and (
            self.of_task(task) is not None or self._lost(task) is not None
        ):
            self._watch.kill_init(task)
            self._containment.kill(self._register.tasks[task], True)
        else:
            self._events.append(do.Gone(move))

    def _lost(self, task: str) -> Moved | None:
        """The move that left the task here without all of its memory."""
        known = self._register.tasks.get(task)
        return next((
            m for m in self._register.ledger.moves.values()
            if m.task == task and m.lazy and m.part is Part.LOST
            and known is not None and known.spec.epoch == m.epoch
        ), None)

    def _stays_at_home(self, task: str) -> bool:
        """Its log does: what it writes elsewhere is to go there, too."""
        known = self._register.tasks.get(task)
        if known is not None and known.spec.log_at_home:
            return known.spec.home == self._node
        shadow = self._register.ledger.shadows.get(task)
        return shadow is not None and shadow.log

    def _drop_files(self, move: str, task: str, log: bool) -> None:
        for way in self._ways.values():
            way.drop(move)  # before the image: a pager is found beside it
        last = self._images.drop(move)
        if last >= 0:
            # Whose end is the file's.
            self._errands.run(("/bin/true",), lambda _: None, LIMIT_S, {3: last})
            os.close(last)
        if task in self._kept or self._stays_at_home(task):
            self._kept.discard(task)
        elif log and task not in self._register.tasks:
            with suppress(FileNotFoundError):
                os.unlink(self._births.log_path(task))

    # ---- ends ------------------------------------------------------------------------------

    def ended(self, root: Root) -> bool:
        """A task's process has ended; false: that is the task's own end."""
        record = self.of_task(root.task)
        if record is None:
            if self._lost(root.task) is None:
                return False
            # It was ended by us for want of its memory: all has been said of it.
            self._containment.discard(root.task)
            return True
        self._way(root.task, record.move).ended(root.task)
        kept = record.part in (Part.FROZEN, Part.FINISHING)
        self.handle(do.Gone(record.move))
        if record.part is Part.FINISHING:
            self._containment.discard(root.task)
        return kept

    # ---- a keeper that is new --------------------------------------------------------------

    def adopt(self, found: Callable[[str], list[processes.Process]]) -> None:
        """Carries on with the moves of an earlier keeper; ``found`` tells what runs of a task."""
        moves = list(self._register.ledger.moves.values())
        self._births.kept.sweep()
        self._births.lodged.sweep()
        self._imaged.sweep({record.move for record in moves if not record.part.settled})
        for record in moves:
            if record.part.settled:  # what was to be done once it was may not have been
                self._images.drop(record.move)
        for record in moves:
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
                return Root(record.task, pid, ticks, False, init=init_of(pid))
        return None

