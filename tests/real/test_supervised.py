"""Daemons below a supervisor that wants to be told: NOTIFY_SOCKET, as systemd has it."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import DEADLINE_S, PYTHON, Cluster, Daemon, eventually, free_port


class Supervisor:
    """The socket that NOTIFY_SOCKET names, and what came in by it."""

    def __init__(self) -> None:
        self.name = f"@godwit-{os.getpid()}-{os.urandom(4).hex()}"
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link.bind("\0" + self.name[1:])
        self.link.settimeout(DEADLINE_S)

    def hears(self, line: str) -> None:
        """Waits until this is told."""
        while line not in self.link.recv(4096).decode().splitlines():
            pass

    def heard(self) -> list[str]:
        """What has been told and not been read."""
        self.link.setblocking(False)
        found: list[str] = []
        try:
            while True:
                found += self.link.recv(4096).decode().splitlines()
        except BlockingIOError:
            return found
        finally:
            self.link.settimeout(DEADLINE_S)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    told = Supervisor()
    yield told
    told.link.close()


def test_a_supervised_master_says_when_it_listens_and_when_it_stops(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    with Cluster(tmp_path, nodes=[]) as one:
        one.kill_master()
        address = one._listen
        daemon = Daemon(
            [*PYTHON, "masterd", "--headless", "--listen", address, "--state", one.state,
             "--logs", one.logs],
            tmp_path / "told", one.environment(NOTIFY_SOCKET=supervisor.name),
        )
        one.master = daemon
        supervisor.hears("READY=1")
        assert one._answers()
        daemon.end(signal.SIGTERM)
        supervisor.hears("STOPPING=1")


def test_a_supervised_node_says_what_it_does_and_no_task_can_speak_for_it(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    with Cluster(tmp_path, nodes=[]) as one:
        environment = one.environment
        one.environment = lambda **more: environment(  # type: ignore[method-assign]
            NOTIFY_SOCKET=supervisor.name, **more
        )
        one.start_node("node1")
        one.environment = environment  # type: ignore[method-assign]
        supervisor.hears("READY=1")
        supervisor.hears(f"STATUS=node1 joins {one.address}; 0 tasks running")
        one.wait_up("node1")
        task = one.launch("--shell", "node1", "env; exec sleep 300")
        supervisor.hears(f"STATUS=node1 joins {one.address}; 1 task running")
        log = Path(task["log"])
        eventually(lambda: "GODWIT_TASK=" in log.read_text(), "its environment")
        assert "NOTIFY_SOCKET" not in log.read_text()
        agent = Path(f"/proc/{one.agent('node1')}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in agent and b"HOME=" in agent

        # Told to stop it says so, and the task goes on; the next one has it from its start.
        one.nodes["node1"].end(signal.SIGTERM)
        supervisor.hears("STOPPING=1")
        one.restart_node("node1")
        assert one.shown(task["task"])["pid"] == task["pid"]


def test_a_node_that_cannot_listen_is_not_ready(tmp_path: Path, supervisor: Supervisor) -> None:
    with Cluster(tmp_path, nodes=[]) as one, socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        daemon = Daemon(
            [*PYTHON, "clientd", "--name", "node1", "--listen", f"127.0.0.1:{port}",
             "--state", str(tmp_path / "node1"), "--logs", one.logs],
            tmp_path / "told", one.environment(NOTIFY_SOCKET=supervisor.name),
        )
        try:
            eventually(lambda: "cannot listen" in daemon.text(), "its complaint")
            assert supervisor.heard() == []
            taken.close()  # now it can
            supervisor.hears("READY=1")
            daemon.end(signal.SIGTERM)
        finally:
            daemon.close(expect_empty=False)
