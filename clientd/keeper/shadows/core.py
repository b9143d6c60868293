"""Shadows of the tasks that left this home: events in, actions out.  Pure.

The master tells where each such task is, and all of them on each connection, so that nothing is
lost for good.  What a shadow catches is told one at a time, in the order in which it came; the
next when the master took the one before.
"""

import signal
from collections.abc import Iterator
from typing import assert_never

from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.records import Ledger, Shadow, Waiting
from clientd.keeper.shadows import actions as do
from clientd.keeper.shadows.table import Cause, Phase, advance
from godwit.task.lifecycle import Status
from godwit.task.record import signal_name
from godwit.wire.messages import Guest

#: Signals of one shadow that wait at most; the rest wait in its pipe, and then in the kernel.
MOST_WAITING = 64
#: Shadows on one node, at most.
MOST = 10_000
#: What a shell shows for a status that cannot be known, as exit code: wait(2).
UNKNOWN = 125 << 8
#: Of a standard signal one at most waits, as in the kernel: signal(7).
_STANDARD = 32
_STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_GOES_ON = {signal.SIGCONT}


class Shadows:
    """All shadows of one node."""

    def __init__(self, ledger: Ledger, boot: str):
        self._ledger = ledger
        self._boot = boot

    def handle(self, event: do.Event) -> Iterator[do.Action]:
        """What is to be done now; each action before the next is asked for."""
        match event:
            case do.Told(guest):
                yield from self._told(guest)
            case do.Listed(tasks):
                for shadow in [s for s in self._all() if s.task not in tasks]:
                    yield from self._leave_log(shadow)
                    yield from self._end(self._ledger.shadows.get(shadow.task), UNKNOWN)
            case do.Made(task, pid, ticks):
                made = self._step(
                    self._ledger.shadows[task], Cause.MADE, pid=pid, start_ticks=ticks,
                    boot=self._boot, taken=0,
                )
                yield do.Note(made)
                yield do.Entitle(made)
            case do.Unmade(task, text):
                yield do.Say("warning", f"the shadow of {task} cannot be made: {text}", task)
                yield do.MakeLater(task)
            case do.Due(task):
                if (known := self._ledger.shadows.get(task)) and known.phase is Phase.WANTED:
                    yield do.Make(known)
            case do.Signalled():
                yield from self._signalled(event)
            case do.Died():
                yield from self._died(event)
            case do.Took(task, number):
                yield from self._took(task, number)
            case do.Arrives(task):
                if known := self._ledger.shadows.get(task):
                    yield from self._leave_log(known)
                    yield from self._call_off(self._ledger.shadows.get(task))
            case do.Returned(task, alive):
                yield from self._returned(self._ledger.shadows[task], alive)
            case do.Leaves():
                for shadow in self._all():
                    yield from self._call_off(shadow)
            case _:
                assert_never(event)

    def first_words(self) -> Iterator[orders.Caught]:
        """What a new agent is told."""
        for shadow in self._all():
            yield from _head(shadow)

    def is_full(self, task: str) -> bool:
        """No more of what it caught is taken for now."""
        known = self._ledger.shadows.get(task)
        return known is not None and len(known.waiting) >= MOST_WAITING

    def _all(self) -> list[Shadow]:
        return list(self._ledger.shadows.values())

    @staticmethod
    def _step(shadow: Shadow, cause: Cause, **changes: object) -> Shadow:
        return replace(shadow, phase=advance(shadow.phase, cause), **changes)

    # ---- where the guest is ----------------------------------------------------------------

    def _told(self, guest: Guest) -> Iterator[do.Action]:
        known = self._ledger.shadows.get(guest.task)
        if known is not None and guest.epoch < known.epoch:
            return  # what has passed
        if guest.state == "away":
            yield from self._away(guest, known)
        elif known is not None:
            if guest.state == "removed":
                yield from self._leave_log(known, drop=True)
            yield from self._end(self._ledger.shadows.get(guest.task), status_of(guest))

    def _away(self, guest: Guest, known: Shadow | None) -> Iterator[do.Action]:
        if self._is_here(guest):
            return
        if known is None and len(self._ledger.shadows) >= MOST:
            yield do.Say("warning", f"{guest.task} gets no shadow: there are {MOST}", guest.task)
            return
        before = known or Shadow(guest.task, phase=Phase.OVER)
        now = replace(
            before, user=guest.user, node=guest.node, epoch=guest.epoch, log=guest.log
        )
        if not any(one.number == signal.SIGKILL for one in before.waiting):
            now = self._step(now, Cause.AWAY)
        if now == before:
            return
        yield do.Note(now)
        if now.log and not before.log:
            yield do.KeepLog(now.task)
        if before.phase is Phase.OVER and now.phase is Phase.WANTED:
            yield do.Make(now)
        elif now.phase is Phase.STANDING:
            yield do.Entitle(now)

    def _is_here(self, guest: Guest) -> bool:
        """It has come home since the master said so."""
        task = self._ledger.tasks.get(guest.task)
        return task is not None and task.status is not Status.FROZEN and (
            task.spec.epoch >= guest.epoch
        )

    # ---- ends ------------------------------------------------------------------------------

    def _end(self, shadow: Shadow | None, status: int) -> Iterator[do.Action]:
        """With the guest's status; what still waits has nobody to go to."""
        if shadow is None or shadow.phase is Phase.ENDING:
            return
        ending = self._step(shadow, Cause.CALLED_OFF, status=status, waiting=())
        yield do.Note(ending)
        if ending.phase is Phase.ENDING:
            yield do.Finish(ending)

    def _leave_log(self, shadow: Shadow, drop: bool = False) -> Iterator[do.Action]:
        """It is the task's own from now on, or nobody's."""
        if shadow.log:
            yield do.Note(replace(shadow, log=False))
            yield do.LeaveLog(shadow.task, drop)

    def _call_off(self, shadow: Shadow | None) -> Iterator[do.Action]:
        """At once; what waits goes on to the task, wherever that is."""
        if shadow is None:
            return
        off = self._step(shadow, Cause.CALLED_OFF, status=int(signal.SIGKILL))
        yield do.Note(off)
        if shadow.pid is not None:
            yield do.Kill(off)

    def _died(self, event: do.Died) -> Iterator[do.Action]:
        shadow = self._ledger.shadows.get(event.task)
        if shadow is None or shadow.phase not in (Phase.STANDING, Phase.ENDING):
            return
        number = 0 if event.status is None else event.status & 0x7F
        if shadow.phase is Phase.ENDING:
            yield do.Note(self._step(shadow, Cause.DIED, pid=None))
            return
        cause = Cause.KILLED if number == signal.SIGKILL else Cause.DIED
        how = signal_name(number) if number else "something else than a signal"
        yield do.Say("info", f"the shadow of {event.task} was ended by {how}", event.task)
        died = self._step(shadow, cause, pid=None)
        if number:  # one that came before it blocked them, or cannot be blocked
            died = _with(died, number, event.at)
        yield do.Note(died, durable=bool(number))
        if len(shadow.waiting) == 0:
            yield from self._tell(died)
        if died.phase is Phase.WANTED:
            yield do.MakeLater(event.task)

    def _returned(self, shadow: Shadow, alive: bool) -> Iterator[do.Action]:
        task = self._ledger.tasks.get(shadow.task)
        if task is not None and task.spec.epoch > shadow.epoch and task.status.alive:
            yield from self._leave_log(shadow)  # it came home
            yield from self._call_off(self._ledger.shadows.get(shadow.task))
        elif shadow.phase is Phase.WANTED:
            yield do.Make(shadow)
        elif shadow.phase is Phase.ENDING and alive:
            yield do.Finish(shadow)
        elif not alive and shadow.pid is not None:
            # How it ended nobody knows.  To take that for SIGKILL could end a guest for nothing.
            yield from self._died(do.Died(shadow.task, None))

    # ---- what it catches -------------------------------------------------------------------

    def _signalled(self, event: do.Signalled) -> Iterator[do.Action]:
        shadow = self._ledger.shadows.get(event.task)
        if shadow is None or shadow.phase is not Phase.STANDING:
            return
        if event.count and event.count <= shadow.taken:
            return  # an earlier keeper had it
        caught = replace(
            _with(shadow, event.number, event.at), taken=event.count or shadow.taken
        )
        yield do.Note(caught, durable=True)
        yield do.Say(
            "info", f"{signal_name(event.number)} for {event.task} goes to {caught.node}",
            event.task,
        )
        if not shadow.waiting:
            yield from self._tell(caught)

    @staticmethod
    def _tell(shadow: Shadow) -> Iterator[do.Action]:
        for word in _head(shadow):
            yield do.Tell(word)

    def _took(self, task: str, number: int) -> Iterator[do.Action]:
        shadow = self._ledger.shadows.get(task)
        if shadow is None or not shadow.waiting or number < shadow.waiting[0].id:
            return
        left = replace(shadow, waiting=tuple(w for w in shadow.waiting if w.id > number))
        yield do.Note(left)
        yield from self._tell(left)


def _head(shadow: Shadow) -> Iterator[orders.Caught]:
    if shadow.waiting:
        first = shadow.waiting[0]
        yield orders.Caught(shadow.task, first.id, first.number)


def _with(shadow: Shadow, number: int, at: float) -> Shadow:
    """One more waits; those that the kernel would drop for it do not.  The first may be under way.

    Its id is above all that this task's shadows ever had, also when the record of them is lost:
    by it the guest's node knows what it has done already.
    """
    first, rest = shadow.waiting[:1], shadow.waiting[1:]
    dropped = _GOES_ON if number in _STOPS else _STOPS if number in _GOES_ON else set()
    rest = tuple(one for one in rest if one.number not in dropped)
    if number < _STANDARD and any(one.number == number for one in rest):
        return replace(shadow, waiting=first + rest)
    last = max(shadow.last + 1, int(at * 1e6))
    return replace(shadow, last=last, waiting=(*first, *rest, Waiting(last, number)))


def status_of(guest: Guest) -> int:
    """The status that its shadow is to end with, as wait(2) has it."""
    match guest.state:
        case "removed":
            return int(signal.SIGKILL)
        case "ended" if guest.signal is not None:
            return guest.signal & 0x7F
        case "ended" if guest.exit_code is not None:
            return (guest.exit_code & 0xFF) << 8
        case _:
            return UNKNOWN
