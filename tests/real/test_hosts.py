"""A master and nodes on hosts of their own: what a network does to them, and what it does not."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import eventually
from tests.real.hosts import HostCluster, Hosts, hosts_here

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("hosts_here")]
__all__ = ["hosts_here"]

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts("master", "node1", "node2") as hosts:
        yield hosts


def test_hosts_reach_each_other_as_far_as_they_are_let(hosts: Hosts) -> None:
    def reached() -> set[tuple[str, str]]:
        names = ("master", "node1", "node2")
        return {(a, b) for a in names for b in names if a < b and hosts.reach(a, b)}

    everybody = {("master", "node1"), ("master", "node2"), ("node1", "node2")}
    assert reached() == everybody
    hosts.partition({"node1"}, {"master", "node2"})
    assert reached() == {("master", "node2")}
    hosts.heal()
    assert reached() == everybody
    hosts.unplug("node2")
    assert reached() == {("master", "node1")}
    hosts.plug("node2")
    eventually(lambda: reached() == everybody, "node2 is plugged in again")


def test_a_link_can_lose_what_it_carries(hosts: Hosts) -> None:
    if not hosts.disturb("node1", "loss", "100%"):
        pytest.skip("this kernel has no netem")
    assert not hosts.reach("master", "node1")
    assert hosts.disturb("node1")
    assert hosts.reach("master", "node1")


def test_a_host_has_its_own_name_pids_and_run(hosts: Hosts) -> None:
    assert hosts["node1"].run("hostname").stdout == "node1\n"
    told = hosts["node1"].run("sh", "-c", "ls -d /proc/[0-9]* | wc -l; ls /run | wc -l").stdout
    pids, run = map(int, told.split())
    assert pids < 8  # pid 1, nsenter's child and what the shell started
    assert run == 0


def test_hosts_leave_nothing_behind() -> None:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, check=True).stdout
    with pytest.raises(ZeroDivisionError), Hosts("a", "b") as hosts:
        pids = [hosts["a"].pid, hosts["b"].pid]
        _ = 1 / 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, check=True).stdout == links


def test_a_task_lives_through_a_partition(hosts: Hosts, tmp_path: Path) -> None:
    with HostCluster(tmp_path, hosts) as cluster:
        tasks = {
            node: cluster.launch("--shell", node, COUNT)["task"] for node in ("node1", "node2")
        }
        assert {task["node"] for task in cluster.tasks().values()} == {"node1", "node2"}
        hosts.partition({"node1"}, {"master", "node2"})
        eventually(lambda: cluster.states().get("node1") == "unreachable", "node1 is missed")
        eventually(lambda: cluster.states().get("node2") == "up", "node2 is not")
        log = Path(cluster.logs, "node1", f"{tasks['node1']}.log")
        size = log.stat().st_size
        eventually(lambda: log.stat().st_size > size, "its task counts on")
        # The other one is served as ever.
        assert cluster.godwit("sKill", tasks["node2"]).returncode == 0
        hosts.heal()
        eventually(lambda: cluster.states().get("node1") == "up", "node1 is back")
        # A node is up when it has said hello, and tells of its tasks next.
        eventually(lambda: cluster.shown(tasks["node1"])["status"] != "unknown", "it has told")
        shown = cluster.shown(tasks["node1"])
        assert (shown["status"], shown["node"]) == ("running", "node1")
        assert cluster.godwit("kill", tasks["node1"]).returncode == 0
        assert cluster.godwit("wait", tasks["node1"]).returncode == 130
        written = log.read_bytes().split()
        assert written == [b"%d" % n for n in range(len(written))]
