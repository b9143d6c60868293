"""A task that may stand still for so long only: its memory follows it, and either end may die."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clientd.keeper import probing
from godwit.ship import pagesocket
from tests.real import pipes
from tests.real.cluster import descendants, described, eventually, is_stopped
from tests.real.hosts import HostCluster, Hosts, hosts_here
from tests.real.moving import MovingProcesses

#: So long that what does not come about is told by the test, with what its processes do.
pytestmark = [
    pytest.mark.root, pytest.mark.usefixtures("hosts_here"), pytest.mark.timeout(400),
]
__all__ = ["hosts_here"]

#: Fills so many MiB with what repeats itself after so many bytes, but for a number in each MiB,
#: then counts; SIGTERM: says whether they are as they were.
HEAP = """
import hashlib, os, signal, sys, time
size, period = int(sys.argv[1]) << 20, int(sys.argv[2])
heap = bytearray(os.urandom(period) * (size // period))
for at in range(0, size, 1 << 20):
    heap[at:at + 8] = at.to_bytes(8, "big")
digest = hashlib.blake2b(heap).hexdigest()
def check(*_):
    os._exit(0 if hashlib.blake2b(heap).hexdigest() == digest else 9)
signal.signal(signal.SIGTERM, check)
n = 0
while True:
    print(n, flush=True)
    n += 1
    time.sleep(0.005)
"""


@pytest.fixture(scope="module", autouse=True)
def limits() -> Iterator[None]:
    try:
        with pipes.roomy():
            yield
    except OSError as err:
        pytest.skip(f"pipes are too small here: {err}")


#: The same in Perl, which any user can execute.
PERL_HEAP = """
$| = 1; $heap = join "", map chr rand 256, 1 .. 4096; $heap x= 256 * shift;
$sum = unpack "%32C*", $heap;
$SIG{TERM} = sub { exit(unpack("%32C*", $heap) == $sum ? 0 : 9) };
for ($n = 0;; $n++) { print "$n\\n"; select(undef, undef, undef, 0.005) }
"""
#: CRIU that fails to restore while a file is there.
FAILING = """#!/bin/sh
case "$1" in restore | swrk) [ -e {flag} ] && exit 1 ;; esac
exec {criu} "$@"
"""
#: MiB of a task: so many that freezing it till all of it is there takes longer than BUDGET.
MIB, BUDGET = "320", "900ms"
#: The source's pager stops by itself when 64 MiB of it are there.
PARTLY = "pages.pass@4:stop"


class Pair(MovingProcesses, HostCluster):
    """Two nodes on hosts of their own."""

    def start_node(self, name: str, *options: str) -> None:
        self.failpoint = PARTLY if name == "node1" else ""
        super().start_node(name, *options)

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(GODWIT_CRIU=str(self.top / "bin" / "criu"), **more)

    @property
    def flag(self) -> Path:
        return self.top / "fail"

    def heap(self, *program: str, period: int = 1 << 20) -> str:
        """A task on node1 that counts."""
        script = self.top / "heap.py"
        script.write_text(HEAP)
        words = program or (
            "node1", "--", sys.executable, "-I", "-S", str(script), MIB, str(period)
        )
        task = str(self.launch(*words)["task"])
        eventually(lambda: len(self.numbers("node1", task)) > 10, f"{task} counts", 60)
        return task

    def draining(
        self, *options: str, program: tuple[str, ...] = ()
    ) -> tuple[str, "subprocess.Popen[str]"]:
        """A task that runs on node2 and needs node1; and the move that waits for its memory."""
        with self.explaining():  # one that changes its parent just now is not seen by every look
            eventually(lambda: not self.page_carriers(), "the end of an earlier move's")
        # What is kept of it is compressed, which is quick when there is little in it.
        task = self.heap(*program, period=4096 if "--safe" in options else 1 << 20)
        under_way = self.begin(
            "move", "--json", task, "node2", "--budget", BUDGET, "--anyway", *options
        )

        def drains() -> bool:
            assert under_way.poll() is None, under_way.communicate()
            return [each["state"] for each in self.moves(task)] == ["draining"]

        def stands() -> bool:
            pagers = self.pagers()  # none: it cannot be seen yet, or has ended already
            return bool(pagers) and all(map(is_stopped, pagers))

        with self.explaining():
            eventually(drains, f"{task} drains", 60)
            eventually(stands, "its pager stops", 60)
        return task, under_way

    def go_on(self) -> None:
        """The rest of its memory may come."""
        for pid in self.pagers():
            with contextlib.suppress(ProcessLookupError):  # one that was killed may be gone by now
                os.kill(pid, signal.SIGCONT)

    def pagers(self) -> list[int]:
        """Of the source."""
        return self.below("node1", pagesocket.NAME)

    def page_carriers(self) -> list[tuple[str, int]]:
        """Who takes pages from one node to the other, on either: node and pid."""
        names = (("node1", "dump"), *((node, pagesocket.NAME) for node in ("node1", "node2")),
                 ("node2", "lazy-pages"))
        return [(node, pid) for node, name in names for pid in self.below(node, name)]

    def pages_told(self) -> str:
        """What each of those does, for the message of a failure."""
        return "\n".join(f"{node}: {doing(pid)}" for node, pid in self.page_carriers())

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """What does not come about is told with what the carriers of pages do."""
        try:
            yield
        except (TimeoutError, subprocess.TimeoutExpired) as err:
            told = self.pages_told() or "nobody takes pages from one to the other"
            raise TimeoutError(f"{err}\n{told}\n{self.told()}") from None

    def over(self, under_way: "subprocess.Popen[str]", status: int) -> dict[str, Any]:
        """Its flight report."""
        with self.explaining():
            told, said = under_way.communicate(timeout=120)
        assert under_way.returncode == status, (told, said)
        return dict(json.loads(told)["move"])

    def is_whole(self, task: str, node: str) -> None:
        """It counts there without a gap, and its memory is as it was."""
        self.goes_on(node, task)
        assert self.godwit("signal", task, "TERM").returncode == 0
        assert self.godwit("wait", task).returncode == 0

    def can(self, node: str) -> list[str]:
        found = next(n for n in self.json("list", "--json")["nodes"] if n["name"] == node)
        return list(found["can"])

    def below(self, node: str, name: str) -> list[int]:
        """Pids of a node's processes of that name."""
        found = []
        for pid in descendants(self.hosts[node].pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                comm = Path(f"/proc/{pid}/comm").read_text().strip()
                if comm == name or (comm != "sh" and name.encode() in words):
                    found.append(pid)
        return found


def doing(pid: int) -> str:
    """A process: its name and state, where it is in the kernel, and the bytes that it has read and
    written."""
    told = [described(pid)]
    for name in ("comm", "wchan", "syscall", "stack", "io"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/{name}").read_text()
            told.append(f"{name}: {' / '.join(text.splitlines())}")
    return "\n    ".join(told)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    top = tmp_path_factory.mktemp("budget")
    paths = [path for path in probing.candidates() if Path(path).exists()]
    if not paths:
        pytest.skip("no CRIU")
    script = top / "bin" / "criu"
    script.parent.mkdir(mode=0o755)
    script.write_text(FAILING.format(flag=top / "fail", criu=paths[-1]))
    script.chmod(0o755)
    with Hosts("master", "node1", "node2") as hosts, Pair(top, hosts) as cluster:
        eventually(
            lambda: all(any(word.startswith("criu=") for word in cluster.can(node))
                        for node in ("node1", "node2")), "both have found their CRIU", 60,
        )
        if "lazy" not in cluster.can("node1"):
            pytest.skip("no post-copy here")
        yield cluster


@pytest.fixture
def pair(cluster: Pair) -> Iterator[Pair]:
    """Both up, whatever a test before did to them."""
    cluster.wait_up("node1", "node2")
    yield cluster
    cluster.hosts.heal()
    cluster.go_on()
    cluster.flag.unlink(missing_ok=True)
    with cluster.explaining():
        eventually(lambda: not cluster.page_carriers(), "the end of who takes pages")


def test_what_no_way_keeps_to_is_refused_and_the_task_never_stands_still(pair: Pair) -> None:
    task = pair.heap()
    refused = pair.godwit("move", task, "node2", "--budget", "1ms")
    assert refused.returncode == 1
    assert "over the budget of 1 ms" in refused.stderr
    assert "--anyway" in refused.stderr
    assert pair.moves(task) == []
    pair.is_whole(task, "node1")


def test_its_memory_follows_it_and_nobody_else_is_needed_till_all_of_it_is_there(
    pair: Pair,
) -> None:
    task, under_way = pair.draining()
    for node in ("node1", "node2"):
        os.kill(pair.agent(node), signal.SIGKILL)
        pair.kill_node(node)
    for node in ("node1", "node2"):
        pair.restart_node(node)
    assert [each["state"] for each in pair.moves(task)] == ["draining"]
    pair.go_on()
    report = pair.over(under_way, 0)
    assert (report["result"], report["way"]) == ("done", "post-copy")
    assert report["predicted_ms"] > 0
    eventually(lambda: not pair.page_carriers(), "the end of who takes pages")
    pair.is_whole(task, "node2")


def test_a_link_that_is_back_before_long_is_waited_for(pair: Pair) -> None:
    task, under_way = pair.draining()
    pair.hosts.partition({"node1"}, {"master", "node2"})
    eventually(lambda: pair.states()["node1"] != "up", "node1 is missed")
    pair.hosts.heal()
    pair.go_on()
    assert pair.over(under_way, 0)["result"] == "done"
    pair.is_whole(task, "node2")


def test_the_memory_of_another_users_task_follows_it_too(pair: Pair) -> None:
    """CRIU is where that user may not go, here."""
    words = ("--user", "nobody", "--cwd", "/", "node1", "--", "perl", "-e", PERL_HEAP, MIB)
    task, under_way = pair.draining(program=words)
    pair.go_on()
    report = pair.over(under_way, 0)
    assert (report["result"], report["way"]) == ("done", "post-copy")
    pair.is_whole(task, "node2")


@pytest.mark.parametrize(("node", "who"), [
    ("node1", pagesocket.NAME), ("node2", pagesocket.NAME), ("node1", "dump"),
    ("node2", "lazy-pages"),
])
def test_without_its_memory_it_never_runs_and_goes_on_from_where_it_stood_still(
    pair: Pair, node: str, who: str
) -> None:
    task, under_way = pair.draining()
    for pid in pair.below(node, who):
        os.kill(pid, signal.SIGKILL)
    pair.go_on()
    report = pair.over(under_way, 125)
    assert (report["result"], report["state"]) == ("held", "draining")
    assert "memory" in report["reason"]
    assert "--source" in report["hint"]
    assert pair.shown(task)["status"] == "held"
    assert pair.godwit("resolve", report["id"], "--source").returncode == 0
    assert pair.settle(task) == "node1"
    pair.is_whole(task, "node1")


def test_whoever_said_so_beforehand_has_it_back_at_once(pair: Pair) -> None:
    task, under_way = pair.draining("--on-unknown", "resume")
    for pid in pair.below("node2", "lazy-pages"):
        os.kill(pid, signal.SIGKILL)
    assert pair.over(under_way, 1)["result"] == "reverted"
    pair.is_whole(task, "node1")


def test_a_restore_that_fails_ends_the_move_and_the_task_goes_on(pair: Pair) -> None:
    task = pair.heap()
    pair.flag.touch()
    done = pair.godwit("move", task, "node2", "--budget", BUDGET, "--anyway")
    assert done.returncode == 1
    assert f"{task} stays on node1: node2: CRIU failed" in done.stderr
    pair.is_whole(task, "node1")


def test_a_destination_that_dies_leaves_it_to_a_person(pair: Pair) -> None:
    task, under_way = pair.draining("--safe")
    pair.power_off("node2")
    report = pair.over(under_way, 125)
    assert "cannot be reached" in report["reason"]
    assert f"`restart {task} --from {report['snapshot']}`" in report["hint"]
    assert pair.godwit("resolve", report["id"], "--source").returncode == 0
    pair.goes_on("node1", task)
    kept = [one["id"] for one in pair.json("snapshots", "--json", task)["snapshots"]]
    assert kept == [report["snapshot"]]
    pair.restart_node("node2")
    assert pair.settle(task) == "node1"
    pair.is_whole(task, "node1")


def test_a_source_that_dies_has_all_that_there_was_of_it(pair: Pair) -> None:
    task, under_way = pair.draining()
    pair.power_off("node1")
    report = pair.over(under_way, 125)
    assert "memory" in report["reason"]
    pair.restart_node("node1")
    assert pair.godwit("resolve", report["id"], "--source").returncode == 0
    eventually(lambda: pair.shown(task)["status"] == "unknown", "nothing is left of it")


def test_a_source_that_dies_leaves_what_a_safe_move_kept_before(pair: Pair) -> None:
    task, under_way = pair.draining("--safe")
    pair.power_off("node1")
    report = pair.over(under_way, 125)
    command = f"restart {task} --from {report['snapshot']}"
    assert f"`{command}`" in report["hint"]
    early = pair.godwit(*command.split())
    assert early.returncode == 1 and "is held" in early.stderr
    pair.restart_node("node1")
    assert pair.godwit("resolve", report["id"], "--source").returncode == 0
    eventually(lambda: pair.shown(task)["status"] == "unknown", "nothing is left of it")
    pair.wait_criu("node1")
    (again,) = pair.started("restart", "--json", task, "--from", report["snapshot"])
    assert pair.counts_on("node1", again)[0] > 0
    assert pair.godwit("signal", again, "TERM").returncode == 0
    assert pair.godwit("wait", again).returncode == 0
