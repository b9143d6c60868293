"""This node's part in every move: events in, actions out.  Pure.

The journal's word on each move is in the ledger (``Moved``; clientd/keeper/moves/table.py has the
rules).  Here is only what dies with this keeper: which copies are warm or loaded, and which
verdict waits for a copy to be loaded.  Every answer to the agent repeats what is on record, so
an order may come late or twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.table import Cause, Part, advance
from clientd.keeper.records import Ledger, Moved
from godwit.task.lifecycle import Status
from godwit.task.record import Task

GONE = "it was about to run, or ran, when clientd or its machine stopped"

PLAIN = (
    "it was started without a pid namespace of its own; start it with `execute`, without --plain"
)

#: Kinds of task that can be frozen, shipped and thawed here.
KINDS = ("python", "shell")


class Ready(Enum):
    """How far a copy has come that is to take over a frozen state."""

    ABSENT = "absent"
    BORN = "born"  # asked for
    WARM = "warm"
    LOADING = "loading"
    LOADED = "loaded"


@dataclass(slots=True)
class Copy:
    """A copy that has not run yet, in this keeper's life."""

    ready: Ready = Ready.ABSENT
    #: The verdict is ours: it runs as soon as it is loaded.
    wanted: bool = False
    loaded: do.Loaded | None = None
    #: The frozen copy of a source has died: its image is what is left.
    dead: bool = False
    phases: dict[str, float] = field(default_factory=dict)


class Moves:
    """The core.  ``handle`` is its only way in."""

    def __init__(
        self, ledger: Ledger, boot: str, images: str,
        objects: Callable[[Task], tuple[str, str] | None] = lambda task: None,
    ):
        """``images``: the folder of the images, each called by its move.  ``objects``: why this
        node does not take a task, as a code and a text, if so."""
        self._objects = objects
        self._ledger = ledger
        self._boot = boot
        self._images = images
        self._copies: dict[str, Copy] = {}

    def of_task(self, task: str) -> Moved | None:
        """The move, not settled here, that has this task."""
        return next(
            (m for m in self._ledger.moves.values() if m.task == task and not m.part.settled), None
        )

    def standings(self) -> Iterator[orders.Standing]:
        """For a new agent: where every move stands of which more is to come."""
        for record in self._ledger.moves.values():
            # One that is lost waits for nothing, but the master may have to decide for want of it.
            is_lost = record.part is Part.LOST and record.task in self._ledger.tasks
            if (is_lost or not record.part.settled) and record.part.told is not None:
                yield standing(record)

    def handle(self, event: do.Event) -> Iterator[do.Action]:
        """What is to be done; to be done one by one, as they come."""
        match event:
            case do.Ordered(orders.Reserve() as order):
                yield from self._reserve(order)
            case do.Ordered(orders.Freeze() as order):
                yield from self._freeze(order)
            case do.Ordered(orders.Verdict() as verdict):
                yield from self._verdict(verdict)
            case do.Ordered(orders.Landed(move, size)):
                yield from self._landed(move, size)
            case do.Ordered(orders.Cut(move, code, text)):
                yield from self._cut(move, code, text)
            case do.Warm(move, log):
                yield from self._warm(move, log)
            case do.StoodStill():
                yield from self._stood_still(event)
            case do.Synced(move, phases):
                yield from self._synced(move, phases)
            case do.Loaded():
                yield from self._loaded(event)
            case do.WentOn():
                yield from self._went_on(event)
            case do.Failed(move, code, text):
                yield from self._failed(move, code, text)
            case do.Gone(move):
                yield from self._gone(move)
            case do.Unwritten(record, code, text):
                yield from self._unwritten(record, code, text)
            case do.AgentLost():
                for move in list(self._ledger.moves):
                    yield from self._cut(move, "agent", "the agent of this node ended")
            case do.Returned(move, alive):
                yield from self._returned(self._ledger.moves[move], alive)

    def _tell(self, record: Moved) -> Iterator[do.Action]:
        if record.part.told is not None:
            yield do.Tell(standing(record))

    def _step(self, record: Moved, cause: Cause, **changes: object) -> Moved:
        return replace(record, part=advance(record.part, cause), **changes)

    def _copy(self, move: str) -> Copy:
        return self._copies.setdefault(move, Copy())

    # ---- destination: before the vote ------------------------------------------------------

    def _reserve(self, order: orders.Reserve) -> Iterator[do.Action]:
        known = self._ledger.moves.get(order.move)
        if known is not None:
            yield from self._tell(known)
            return
        task = order.task
        record = Moved(
            order.move, task.id, order.epoch, Part.RESERVED, peer=order.peer, incoming=task,
            image=f"{self._images}/{order.move}",
        )
        problem = self._objection(order)
        if problem:
            yield do.Tell(standing(replace(
                record, part=Part.REFUSED, code=problem[0], text=problem[1]
            )))
            return
        yield do.Note(record)
        self._copy(order.move).ready = Ready.BORN
        yield do.Birth(order.move, task, fresh=True, source=order.source)

    def _objection(self, order: orders.Reserve) -> tuple[str, str] | None:
        task = order.task
        if task.spec.kind not in KINDS:
            return "kind", f"a {task.spec.kind} task cannot come here"
        if self.of_task(task.id) is not None:
            return "moving", f"another move of {task.id} is not settled here yet"
        if task.id in self._ledger.tasks:
            return "exists", f"a task {task.id} is here already"
        if order.epoch <= self._ledger.epochs.get(task.id, 0):
            return "epoch", f"{task.id} was here under a later epoch than {order.epoch}"
        return self._objects(task)

    def _warm(self, move: str, log: str) -> Iterator[do.Action]:
        record, copy = self._ledger.moves[move], self._copy(move)
        copy.ready = Ready.WARM
        if record.part is Part.RESERVED:
            assert record.incoming is not None
            incoming = replace(record.incoming, log=log)
            yield do.Note(replace(record, incoming=incoming))
            yield do.Tell(orders.Landing(move, log, record.image))
        elif copy.wanted:  # a verdict waits for it
            yield from self._load(record)
        else:
            yield from self._discard(record)

    def _landed(self, move: str, size: int) -> Iterator[do.Action]:
        record = self._ledger.moves.get(move)
        if record is not None and record.part is Part.RESERVED:
            record = replace(record, size=size)
            yield do.Note(record)
            yield from self._load(record)

    def _load(self, record: Moved) -> Iterator[do.Action]:
        self._copy(record.move).ready = Ready.LOADING
        yield do.LoadCopy(record.move, record.task, record.image, record.size)

    def _loaded(self, event: do.Loaded) -> Iterator[do.Action]:
        record, copy = self._ledger.moves[event.move], self._copy(event.move)
        copy.ready, copy.loaded, copy.phases = Ready.LOADED, event, event.phases
        if record.part is Part.RESERVED:
            voted = self._step(record, Cause.VOTED, phases=event.phases)
            yield do.Note(voted, durable=True)
            yield from self._tell(voted)
        elif copy.wanted:
            yield from self._take_over(record, event)
        else:
            yield from self._discard(record)

    # ---- destination: the verdict ----------------------------------------------------------

    def _commit(self, record: Moved) -> Iterator[do.Action]:
        copy = self._copy(record.move)
        copy.wanted = True
        if copy.ready is Ready.LOADED and copy.loaded is not None:
            yield from self._take_over(record, copy.loaded)
        elif copy.ready is Ready.WARM:
            yield from self._load(record)
        elif copy.ready is Ready.ABSENT:  # this keeper is not the one that voted, or it died
            copy.ready = Ready.BORN
            assert record.incoming is not None
            yield do.Birth(record.move, record.incoming)

    def _take_over(self, record: Moved, loaded: do.Loaded) -> Iterator[do.Action]:
        """On record first, so that this state never runs twice; then it may run."""
        taken = replace(
            record, pid=loaded.pid, start_ticks=loaded.start_ticks, boot=self._boot
        )
        if record.part is Part.PREPARED:
            taken = self._step(taken, Cause.COMMITTED)
        yield do.Note(replace(taken, image=""), durable=True)
        yield do.Thaw(record.move, record.task)

    def _went_on(self, event: do.WentOn) -> Iterator[do.Action]:
        record = self._ledger.moves[event.move]
        if record.part not in (Part.CONSUMED, Part.RESUMING):
            return
        copy = self._copies.pop(event.move, Copy())
        done = self._step(
            record, Cause.THAWED, at=event.at, wall=event.wall,
            phases={**record.phases, **copy.phases, **event.phases},
        )
        yield do.Note(done)
        yield do.DropFiles(record.move, record.task)
        yield from self._tell(done)

    def _discard(self, record: Moved) -> Iterator[do.Action]:
        """Nothing of what came, or was to come, is needed."""
        self._copies.pop(record.move, None)
        yield do.KillCopy(record.move, record.task)
        yield do.DropFiles(record.move, record.task, log=True)

    # ---- source: before the vote -----------------------------------------------------------

    def _freeze(self, order: orders.Freeze) -> Iterator[do.Action]:
        known = self._ledger.moves.get(order.move)
        if known is not None:
            yield from self._tell(known)
            return
        record = Moved(order.move, order.task, order.epoch, Part.FREEZING, peer=order.peer)
        problem = self._unfreezable(order)
        if problem:
            refused = self._step(record, Cause.REFUSED, code=problem[0], text=problem[1])
            yield do.Note(refused)
            yield from self._tell(refused)
            return
        record = replace(record, image=f"{self._images}/{order.move}")
        yield do.Note(record, durable=True)
        yield do.FreezeCopy(order.move, order.task, record.image)

    def _unfreezable(self, order: orders.Freeze) -> tuple[str, str] | None:
        task = self._ledger.tasks.get(order.task)
        if task is None:
            return "no-task", f"{order.task}: no such task on this node"
        if task.spec.kind not in KINDS:
            return "kind", f"a {task.spec.kind} task cannot move"
        if task.spec.kind == "shell" and not task.spec.contained:
            return "plain", PLAIN
        if task.spec.epoch != order.epoch:
            return "epoch", f"{order.task} is here under epoch {task.spec.epoch}"
        if task.status is Status.PAUSED:
            return "paused", f"{order.task} is paused: resume it first"
        if task.status is not Status.RUNNING:
            return "ended", f"{order.task} has ended ({task.status.value})"
        if self.of_task(order.task) is not None:
            return "moving", f"another move of {order.task} is not settled here yet"
        return None

    def _stood_still(self, event: do.StoodStill) -> Iterator[do.Action]:
        record = self._ledger.moves[event.move]
        if record.part is not Part.FREEZING:
            return
        yield do.Note(replace(
            record, size=event.size, at=event.at, wall=event.wall, phases=event.phases
        ))
        task = self._ledger.tasks[record.task]
        yield do.Tell(orders.Shipping(
            record.move, task.log, record.image, event.log_size, event.size, event.files
        ))

    def _synced(self, move: str, phases: dict[str, float]) -> Iterator[do.Action]:
        record = self._ledger.moves[move]
        if record.part is Part.FREEZING:
            voted = self._step(record, Cause.VOTED, phases={**record.phases, **phases})
            yield do.Note(voted, durable=True)
            yield from self._tell(voted)

    def _unfreeze(self, record: Moved, cause: Cause, code: str, text: str) -> Iterator[do.Action]:
        thawed = self._step(record, cause, code=code, text=text)
        yield do.Note(replace(thawed, code="", text=""))
        yield do.Thaw(record.move, record.task)
        yield do.DropFiles(record.move, record.task)
        yield from self._tell(thawed)

    # ---- what goes wrong before the vote ---------------------------------------------------

    def _cut(self, move: str, code: str, text: str) -> Iterator[do.Action]:
        """The stream of bytes has failed."""
        record = self._ledger.moves.get(move)
        if record is None:
            return
        if record.part is Part.FREEZING:
            yield from self._unfreeze(record, Cause.REFUSED, code, text)
        elif record.part is Part.RESERVED:
            yield from self._refuse(record, code, text)
        elif record.part is Part.FROZEN:
            # The verdict is not ours to give; but the master may give it sooner.
            yield do.Tell(standing(replace(record, code=code, text=text)))

    def _refuse(self, record: Moved, code: str, text: str) -> Iterator[do.Action]:
        refused = self._step(record, Cause.REFUSED, code=code, text=text)
        yield do.Note(refused)
        yield from self._discard(record)
        yield from self._tell(refused)

    def _failed(self, move: str, code: str, text: str) -> Iterator[do.Action]:
        record = self._ledger.moves[move]
        match record.part:
            case Part.RESERVED:
                yield from self._refuse(record, code, text)
            case Part.FREEZING:
                yield from self._unfreeze(record, Cause.REFUSED, code, text)
            case Part.PREPARED:
                renounced = self._step(record, Cause.RENOUNCED, code=code, text=text)
                yield do.Note(renounced, durable=True)
                yield from self._discard(record)
                yield from self._tell(renounced)
            case Part.RESUMING if record.image:
                # It is tried again each time that the verdict is repeated: the image is all
                # that there is of the task.
                yield from self._drop_copy(record)
            case Part.RESUMING:
                lost = self._step(record, Cause.LOST, code=code, text=text)
                yield do.Note(lost)
                yield do.KillCopy(record.move, record.task)
                yield from self._tell(lost)

    def _gone(self, move: str) -> Iterator[do.Action]:
        """A copy's process has ended.  That of a task which runs is its own end, noted as such."""
        record, copy = self._ledger.moves[move], self._copies.get(move, Copy())
        copy.ready, copy.loaded = Ready.ABSENT, None
        match record.part:
            case Part.RESERVED:
                yield from self._refuse(record, "died", "the process that was to take it over died")
            case Part.FREEZING:
                ended = self._step(record, Cause.REFUSED, code="ended", text="the task has ended")
                yield do.Note(replace(ended, code="", text=""))
                yield do.DropFiles(record.move, record.task)
                yield from self._tell(ended)
            case Part.FINISHING:
                yield from self._finished(record)
            case Part.FROZEN:
                self._copy(move).dead = True
            case Part.RESUMING if record.image:
                pass  # it never ran: the next time that the verdict is told, another is born
            case Part.CONSUMED | Part.RESUMING:
                # It ran, or was about to: what became of it the kernel tells as of any task.
                yield from self._went_on(do.WentOn(move, 0.0, 0.0, {}))
            case Part.PREPARED if copy.wanted:
                yield from self._commit(record)

    def _unwritten(self, record: Moved, code: str, text: str) -> Iterator[do.Action]:
        """No vote that is not on the disk.  Verdicts come again, for as long as it takes."""
        known = self._ledger.moves.get(record.move)
        match record.part:
            case Part.FREEZING:
                refused = self._step(record, Cause.REFUSED, code=code, text=text)
                yield do.Note(replace(refused, code="", text=""))
                yield from self._tell(refused)
            case Part.FROZEN if known:
                yield from self._unfreeze(known, Cause.REFUSED, code, text)
            case Part.PREPARED if known:
                yield from self._refuse(known, code, text)
            case Part.RENOUNCED if known:
                yield from self._drop_copy(known)

    def _drop_copy(self, record: Moved) -> Iterator[do.Action]:
        """The next time that the verdict is told, another is born."""
        copy = self._copy(record.move)
        copy.ready, copy.loaded, copy.wanted = Ready.ABSENT, None, False
        yield do.KillCopy(record.move, record.task)

    # ---- verdicts --------------------------------------------------------------------------

    def _verdict(self, order: orders.Verdict) -> Iterator[do.Action]:
        record = self._ledger.moves.get(order.move)
        if record is None:
            yield from self._verdict_unknown(order)
            return
        match order.verdict, record.part:
            case "commit", Part.PREPARED if order.epoch == record.epoch:
                yield from self._commit(record)
            case "commit", Part.RESERVED:
                pass  # no vote was given: not the master we know
            case "abort", Part.FREEZING:
                yield from self._unfreeze(record, Cause.ABORTED, "", "")
            case ("abort" | "resume" as verdict), Part.FROZEN:
                cause = Cause.ABORTED if verdict == "abort" else Cause.REVERTED
                yield from self._resume(self._step(record, cause, epoch=order.epoch))
            case ("abort" | "resume"), Part.RESUMING if not record.image:
                yield do.Thaw(record.move, record.task)
            case ("abort" | "resume"), Part.RESUMING:
                yield from self._restore_again(record)
            case "abort", (Part.RESERVED | Part.PREPARED):
                yield from self._give_up(record, Cause.ABORTED)
            case "finish", Part.FROZEN:
                finishing = self._step(record, Cause.FINISHED)
                yield do.Note(finishing, durable=True)
                yield do.KillCopy(record.move, record.task)
            case "finish", Part.FINISHING:
                yield do.KillCopy(record.move, record.task)
            case "end", _:
                yield from self._end(order, record)
            case _:  # "ask" among them
                yield from self._tell(record)

    def _give_up(self, record: Moved, cause: Cause) -> Iterator[do.Action]:
        """What came for a move, or was to come, never runs here."""
        discarded = self._step(record, cause)
        yield do.Note(discarded, durable=record.part.voted)
        yield from self._discard(record)
        yield from self._tell(discarded)

    def _end(self, order: orders.Verdict, record: Moved | None) -> Iterator[do.Action]:
        """Our copy, if there is one, is of an epoch that has passed.

        It ends before that is on record: a copy without a record would run on unseen.
        """
        task = self._ledger.tasks.get(order.task)
        passed = task is not None and task.spec.epoch < order.epoch
        if record is None or record.epoch >= order.epoch or record.part.at_source:
            # One that stands still for a move waits for that move's own verdict.
            if passed and self.of_task(order.task) is None:
                yield do.ForgetTask(order.task)
            if record is not None:
                yield from self._tell(record)
        elif record.part in (Part.RESERVED, Part.PREPARED):
            yield from self._give_up(record, Cause.SUPERSEDED)
        else:
            if passed:
                yield do.ForgetTask(order.task)
            if record.part in (Part.CONSUMED, Part.LOST, Part.RUNNING):
                self._copies.pop(record.move, None)
                record = self._step(record, Cause.SUPERSEDED)
                yield do.Note(record)
            yield from self._tell(record)

    def _verdict_unknown(self, order: orders.Verdict) -> Iterator[do.Action]:
        """A move that this node has no record of: it never voted here, or the record is lost."""
        told = Moved(order.move, order.task, order.epoch, Part.LOST, text="no record of this move")
        match order.verdict:
            case "abort" | "ask" if (task := self._ledger.tasks.get(order.task)) is not None:
                unfrozen = replace(told, part=Part.UNFROZEN, text="", epoch=task.spec.epoch)
                yield do.Note(unfrozen)  # a freeze of it that is late is refused by this
                yield from self._tell(unfrozen)
            case "abort" | "ask":
                discarded = replace(told, part=Part.DISCARDED, text="")
                yield do.Note(discarded)  # as late a reserve of it
                yield from self._tell(discarded)
            case "finish":
                yield from self._tell(replace(told, part=Part.FINISHED, text=""))
            case "resume":
                running = order.task in self._ledger.tasks
                yield from self._tell(replace(
                    told, part=Part.RESUMED, code="" if running else "lost"
                ))
            case "end":
                yield from self._end(order, None)
                if order.move:
                    yield from self._tell(replace(told, part=Part.DISCARDED, text=""))
            case "commit":
                yield from self._tell(replace(told, code="lost"))

    def _resume(self, record: Moved) -> Iterator[do.Action]:
        """The task is ours again; on record before it may run.

        The image serves only a copy that has died: with it on record, no other has run.
        """
        dead = self._copy(record.move).dead
        yield do.Note(record if dead else replace(record, image=""), durable=True)
        if dead:
            yield from self._restore(record)
        else:
            yield do.Thaw(record.move, record.task)

    def _restore_again(self, record: Moved) -> Iterator[do.Action]:
        copy = self._copy(record.move)
        if copy.ready is Ready.ABSENT:
            yield from self._restore(record)
        elif copy.ready is Ready.LOADED and copy.loaded is not None:
            yield from self._take_over(record, copy.loaded)

    def _restore(self, record: Moved) -> Iterator[do.Action]:
        """The frozen copy is gone: the source takes its own image."""
        copy = self._copy(record.move)
        copy.ready, copy.wanted = Ready.BORN, True
        yield do.Birth(record.move, self._ledger.tasks[record.task])

    def _finished(self, record: Moved) -> Iterator[do.Action]:
        finished = self._step(record, Cause.KILLED)
        self._copies.pop(record.move, None)
        yield do.Note(finished)
        yield do.DropFiles(record.move, record.task, log=True)
        yield do.Tell(orders.Forgotten((record.task,)))
        yield from self._tell(finished)

    # ---- a keeper that is new --------------------------------------------------------------

    def _returned(self, record: Moved, alive: bool) -> Iterator[do.Action]:
        """What an earlier keeper had on record is carried on."""
        match record.part:
            case Part.FREEZING if alive:
                yield from self._unfreeze(
                    record, Cause.REFUSED, "keeper", "clientd was started again"
                )
            case Part.FREEZING:
                yield from self._gone(record.move)
            case Part.FROZEN:
                self._copy(record.move).dead = not alive
            case Part.RESUMING if alive:
                yield do.Thaw(record.move, record.task)
            case Part.RESUMING if record.image:
                yield from self._restore(record)
            case Part.RESUMING:
                yield from self._failed(record.move, "lost", GONE)
            case Part.FINISHING:
                yield do.KillCopy(record.move, record.task)
            case Part.RESERVED:
                yield from self._refuse(record, "keeper", "clientd was started again")
            case Part.CONSUMED if alive:
                yield do.Thaw(record.move, record.task)
            case Part.CONSUMED:
                lost = self._step(record, Cause.LOST, code="lost", text=GONE)
                yield do.Note(lost)
                yield from self._tell(lost)


def standing(record: Moved) -> orders.Standing:
    """What the agent is told.  Raises AssertionError for a part that is not told."""
    told = record.part.told
    assert told is not None
    return orders.Standing(
        record.move, record.task, record.epoch, told, record.code, record.text, record.size,
        record.phases, record.at, record.wall, record.peer,
    )

