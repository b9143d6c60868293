"""Snapshots that a node keeps of its tasks, to start others from.

STATE/kept, for nobody but us: ID.zst is the image as a move would have it, compressed, and ID.json
says of which task it is.  A snapshot is there once ID.zst is: that is renamed last, when both are
on the disk.  What else lies there is of a keeper that died meanwhile, and is swept by the next.

No snapshot is ever written twice: it is renamed by a keeper that still knows who asked for it, so
what an earlier keeper's process goes on writing never gets that name.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import msgspec
from msgspec.structs import replace

from clientd.keeper import orders, traits
from clientd.keeper.errands import Errands, Outcome
from clientd.keeper.register import Register, code_of
from clientd.keeper.scouts import environment
from godwit import failpoint
from godwit.errors import TaskError
from godwit.names import is_task_id
from godwit.task.record import Snapshot, Spec

#: Seconds that compressing may take.
LIMIT_S = 600.0
#: Most snapshots of one task.
MOST = 100
#: What can be snapshots of.
KINDS = ("python", "shell")
#: clientd.keeper.packing, which is not imported here.
_PACKING = (sys.executable, "-P", "-m", "clientd.keeper.packing")


class Kept:
    """See the module."""

    def __init__(self, register: Register, errands: Errands, folder: str):
        self._register = register
        self._errands = errands
        self._top = folder
        #: Those that are being made.
        self._wanted: dict[str, orders.Checkpoint] = {}
        #: Tasks that may have some.
        self._of: set[str] = set()

    # ---- making one ------------------------------------------------------------------------

    def begin(self, order: orders.Checkpoint) -> Spec:
        """The task is to be frozen for it.  Raises TaskError."""
        task = self._register.tasks.get(order.task)
        if task is None:
            raise TaskError("no-task", f"{order.task}: no such task on this node")
        if task.spec.kind not in KINDS:
            raise TaskError("kind", f"no snapshot can be taken of a {task.spec.kind} task")
        if not is_task_id(order.snapshot) or not 1 <= order.keep <= MOST:
            raise TaskError("bad-order", f"a snapshot {order.snapshot!r}, {order.keep} kept")
        if order.snapshot in self._wanted or os.path.exists(self._path(order.snapshot, "json")):
            raise TaskError("exists", f"there is a snapshot {order.snapshot} already")
        if any(other.task == order.task for other in self._wanted.values()):
            raise TaskError("busy", f"a snapshot of {order.task} is being written already")
        os.makedirs(self._top, 0o700, exist_ok=True)
        self._check_room(traits.memory(task.pid or 0), f"the memory of {task.id}")
        self._wanted[order.snapshot] = order
        return task.spec

    def _check_room(self, needed: int, whose: str) -> None:
        """Before anybody stands still, or sends, for nothing.  Raises TaskError, OSError."""
        disk = os.statvfs(self._top)
        free = disk.f_frsize * (disk.f_bavail if os.geteuid() else disk.f_bfree)
        if disk.f_blocks and free < needed:  # there are file systems that do not count
            text = f"{whose} needs {needed} bytes, {free} are free in {self._top}"
            raise TaskError("no-space", text)

    def spec(self, snapshot: str) -> Spec | None:
        """Of the task that this is being made of, while somebody waits for it."""
        order = self._wanted.get(snapshot)
        task = self._register.tasks.get(order.task) if order else None
        return task.spec if task else None

    def take(self, snapshot: str, image: str, still_ms: float, writes: tuple[bytes, ...]) -> None:
        """The image is whole; it is ours from now on.  How the task stood still for it, and what
        it had open for writing, is told with it."""
        spec, order = self.spec(snapshot), self._wanted.get(snapshot)
        if spec is None or order is None:
            self.fail(snapshot, "lost", "nobody waits for it")
            return
        try:
            about = Snapshot(snapshot, spec, time.time(), os.stat(image).st_size, 0,
                             round(still_ms, 3), writes)
            failpoint.hit("kept.about.before")
            with open(self._path(snapshot, "json"), "xb", opener=_private) as file:
                file.write(msgspec.json.encode(about))
            os.rename(image, self._path(snapshot, "raw"))
            failpoint.hit("kept.about.after")
            self._pack(order)
        except OSError as err:
            self.fail(snapshot, code_of(err), f"its snapshot: {err.strerror}")

    def _pack(self, order: orders.Checkpoint) -> None:
        """Raises OSError."""
        with (
            open(self._path(order.snapshot, "raw"), "rb") as raw,
            open(self._path(order.snapshot, "new"), "xb", opener=_private) as new,
            open(self._path(order.snapshot, "json"), "rb") as about,
        ):
            self._errands.run(
                (*_PACKING, "pack"), partial(self._packed, order), LIMIT_S,
                {3: raw.fileno(), 4: new.fileno(), 5: about.fileno()}, environment(),
            )

    def _packed(self, order: orders.Checkpoint, outcome: Outcome) -> None:
        if not outcome.fine:
            text = f"its snapshot could not be compressed: {outcome.said[-300:]}"
            self.fail(order.snapshot, "pack", text)
            return
        try:
            self._name(order.snapshot)
        except OSError as err:
            self.fail(order.snapshot, code_of(err), f"its snapshot: {err.strerror}")
            return
        del self._wanted[order.snapshot]
        self._of.add(order.task)
        mine = [one for one in self.listed() if one.spec.task == order.task]
        for old in mine[:-order.keep]:
            failpoint.hit("kept.surplus")
            self._drop(old.id)
        found = tuple(one for one in mine if one.id == order.snapshot)
        self._register.say("snapshot", f"{order.snapshot} of {order.task}")
        self._register.tell(orders.Snapshots(order.order, found))

    def _name(self, snapshot: str) -> None:
        """Its files are on the disk: from now on it is there.  Raises OSError."""
        failpoint.hit("kept.name.before")
        os.rename(self._path(snapshot, "new"), self.packed_path(snapshot))
        os.unlink(self._path(snapshot, "raw"))
        folder = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        failpoint.hit("kept.name.after")

    def fail(self, snapshot: str, code: str, text: str) -> None:
        """Nothing comes of it; the task runs on, or has ended."""
        self._drop(snapshot)
        order = self._wanted.pop(snapshot, None)
        if order is not None:
            self._register.tell(orders.Acted(order.order, code, text))

    # ---- what there is ---------------------------------------------------------------------

    def listed(self) -> list[Snapshot]:
        """Of tasks that are here, the oldest first."""
        return [one for one in self.all_kept() if one.spec.task in self._register.tasks]

    def all_kept(self) -> list[Snapshot]:
        """Of whatever tasks, the oldest first."""
        found = [one for name in self._names() if (one := self._read(name)) is not None]
        return sorted(found, key=lambda one: one.at)

    def _names(self) -> set[str]:
        with suppress(FileNotFoundError):
            return {name.partition(".")[0] for name in os.listdir(self._top)}
        return set()

    def _read(self, snapshot: str) -> Snapshot | None:
        try:
            packed = os.stat(self.packed_path(snapshot)).st_size
            with open(self._path(snapshot, "json"), "rb") as file:
                about = msgspec.json.decode(file.read(), type=Snapshot)
        except (OSError, msgspec.MsgspecError):
            return None
        return replace(about, packed=packed)

    def found(self, snapshot: str) -> Snapshot | None:
        """That one, if it is here."""
        return self._read(snapshot) if is_task_id(snapshot) else None

    def packed_path(self, snapshot: str) -> str:
        """The file that it is in."""
        return self._path(snapshot, "zst")

    def sweep(self) -> None:
        """Drops what is no snapshot of a task that is here."""
        here = self.listed()
        self._of = {one.spec.task for one in here}
        wanted = {one.id for one in here} | set(self._wanted)
        for name in self._names() - wanted:
            self._drop(name)

    def forget(self, tasks: Iterable[str]) -> None:
        """These are not here any more."""
        if not self._of.isdisjoint(tasks):
            self.sweep()

    def _drop(self, snapshot: str) -> None:
        for end in ("zst", "new", "raw", "json"):
            with suppress(FileNotFoundError):
                os.unlink(self._path(snapshot, end))

    def _path(self, snapshot: str, end: str) -> str:
        return os.path.join(self._top, f"{snapshot}.{end}" if end else snapshot)

    # ---- starting from one -----------------------------------------------------------------

    def check(self, spec: Spec) -> None:
        """It is a snapshot of this program, for this user.  Raises TaskError."""
        about = self._read(spec.snapshot) if is_task_id(spec.snapshot) else None
        if about is None:
            raise TaskError("no-snapshot", f"there is no snapshot {spec.snapshot}")
        of = about.spec
        if (of.kind, of.argv, of.shell, of.contained, of.user, of.digest, of.cwd) != (
            spec.kind, spec.argv, spec.shell, spec.contained, spec.user, spec.digest, spec.cwd
        ):
            raise TaskError("bad-snapshot", f"snapshot {spec.snapshot} is of another command")

    def unpack(self, snapshot: str, then: Callable[[int, str], None], path: str = "") -> None:
        """``then`` gets the image's descriptor, which is closed after it, or a complaint.

        ``path``: a new file for it; else it has no name.  Raises TaskError.
        """
        about = self._read(snapshot)
        if about is None:
            raise TaskError("no-snapshot", f"there is no snapshot {snapshot}")
        try:
            packed = os.open(self.packed_path(snapshot), os.O_RDONLY | os.O_CLOEXEC)
            try:
                flags = os.O_CREAT | os.O_EXCL if path else os.O_TMPFILE
                image = os.open(path or self._top, flags | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError:
                os.close(packed)
                raise
        except OSError as err:
            raise TaskError(code_of(err), f"snapshot {snapshot}: {err.strerror}") from err

        def done(outcome: Outcome) -> None:
            try:
                text = f"snapshot {snapshot} cannot be unpacked: {outcome.said[-200:]}"
                then(image, "" if outcome.fine else text)
            finally:
                os.close(image)

        words = (*_PACKING, "unpack", str(about.size))
        self._errands.run(words, done, LIMIT_S, {3: packed, 4: image}, environment())
        os.close(packed)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
