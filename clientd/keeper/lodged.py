"""Snapshots of other nodes' tasks, that this node keeps for the day on which theirs is gone.

STATE/lodged, for nobody but us, in the form of clientd.keeper.kept: ID.zst and ID.json, a snapshot
being there once ID.zst is.  What is in ID.json is the master's word; only the bytes of ID.zst come
from another node, and only those that the master has announced: so many, under this id.

They do not go with what this node knows of tasks.  They stay till the master has them dropped, or
later ones of the same task take their place.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

import msgspec
from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.errands import Errands, Outcome
from clientd.keeper.gate import Gate
from clientd.keeper.kept import LIMIT_S, MOST, Kept
from clientd.keeper.parcels import Parcels
from clientd.keeper.register import Register
from godwit import failpoint
from godwit.errors import TaskError
from godwit.names import is_task_id
from godwit.task.record import Snapshot, Spec

#: Most snapshots that are listed when those of all tasks are.
MOST_LISTED = 1000
_SHELL = "/bin/sh"
_STOW = (
    'umask 077; { [ -e "$1.new" ] || cat <&3 >"$1.new"; } && sync -d "$1.new" "$1.json" &&'
    ' mv "$1.new" "$1.zst" && sync "$2"'
)
_COPY = "exec cat <&3 >&4"


class Lodged(Kept):
    """See the module."""

    def __init__(
        self, register: Register, errands: Errands, folder: str, parcels: Parcels, gate: Gate
    ):
        super().__init__(register, errands, folder)
        self._parcels = parcels
        self._gate = gate
        #: Those that come: by the parcel that they come in.
        self._coming: dict[str, orders.Lodge] = {}
        #: As the agent was told.
        self.tasks: tuple[str, ...] = ()

    # ---- what there is ---------------------------------------------------------------------

    def listed(self) -> list[Snapshot]:
        """The oldest first."""
        return self.all_kept()

    def sweep(self) -> None:
        """Drops what did not become whole under an earlier keeper."""
        here = {one.id for one in self.listed()} | {c.snapshot.id for c in self._coming.values()}
        for name in self._names() - here:
            self._drop(name)
        self._parcels.sweep()
        self.tasks = self._of_tasks()

    def _of_tasks(self) -> tuple[str, ...]:
        return tuple(sorted({one.spec.task for one in self.listed()}))

    def _tell_tasks(self) -> None:
        """The master hears of whom there are some, whenever that changes."""
        now = self._of_tasks()
        if now != self.tasks:
            self.tasks = now
            self._register.tell(orders.Lodging(now))

    def take_over(self, kept: Kept, task: str) -> None:
        """The task has left: what was kept of it here is lodged from now on.  Raises OSError."""
        mine = [one.id for one in kept.all_kept() if one.spec.task == task]
        if not mine:
            return
        os.makedirs(self._top, 0o700, exist_ok=True)
        for name in mine:
            here = kept.packed_path(name)
            with suppress(FileExistsError):
                os.link(f"{here.removesuffix('zst')}json", self._path(name, "json"))
            os.rename(here, self.packed_path(name))
        self._tell_tasks()

    # ---- one comes -------------------------------------------------------------------------

    def admit(self, order: orders.Lodge) -> None:
        """Makes room for one.  Raises TaskError, OSError."""
        one = order.snapshot
        if not is_task_id(one.id) or not is_task_id(one.spec.task) or not (
            1 <= order.keep <= MOST and one.packed > 0
        ):
            raise TaskError("bad-order", f"a snapshot {one.id!r}, {order.keep} kept")
        if err := self._gate.objection_to_guest(one.spec, 0):
            raise err
        if self._read(one.id) is not None:
            self._register.tell(orders.Snapshots(order.order, (one,)))
            return
        if any(coming.snapshot.id == one.id for coming in self._coming.values()):
            raise TaskError("exists", f"snapshot {one.id} is on its way here already")
        os.makedirs(self._top, 0o700, exist_ok=True)
        self._check_room(one.packed, f"snapshot {one.id}")
        self._drop(one.id)
        name = self._parcels.make()
        self._coming[name] = order
        path = self._parcels.path(name)
        self._register.tell(orders.Berth(order.order, one.id, name, path, one.packed))

    def stow(self, order: orders.Stow) -> None:
        """All of it has come.  Raises TaskError, OSError; and then nothing of it is kept."""
        coming = self._coming.get(order.parcel)
        if coming is None:
            raise TaskError("lost", "nobody waits for this snapshot")
        try:
            failpoint.hit("lodge.before")
            self._stow(order, coming)
        except (TaskError, OSError):
            self.drop_parcel(order.parcel)
            self._drop(coming.snapshot.id)
            raise

    def _stow(self, order: orders.Stow, coming: orders.Lodge) -> None:
        one, fd = coming.snapshot, self._parcels.fd(order.parcel)
        if os.fstat(fd).st_size != one.packed:
            raise TaskError("size", f"snapshot {one.id} did not arrive as it was announced")
        with open(self._path(one.id, "json"), "xb", opener=_private) as file:
            file.write(msgspec.json.encode(one))
        if self._parcels.take(order.parcel, self._path(one.id, "new")):
            os.fchmod(fd, 0o600)
        words = (_SHELL, "-c", _STOW, "stow", self._path(one.id, ""), self._top)
        done = partial(self._stowed, order, coming)
        self._errands.run(words, done, LIMIT_S, {3: fd})

    def _stowed(self, order: orders.Stow, coming: orders.Lodge, outcome: Outcome) -> None:
        one = coming.snapshot
        wanted = order.parcel in self._coming  # else it was dropped meanwhile
        self.drop_parcel(order.parcel)
        if not outcome.fine or not wanted:
            self._drop(one.id)
            said = outcome.said[-300:] or "no longer wanted"
            text = f"the snapshot could not be kept: {said}"
            self._register.tell(orders.Acted(order.order, "stow", text))
            return
        mine = [each for each in self.listed() if each.spec.task == one.spec.task]
        for old in mine[:-coming.keep]:
            self._drop(old.id)
        failpoint.hit("lodge.after")
        self._register.say("lodged", f"snapshot {one.id} of {one.spec.task}")
        self._tell_tasks()
        self._register.tell(orders.Snapshots(order.order, (one,)))

    def drop_parcel(self, name: str) -> None:
        """It is not needed any more."""
        self._coming.pop(name, None)
        self._parcels.drop(name)

    def agent_lost(self) -> None:
        """What it carried is lost."""
        self._coming.clear()
        self._parcels.drop_all()

    # ---- one goes --------------------------------------------------------------------------

    def hand_out(self, order: orders.Give, has: Kept) -> None:
        """Gives the agent a snapshot that ``has`` has, to be sent.  Raises TaskError, OSError."""
        one = has.found(order.snapshot)
        if one is None or one.spec.task != order.task:
            raise TaskError("no-snapshot", f"there is no snapshot {order.snapshot} of {order.task}")
        path = has.packed_path(one.id)
        if self._parcels.is_ours:
            self._lend(order, self._parcels.lend(path))
            return
        name = self._parcels.make()
        packed = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._errands.run(
                (_SHELL, "-c", _COPY, "copy"), partial(self._copied, order, name), LIMIT_S,
                {3: packed, 4: self._parcels.fd(name)},
            )
        finally:
            os.close(packed)

    def _copied(self, order: orders.Give, name: str, outcome: Outcome) -> None:
        if outcome.fine:
            with suppress(KeyError):  # the agent died meanwhile
                self._lend(order, name)
            return
        self._parcels.drop(name)
        text = f"it cannot be sent: {outcome.said[-300:]}"
        self._register.tell(orders.Acted(order.order, "pack", text))

    def _lend(self, order: orders.Give, name: str) -> None:
        size = os.fstat(self._parcels.fd(name)).st_size
        path = self._parcels.path(name)
        self._register.tell(orders.Packed(order.order, order.snapshot, name, path, size))

    # ---- they are not wanted any more ------------------------------------------------------

    def unlodge(self, order: orders.Unlodge) -> None:
        for one in self.listed():
            if one.spec.task in order.tasks or one.id in order.snapshots:
                self._drop(one.id)
        for name, coming in list(self._coming.items()):
            if coming.snapshot.spec.task in order.tasks:
                self.drop_parcel(name)
        self._tell_tasks()
        self._register.tell(orders.Acted(order.order))


def choose(found: Iterable[Snapshot], task: str) -> tuple[Snapshot, ...]:
    """Those of a task; of no named one the newest of all, and of their tasks no more than a list
    needs.  The oldest first."""
    by_id = {one.id: one for one in found if task in ("", one.spec.task)}
    chosen = sorted(by_id.values(), key=lambda one: one.at)
    if task:
        return tuple(chosen)
    return tuple(replace(one, spec=_brief(one.spec)) for one in chosen[-MOST_LISTED:])


def _brief(spec: Spec) -> Spec:
    return Spec(spec.task, tuple(word[:100] for word in spec.argv[:1]), kind=spec.kind)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
