"""How fast tasks are launched and commands answered, next to a bare C loop in the same run.

    benchmarks/launch.py [--count N] [--rounds N]     (default: 1000 tasks, 5 rounds)

Starts a master and one node in a scratch folder, which is removed at the end.  Prints
* launches a second of /bin/true, launched, logged, reaped and recorded through master and node,
  and their share of what a C vfork/exec/wait loop does between the same rounds;
* the time of `true` as a remote command from a connected shell, p50 and p99;
* memory and processor use of an idle clientd, and the time of `bin/godwit list` from cold.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from godwit.wire import operations as op
from masterd.client import Client
from tests.real.cluster import Cluster, Daemon

TOP = Path(__file__).resolve().parent.parent
#: Seconds an idle clientd is watched.
IDLE_S = 20.0


def bare(folder: str, count: int) -> float:
    """Launches a second of the C loop."""
    program = os.path.join(folder, "vfork_exec")
    if not os.path.exists(program):
        source = str(TOP / "benchmarks" / "vfork_exec.c")
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
    return float(subprocess.check_output([program, str(count)]))


def launches(client: Client, count: int) -> float:
    """Launches a second, from the request until the last end is known."""
    begin = time.perf_counter()
    request = op.Execute(0, nodes="node1", argv=(b"/bin/true",), count=count)
    started = client.ask(request, op.Tasks)
    assert len(started.tasks) == count, started.faults
    ids = tuple(view.task.id for view in started.tasks)
    ended = client.ask(op.AwaitTasks(0, tasks=ids, timeout_s=60.0), op.Tasks)
    took = time.perf_counter() - begin
    assert all(view.task.exit_code == 0 for view in ended.tasks)
    return count / took


def remote(client: Client) -> float:
    """Milliseconds of `true` as a remote command: launched, followed to its end."""
    begin = time.perf_counter()
    request = op.Execute(
        0, nodes="node1", argv=(b"true",), shell=True, oneoff=True, follow=True
    )
    for _ in client.stream(request):
        pass
    return (time.perf_counter() - begin) * 1000


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="godwit-bench-") as folder,
        Cluster(Path(folder), nodes=("node1",)) as running,
    ):
        yield running


def idle(daemon: Daemon) -> None:
    """Prints what a clientd uses that has nothing to do."""
    root = psutil.Process(daemon.pid)
    processes = [root, *root.children(recursive=True)]
    seconds = lambda: sum(sum(p.cpu_times()[:2]) for p in processes)  # noqa: E731
    before = seconds()
    time.sleep(IDLE_S)
    share = 100 * (seconds() - before) / IDLE_S
    resident = sum(p.memory_info().rss for p in processes) / 1e6
    each = " + ".join(f"{p.memory_info().rss / 1e6:.0f}" for p in processes)
    print(f"idle clientd       {resident:8.1f} MB resident ({each}), {share:.2f} % of a core")


def cold(state: str) -> None:
    """Prints the time of one `bin/godwit list`."""
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        argv = [str(TOP / "bin" / "godwit"), "--state", state, "list"]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - begin) * 1000)
    print(f"godwit list, cold  {statistics.median(times):8.1f} ms (worst {max(times):.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with cluster() as running, running.client() as client:
        ours, theirs = [], []
        for _ in range(given.rounds):
            theirs.append(bare(str(running.top), given.count))
            ours.append(launches(client, given.count))
        shares = [mine / limit for mine, limit in zip(ours, theirs, strict=True)]
        print(f"bare C loop        {statistics.median(theirs):8.0f} launches/s")
        print(f"godwit             {statistics.median(ours):8.0f} launches/s "
              f"({given.count} in {given.count / statistics.median(ours):.2f} s)")
        print(f"share              {statistics.median(shares):8.2f} "
              f"(worst {min(shares):.2f}, best {max(shares):.2f})")
        times = sorted(remote(client) for _ in range(500))
        print(f"remote `true`      {times[250]:8.2f} ms p50, {times[495]:.2f} ms p99")
        cold(running.state)
        idle(running.nodes["node1"])


if __name__ == "__main__":
    main()
