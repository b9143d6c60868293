"""A source that is cut off with its frozen copy, and comes back when another node has the task."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from clientd.keeper import records, replay
from clientd.keeper.moves.table import Part
from tests.real.cluster import eventually, living
from tests.real.hosts import Hosts, hosts_here
from tests.real.moving_hosts import MovingHosts

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="CRIU needs root"),
]
__all__ = ["hosts_here"]

#: Both kinds of tasks, each of which counts.
KINDS: dict[str, Callable[[MovingHosts], str]] = {
    "python": lambda cluster: cluster.counting("node1"),
    "processes": lambda cluster: cluster.counter("node1"),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_comes_back_after_the_verdict_ends_its_copy_unrun(
    tmp_path: Path, hosts_here: None, kind: str
) -> None:
    with Hosts("master", "node1", "node2") as hosts, MovingHosts(tmp_path, hosts) as cluster:
        task = KINDS[kind](cluster)
        mover = both_have_all_but_the_last_vote(cluster, task)
        old = living(task, hosts["node1"].pid)
        assert old
        hosts.partition({"master", "node2"}, {"node1"})
        cluster.nodes["node2"].send(signal.SIGCONT)
        cluster.goes_on("node2", task)
        size = cluster.log_of("node1", task).stat().st_size
        # Nobody can tell it of the verdict: and a keeper that starts anew goes by its record.
        cluster.kill_node("node1")
        cluster.start_node("node1")
        cluster.agent("node1")
        for pid in old:
            os.kill(pid, signal.SIGCONT)
        before = len(cluster.numbers("node2", task))
        eventually(lambda: len(cluster.numbers("node2", task)) > before + 50, "time has passed")
        assert living(task, hosts["node1"].pid) == old, "it is kept until the verdict is heard"
        assert cluster.log_of("node1", task).stat().st_size == size
        hosts.heal()
        eventually(lambda: not living(task, hosts["node1"].pid), "the old copy is gone")
        mover.communicate(timeout=60)
        assert cluster.settle(task) == "node2"
        assert cluster.moves(task)[-1]["result"] == "done"
        cluster.goes_on("node2", task)
        assert cluster.godwit("sKill", task).returncode == 0


def both_have_all_but_the_last_vote(cluster: MovingHosts, task: str) -> Popen[str]:
    """The source has voted, and the destination's keeper stands still before it does."""
    mover = cluster.stop_in_a_move(task, "move.prepared.before")
    eventually(lambda: has_voted(cluster.top / "node1" / "journal", task), "node1 has voted")
    # What it has told its master before this answer, the vote, is there before it.
    cluster.wait_answered("node1")
    return mover


def has_voted(journal: Path, task: str) -> bool:
    found = map(records.decode, replay.read(journal.read_bytes()).payloads)
    return any(
        isinstance(one, records.Moved) and (one.task, one.part) == (task, Part.FROZEN)
        for one in found
    )
