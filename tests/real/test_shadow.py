"""Shadows of tasks that left their home: real processes, real signals, two real nodes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import processes
from clientd.keeper.shadows.process import NAME
from tests.real.cluster import eventually
from tests.real.moving import Moving


class Shadowed(Moving):
    """What is to be seen of shadows on this machine."""

    def shadows(self, task: str, target: str = "node2") -> list[processes.Process]:
        """Those whose command line says so."""
        title = (NAME, task.encode(), b"->", target.encode())
        return [
            one for one in processes.everyone()
            if not one.is_dead and processes.command_line(one.pid)[:4] == title
        ]

    def shadow(self, task: str, target: str = "node2") -> int:
        """The pid of the one that there is, in the end."""
        eventually(lambda: len(self.shadows(task, target)) == 1, f"{task} has a shadow")
        (one,) = self.shadows(task, target)
        return one.pid

    def away(self) -> tuple[str, int]:
        """A task that counts at node2, and its shadow at node1."""
        task = self.counting()
        self.move(task, "node2")
        return task, self.shadow(task)

    def ended(self, task: str) -> dict[str, object]:
        """The task as it is shown once it has ended."""
        eventually(lambda: self.shown(task)["status"] == "exited", f"{task} ends")
        return self.shown(task)

    def home_says(self, text: str) -> bool:
        return text in (self.top / "logs" / "node1" / "clientd.log").read_text()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Shadowed]:
    with Shadowed(tmp_path) as cluster:
        yield cluster


def test_a_signal_to_the_shadow_reaches_the_guest_and_both_end_alike(pair: Shadowed) -> None:
    task, pid = pair.away()
    assert Path(f"/proc/{pid}/comm").read_text() == "godwit-shadow\n"
    os.kill(pid, signal.SIGTERM)
    assert pair.ended(task)["signal"] == "SIGTERM"
    eventually(lambda: not pair.shadows(task), "the shadow ends")
    eventually(lambda: pair.home_says(f"the shadow of {task} ended (SIGTERM)"), "by SIGTERM")
