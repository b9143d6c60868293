"""Sessions of honest parties, looked at while hostile ones do what they can."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from clientd.keeper import processes
from godwit.wire import messages, trust
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd.client import Client
from tests.real.cluster import Cluster
from tests.real.lines import Line
from tests.real.playing import greeted
from tests.real.soaking.figures import Figures

#: Counts until the file $0 is there.
TICKING = b"""i=0
until [ -e "$0" ]; do i=$((i+1)); echo $i; sleep 0.02; done"""


class Witnesses:
    """A task on each node, that must not notice anything."""

    def __init__(self, cluster: Cluster, figures: Figures):
        self._cluster = cluster
        self._figures = figures
        launched = cluster.json("execute", "--json", "all", "sleep", "86400")["tasks"]
        self._before = {task["task"]: (task["pid"], born(task["pid"])) for task in launched}

    def look(self) -> None:
        """Same process, since the same time, said to run."""
        shown = self._cluster.tasks()
        for task, (pid, began) in self._before.items():
            now = shown.get(task, {"pid": None, "status": "not known"})
            if (now["pid"], now["status"], born(pid)) != (pid, "running", began):
                self._figures.add("tasks that noticed", 1, f"{task}: {now['status']}")


def born(pid: int) -> int | None:
    """The start time of a process, clock ticks since the boot; None: there is none."""
    process = processes.look(pid)
    return None if process is None else process.start_ticks


class Sessions:
    """Each session is to live through it: nodes', an operator's, a follow, a node's with its
    master."""

    def __init__(
        self, cluster: Cluster, nodes: list[str], waiting: tuple[str, trust.Trust],
        figures: Figures,
    ):
        self._cluster = cluster
        self._nodes = nodes
        self._figures = figures
        self._waiting, self._its_master = waiting

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Looks at them before and after the block; a follow reads on all the time."""
        gate = self._cluster.top / "gate"
        before, made = self._connections(), self._made()
        with (
            self._cluster.client() as operator, self._cluster.client() as reading,
            greeted(self._waiting, self._its_master, "control") as master,
        ):
            follow, mastering = Following(reading, self._nodes[0], gate), Mastering(master)
            try:
                yield
            finally:
                gate.touch()
                follow.thread.join()
                mastering.stop()
            self._figures.add("sessions watched meanwhile", len(before) + 3)
            if follow.complaint:
                self._disturbed(f"a follow: {follow.complaint}")
            if operator.lost() or operator.ask(op.ListNodes(0), op.Nodes).id == 0:
                self._disturbed("an operator")
            if not mastering.lived:
                self._disturbed("a node's session with its master")
        after = self._connections()
        for node, known in before.items():
            if after.get(node) != known:
                self._disturbed(f"{node}: {known}, then {after.get(node)}")
        if self._made() != made:
            self._figures.add("changes that hostile peers made", 1, f"{made} -> {self._made()}")

    def _disturbed(self, whose: str) -> None:
        self._figures.add("sessions of others disturbed", 1, whose)

    def _connections(self) -> dict[str, tuple[str, str]]:
        """The state and the address, with its port, of each honest node's connection."""
        with self._cluster.client() as client:
            nodes = client.ask(op.ListNodes(0), op.Nodes).nodes
        return {n.name: (n.state, n.address) for n in nodes if n.name in self._nodes}

    def _made(self) -> dict[str, object]:
        """What a hostile peer could have changed."""
        tasks = self._cluster.tasks()
        ours = {id for id, task in tasks.items() if task["command"].startswith("sleep 86400")}
        files = {
            str(path) for node in self._nodes
            for path in Path(self._cluster.top, node, "files").rglob("*")
        }
        return {"tasks": ours, "files": files}


class Following:
    """``logs -f`` of a task that counts, in a thread."""

    def __init__(self, client: Client, node: str, gate: Path):
        argv = (b"/bin/sh", b"-c", TICKING, bytes(gate))
        (self._task,) = client.ask(op.Execute(0, node, argv), op.Tasks).tasks
        self._client = client
        self._data = b""
        #: What was wrong with it, at last.
        self.complaint = "it did not end"
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        task = self._task.task.id
        with self._client.stream(op.FollowLogs(0, (task,), live=True)) as answers:
            for reply in answers:
                if isinstance(reply, op.Output):
                    if reply.offset != len(self._data):
                        self.complaint = f"{reply.offset} came after {len(self._data)}"
                        return
                    self._data += reply.data
                    self._client.tell(op.Took(answers.id, task, len(reply.data)))
                elif isinstance(reply, op.OutputEnd):
                    self.complaint = reply.text
        numbers = self._data.split()
        if numbers != [b"%d" % number for number in range(1, len(numbers) + 1)]:
            self.complaint = "it has not every line once"


class Mastering:
    """A master's part in its session with a node, in a thread: it hears the node's beats.

    A node that gets no answer to them for 10 seconds calls its master gone.
    """

    def __init__(self, line: Line):
        self._line = line
        self._enough = threading.Event()
        #: The session goes on.
        self.lived = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self.lived:
            message = self._line.heard(messages.decode_from_node)
            self.lived = message is not None
            if isinstance(message, wire.Beat):
                self._line.say(wire.Heard())
                if self._enough.is_set():
                    return

    def stop(self) -> None:
        """After one more beat."""
        self._enough.set()
        self._thread.join()
