"""What a python task's birth, freeze and load cost, without any network.

    .venv/bin/python -P benchmarks/runner.py [--births N] [--moves N] [--mib MIB]

Births: CPU of zygote and keeper for each, from a warm zygote.  Moves: a task with 1 MiB of bytes
is frozen and loaded by a warm runner.  Large: the same once with MIB MiB, beside a plain copy of
as many bytes to a file.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from clientd.keeper import birth
from godwit.task import control
from tests.real.running import Running, Source

SOURCE = """
import os
from godwit import Migratable

class Holder(Migratable):
    def __init__(self, size):
        self.data = os.urandom(int(size))
        self.n = 0
    def step(self):
        print(self.n)
        self.n += 1
        self.sleep(0.001)
        return True
"""
HZ = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process and of its children that it waited for."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(int(fields[at]) for at in range(11, 15)) / HZ


def births(running: Running, count: int) -> None:
    (zygote,) = running.others
    before, own, begun = cpu_s(zygote), time.process_time(), time.monotonic()
    all_of_them = [running.born("Holder") for _ in range(count)]
    took = time.monotonic() - begun
    print(
        f"births: {(cpu_s(zygote) - before) / count * 1000:.2f} ms of CPU each in the zygote, "
        f"{(time.process_time() - own) / count * 1000:.2f} in the keeper, "
        f"{took / count * 1000:.2f} ms from asked to born"
    )
    for runner in all_of_them:
        running.forget(runner)


def moves(running: Running, count: int, size: int) -> None:
    image = running.image()
    names = ("freeze", "still", "sync", "load", "step")
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(count):
        source = running.born("Holder")
        running.give(source, "holder.py:Holder", str(size), source=SOURCE)
        source.word(control.Begun)
        source.lines(3)
        target = running.born("Holder")
        prepare(target)
        move = f"m{number}"
        asked = time.monotonic()
        written = source.hears(control.Freeze(move), image).word(control.Written)
        figures["freeze"].append((written.at - asked) * 1000 + written.ms)
        figures["still"].append(written.ms)
        figures["sync"].append(source.word(control.Synced).ms)
        load = control.Load(move, "holder.py:Holder", DIGEST, written.size)
        figures["load"].append(target.hears(load, image).word(control.Loaded).ms)
        thawed = target.hears(control.Thaw(move)).word(control.Thawed)
        figures["step"].append((target.word(control.Stepped).at - thawed.at) * 1000)
        running.forget(source)
        running.forget(target)
    print(f"{size / (1 << 20):g} MiB of state, {count} times, ms (median, worst): " + "; ".join(
        f"{name} {statistics.median(all_of_them):.2f}, {max(all_of_them):.2f}"
        for name, all_of_them in figures.items()
    ))
    os.close(image)


def prepare(runner: object) -> None:
    with Source(SOURCE) as fds:
        runner.hears(control.Prepare("holder.py:Holder", DIGEST), *fds)  # type: ignore[attr-defined]
    runner.word(control.Prepared)  # type: ignore[attr-defined]


def plain_copy(running: Running, size: int) -> None:
    """write(2) of as many bytes into a new file."""
    data = os.urandom(size)
    image = running.image()
    begun = time.monotonic()
    view = memoryview(data)
    while view:
        view = view[os.write(image, view):]
    print(f"write(2) of {size >> 20} MiB: {(time.monotonic() - begun) * 1000:.1f} ms")
    os.close(image)


if __name__ == "__main__":
    import hashlib

    DIGEST = hashlib.sha256(SOURCE.encode()).hexdigest()
    parser = argparse.ArgumentParser()
    parser.add_argument("--births", type=int, default=100)
    parser.add_argument("--moves", type=int, default=30)
    parser.add_argument("--mib", type=int, default=256)
    asked = parser.parse_args()
    birth.become_subreaper()
    with tempfile.TemporaryDirectory() as top, Running(Path(top)) as running:
        births(running, asked.births)
        moves(running, asked.moves, 1 << 20)
        plain_copy(running, asked.mib << 20)
        moves(running, 2, asked.mib << 20)
        plain_copy(running, asked.mib << 20)
