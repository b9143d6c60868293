"""Killed at every failpoint: nothing starts twice, no status is wrong, all goes on afterwards."""

import contextlib
import time
from pathlib import Path

import pytest

from godwit import failpoint
from godwit.errors import GodwitError, StartError
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.wire import operations as op
from tests.real.cluster import Cluster, eventually

#: Tried elsewhere, with a python task.
ELSEWHERE = {"begun.before"}
#: Its first act is to say which task it is.
PROGRAM = b'echo $GODWIT_TASK >> "$0"; sleep 0.1; exit 7'


class Failing(Cluster):
    """What is started while ``failpoint`` is set dies there."""

    failpoint = ""

    def environment(self, **more: str) -> dict[str, str]:
        if self.failpoint:
            more["GODWIT_FAILPOINT"] = self.failpoint
        return super().environment(**more)

    @staticmethod
    def request(ledger: Path) -> op.Execute:
        """Three of the program."""
        argv = (b"/bin/sh", b"-c", PROGRAM, bytes(ledger))
        return op.Execute(0, "node1", argv, count=3)

    def launch(self, ledger: Path) -> op.Tasks:
        with self.client() as client:
            return client.ask(self.request(ledger), op.Tasks)

    def tasks(self) -> list[Task]:
        with self.client() as client:
            nodes = client.ask(op.ListNodes(0), op.Nodes).nodes
        return [view.task for node in nodes for view in node.tasks]

    def fail_at(self, name: str, action: str, ledger: Path) -> None:
        """The daemon that has the failpoint is started with it, used, and started again."""
        master = name.startswith("store.")
        if master:
            self.kill_master()
        else:
            self.kill_node("node1")
        self.failpoint = f"{name}:{action}"
        try:
            if master:
                self._start_quietly()
            else:
                self.start_node("node1")
        finally:
            self.failpoint = ""
        daemon = self.master if master else self.nodes["node1"]
        assert daemon is not None

        again_at = 0.0

        def hit() -> bool:
            nonlocal again_at
            now = time.monotonic()
            # What is sent before the node is back goes nowhere, at worst.
            if not daemon.ended and now >= again_at:
                again_at = now + 1.0
                with contextlib.suppress(GodwitError), self.client() as client:
                    client.send(self.request(ledger))
            return daemon.ended

        eventually(hit, f"death at {name}")
        if master:
            daemon.close(expect_empty=True)
            self.start_master()
            self.wait_up("node1")
        else:
            self.restart_node("node1")

    def _start_quietly(self) -> None:
        """A master that may die before it answers."""
        try:
            self.start_master()
        except RuntimeError:
            assert self.master is not None and self.master.ended


@pytest.mark.timeout(400)
def test_a_daemon_killed_anywhere_starts_nothing_twice(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    with Failing(tmp_path, nodes=("node1",)) as cluster:
        for name in [name for name in failpoint.NAMES if name not in ELSEWHERE]:
            cluster.fail_at(name, "kill", ledger)
            done = cluster.launch(ledger)
            assert not done.faults, name
            eventually(
                lambda: not any(t.status.alive or t.status is Status.STARTING
                                for t in cluster.tasks()), f"end of all tasks after {name}",
            )
            started = ledger.read_text().split()
            assert len(started) == len(set(started)), name
            for task in cluster.tasks():
                if task.status is Status.EXITED:
                    assert task.exit_code == 7 and task.id in started, name
                else:
                    assert task.status is Status.UNKNOWN and task.reason, (name, task)
            assert {view.task.id for view in done.tasks} <= set(started), name


@pytest.mark.parametrize("text", ["x", "spawn.before", "spawn.before:x", "nowhere:kill",
                                  "spawn.before:errno:EWHAT", "spawn.before:delay:long"])
def test_a_failpoint_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(StartError):
        failpoint.parse(text)


def test_failpoints_are_read_by_name() -> None:
    assert failpoint.parse("spawn.before:kill,news.after:delay:0.5") == {
        "spawn.before": ("kill", ""), "news.after": ("delay", "0.5"),
    }


def test_each_failpoint_stands_in_the_code_once() -> None:
    top = Path(failpoint.__file__).parent.parent
    paths = [path for part in ("clientd", "masterd") for path in (top / part).rglob("*.py")]
    code = "".join(path.read_text() for path in paths)
    counts = {name: code.count(f'failpoint.hit("{name}")') for name in failpoint.NAMES}
    assert counts == dict.fromkeys(failpoint.NAMES, 1)
