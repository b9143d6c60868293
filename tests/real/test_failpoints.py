"""Made to fail at every failpoint: nothing starts twice, no status is wrong, all goes on after."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest

from clientd.keeper import processes
from clientd.keeper.moves import mover
from clientd.keeper.moves.table import Part
from godwit import failpoint
from godwit.errors import GodwitError, StartError
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.wire import operations as op
from tests.real.cluster import Cluster, Daemon, descendants, eventually

#: Tried elsewhere, with a python task.
ELSEWHERE = {"begun.before"}
#: Its first act is to say which task it is.
PROGRAM = b'echo $GODWIT_TASK >> "$0"; sleep 0.1; exit 7'
NODES = ("node1", "node2", "node3")
#: Failpoints that a launch comes to, in the keeper and in the agent.
OF_KEEPER = [
    name for name in failpoint.NAMES if name.startswith(("journal.", "spawn.", "exit.", "news."))
]
#: Of these, the ones at a write to the disk, which may be full.
WRITES = (
    "journal.commit.before", "journal.commit.written", "journal.flush.before",
    "journal.compact.before", "journal.compact.written",
)
#: What each node is made to do, one after the other; an agent sends much before a launch.
ON_NODES = [
    *(f"{name}:kill" for name in OF_KEEPER),
    *(f"{name}@1:stop" for name in OF_KEEPER),
    *(f"{name}@1:errno:ENOSPC" for name in WRITES),
    *(f"link.send@{turn}:kill" for turn in (2, 5, 7)),
    "link.send@6:stop",
]
ON_MASTER = [
    "store.issue.before:kill", "store.issue.before@2:errno:ENOSPC",
    "store.commit.before:kill", "store.commit.after:kill", "store.commit.before@2:stop",
    "store.commit.after@2:stop", "store.commit.before@3:errno:ENOSPC", "address.written:kill",
    "link.send@4:kill", "link.send@15:kill", "link.send@20:stop",
]


class Failing(Cluster):
    """What a thread starts while ``armed`` fails there."""

    def __init__(self, top: Path, nodes: tuple[str, ...] = NODES):
        super().__init__(top, nodes=nodes)
        self._armed = threading.local()

    @contextlib.contextmanager
    def armed(self, text: str) -> Iterator[None]:
        self._armed.text = text
        try:
            yield
        finally:
            self._armed.text = ""

    def environment(self, **more: str) -> dict[str, str]:
        if text := getattr(self._armed, "text", ""):
            more["GODWIT_FAILPOINT"] = text
        return super().environment(**more)

    def ledger(self, node: str) -> Path:
        path = self.top / f"ledger-{node}"
        path.touch()
        return path

    def request(self, node: str) -> op.Execute:
        """Three of the program."""
        argv = (b"/bin/sh", b"-c", PROGRAM, bytes(self.ledger(node)))
        return op.Execute(0, node, argv, count=3)

    def tasks_of(self, node: str) -> list[Task]:
        with self.client() as client:
            (found,) = client.ask(op.ListNodes(0, node), op.Nodes).nodes
        return [view.task for view in found.tasks]

    def make_fail(self, daemon: Daemon, node: str, point: "Point") -> None:
        """Launches until the daemon has come to the failpoint."""
        again_at = 0.0

        def hit() -> bool:
            nonlocal again_at
            # What is sent before the node is back goes nowhere, at worst.
            if not point.hit and not daemon.ended and time.monotonic() >= again_at:
                again_at = time.monotonic() + 1.0
                with contextlib.suppress(GodwitError), self.client() as client:
                    client.send(self.request(node))
            return point.hit

        eventually(hit, f"{node} at {point.text}\n{daemon.text()}")

    def on_node(self, node: str, text: str) -> None:
        """The node's clientd is started so that it fails, used, and is well again."""
        self.kill_node(node)
        point = Point(text, self.top / f"{node}.err")
        with self.armed(text):
            self.start_node(node)
        daemon = self.nodes[node]
        self.make_fail(daemon, node, point)
        if text.endswith(":kill"):
            if text.startswith("link."):  # the agent's; its keeper would start others
                self.kill_node(node)
            eventually(lambda: daemon.ended, f"death at {text}")
            self.restart_node(node)
            return
        if text.endswith(":stop"):
            wake(daemon)
        self.wait_up(node)

    def on_master(self, text: str) -> None:
        """As ``on_node``; the nodes look on."""
        self.kill_master()
        point = Point(text, self.top / "masterd.err")
        waker = threading.Thread(target=self._wake_master, args=(point,))
        if text.endswith(":stop"):  # whoever asks a master that stands still waits for it
            waker.start()
        try:
            with self.armed(text), contextlib.suppress(RuntimeError):
                self.start_master()
            daemon = self.master
            assert daemon
            self.make_fail(daemon, "node1", point)
        finally:
            if waker.ident:
                waker.join()
        if text.endswith(":kill"):
            eventually(lambda: daemon.ended, f"death at {text}")
            daemon.close(expect_empty=True)
            self.start_master()
        self.wait_up(*self.nodes)

    def _wake_master(self, point: "Point") -> None:
        eventually(lambda: point.hit, f"the master at {point.text}")
        assert self.master
        wake(self.master)

    def check(self, node: str, text: str) -> None:
        """All goes on, nothing ran twice, and what is said of each task is true."""
        with self.client() as client:
            done = client.ask(self.request(node), op.Tasks)
        assert not done.faults, (text, done.faults)
        eventually(
            lambda: not any(t.status.alive or t.status is Status.STARTING
                            for t in self.tasks_of(node)), f"end of all tasks after {text}",
        )
        started = self.ledger(node).read_text().split()
        assert len(started) == len(set(started)), text
        for task in self.tasks_of(node):
            if task.status is Status.EXITED:
                assert task.exit_code == 7 and task.id in started, text
            else:
                assert task.status is Status.UNKNOWN and task.reason, (text, task)
        assert {view.task.id for view in done.tasks} <= set(started), text


class Point:
    """One failpoint of a daemon that is about to be started."""

    def __init__(self, text: str, told: Path):
        self.text = text
        self._line = f"failpoint {text.partition('@')[0].partition(':')[0]}:"
        if "private" in text and "errno" in text:  # clientd.enrol's last line alone is told
            self._line = "No space left"
        self._told = told
        self._before = self._count()

    def _count(self) -> int:
        return self._told.read_text().count(self._line) if self._told.exists() else 0

    @property
    def hit(self) -> bool:
        """It has come there."""
        return self._count() > self._before

    def wait(self) -> None:
        eventually(lambda: self.hit, f"it came to {self.text}")


def wake(daemon: Daemon) -> None:
    """Waits till one of the daemon's processes stands still, and lets it go on."""
    def woken() -> bool:
        still = [pid for pid in descendants(daemon.init.pid) if state_of(pid) == "T"]
        for pid in still:
            os.kill(pid, signal.SIGCONT)
        return bool(still)

    eventually(woken, "it stands still")


def state_of(pid: int) -> str:
    process = processes.look(pid)
    return process.state if process else ""


@pytest.mark.timeout(400)
def test_a_daemon_that_fails_anywhere_starts_nothing_twice(tmp_path: Path) -> None:
    """Three nodes at once; then their master."""
    left = deque(ON_NODES)

    def walk(node: str) -> None:
        while left:
            text = left.popleft()
            cluster.on_node(node, text)
            cluster.check(node, text)

    # What a thread has started is ended with it (PR_SET_PDEATHSIG): the threads outlive the
    # cluster.
    with ThreadPoolExecutor(len(NODES)) as pool, Failing(tmp_path) as cluster:
        finish([pool.submit(walk, node) for node in NODES], left)
        for text in ON_MASTER:
            cluster.on_master(text)
            cluster.check("node1", text)


@pytest.mark.timeout(300)
def test_a_node_that_fails_while_it_joins_joins_in_the_end(tmp_path: Path) -> None:
    texts = deque((
        "private.before@1:kill", "private.written@1:kill", "private.written@2:kill",
        "trust.take:kill", "joining.send:kill", "identity.before:kill", "identity.written:kill",
        "private.written@2:errno:ENOSPC", "identity.written@1:stop",
    ))

    def walk() -> None:
        while texts:
            text = texts.popleft()
            name = f"n{len(texts)}"
            point = Point(text, tmp_path / f"{name}.err")
            with cluster.armed(text):
                cluster.start_node(name)
            point.wait()
            if text.endswith(":stop"):
                wake(cluster.nodes[name])
            else:
                cluster.kill_node(name)
                cluster.start_node(name)
            cluster.wait_up(name)
            cluster.check(name, text)

    with ThreadPoolExecutor(3) as pool, Failing(tmp_path, nodes=()) as cluster:
        cluster.token_file()
        finish([pool.submit(walk) for _ in range(3)], texts)


def test_a_master_that_fails_at_its_first_start_starts_in_the_end(tmp_path: Path) -> None:
    for text in (
        "private.before@1:kill", "private.written@1:kill", "private.written@2:kill",
        "private.written@3:kill", "address.written:kill",
    ):
        first = Failing(tmp_path, nodes=())
        with first.armed(text), pytest.raises(RuntimeError, match="masterd ended"):
            first.__enter__()
    with Failing(tmp_path, nodes=("node1",)) as cluster:
        cluster.check("node1", "all of these")


@pytest.mark.timeout(300)
def test_a_copy_whose_node_fails_is_completed_by_a_repeat(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(200):
        (source / str(number)).write_bytes(os.urandom(1000))
    texts = deque((
        "copy.send:kill", "copy.land.before@1:kill", "copy.land.after@1:kill", "copy.finish:kill",
        "copy.finish@1:stop",
    ))

    def walk() -> None:
        while texts:
            text = texts.popleft()
            name = f"n{len(texts)}"
            point = Point(text, tmp_path / f"{name}.err")
            with cluster.armed(text):
                cluster.start_node(name)
            cluster.wait_up(name)
            command = ("copy", str(source), f"{name}:there")
            done: list[subprocess.CompletedProcess[str]] = []
            copying = threading.Thread(target=copy, args=(command, done))
            copying.start()
            point.wait()
            if text.endswith(":stop"):
                wake(cluster.nodes[name])
            else:
                cluster.kill_node(name)
                cluster.restart_node(name)
            copying.join()
            if done[0].returncode:  # it has not waited for the node to come back
                done[0] = cluster.godwit(*command)
            assert done[0].returncode == 0, done[0].stderr
            there = tmp_path / name / "files" / "there"
            assert {p.name: p.read_bytes() for p in there.iterdir()} == {
                p.name: p.read_bytes() for p in source.iterdir()
            }
            assert not list(there.parent.glob(".*.godwit-*"))

    def copy(command: tuple[str, ...], done: list["subprocess.CompletedProcess[str]"]) -> None:
        done.append(cluster.godwit(*command))

    with ThreadPoolExecutor(3) as pool, Failing(tmp_path, nodes=()) as cluster:
        cluster.token_file()
        finish([pool.submit(walk) for _ in range(3)], texts)


def finish(walks: "list[Future[None]]", left: deque[str]) -> None:
    """Waits for all; one that fails ends the others sooner."""
    try:
        for each in as_completed(walks):
            each.result()
    finally:
        left.clear()


@pytest.mark.parametrize("text", ["x", "spawn.before", "spawn.before:x", "nowhere:kill",
                                  "spawn.before:errno:EWHAT", "spawn.before:delay:long",
                                  "spawn.before@x:kill", "spawn.before@:kill"])
def test_a_failpoint_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(StartError):
        failpoint.parse(text)


def test_failpoints_are_read_by_name() -> None:
    assert failpoint.parse("spawn.before@3:kill,news.after:delay:0.5") == {
        "spawn.before": failpoint.Armed("kill", "", 3),
        "news.after": failpoint.Armed("delay", "0.5"),
    }


def test_a_failpoint_is_due_each_time_or_the_one_time_it_is_armed_for() -> None:
    third, each = failpoint.Armed("kill", "", 3), failpoint.Armed("kill", "")
    assert [third.is_due() for _ in range(5)] == [False, False, True, False, False]
    assert [each.is_due() for _ in range(3)] == [True] * 3


def test_each_failpoint_stands_in_the_code_once() -> None:
    top = Path(failpoint.__file__).parent.parent
    parts = [top / part for part in ("godwit", "clientd", "masterd")]
    code = "\n".join(path.read_text() for part in parts for path in part.rglob("*.py"))
    named = [name for name in failpoint.NAMES if not name.startswith("move.")]
    counts = {name: code.count(f'failpoint.hit("{name}")') for name in named}
    assert counts == dict.fromkeys(named, 1)


def test_each_record_of_a_move_has_a_failpoint_before_and_after_it() -> None:
    moves = {name for name in failpoint.NAMES if name.startswith("move.")}
    assert moves == {f"move.{part.value}.{when}" for part in Part for when in ("before", "after")}
    code = Path(mover.__file__).read_text()
    for when in ("before", "after"):
        assert code.count(f'failpoint.hit(f"move.{{record.part.value}}.{when}")') == 1
