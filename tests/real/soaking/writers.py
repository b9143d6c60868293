"""Tasks that write numbered lines at full speed, followed while daemons die.

The master keeps no follow over its own death, so an operator begins it again; every byte has its
offset in the log, so what comes a second time is compared once more, and goes on where it was.
"""

import contextlib
import threading
import time
from pathlib import Path

from godwit.errors import GodwitError
from godwit.wire import operations as op
from godwit.wire.messages import WINDOW
from masterd.client import Client
from tests.real.soaking.figures import Figures
from tests.real.soaking.work import Asking, Work

#: Bursts at full speed, lines in each, and seconds between them: killed daemons find it writing.
BURSTS, LINES, PAUSE_S = 8, 150_000, 0.4
PROGRAM = b"""echo "$GODWIT_TASK $1" >> "$0"
burst=0
while [ $burst -lt %d ]; do
    seq -f %%.0f $((burst * %d + 1)) $(((burst + 1) * %d))
    burst=$((burst + 1))
    sleep %.1f
done""" % (BURSTS, LINES, LINES, PAUSE_S)
#: Seconds after which a follow that does not end is a fault of its own.
PATIENCE_S = 180.0


def expected() -> bytes:
    """All that one writer writes."""
    return b"".join(b"%d\n" % number for number in range(1, BURSTS * LINES + 1))


class Reader:
    """Compares what comes of a log, over several follows, with what was written."""

    def __init__(self, whole: bytes, figures: Figures, task: str):
        self._whole = whole
        self._figures = figures
        self._task = task
        self._next = 0
        #: Bytes of the log that came, from its start.
        self.at = 0

    def begin(self) -> None:
        """Another follow, from the start of the log."""
        self._next = 0

    def take(self, output: op.Output) -> None:
        """A piece; it must be the next one."""
        said = f"{self._task} at {output.offset}"
        if output.offset < self._next:
            self._figures.add("bytes doubled to followers", self._next - output.offset, said)
        elif output.offset > self._next:
            self._figures.add("bytes lost to followers", output.offset - self._next, said)
        self._next = output.offset + len(output.data)
        if self._whole[output.offset : self._next] != output.data:
            self._figures.add("bytes lost to followers", len(output.data), f"{said}: others")
        self.at = max(self.at, self._next)

    def end(self) -> None:
        """It is said that nothing more comes."""
        self._figures.add("bytes followed", self.at)
        missing = len(self._whole) - self.at
        self._figures.add("bytes lost to followers", abs(missing), f"{self._task} ended early")


class Follower:
    """Has one writer after the other write on a node, and reads along."""

    def __init__(self, state: str, node: str, work: Work, ledger: Path, figures: Figures):
        self._asking = Asking(state)
        self._node = node
        self._work = work
        self._ledger = ledger
        self._figures = figures
        self._whole = expected()

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``; what is under way then is followed to its end."""
        number = 0
        try:
            while not stop.wait(0.05):
                number += 1
                self._one(f"writer-{self._node}-{number}")
        finally:
            self._asking.close()

    def _one(self, name: str) -> None:
        argv = (b"/bin/sh", b"-c", PROGRAM, bytes(self._ledger), name.encode())
        tasks: set[str] = set()
        with contextlib.suppress(GodwitError):
            request = op.Execute(0, self._node, argv, name=name)
            reply = self._asking.client().ask(request, op.Tasks)
            tasks = {view.task.id for view in reply.tasks}
        for task in tasks:
            self._follow(task)
            self._compare(task)
        self._work.hand_over(name, (0, None), tasks)

    def _follow(self, task: str) -> None:
        """To the end of its output.  Raises TimeoutError."""
        reader = Reader(self._whole, self._figures, task)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(GodwitError):
                client = self._asking.client()
                if read_on(client, task, reader):
                    reader.end()
                    return
                self._figures.add("follows begun again")
            time.sleep(0.05)  # no master, or its node cannot be heard just now
        raise TimeoutError(f"the follow of {task} has not ended")

    def _compare(self, task: str) -> None:
        """The file itself."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(GodwitError):
                found = self._asking.client().ask(op.ListTasks(0, (task,)), op.Tasks)
                if found.tasks and (log := found.tasks[0].task.log):
                    self._compare_file(Path(log))
                    return
            time.sleep(0.1)
        raise TimeoutError(f"nobody knows the log of {task}")

    def _compare_file(self, log: Path) -> None:
        self._figures.add("logs compared on disk")
        written = log.read_bytes()
        if written != self._whole:
            wrong = max(1, abs(len(written) - len(self._whole)))
            self._figures.add("bytes lost or doubled in logs", wrong, str(log))


def read_on(client: Client, task: str, reader: Reader) -> bool:
    """One follow; true when it came to the end of the log and of the task."""
    reader.begin()
    owed, whole = 0, True
    with client.stream(op.FollowLogs(0, (task,), live=True)) as answers:
        for reply in answers:
            match reply:
                case op.Output():
                    reader.take(reply)
                    owed += len(reply.data)
                    if owed >= WINDOW // 8:
                        client.tell(op.Took(answers.id, task, owed))
                        owed = 0
                case op.OutputEnd(code=code):
                    whole = whole and not code
                case op.Tasks(faults=faults):
                    return whole and not faults
    return False
