"""The session in the README and the examples, run for real."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.real.cluster import DEADLINE_S, PYTHON, Cluster

TOP = Path(__file__).parent.parent.parent
EXAMPLES = TOP / "examples"
PROMPT = re.compile(r"godwit @ \d+ > ")
#: A task's id in a table's row, in a line about it, or in front of its output.
TASK = re.compile(r"\b([a-z][a-z0-9]{7})(?= on node\d| +(?:node\d|\||seq|sleep) )")

#: What differs from run to run, and what stands for it.
DIFFERS = (
    (r"\x1b\[[0-9;]*[mK]|\r", ""),
    # The bar of a copy, drawn and wiped on the line of the result.
    (r"(?m)^.*?\?B/s\] *(?=\S)", ""),
    # Notices come when they come; `weaker on` is about this machine.
    (r"(?m)^(-- |weaker on ).*\n?", ""),
    (r"\b\d+% of \d+", "LOAD"),
    (r"[\d.]+[KMGT]?/[\d.]+[KMGT]", "MEM"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"shell(,[\w.=]+)*", "CAN"),
    (r"\b\d+\.\d+s", "SECONDS"),
    (r"<?\b[\d.]+[KM]\b", "PEAK"),
    (r"\b\d+ bytes", "SIZE"),
    (r"\bpid \d+", "pid PID"),
    (r"(?m)^ *\d+(?=  (running|exited))", "PID"),
    (r"(node\d)  +\d+(?=  )", r"\1 PID"),
    (TASK.pattern, "TASK"),
    (r" +", " "),
)


def transcript() -> list[tuple[str, str]]:
    """Each line that is typed in the README's session, and what it shows."""
    text = (TOP / "README.md").read_text()
    block = text.partition("<!-- transcript -->\n```text\n$ bin/demo\n")[2].partition("```\n")[0]
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
    child.close(force=True)


def test_the_session_in_the_readme_goes_as_it_says(demo: "pexpect.spawn[str]") -> None:
    session = transcript()
    assert session and session[-1][0] == "exit"
    #: The README's id of a task -> the one it has here.
    ids: dict[str, str] = {}
    demo.expect(PROMPT)
    for typed, said in session:
        demo.sendline(" ".join(ids.get(word, word) for word in typed.split(" ")))
        demo.expect(pexpect.EOF if typed == "exit" else PROMPT)
        assert demo.before is not None
        shown = demo.before.partition("\n")[2]
        ids = dict(zip(TASK.findall(said), TASK.findall(shown), strict=False)) | ids
        assert normal(shown) == normal(said), typed
    demo.wait()
    assert demo.exitstatus == 0


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
