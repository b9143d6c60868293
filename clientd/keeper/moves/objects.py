"""The object of a Python task out of a snapshot that has files, too: they are put back first."""

import os
from collections.abc import Callable
from functools import partial

from clientd.keeper.errands import Errands, Outcome
from clientd.keeper.moves import parcel
from clientd.keeper.moves.places import Places
from clientd.keeper.moves.restoring import Restoring, Then
from godwit.errors import TaskError
from godwit.task.record import Spec

_SHELL = "/bin/sh"
#: Seconds for tar or rm, of any size.
LIMIT_S = 600.0


class Objects:
    """All starts of Python tasks, by their tasks."""

    def __init__(self, errands: Errands, places: Places, restoring: Restoring):
        self._errands = errands
        self._places = places
        self._restoring = restoring

    def open(self, spec: Spec, image: int, then: Callable[[str], None]) -> None:
        """Makes of the unpacked snapshot, by its descriptor, the object alone, its files being
        where they were; ``then`` gets a complaint, or nothing, at once perhaps."""
        if not parcel.is_one(image):
            then("")
            return
        kept = os.dup(image)  # who called closes it when we return

        def done(err: OSError | TaskError | None) -> None:
            try:
                if err is None:
                    os.ftruncate(kept, head)
            except OSError as failed:
                err = failed
            finally:
                os.close(kept)
                self.drop(spec.task)
            then("" if err is None else str(err))

        head = 0
        try:
            found = parcel.opened(kept)
            head = found.head.size
            folder = self._places.make(spec.task, "held")
            self._unpack(found, kept, folder, partial(self._unpacked, spec, folder, done))
        except (OSError, TaskError) as err:
            done(err)

    def _unpack(self, found: parcel.Parcel, image: int, folder: str, then: Then) -> None:
        """Raises OSError."""
        if found.is_little:
            found.unpack(image, folder)
            then(None)
            return

        def unpacked(outcome: Outcome) -> None:
            text = outcome.said[-300:]
            then(None if outcome.fine else TaskError("unpack", text))

        words = (_SHELL, "-c", parcel.UNPACK, "unpack", folder)
        self._errands.run(words, unpacked, LIMIT_S, {3: image})

    def _unpacked(
        self, spec: Spec, folder: str, then: Then, err: OSError | TaskError | None
    ) -> None:
        if err is None:
            self._restoring.begin(spec, folder, then)
        else:
            then(err)

    def drop(self, task: str) -> None:
        """Its copies are not needed any more."""
        for path in self._places.of(task):
            self._errands.run(("/bin/rm", "-rf", path), lambda _: None, LIMIT_S)
