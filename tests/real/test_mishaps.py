"""A bug of ours in the master's core ends what met it and nothing else."""

import json
import sys
from pathlib import Path

from godwit.wire import messages as wire
from tests.real import buggy
from tests.real.cluster import Cluster, eventually
from tests.real.lines import joined
from tests.real.playing import enrolled

BUGGY = (sys.executable, "-P", buggy.__file__)


def tracebacks(cluster: Cluster) -> list[str]:
    """What the master's log has of bugs."""
    text = Path(cluster.logs, "masterd.log").read_text()
    lines = text[:text.rfind("\n") + 1].splitlines()  # the last may be on its way
    return [entry["traceback"] for entry in map(json.loads, lines) if "traceback" in entry]


def test_who_meets_a_bug_is_told_so_and_the_master_goes_on(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"], python=BUGGY) as one:
        task = one.launch("node1", "sleep", "300")
        for _ in range(3):
            done = one.godwit("getrusage")
            assert done.returncode == 125, done
            assert "a bug in godwit, met by Asked: ZeroDivisionError" in done.stderr
            assert "masterd.log" in done.stderr and "Traceback" not in done.stderr
        assert one.shown(task["task"])["status"] == "running"
        (told,) = tracebacks(one)  # once, however often it is met
        assert told.count("Traceback") == 1 and "as a test wants it" in told

        address = one.json("list", "--json")["nodes"][0]["address"]
        with joined(one.address, enrolled(one, tmp_path / "web7", "web7"), "web7") as web7:
            web7.say(wire.Moved(1, 1, 1))
            web7.closed_after()
        eventually(lambda: len(tracebacks(one)) == 2, "the other bug is told of")
        assert one.json("list", "--json")["nodes"][0]["address"] == address
        assert one.godwit("execute", "--wait", "node1", "true").returncode == 0
        assert one.godwit("sKill", task["task"]).returncode == 0
