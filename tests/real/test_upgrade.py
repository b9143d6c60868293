"""`upgrade`: the agents of nodes start anew with other code; nothing else notices."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.real.cluster import PYTHON, Cluster, eventually
from tests.real.keeping import TOP

#: Writes numbered lines until the file $1 is there.
WRITER = 'i=0; until [ -e "$1" ]; do echo line $i; i=$((i+1)); sleep 0.005; done; exit 4'
ENV = shutil.which("env") or ""


def copied_code(tmp_path: Path) -> Path:
    """A copy of the code, for nodes to run."""
    code = tmp_path / "code"
    for package in ("godwit", "clientd", "masterd"):
        shutil.copytree(TOP / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    return code


def test_an_upgraded_node_runs_the_new_code_and_tasks_and_follows_go_on(tmp_path: Path) -> None:
    code, gate = copied_code(tmp_path), tmp_path / "gate"
    python = (ENV, f"PYTHONPATH={code}", sys.executable, "-P", "-m")
    with Cluster(tmp_path, nodes=["node1", "node2"], python=python) as one:
        keeper = one.nodes["node1"].pid
        task = one.launch("node1", "sh", "-c", WRITER, "writer", str(gate))
        into = tmp_path / "followed"
        with into.open("wb") as output, subprocess.Popen(
            [*PYTHON, "masterd.cli", "--state", one.state, "logs", "-f", task["task"]],
            stdout=output, stderr=output, env=one.environment(),
        ) as follow:
            eventually(lambda: into.stat().st_size > 100, "its first lines")
            agent = one.agent("node1")
            version = code / "godwit" / "__init__.py"
            version.write_text(version.read_text().replace('"0.', '"9.9.0.'))
            done = one.godwit("upgrade", "node1")
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
            assert "node1: the agent has started anew: godwit 9.9.0." in done.stderr

            assert one.agent("node1") != agent and not one.nodes["node1"].ended
            assert one.nodes["node1"].pid == keeper
            assert one.shown(task["task"])["pid"] == task["pid"]
            before = into.stat().st_size
            eventually(lambda: into.stat().st_size > before + 100, "more lines")
            gate.touch()
            assert follow.wait(60) == 0
        lines = into.read_text().splitlines()
        assert lines == [f"line {number}" for number in range(len(lines))]
        assert into.read_bytes() == Path(task["log"]).read_bytes()
        assert one.godwit("wait", task["task"]).returncode == 4

        # A node that is down is named; the others are done.
        one.nodes["node2"].end()
        eventually(lambda: one.states()["node2"] != "up", "its absence")
        done = one.godwit("upgrade", "--json", "all")
        assert done.returncode == 1 and '"code": "unreachable"' in done.stdout
        assert '"nodes": [{"name": "node1", "release": "godwit 9.9.0.' in done.stdout
        one.restart_node("node2")
