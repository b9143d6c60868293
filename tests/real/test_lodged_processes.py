"""Programs go on from snapshots on other machines than their own, with the files they had open."""

import os
from collections.abc import Iterator

import pytest

from tests.real.cluster import eventually
from tests.real.hosts import Hosts, hosts_here
from tests.real.moving import numbers_in
from tests.real.moving_hosts import MovingHosts
from tests.real.test_process_snapshots import WRITER, ended

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="CRIU needs root"),
]
__all__ = ["hosts_here"]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, hosts_here: None) -> Iterator[MovingHosts]:
    names = ("node1", "node2", "node3")
    with (
        Hosts("master", *names) as hosts,
        MovingHosts(tmp_path_factory.mktemp("apart"), hosts, names) as cluster,
    ):
        yield cluster


def test_forks_of_a_program_start_on_several_machines_at_once(apart: MovingHosts) -> None:
    task = apart.counter("node1")
    apart.checkpoint(task)
    answer = apart.json("fork", "--json", task, "node2", "node3")
    forks = {str(view["node"]): str(view["task"]) for view in answer["tasks"]}
    assert forks.keys() == {"node2", "node3"}
    assert len({apart.counts_on(node, fork)[0] for node, fork in forks.items()}) == 1
    apart.goes_on("node1", task)
    for each in (task, *forks.values()):
        assert apart.godwit("remove", each).returncode == 0


def test_a_program_whose_machine_died_goes_on_at_another_with_its_file(apart: MovingHosts) -> None:
    for node in ("node1", "node2", "node3"):
        (apart.files(node) / "w").mkdir()
    task = str(apart.launch("--cwd", "w", "node1", "--", *WRITER)["task"])
    eventually(lambda: len(apart.numbers("node1", task)) > 3, f"{task} counts")
    one = apart.checkpoint(task)
    home, peer = one["nodes"]
    other = next(name for name in ("node2", "node3") if name != peer)
    assert (home, one["writes"]) == ("node1", ["out"])
    apart.goes_on("node1", task)
    apart.power_off("node1")
    eventually(lambda: apart.shown(task)["status"] == "unknown", "nobody knows", within_s=90.0)
    refused = apart.godwit("restart", task)
    assert refused.returncode == 1 and "--lost" in refused.stderr
    # At its peer, and at one that has no copy: that gets it from the peer, and keeps none.
    for node in (peer, other):
        (again,) = apart.json("restart", "--json", "--lost", task, node)["tasks"]
        assert again["node"] == node
        counted = apart.counts_on(node, again["task"])
        assert 0 < counted[0] <= apart.numbers("node1", task)[-1]
        assert ended(apart, again["task"]) == 137
        now, told = numbers_in(apart.files(node) / "w" / "out"), apart.numbers(node, again["task"])
        assert now == list(range(len(now))) and now[-1] - told[-1] in (0, 1)

    def kept() -> list[int]:
        return [len(list((apart.top / node / "lodged").glob("*.zst"))) for node in (peer, other)]

    eventually(lambda: kept() == [1, 0], "one is kept, at the peer")
    apart.restart_node("node1")
