"""why, asked of real nodes: what is in a task's way is told before anything is frozen."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.cluster import eventually, policy
from tests.real.moving import Moving

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can move tasks as they are")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Moving]:
    with Moving(tmp_path) as cluster:
        yield cluster


def why(cluster: Moving, task: str, *node: str) -> dict[str, Any]:
    """The one verdict there is; the status says the same."""
    done = cluster.godwit("why", "--json", task, *node)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["task"] == task
    (verdict,) = found["nodes"]
    assert done.returncode == (verdict["verdict"] == "no"), done.stderr
    return dict(verdict)


def codes(verdict: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in verdict["reasons"]]


def test_a_python_task_can_go_and_its_estimate_is_what_moves_took(pair: Moving) -> None:
    task = pair.counting()
    assert why(pair, task) == {
        "node": "node2", "verdict": "yes", "kind": "python", "reasons": [], "blackout_ms": None,
    }
    taken = pair.move(task, "node2")["blackout_ms"]
    back = why(pair, task, "home")
    assert (back["node"], back["verdict"]) == ("node1", "yes")
    assert back["blackout_ms"] == max(1, round(taken))
    assert pair.godwit("why", task, "node2").returncode == 1  # it is there
    pair.goes_on("node2", task)


HOLDING = """
import os, socket, subprocess, sys, threading, time
from godwit import Migratable

class Holding(Migratable):
    def __init__(self, what, path=""):
        self.n = 0
        if what == "socket":
            with socket.create_server(("127.0.0.1", 0)) as server:
                self.held = socket.create_connection(server.getsockname()), server.accept()[0]
        elif what == "child":
            self.held = subprocess.Popen(["sleep", "600"])
        elif what == "thread":
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        elif what == "file":
            self.held = open(path)

    def step(self):
        print(self.n)
        self.n += 1
        time.sleep(0.002)
        return True
"""


@pytest.mark.parametrize(("what", "code", "word"), [
    ("nothing", "", "yes"), ("socket", "tcp", "if"), ("child", "has-children", "no"),
    ("thread", "has-threads", "if"), ("file", "deleted", "if"),
])
def test_what_a_python_task_holds_is_told_and_it_runs_on(
    pair: Moving, tmp_path: Path, what: str, code: str, word: str
) -> None:
    program, held = tmp_path / "holding.py", tmp_path / "held"
    program.write_text(HOLDING)
    held.write_text("held")
    task = pair.run("node1", f"{program}:Holding", what, str(held))
    eventually(lambda: len(pair.numbers("node1", task)) > 3, "it counts")
    held.unlink()
    verdict = why(pair, task)
    assert verdict["verdict"] == word, verdict
    assert codes(verdict) == ([code] if code else [])
    pair.goes_on("node1", task)
    assert pair.godwit("sKill", task).returncode == 0


CONNECTED = """
import socket, time
with socket.create_server(("127.0.0.1", 0)) as server:
    both = socket.create_connection(server.getsockname()), server.accept()[0]
print("ready", flush=True)
time.sleep(600)
"""


@needs_root
def test_a_task_as_it_is_has_every_reason_told_at_once(pair: Moving) -> None:
    """Whether a CRIU is found here is this machine's affair; what the task is, is not."""
    words = (sys.executable, "-I", "-S", "-c", CONNECTED)
    for options, wanted in (((), {"tcp"}), (("--plain",), {"tcp", "plain"})):
        task = str(pair.launch(*options, "node1", *words)["task"])
        eventually(lambda task=task: "ready" in pair.log_of("node1", task).read_text(), "ready")
        verdict = why(pair, task, "node2")
        assert (verdict["verdict"], verdict["kind"], verdict["blackout_ms"]) == ("no", "criu", None)
        assert set(codes(verdict)) - {"kind", "criu", "apart"} == wanted
        assert all(reason["text"] for reason in verdict["reasons"])
        refused = pair.godwit("move", task, "node2")
        assert refused.returncode == 1
        assert verdict["reasons"][0]["text"] in refused.stderr
        assert pair.godwit("sKill", task).returncode == 0


def test_a_policy_that_forbids_a_task_is_told_before_and_refuses_the_move(
    tmp_path: Path,
) -> None:
    with Moving(tmp_path, nodes=("node1",)) as cluster:
        cluster.start_node("node2", "--config", policy(tmp_path, "max_tasks = 1\n"))
        (tmp_path / "strict").mkdir()
        templates = "[commands]\nmode = 'templates'\ntemplates = [['/bin/true']]\n"
        cluster.start_node("node3", "--config", policy(tmp_path / "strict", templates))
        cluster.wait_up("node1", "node2", "node3")
        task = cluster.counting()
        assert cluster.godwit("run", "node2", "CountProcess", "999999", "0.1").returncode == 0
        for node, code in (("node2", "max-tasks"), ("node3", "python")):
            verdict = why(cluster, task, node)
            assert verdict["verdict"] == "no"
            assert codes(verdict)[0] == code
            refused = cluster.godwit("move", task, node)
            assert refused.returncode == 1
            assert verdict["reasons"][0]["text"] in refused.stderr
        cluster.goes_on("node1", task)


def test_many_ask_at_once_and_all_are_answered(pair: Moving) -> None:
    task = pair.counting()
    asking = [pair.begin("why", "--json", task) for _ in range(6)]
    for each in asking:
        out, err = each.communicate(timeout=60)
        assert json.loads(out)["nodes"][0]["verdict"] == "yes", err


def test_a_new_agent_knows_what_was_found_out_before_it_came(pair: Moving) -> None:
    def known() -> dict[str, Any]:
        (node,) = (each for each in pair.json("list", "--json")["nodes"] if each["name"] == "node1")
        return {"can": node["can"], "lacks": node["lacks"]}

    def told() -> bool:
        return "criu" in known()["lacks"] or any(w.startswith("criu=") for w in known()["can"])

    eventually(told, "criu was looked for")
    before, agent = known(), pair.agent("node1")
    os.kill(agent, signal.SIGKILL)
    eventually(lambda: pair.agent("node1") != agent, "another agent")
    pair.wait_answered("node1")
    pair.counting()
    assert known() == before
