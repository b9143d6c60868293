"""What a checkpoint needs of a task as it is, copied while it stands still; packed once it runs.

Its processes, or its object, have been written by then.  What is left are the files that it has
open below its working directory: those that it may write to are copied before it goes on, the
others afterwards, as they are then.  On a file system that can share blocks (FICLONE) a copy takes
no time and no room.
"""

import os
from collections.abc import Callable

from msgspec import Struct, field
from msgspec.structs import replace

from clientd.keeper.errands import Errands, Outcome
from clientd.keeper.kept import Kept
from clientd.keeper.moves import parcel
from clientd.keeper.moves.openfiles import Opened, Source
from clientd.keeper.moves.parcel import LITTLE, Notes
from clientd.keeper.register import code_of
from godwit.errors import TaskError

_SHELL = "/bin/sh"
#: Pairs of a descriptor and a file's name.
_COPY = (
    'while [ $# -gt 1 ]; do cp --reflink=auto --sparse=auto -- "/proc/self/fd/$1" "$2" || exit 1;'
    " shift 2; done"
)
#: Of the first descriptor that is handed on.
_FIRST_FD = 100
#: Seconds for cp or tar, of any size.
LIMIT_S = 600.0
#: The packed whole, in its move's folder.
_PARCEL = "parcel"

Error = OSError | TaskError
#: Told what went wrong, or nothing.
Then = Callable[[Error | None], None]


class _Case(Struct):
    """One checkpoint."""

    #: Of the images.
    folder: str
    opened: Opened = field(default_factory=Opened)

    def some(self, written: bool) -> list[Source]:
        return [one for one in self.opened.sources.values() if one.held.written is written]


class Aside:
    """All checkpoints of one node that are not packed yet, each called by its snapshot."""

    def __init__(self, errands: Errands, kept: Kept):
        self._errands = errands
        self._kept = kept
        self._cases: dict[str, _Case] = {}

    def begin(self, snapshot: str, folder: str, opened: Opened, then: Then) -> None:
        """The task stands still: what it may write to is copied into the folder of its images.

        ``then`` may come at once.  Raises OSError.
        """
        case = self._cases[snapshot] = _Case(folder, opened=opened)
        self._copy(case, case.some(written=True), then)

    def folder(self, snapshot: str) -> str:
        """Where it is set aside."""
        return self._cases[snapshot].folder

    def files(self, snapshot: str) -> int:
        """How many files are in it."""
        return len(self._cases[snapshot].opened.sources)

    def writes(self, snapshot: str) -> tuple[bytes, ...]:
        """What its task may write to."""
        return tuple(self._cases[snapshot].opened.writes)

    def _copy(self, case: _Case, sources: list[Source], then: Then) -> None:
        """Here and now what is little, for to start cp(1) takes longer.  Raises OSError."""
        if sum(one.held.size for one in sources) <= LITTLE:
            for one in sources:
                _copy_now(one, case.folder)
            then(None)
            return

        def copied(outcome: Outcome) -> None:
            then(None if outcome.fine else TaskError("files", _said(outcome)))

        numbered = dict(enumerate(sources, _FIRST_FD))
        words = [
            word for number, one in numbered.items()
            for word in (str(number), os.path.join(case.folder, one.held.member))
        ]
        descriptors = {number: one.fd for number, one in numbered.items()}
        self._errands.run((_SHELL, "-c", _COPY, "copy", *words), copied, LIMIT_S, descriptors)

    # ---- once it runs ----------------------------------------------------------------------

    def pack(self, snapshot: str, still_ms: float, done: Callable[[], None]) -> None:
        """Copies the rest, and makes one file of it all, which is kept.  ``done`` comes in any
        case, at once perhaps; who waits for the snapshot is told."""
        case = self._cases[snapshot]

        def ended(err: Error | None) -> None:
            if self._cases.get(snapshot) is not case:
                return
            if err is None:
                self._kept.take(snapshot, _path(case), still_ms, self.writes(snapshot))
            else:
                code = err.code if isinstance(err, TaskError) else code_of(err)
                why = str(err) if isinstance(err, TaskError) else err.strerror
                self._kept.fail(snapshot, code, f"its snapshot could not be written: {why}")
            done()

        def copied(err: Error | None) -> None:
            if err is not None or self._cases.get(snapshot) is not case:
                ended(err)
            else:
                _trying(lambda: self._pack(case, ended), ended)

        _trying(lambda: self._copy(case, case.some(written=False), copied), ended)

    def _pack(self, case: _Case, then: Then) -> None:
        """Raises OSError, TaskError."""
        sources = case.opened.sources.values()
        for one in sources:
            _cut(case.folder, one)
        notes = replace(Notes.read(case.folder), held=tuple(one.held for one in sources))
        notes.write(case.folder)
        head, path = parcel.largest(case.folder), _path(case)
        if head.name:
            os.rename(os.path.join(case.folder, head.name), path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)

        def packed(outcome: Outcome | None) -> None:
            problem: Error | None = None
            try:
                if outcome is not None and not outcome.fine:
                    raise TaskError("pack", _said(outcome))
                parcel.close(fd, head)
            except (OSError, TaskError) as err:
                problem = err
            finally:
                os.close(fd)
            then(problem)

        if parcel.rest_of(case.folder) > LITTLE:
            words = (_SHELL, "-c", parcel.PACK, "pack", case.folder)
            self._errands.run(words, packed, LIMIT_S, {3: fd})
            return
        try:
            parcel.pack(fd, case.folder)
        except OSError:
            os.close(fd)
            raise
        packed(None)

    def drop(self, snapshot: str) -> bool:
        """Nothing, or nothing more, is to come of it; false when there is none of it."""
        case = self._cases.pop(snapshot, None)
        if case is not None:
            case.opened.close()
        return case is not None


def _trying(what: Callable[[], None], then: Then) -> None:
    try:
        what()
    except (OSError, TaskError) as err:
        then(err)


def _path(case: _Case) -> str:
    return os.path.join(os.path.dirname(case.folder), _PARCEL)


def _copy_now(one: Source, folder: str) -> None:
    """Raises OSError."""
    at = 0
    with open(os.path.join(folder, one.held.member), "xb", buffering=0) as file:
        while data := os.pread(one.fd, min(1 << 20, one.held.size - at), at):
            file.write(data)
            at += len(data)


def _cut(folder: str, one: Source) -> None:
    """What others have added since is not in the snapshot.  Raises OSError, TaskError."""
    path = os.path.join(folder, one.held.member)
    if os.stat(path).st_size < one.held.size:
        name = one.held.name.decode("utf-8", "backslashreplace")
        raise TaskError("changed", f"{name} was cut short meanwhile")
    os.truncate(path, one.held.size)


def _said(outcome: Outcome) -> str:
    return outcome.said[-300:] or "it said nothing"
