"""The files of a snapshot, put back where its task had them, before it starts from there."""

import os
from collections.abc import Callable

from clientd.keeper import putback
from clientd.keeper.errands import Errands, Outcome
from clientd.keeper.moves.parcel import Notes
from clientd.keeper.scouts import environment
from godwit import failpoint
from godwit.errors import TaskError
from godwit.task.packets import in_memory
from godwit.task.record import Spec

#: Told what went wrong, or nothing.
Then = Callable[[OSError | TaskError | None], None]


class Restoring:
    """See the module, and clientd.keeper.putback, which does it."""

    def __init__(self, errands: Errands, files: bytes):
        """``files``: the node's folder of working directories."""
        self._errands = errands
        self._files = files

    def begin(self, spec: Spec, folder: str, then: Then) -> None:
        """``folder`` has the copies, and what they are of; ``then`` may come at once."""
        try:
            held = Notes.read(folder).held
        except (OSError, TaskError) as err:
            then(err)
            return
        if not held:
            then(None)
            return

        def done(outcome: Outcome) -> None:
            failpoint.hit("putback.after")
            said = outcome.said.splitlines()
            then(None if outcome.fine else TaskError("files", said[-1] if said else "its files"))

        failpoint.hit("putback.before")
        question = in_memory(putback.encode(putback.Question(
            spec.task, spec.user, self._files, spec.cwd, folder, held
        )))
        os.lseek(question, 0, os.SEEK_SET)
        try:
            self._errands.run(
                putback.COMMAND, done, putback.LIMIT_S, {putback.QUESTION: question},
                environment(),
            )
        finally:
            os.close(question)
