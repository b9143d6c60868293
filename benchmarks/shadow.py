"""What a shadow costs, next to what else could have stood for a task: memory, and time to make it.

    benchmarks/shadow.py
"""

import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from clientd.keeper.shadows import process, program
from tests.real.cluster import descendants

#: Of each kind.
MANY = 20
PAUSE = "import signal; signal.pause()"


def spawned(*words: str) -> Callable[[], int]:
    return lambda: subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).pid


def forked() -> int:
    """As a zygote would: a child of a process that has the runner imported."""
    import godwit.task.runner  # noqa: F401

    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def shadow() -> int:
    read, write = os.pipe()
    try:
        return process.make("t0000001", "node2", "benchmark", None, write)
    finally:
        os.close(read)
        os.close(write)


def cost(pid: int) -> dict[str, int]:
    """KiB, as the kernel sums them up: proc(5), smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}


def measure(name: str, make: Callable[[], int]) -> None:
    pids, times = [], []
    for _ in range(MANY):
        begun = time.perf_counter()
        pids.append(make())
        times.append((time.perf_counter() - begun) * 1000)
    time.sleep(0.5)  # they come to rest
    costs = [cost(pid) for pid in pids]
    for pid in pids:
        for below in descendants(pid):
            os.kill(below, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    rss, pss, own = (
        statistics.median(each[key] for each in costs) for key in ("Rss", "Pss", "Private_Dirty")
    )
    made = statistics.median(times)
    print(f"{name:28} {rss:8.0f} {pss:8.0f} {own:8.0f} {made:8.2f}")


def main() -> None:
    print(f"{'':28} {'RSS':>8} {'PSS':>8} {'own':>8} {'ms':>8}   (KiB, medians of {MANY})")
    if platform.machine() in program.CODE:
        measure("godwit-shadow", shadow)
    program.CODE.clear()
    measure("godwit-shadow in Python", shadow)
    measure("python -I -S", spawned(sys.executable, "-I", "-S", "-c", PAUSE))
    measure("sh", spawned("sh", "-c", "trap : TERM; sleep 1000; :"))
    measure("sleep", spawned("sleep", "1000"))
    if dumb_init := shutil.which("dumb-init"):
        measure("dumb-init (and sleep)", spawned(dumb_init, "sleep", "1000"))
    measure("fork of a zygote", forked)


if __name__ == "__main__":
    main()
