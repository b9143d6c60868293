"""The session in the README and the examples, run for real."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.real.cluster import DEADLINE_S, PYTHON, Cluster, hang_up

TOP = Path(__file__).parent.parent.parent
EXAMPLES = TOP / "examples"
PROMPT = re.compile(r"godwit @ \d+ > ")
#: A task's id in a table's row, in a line about it, or in front of its output.
TASK = re.compile(r"\b([a-z][a-z0-9]{7})(?= on node\d|: node\d| +(?:node\d|\||seq|sleep) )")
#: A line that a counting task wrote.
COUNTED = re.compile(r"(?m)^\d+$")

#: What differs from run to run, and what stands for it.
DIFFERS = (
    # Notices come when they come; `weaker on` is about this machine.
    (r"(?m)^(-- |weaker on ).*\n?", ""),
    (r"\b\d+% of \d+", "LOAD"),
    (r"[\d.]+[KMGT]?/[\d.]+[KMGT]", "MEM"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"shell(,[\w.=]+)*", "CAN"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN"),
    (r"<?\b[\d.]+ m?s\b", "TIME"),
    (r"\b[\d.]+[BKM](?=\)| )|\b\d+ bytes", "SIZE"),
    (r"\bm[0-9a-f]{8}\b", "MOVE"),
    (r"\bpid \d+", "pid PID"),
    (r"(?m)^ *\d+(?=  (running|exited))", "PID"),
    (r"(node\d)  +\d+(?=  )", r"\1 PID"),
    (TASK.pattern, "TASK"),
    (COUNTED.pattern, "NUMBER"),
    (r" +", " "),
)


def transcript(name: str) -> list[tuple[str, str]]:
    """Each line that is typed in a session of the README's, and what it shows."""
    text = (TOP / "README.md").read_text()
    block = text.partition(f"<!-- {name} -->\n```text\n$ bin/demo\n")[2].partition("```\n")[0]
    _, *parts = PROMPT.split(block)
    pairs = [part.partition("\n")[::2] for part in parts]
    return [(typed, shown) for typed, shown in pairs]


def normal(text: str) -> list[str]:
    """Lines without what differs; nodes answer in any order."""
    for pattern, stand_in in DIFFERS:
        text = re.sub(pattern, stand_in, text)
    return sorted(line.rstrip() for line in text.splitlines() if line.strip())


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["pexpect.spawn[str]"]:
    """bin/demo at a wide terminal."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "TERM": "xterm"}
    child = pexpect.spawn(
        sys.executable, [*PYTHON[1:], "masterd.demo"], env=environment, cwd=str(TOP),
        encoding="utf-8", timeout=DEADLINE_S, dimensions=(40, 200),
    )
    child.delaybeforesend = None
    yield child
    hang_up(child)


def typed_at(demo: "pexpect.spawn[str]", line: str) -> str:
    """What the line shows."""
    demo.sendline(line)
    demo.expect(pexpect.EOF if line.startswith("exit") else PROMPT)
    assert demo.before is not None
    return below_the_typed(str(demo.before))


def below_the_typed(text: str) -> str:
    """What stands below the typed line: a notice above that has had it drawn again.

    No colours, and of each line what was drawn last: the bar of a move or a copy was before it.
    """
    lines = re.sub(r"\x1b\[[0-9;]*[mJK]", "", text).split("\n")
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    drawn = [place for place, line in enumerate(lines) if PROMPT.match(line)]
    return "\n".join(lines[max(drawn, default=0) + 1:])


def as_told(demo: "pexpect.spawn[str]", line: str, said: str) -> str:
    """What the line shows; ``logs``, once as much has been written as is said."""
    shown = typed_at(demo, line)
    deadline = time.monotonic() + DEADLINE_S
    while line.startswith("logs ") and normal(shown) != normal(said):
        assert time.monotonic() < deadline, shown
        shown = typed_at(demo, line)
    return shown


def repeat(demo: "pexpect.spawn[str]", session: list[tuple[str, str]]) -> None:
    """Types all of it."""
    #: The README's id of a task -> the one it has here.
    ids: dict[str, str] = {}
    for typed, said in session:
        shown = as_told(demo, " ".join(ids.get(word, word) for word in typed.split(" ")), said)
        ids = dict(zip(TASK.findall(said), TASK.findall(shown), strict=False)) | ids
        assert normal(shown) == normal(said), typed
        counted = [int(line) for line in shown.split() if line.isdecimal()]
        if typed.startswith("logs "):
            assert counted == list(range(counted[0], counted[0] + len(counted)))
    demo.wait()
    assert demo.exitstatus == 0


def test_the_session_in_the_readme_goes_as_it_says(demo: "pexpect.spawn[str]") -> None:
    session = transcript("transcript")
    assert session and session[-1][0] == "exit"
    demo.expect(PROMPT)
    repeat(demo, session)


def can_criu(demo: "pexpect.spawn[str]") -> bool:
    """Both nodes can move any program, as they say once they have looked for what it takes."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        shown = typed_at(demo, "list --json")
        nodes = json.loads(shown[shown.index("{"):shown.rindex("}") + 1])["nodes"]
        found = [any(word.startswith("criu=") for word in node["can"]) for node in nodes]
        if all(had or "criu" in node["lacks"] for had, node in zip(found, nodes, strict=True)):
            return all(found) and all({"apart", "contain"} <= {*node["can"]} for node in nodes)
    raise AssertionError("nodes go on looking for CRIU")


@pytest.mark.root
def test_the_move_by_criu_in_the_readme_goes_as_it_says(demo: "pexpect.spawn[str]") -> None:
    session = transcript("transcript with criu")
    assert session and session[-1][0] == "exit --yes"
    demo.expect(PROMPT)
    if not can_criu(demo):
        typed_at(demo, "exit")
        pytest.skip("these nodes cannot move any program: no CRIU that works, or no cgroups")
    repeat(demo, session)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("examples")) as running:
        yield running


def run(cluster: Cluster, *words: str) -> "subprocess.CompletedProcess[str]":
    """An example, on the cluster's master."""
    godwit = f"{sys.executable} -P -m masterd.cli"
    return subprocess.run(
        words, env=cluster.environment(GODWIT=godwit, GODWIT_STATE=cluster.state), cwd=TOP,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
    )


def test_words_are_counted_in_parallel_and_none_twice(cluster: Cluster, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"m{number}.py").write_text("word " * number)
    done = run(cluster, str(EXAMPLES / "wordcount.sh"), "all", str(tmp_path), "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{sum(range(20))} words, counted by 6 tasks\n"
    assert done.stderr.count("exited 0") == 6


def test_the_standard_library_is_counted_like_wc_does(cluster: Cluster) -> None:
    done = run(cluster, str(EXAMPLES / "wordcount.sh"))
    assert done.returncode == 0, done.stderr
    words, tasks = re.findall(r"\d+", done.stdout)
    assert int(words) > 100_000 and tasks == "8"


def test_a_killed_task_has_the_status_of_its_signal(cluster: Cluster) -> None:
    done = run(cluster, str(EXAMPLES / "killed.sh"))
    assert done.returncode == 0, done.stderr
    assert "exit status 143\n" in done.stdout and "SIGTERM" in done.stdout


def test_a_file_of_commands_is_a_batch(cluster: Cluster) -> None:
    done = cluster.godwit("shell", input=(EXAMPLES / "batch.txt").read_text())
    assert done.returncode == 0, done.stderr
    for text in ("only on node1", "node1 is done", "node2 is done", "removed node2:hosts"):
        assert text in done.stdout
    assert done.stdout.count("only on") == 1


@pytest.mark.parametrize(("program", "words", "last"), [
    ("countdown.py:Countdown", ["2"], "0"), ("primes.py:Primes", ["30"], "29"),
    ("words.py:Words", ["book", "words"], "3 words"),
])
def test_an_example_of_a_task_runs(
    cluster: Cluster, program: str, words: list[str], last: str
) -> None:
    (cluster.top / "node1" / "files" / "book").write_text("to be or to\n")
    done = cluster.godwit("run", "-f", "--wait", "node1", str(EXAMPLES / program), *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == last
