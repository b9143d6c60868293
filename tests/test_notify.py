"""What a supervisor is told, and that nobody else can speak in its name."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.notify import VARIABLE, Notify


@pytest.fixture(params=["path", "abstract"])
def supervisor(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A datagram socket that NOTIFY_SOCKET names."""
    name = str(tmp_path / "s") if request.param == "path" else f"@godwit-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind("\0" + name[1:] if name.startswith("@") else name)
        link.setblocking(False)
        monkeypatch.setenv(VARIABLE, name)
        yield link


def test_lines_reach_the_supervisor_as_one_datagram(supervisor: socket.socket) -> None:
    Notify()("READY=1", "STATUS=é is fine")
    assert supervisor.recv(100) == "READY=1\nSTATUS=é is fine".encode()


def test_no_child_can_speak_for_us(supervisor: socket.socket) -> None:
    assert Notify()
    assert VARIABLE not in os.environ


def test_a_supervisor_that_does_not_read_is_not_waited_for(supervisor: socket.socket) -> None:
    notify = Notify()
    for _ in range(5000):
        notify("STATUS=" + "x" * 1000)
    supervisor.close()
    notify("STATUS=nobody is there")


def test_without_a_supervisor_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket was made"))
    assert not Notify()
    Notify()("READY=1")
