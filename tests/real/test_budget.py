"""A task that may stand still for so long only: its memory follows it, and either end may die."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import eventually
from tests.real.hosts import HostCluster, Hosts, hosts_here
from tests.real.moving import Moving

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("hosts_here")]
__all__ = ["hosts_here"]

#: Fills so many MiB, then counts; SIGTERM: says whether they are as they were.
HEAP = """
import hashlib, os, signal, sys, time
heap = bytearray(os.urandom(1 << 20) * int(sys.argv[1]))
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
LIMITS = {"fs.pipe-user-pages-soft": "0", "fs.pipe-max-size": str(4 << 20)}


@pytest.fixture(scope="module", autouse=True)
def limits() -> Iterator[None]:
    """Pages wait in pipes: what a machine whose root has all rights does not need."""
    paths = {Path("/proc/sys", name.replace(".", "/", 1)): value for name, value in LIMITS.items()}
    before = {path: path.read_text() for path in paths}
    try:
        for path, value in paths.items():
            path.write_text(value)
    except OSError as err:
        pytest.skip(f"pipes are too small here: {err}")
    yield
    for path, value in before.items():
        path.write_text(value)


class Pair(Moving, HostCluster):
    """Two nodes on hosts of their own."""

    def heap(self, mib: int) -> str:
        script = self.top / "heap.py"
        script.write_text(HEAP)
        words = ("execute", "--json", "node1", "--", sys.executable, "-I", "-S", str(script))
        task = str(self.json(*words, str(mib))["tasks"][0]["task"])
        eventually(lambda: len(self.numbers("node1", task)) > 10, f"{task} counts", 60)
        return task

    def can(self, node: str) -> list[str]:
        found = next(n for n in self.json("list", "--json")["nodes"] if n["name"] == node)
        return list(found["can"])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Hosts("master", "node1", "node2") as hosts, Pair(tmp_path, hosts) as cluster:
        eventually(
            lambda: all(any(word.startswith("criu=") for word in cluster.can(node))
                        for node in ("node1", "node2")), "both have found their CRIU", 60,
        )
        if "lazy" not in cluster.can("node1"):
            pytest.skip("no post-copy here")
        yield cluster


def test_its_memory_follows_it_when_only_that_keeps_to_the_budget(pair: Pair) -> None:
    task = pair.heap(256)
    done = pair.godwit("move", "--json", task, "node2", "--budget", "450ms")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["move"]
    assert report["way"] == "post-copy"
    pair.goes_on("node2", task)
    assert pair.godwit("signal", task, "TERM").returncode == 0
    assert pair.godwit("wait", task).returncode == 0
