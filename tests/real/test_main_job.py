"""Point 7 of the first issue: something real, done by two nodes, from the start to the bill.

The Python standard library's sources are the input: each top-level folder is a task, which
prints a checksum of every file in it and the number of words.
"""

import collections
import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.cluster import PYTHON, Cluster, eventually

LIBRARY = Path(sysconfig.get_path("stdlib"))
#: Counts and checks one share of the files: those whose place modulo the shares is its index.
PROGRAM = """
import hashlib, os, pathlib, sys
library, shares = pathlib.Path(sys.argv[1]), int(sys.argv[2])
share = int(os.environ["GODWIT_INDEX"]) + int(sys.argv[3])
files = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts)
words = 0
for path in files[share::shares]:
    text = path.read_bytes()
    words += len(text.split())
    print(hashlib.sha256(text).hexdigest(), path.relative_to(library), flush=True)
print("words", words, flush=True)
"""
SHARES = 4


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("two")) as cluster:
        yield cluster


def expected() -> tuple[set[str], int]:
    """Every line of checksums, and all words: what one process finds."""
    files = [path for path in LIBRARY.rglob("*.py") if "site-packages" not in path.parts]
    texts = [(path, path.read_bytes()) for path in files]
    lines = {f"{hashlib.sha256(t).hexdigest()} {p.relative_to(LIBRARY)}" for p, t in texts}
    return lines, sum(len(text.split()) for _, text in texts)


def job(node: str, first: int) -> tuple[str, ...]:
    """Half of the shares on one node; run by the same Python, whose library is the input."""
    return (
        "execute", "--json", "--count", str(SHARES // 2), "--name", "sums", node,
        sys.executable, "-c", PROGRAM, str(LIBRARY), str(SHARES), str(first),
    )


def test_the_library_is_checked_by_tasks_on_two_nodes(two: Cluster) -> None:
    tasks: list[dict[str, Any]] = []
    for node, first in (("node1", 0), ("node2", SHARES // 2)):
        tasks += two.json(*job(node, first))["tasks"]
    ids = [task["task"] for task in tasks]
    assert len(set(ids)) == SHARES
    assert collections.Counter(task["node"] for task in tasks) == {"node1": 2, "node2": 2}

    followed = two.godwit("logs", "-f", *ids)
    assert followed.returncode == 0, followed.stderr
    # Each line stands after the id of its task.
    lines = [line.split(" | ", 1) for line in followed.stdout.splitlines()]
    assert {who for who, _ in lines} == set(ids)
    texts = [text for _, text in lines]
    sums, words = expected()
    assert {text for text in texts if not text.startswith("words ")} == sums
    assert sum(int(t.removeprefix("words ")) for t in texts if t.startswith("words ")) == words
    assert len(texts) == len(sums) + SHARES

    assert two.godwit("wait", *ids).returncode == 0
    bill = two.json("getrusage", "--json")
    used = {each["task"]: each for each in bill["tasks"]}
    for task in ids:
        assert used[task]["utime_s"] + used[task]["stime_s"] > 0.01
        assert used[task]["maxrss_bytes"] > 4_000_000
    for node in bill["nodes"]:
        mine = [used[t["task"]] for t in tasks if t["node"] == node["name"]]
        # RUSAGE_CHILDREN of the keeper holds at least what its tasks used.
        assert node["children"]["utime_s"] >= sum(each["utime_s"] for each in mine) - 0.01


def test_output_is_seen_while_the_task_runs_and_a_follow_ends_with_it(
    two: Cluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"echo first; until [ -e {gate} ]; do sleep 0.02; done; echo last"
    task = two.launch("node2", "sh", "-c", script)
    follow = subprocess.Popen(
        [*PYTHON, "masterd.cli", "--state", two.state, "logs", "-f", task["task"]],
        stdout=subprocess.PIPE, env=two.environment(), text=True,
    )
    assert follow.stdout
    with follow.stdout:
        assert follow.stdout.readline() == "first\n"
        assert two.shown(task["task"])["status"] == "running"
        gate.touch()
        assert follow.stdout.read() == "last\n"
    assert follow.wait(30) == 0


def test_a_killed_task_says_so_and_its_neighbours_go_on(two: Cluster) -> None:
    neighbour = two.launch("node1", "sleep", "300")["task"]
    started = two.launch(
        "node1", sys.executable, "-c", "print('up', flush=True)\nwhile True: pass"
    )
    victim = started["task"]
    # A Python that is interrupted while it starts ends with a status of its own making.
    eventually(lambda: Path(started["log"]).read_text() == "up\n", "it has started")
    live = two.json("getrusage", "--json", victim)["tasks"][0]
    assert live["task"] == victim and live["status"] == "running"
    done = two.godwit("kill", victim)
    assert done.returncode == 0 and victim in done.stdout
    assert two.godwit("wait", victim).returncode == 128 + signal.SIGINT
    shown = two.shown(victim)
    assert (shown["status"], shown["exit_code"], shown["signal"]) == ("exited", None, "SIGINT")
    assert two.shown(neighbour)["status"] == "running"
    assert two.godwit("sKill", neighbour).returncode == 0
    ended = two.json("getrusage", "--json", victim)["tasks"][0]
    assert ended["utime_s"] >= live["utime_s"]


def test_the_usage_of_a_running_task_grows(two: Cluster) -> None:
    task = two.launch("node1", sys.executable, "-c", "while True: pass")["task"]

    def used() -> float:
        (usage,) = two.json("getrusage", "--json", task)["tasks"]
        return float(usage["utime_s"])

    first = used()
    eventually(lambda: used() > first, "more time used")
    assert two.godwit("sKill", task).returncode == 0


def test_a_peak_of_memory_is_the_tasks_own(two: Cluster) -> None:
    hog = "x = bytearray(80_000_000)"
    task = two.launch("node1", sys.executable, "-c", hog)["task"]
    assert two.godwit("wait", task).returncode == 0
    (used,) = two.json("getrusage", "--json", task)["tasks"]
    assert 80_000_000 < used["maxrss_bytes"] < 160_000_000


def test_slow_readers_hold_up_nobody_else(two: Cluster) -> None:
    """Ten megabytes that nobody reads: the task ends, and other commands are answered."""
    size = 10_000_000
    task = two.launch("node1", "sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x")["task"]
    follow = subprocess.Popen(
        [*PYTHON, "masterd.cli", "--state", two.state, "logs", "-f", task],
        stdout=subprocess.PIPE, env=two.environment(),
    )
    assert follow.stdout
    with follow.stdout:
        assert follow.stdout.read(1) == b"x"
        assert two.godwit("wait", task).returncode == 0
        assert two.states() == {"node1": "up", "node2": "up"}
        assert len(follow.stdout.read()) == size - 1
    assert follow.wait(30) == 0
    assert os.path.getsize(two.shown(task)["log"]) == size


def test_commands_of_many_operators_are_each_answered(two: Cluster) -> None:
    said: list[str] = []

    def ask(number: int) -> None:
        done = two.godwit("on", "all", f"echo operator {number}")
        said.extend(line for line in done.stdout.splitlines() if f"operator {number}" in line)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 16, said
