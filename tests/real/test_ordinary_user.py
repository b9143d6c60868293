"""Everything as an ordinary user, without root and without cgroups; what is weaker is said."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import PYTHON, Cluster, eventually, policy

CHECKOUT = Path(__file__).parents[2]
NOBODY = 65534
#: For root: words that make nobody of who runs what follows.
DEMOTED = (
    shutil.which("setpriv") or "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
    "--clear-groups", "--inh-caps=-all",
)
#: Says whether a Python can do it all: import, and start itself again.
PROBE = "import subprocess, sys, clientd.agent; subprocess.run([sys.executable, '-c', ''])"


@pytest.fixture(scope="module")
def python() -> tuple[str, ...]:
    """How to run a module; nobody does for root.  Root's own Python may be closed to others."""
    if os.geteuid() != 0:
        return PYTHON
    if shutil.which("setpriv") is None:
        pytest.skip("root needs setpriv(1) to become somebody else")
    path = f"PYTHONPATH={CHECKOUT}:{sysconfig.get_path('purelib')}"
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    for words in (
        (*DEMOTED, sys.executable), ("/usr/bin/env", path, *DEMOTED, system),
    ):
        if subprocess.run([*words, "-P", "-c", PROBE], capture_output=True).returncode == 0:
            return (*words, "-P", "-m")
    pytest.skip("neither this Python nor the system's is for nobody to run")


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder of that user's own."""
    with tempfile.TemporaryDirectory(prefix="godwit-test-") as folder:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


@pytest.fixture
def two(top: Path, python: tuple[str, ...]) -> Iterator[Cluster]:
    # What clientd itself forbids is seen nowhere here: all paths are open.
    options = ["--config", policy(top, '[files]\nroots = ["/"]\n')]
    with Cluster(top, python=python, options=options) as cluster:
        yield cluster


def test_what_is_weaker_is_said_at_the_start_and_in_list(two: Cluster) -> None:
    told = two.nodes["node1"].text()
    assert "weaker here: no users: clientd does not run as root" in told
    assert "weaker on node1, node2: no users" in two.godwit("list").stdout
    node = two.json("list", "--json")["nodes"][0]
    assert "shell" in node["can"] and "users" not in node["can"] and node["lacks"]["users"]
    # Without a control group of its own, no program is kept together whatever it does.
    if "contain" not in node["can"]:
        assert "weaker here: no contain" in told and "no contain" in two.godwit("list").stdout


def test_a_day_of_an_ordinary_user(two: Cluster, top: Path) -> None:
    done = two.godwit("execute", "--wait", "-f", "all", "id", "-u")
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    assert [line.split(" | ")[1] for line in done.stdout.splitlines()] == [str(user)] * 2
    assert two.godwit("execute", "--wait", "node1", "sh", "-c", "exit 7").returncode == 7
    refused = two.godwit("execute", "--user", "root", "node1", "true")
    assert refused.returncode == 1 and "root" in refused.stderr
    task = two.launch("node1", "sleep", "300")["task"]
    for command, status in (("pause", "paused"), ("resume", "running")):
        assert two.godwit(command, task).returncode == 0
        assert two.shown(task)["status"] == status
    assert two.json("getrusage", "--json", task)["tasks"][0]["maxrss_bytes"] > 100_000
    assert two.godwit("kill", task).returncode == 0
    assert two.godwit("wait", task).returncode == 128 + signal.SIGINT
    (top / "here").write_text("contents")
    assert two.godwit("copy", str(top / "here"), "node1:there").returncode == 0
    assert two.godwit("copy", "node1:there", "node2:over").returncode == 0
    assert (top / "node2" / "files" / "over").read_text() == "contents"


def test_what_the_user_may_not_do_is_one_line(two: Cluster) -> None:
    for words in (
        ("copy", "node1:/etc/shadow", "x"), ("copy", "/etc/hostname", "node1:/etc/x"),
        ("remove", "node1:/etc/hostname"), ("execute", "--cwd", "/root", "node1", "true"),
    ):
        done = two.godwit(*words)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert "ermi" in done.stderr or "not allowed" in done.stderr, done.stderr


def test_killed_daemons_find_their_tasks_again(two: Cluster, top: Path) -> None:
    gate = top / "gate"
    script = f"until [ -e {gate} ]; do sleep 0.02; done; echo last; exit 4"
    task = two.launch("node1", "sh", "-c", script)
    two.kill_node("node1")
    two.kill_master()
    two.restart_master()
    two.restart_node("node1")
    eventually(lambda: two.shown(task["task"])["status"] == "running", "found again")
    assert two.shown(task["task"])["pid"] == task["pid"]
    gate.touch()
    # The kernel may have told the status to the process that inherited the task.
    assert two.godwit("wait", task["task"]).returncode in (4, 125)
    assert two.godwit("logs", task["task"]).stdout == "last\n"


def test_what_forks_twice_and_leaves_its_session_ends_with_skill(two: Cluster, top: Path) -> None:
    pid_file = top / "escaped"
    script = f"(setsid sh -c 'echo $$ > {pid_file}; exec sleep 300' &) ; sleep 300"
    task = two.launch("node1", "sh", "-c", script)["task"]
    eventually(lambda: pid_file.exists() and bool(pid_file.read_text().strip()), "the escape")
    escaped = Path("/proc", pid_file.read_text().strip())
    assert escaped.exists()
    assert two.godwit("sKill", task).returncode == 0
    eventually(lambda: not escaped.exists(), "end of what escaped")


def test_a_taken_port_is_refused(two: Cluster, python: tuple[str, ...]) -> None:
    other = subprocess.run(
        [*python, "masterd", "--headless", "--listen", two.address,
         "--state", str(two.top / "other")],
        env=two.environment(), capture_output=True, text=True, timeout=60,
    )
    assert other.returncode == 1 and two.address in other.stderr
    assert other.stderr.count("\n") == 1
