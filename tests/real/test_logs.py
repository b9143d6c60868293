"""Logs of real tasks at full speed: nothing lost, nothing doubled, and what was dropped is told."""

import hashlib
import os
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from clientd.keeper import trim
from godwit.wire import operations as op
from masterd.client import Client
from tests.real.cluster import PYTHON, Cluster, eventually

#: So many numbered lines are written, by one program and as fast as it can.
LINES = 3_000_000
EXPECTED = b"".join(b"%d\n" % number for number in range(1, LINES + 1))
WRITER = f"seq 1 {LINES}"
#: On the disk, of one log.
MOST = 1024 * 1024


class Followed:
    """What a follow brought, checked byte by byte as it comes."""

    def __init__(self) -> None:
        self.got = 0
        self.dropped: list[int] = []

    def take(self, client: Client, reply: op.Output) -> None:
        assert reply.offset == self.got + sum(self.dropped) + reply.dropped
        if reply.dropped:
            self.dropped.append(reply.dropped)
        assert reply.data == EXPECTED[reply.offset : reply.offset + len(reply.data)]
        self.got += len(reply.data)
        if reply.data:
            client.tell(op.Took(reply.id, reply.task, len(reply.data)))


def follow(
    cluster: Cluster, task: str, output: IO[bytes] | int, errors: IO[bytes] | int
) -> "subprocess.Popen[bytes]":
    """``godwit logs -f TASK`` in the background."""
    return subprocess.Popen(
        [*PYTHON, "masterd.cli", "--state", cluster.state, "logs", "-f", task],
        stdout=output, stderr=errors, env=cluster.environment(),
    )


def has_another(cluster: Cluster, agent: int) -> bool:
    """Another agent than this one is there."""
    with suppress(StopIteration, FileNotFoundError):
        return cluster.agent("node1") != agent
    return False


def has_grown(path: Path, size: int) -> bool:
    return path.stat().st_size >= size


def test_every_line_comes_once_and_in_order_while_agents_die_and_followers_are_cut(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        task = one.launch("--shell", "node1", WRITER)
        into, told = tmp_path / "followed", tmp_path / "told"
        with into.open("wb") as output, told.open("wb") as errors:
            reader = follow(one, task["task"], output, errors)
        with reader:
            for part in range(1, 4):
                # Another follower begins each time, and is cut off in the middle.
                with follow(one, task["task"], subprocess.PIPE, subprocess.DEVNULL) as cut:
                    assert cut.stdout and cut.stdout.read(100_000) == EXPECTED[:100_000]
                    grown = len(EXPECTED) * part // 5
                    eventually(partial(has_grown, into, grown), f"{grown} bytes")
                    os.kill(agent := one.agent("node1"), signal.SIGKILL)
                    cut.kill()
                eventually(partial(has_another, one, agent), "another agent")
            assert reader.wait(60) == 0
        assert told.read_bytes() == b""
        wanted = hashlib.sha256(EXPECTED).hexdigest()
        assert hashlib.sha256(into.read_bytes()).hexdigest() == wanted
        assert hashlib.sha256(Path(task["log"]).read_bytes()).hexdigest() == wanted
        assert one.shown(task["task"])["exit_code"] == 0


def test_a_log_over_its_bound_is_trimmed_and_followers_are_told_exactly(tmp_path: Path) -> None:
    if why := trim.objection(str(tmp_path)):
        pytest.skip(why)
    with Cluster(tmp_path, nodes=["node1"], options=["--log-max", "1M"]) as one:
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        followed = Followed()
        task = one.launch("--shell", "node1", f"read x < {gate}; {WRITER}; read x < {gate}")
        log = Path(task["log"])
        with one.client() as client, client.stream(
            op.FollowLogs(0, (task["task"],), live=True)
        ) as answers:
            gate.write_text("\n")
            eventually(lambda: log.stat().st_size == len(EXPECTED), "all is written")
            eventually(lambda: log.stat().st_blocks * 512 <= MOST + 8192, "all is trimmed")
            gate.write_text("\n")
            for reply in answers:
                if isinstance(reply, op.Output):
                    followed.take(client, reply)
        assert followed.dropped and followed.got + sum(followed.dropped) == len(EXPECTED)

        # Who comes later sees what is left, and on stderr how much is not.
        later = one.godwit("logs", task["task"])
        left = later.stdout.encode()
        assert EXPECTED.endswith(left) and MOST // 2 < len(left) <= MOST
        gone = len(EXPECTED) - len(left)
        assert later.stderr == f"[godwit: {gone} bytes dropped here]\n"
        assert trim.marker(gone) + left == log.read_bytes()[gone - len(trim.marker(gone)) :]
        # Its end is there whoever asks, and a keeper that starts anew knows as much.
        assert one.godwit("logs", "-n", "1", task["task"]).stdout == f"{LINES}\n"
        one.kill_node("node1")
        one.restart_node("node1")
        assert one.godwit("logs", task["task"]).stdout.encode() == left
