"""Launches whose ends are known, and what becomes of them while daemons die.

Each program's first act is to write its task's id and the name of its launch to a file, the
ledger.  Each launch has a name of its own: where the operator's answer was lost with the master,
the name still tells what came of it.
"""

import contextlib
import itertools
import threading
from collections import Counter
from pathlib import Path

from godwit.errors import GodwitError, UsageError
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.wire import operations as op
from masterd.client import Client
from tests.real.cluster import eventually
from tests.real.soaking.figures import Figures

#: $0: the ledger, $1: the launch, $2: how it ends (an exit code, or s and a signal), $3: seconds.
PROGRAM = b"""echo "$GODWIT_TASK $1" >> "$0"
sleep "$3"
case $2 in s*) kill -${2#s} $$; sleep 60;; *) exit $2;; esac"""
#: Ends, each with what the kernel will say: the exit code, the signal.
ENDS: dict[bytes, tuple[int | None, int | None]] = {
    b"0": (0, None), b"1": (1, None), b"7": (7, None), b"137": (137, None), b"255": (255, None),
    b"s9": (None, 9), b"s15": (None, 15), b"s2": (None, 2),
}
#: Seconds that a task lives: some end while no agent or no master is there.
LIVES = (b"0", b"0.2", b"1.5")
#: Ended tasks are looked at and removed after so many launches: a node keeps 2,000.
SETTLE_AFTER = 20
#: Seconds between launches.
PAUSE_S = 0.1


class Asking:
    """A connection to a master that comes and goes."""

    def __init__(self, state: str):
        self._state = state
        self._client: Client | None = None

    def client(self) -> Client:
        """Raises UsageError while no master answers."""
        if self._client is None or self._client.lost():
            self.close()
            self._client = Client.connect(self._state)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class Work:
    """Launches until told to stop, in the caller's thread; then ``settle_all``."""

    def __init__(self, state: str, ledger: Path, figures: Figures, most: int):
        """``most``: on how many nodes each launch starts one task."""
        self._asking = Asking(state)
        self._ledger = ledger
        self._figures = figures
        self._most = most
        self._numbers = itertools.count(1)
        #: By the launch's name, how its tasks end.
        self._ends: dict[str, tuple[int | None, int | None]] = {}
        #: Tasks that the master said were started.
        self._acknowledged: set[str] = set()
        #: Tasks whose end was looked at.
        self._settled: set[str] = set()
        ledger.touch()

    def run(self, stop: threading.Event) -> None:
        """Launches until ``stop``."""
        while not stop.wait(PAUSE_S):
            number = next(self._numbers)
            with contextlib.suppress(GodwitError):
                self._launch(f"job-{number}", number)
            if number % SETTLE_AFTER == 0:
                with contextlib.suppress(GodwitError):
                    self._settle()

    def hand_over(self, name: str, end: tuple[int | None, int | None], tasks: set[str]) -> None:
        """A launch of somebody else's, of which ``tasks`` were acknowledged, ends so.

        From now on its tasks may be removed.
        """
        self._acknowledged |= tasks
        self._ends[name] = end

    def _launch(self, name: str, number: int) -> None:
        end = list(ENDS)[number % len(ENDS)]
        self._ends[name] = ENDS[end]
        lives = LIVES[number % len(LIVES)]
        argv = (b"/bin/sh", b"-c", PROGRAM, bytes(self._ledger), name.encode(), end, lives)
        client = self._asking.client()
        self._figures.add("launches asked for")
        reply = client.ask(op.Execute(0, "all", argv, name=name), op.Tasks)
        started = [v.task for v in reply.tasks if v.task.status is not Status.STARTING]
        self._acknowledged.update(task.id for task in started)
        self._figures.add("launches acknowledged", len(started))

    # ---- what became of them ---------------------------------------------------------------

    def _settle(self) -> None:
        """Looks at the tasks that have ended, and removes them."""
        client = self._asking.client()
        nodes = client.ask(op.ListNodes(0), op.Nodes).nodes
        over = [
            view.task for node in nodes if node.state == "up" for view in node.tasks
            if view.task.spec.name in self._ends and is_over(view.task)
        ]
        for task in over:
            if task.id not in self._settled:
                self._settled.add(task.id)
                self._judge(task)
        if over:
            with contextlib.suppress(UsageError):
                client.ask(op.ForgetTasks(0, tuple(t.id for t in over)), op.Tasks)

    def _judge(self, task: Task) -> None:
        said = f"{task.id} ({task.spec.name}): {task.status.value}"
        if task.status is Status.UNKNOWN and task.reason:
            self._figures.add("statuses unknown, with a cause")
        elif (task.exit_code, task.signal) == self._ends[task.spec.name]:
            self._figures.add("statuses right")
        else:
            said += f" {task.exit_code}/{task.signal} {task.reason}"
            self._figures.add("statuses wrong", 1, said)

    def settle_all(self) -> None:
        """When all nodes are up and launching is over: waits for every end, and draws the sum."""
        def none_left() -> bool:
            with contextlib.suppress(GodwitError):
                self._settle()
                nodes = self._asking.client().ask(op.ListNodes(0), op.Nodes).nodes
                return not any(v.task.spec.name in self._ends for n in nodes for v in n.tasks)
            return False

        try:
            eventually(none_left, "the end of all tasks", 120)
            self._sum()
        finally:
            self._asking.close()

    def _sum(self) -> None:
        ran = [line.split() for line in self._ledger.read_text().splitlines()]
        for task, count in Counter(task for task, _ in ran).items():
            if count > 1:
                self._figures.add("launches doubled", 1, f"{task} ran {count} times")
            if task not in self._settled:
                self._figures.add("acknowledged launches lost", 1, f"{task} ran and is not known")
        for name, count in Counter(name for _, name in {tuple(entry) for entry in ran}).items():
            if count > (self._most if name.startswith("job-") else 1):
                self._figures.add("launches doubled", 1, f"{name} ran as {count} tasks")
        for task in self._acknowledged - {task for task, _ in ran}:
            self._figures.add("acknowledged launches lost", 1, f"{task} never ran")


def is_over(task: Task) -> bool:
    """It has ended, as far as can be known."""
    return task.status.ended or task.status is Status.UNKNOWN
