"""Shadows of tasks that left their home: real processes, real signals, two real nodes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import probing, processes
from clientd.keeper.shadows.process import NAME
from tests.real.cluster import eventually
from tests.real.hosts import HostCluster, Hosts, hosts_here
from tests.real.moving import Moving

__all__ = ["hosts_here"]


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
        """The pid of the one that there is, in the end, and that has blocked its signals: it names
        itself when it has; its command line it has from the start."""
        found: list[int] = []

        def there() -> bool:
            found[:] = [one.pid for one in self.shadows(task, target)]
            return len(found) == 1 and Path(f"/proc/{found[0]}/comm").read_bytes() == NAME + b"\n"

        eventually(there, f"{task} has a shadow")
        return found[0]

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


def test_the_shadow_exits_with_the_code_of_the_guest(pair: Shadowed) -> None:
    may_end = pair.top / "may-end"
    task = pair.counting_till(may_end)
    pair.move(task, "node2")
    pair.shadow(task)
    may_end.touch()
    assert pair.ended(task)["exit_code"] == 0
    eventually(lambda: pair.home_says(f"the shadow of {task} ended (code 0)"), "with code 0")


def test_sigkill_of_the_shadow_kills_the_guest(pair: Shadowed) -> None:
    task, pid = pair.away()
    os.kill(pid, signal.SIGKILL)
    assert pair.ended(task)["signal"] == "SIGKILL"
    assert not pair.shadows(task)


def test_a_stopped_shadow_stops_the_guest_until_it_goes_on(pair: Shadowed) -> None:
    task, pid = pair.away()
    guest = int(pair.shown(task)["pid"])

    def state() -> str:
        there = processes.look(guest)
        return there.state if there else ""

    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state() == "T", "the guest stops")
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: state() in ("S", "R"), "it goes on")
    assert pair.shadow(task) == pid
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state() == "T", "the guest stops again")
    pair.godwit("sKill", task)
    eventually(lambda: pair.home_says(f"the shadow of {task} ended (SIGKILL)"), "it ends, too")


def test_a_shadow_outlives_its_keeper_and_is_taken_over(pair: Shadowed) -> None:
    task, pid = pair.away()
    guest = int(pair.shown(task)["pid"])
    pair.kill_node("node1")
    os.kill(pid, signal.SIGTSTP)
    os.kill(pid, signal.SIGCONT)
    pair.restart_node("node1")
    pair.wait_up("node1")
    eventually(lambda: pair.home_says(f"SIGCONT for {task} goes to node2"), "both are passed on")
    pair.goes_on("node2", task)
    assert pair.shadow(task) == pid
    os.kill(pid, signal.SIGSTOP)  # of which nobody tells a keeper that is not its parent
    eventually(lambda: getattr(processes.look(guest), "state", "") == "T", "the guest stops")
    os.kill(pid, signal.SIGKILL)
    assert pair.ended(task)["signal"] == "SIGKILL"


def test_a_signal_waits_for_a_master_that_is_down_and_acts_once(pair: Shadowed) -> None:
    task, pid = pair.away()
    pair.kill_master()
    for _ in range(3):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: pair.home_says(f"SIGTERM for {task} goes to node2"), "it is caught")
    pair.restart_master()
    pair.wait_up("node1", "node2")
    assert pair.ended(task)["signal"] == "SIGTERM"
    eventually(lambda: not pair.shadows(task), "the shadow ends")


def test_over_hops_one_shadow_stays_at_home_and_at_home_there_is_none(tmp_path: Path) -> None:
    with Shadowed(tmp_path, nodes=("node1", "node2", "node3")) as cluster:
        task, pid = cluster.away()
        cluster.move(task, "node3")
        assert cluster.shadow(task, "node3") == pid
        assert not cluster.shadows(task)
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: cluster.home_says(f"SIGCONT for {task} goes to node3"), "it goes there")
        cluster.move(task, "home")
        assert not os.path.exists(f"/proc/{pid}")
        cluster.goes_on("node1", task)
        cluster.move(task, "node2")
        again = cluster.shadow(task)
        assert cluster.godwit("remove", task).returncode == 0
        eventually(lambda: not os.path.exists(f"/proc/{again}"), "no shadow of what was removed")


@pytest.mark.skipif(os.geteuid() != 0, reason="tasks of other users need root")
def test_the_shadow_is_its_users_who_may_signal_it(pair: Shadowed) -> None:
    task = str(pair.json(
        "run", "--json", "-C", "/", "--user", "nobody", "node1", "CountProcess", "1000000", "0.002"
    )["tasks"][0]["task"])
    pair.move(task, "node2")
    pid = pair.shadow(task)
    status = Path(f"/proc/{pid}/status").read_text()
    uid = int(Path(f"/proc/{pid}").stat().st_uid)
    assert uid == 65534 and "NoNewPrivs:\t1" in status
    sender = os.fork()
    if sender == 0:
        os.setuid(uid)
        os.kill(pid, signal.SIGTERM)
        os._exit(0)
    assert os.waitpid(sender, 0)[1] == 0
    assert pair.ended(task)["signal"] == "SIGTERM"


# ---- the log at home -----------------------------------------------------------------------


def same_at_home(cluster: Shadowed, task: str, node: str = "node2") -> bool:
    """Both logs are the same, byte for byte, up to where home is; and home has come far."""
    home, there = cluster.log_of("node1", task), cluster.log_of(node, task)
    begun, whole = home.read_bytes(), there.read_bytes()
    assert whole.startswith(begun)
    return len(begun) > 100 and len(whole) - len(begun) < 4096


def grows(cluster: Shadowed, task: str) -> None:
    """The log at home does."""
    before = len(cluster.numbers("node1", task))
    eventually(lambda: len(cluster.numbers("node1", task)) > before + 10, "home reads on")


def test_what_is_written_elsewhere_is_in_the_log_at_home_too(pair: Shadowed) -> None:
    task = str(pair.json(
        "run", "--json", "--log-at-home", "node1", "CountProcess", "1000000", "0.002"
    )["tasks"][0]["task"])
    eventually(lambda: len(pair.numbers("node1", task)) > 3, f"{task} counts")
    pair.move(task, "node2")
    assert len(pair.numbers("node1", task)) > 3  # what it wrote here has stayed
    grows(pair, task)
    for name in ("node1", "node2"):
        os.kill(pair.agent(name), signal.SIGKILL)
        pair.wait_answered(name)
        grows(pair, task)
    pair.kill_master()
    pair.restart_master()
    pair.wait_up("node1", "node2")
    eventually(lambda: same_at_home(pair, task), "home has caught up")
    inode = pair.log_of("node1", task).stat().st_ino
    pair.move(task, "home")
    pair.goes_on("node1", task)
    assert pair.log_of("node1", task).stat().st_ino == inode
    pair.move(task, "node2")
    pair.godwit("sKill", task)
    pair.ended(task)
    eventually(
        lambda: pair.log_of("node1", task).read_bytes() == pair.log_of("node2", task).read_bytes(),
        "home has all of it",
    )
    pair.godwit("remove", task)
    eventually(lambda: not pair.log_of("node1", task).exists(), "it is removed here, too")


def test_a_log_at_home_may_be_asked_for_with_a_move(pair: Shadowed) -> None:
    task = pair.counting()
    assert pair.godwit("move", "--log-at-home", task, "node2").returncode == 0
    eventually(lambda: len(pair.numbers("node1", task)) > 100, "home has it from the first on")
    numbers = pair.numbers("node1", task)
    assert numbers == list(range(len(numbers)))


# ---- processes as they are -----------------------------------------------------------------


class Apart(Shadowed, HostCluster):
    """The same with each node on a host of its own: another has the same pids."""


@pytest.mark.root
@pytest.mark.usefixtures("hosts_here")
def test_a_process_that_moves_as_it_is_has_a_shadow_and_its_log_at_home(tmp_path: Path) -> None:
    words = "trap 'echo bye; exit 7' TERM; n=0; while :; do echo $n; n=$((n+1)); sleep 0.02; done"
    if not any(Path(path).exists() for path in probing.candidates()):
        pytest.skip("no CRIU")
    with Hosts("master", "node1", "node2") as hosts, Apart(tmp_path, hosts) as cluster:
        eventually(lambda: all(
            "criu=" in " ".join(node["can"]) for node in cluster.json("list", "--json")["nodes"]
        ), "both have looked for CRIU")
        task = str(cluster.launch("--log-at-home", "node1", "sh", "-c", words)["task"])
        eventually(lambda: cluster.log_of("node1", task).exists(), "it runs")
        cluster.move(task, "node2")
        pid = cluster.shadow(task)
        begun = cluster.log_of("node1", task).stat().st_size
        eventually(
            lambda: cluster.log_of("node1", task).stat().st_size > begun + 20, "home reads on"
        )
        cluster.move(task, "home")
        assert not os.path.exists(f"/proc/{pid}")
        cluster.move(task, "node2")
        os.kill(cluster.shadow(task), signal.SIGTERM)
        assert cluster.ended(task)["exit_code"] == 7
        eventually(lambda: cluster.home_says(f"the shadow of {task} ended (code 7)"), "with 7")
        whole = cluster.log_of("node2", task).read_bytes()
        eventually(lambda: cluster.log_of("node1", task).read_bytes() == whole, "home has all")
        numbers = [int(word) for word in whole.split() if word.isdigit()]
        assert whole.endswith(b"bye\n") and numbers == list(range(len(numbers)))
