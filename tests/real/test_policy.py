"""A node's policy file: the keeper keeps to it, whoever asks, and the operator reads why."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import orders
from tests.real.cluster import PYTHON, Cluster, policy
from tests.real.keeping import Keeping

ECHO, SLEEP = shutil.which("echo") or "/bin/echo", shutil.which("sleep") or "/bin/sleep"
ME = pwd.getpwuid(os.geteuid()).pw_name

TEXT = f"""
users = ["{ME}"]
max_tasks = 2

[commands]
mode = "templates"
templates = [
  ["{ECHO}", "frame", "{{int:frame}}", "{{one:draft|final}}"],
  ["{SLEEP}", "{{int:seconds}}"],
]
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node with a policy, and one without."""
    top = tmp_path_factory.mktemp("one")
    with Cluster(top, nodes=["free"]) as cluster:
        cluster.start_node("bound", "--config", policy(top, TEXT))
        cluster.wait_up("bound")
        yield cluster


def test_list_says_that_a_node_has_a_policy_and_what_it_takes_away(one: Cluster) -> None:
    nodes = {node["name"]: node for node in one.json("list", "--json")["nodes"]}
    assert "policy" in nodes["bound"]["can"] and "shell" not in nodes["bound"]["can"]
    assert nodes["bound"]["lacks"].keys() >= {"shell", "other-users", "more-tasks"}
    assert "policy" not in nodes["free"]["can"] and "shell" in nodes["free"]["can"]
    told = one.godwit("list").stdout
    assert "weaker on bound: no shell (its policy lets 2 templates run)" in told


def test_what_fits_a_template_runs_and_the_rest_is_one_line(one: Cluster) -> None:
    done = one.godwit("execute", "--wait", "-f", "bound", ECHO, "frame", "7", "draft")
    assert done.returncode == 0 and "frame 7 draft" in done.stdout
    for options, command in (
        ((), (ECHO, "frame", "7", "other")), ((), ("id",)), (("--shell",), ("id",)),
        (("-e", "A=b"), (SLEEP, "1")), (("--cwd", "/"), (SLEEP, "1")),
    ):
        done = one.godwit("execute", *options, "bound", *command)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert "bound: " in done.stderr and "policy of this node" in done.stderr


def test_a_line_typed_at_the_prompt_is_refused_unless_it_is_a_template(one: Cluster) -> None:
    told = one.godwit("on", "bound", f"{ECHO} frame 9 final")
    assert told.returncode == 0 and "frame 9 final" in told.stdout
    for line in ("id", f"{ECHO} frame 9 final; id", f"{ECHO} frame $HOME final"):
        told = one.godwit("on", "bound", line)
        assert told.returncode and "lines for a shell are not run here" in told.stderr, told


def test_an_agent_that_was_taken_over_cannot_go_around_the_policy(tmp_path: Path) -> None:
    with Keeping(tmp_path, "--config", policy(tmp_path, TEXT)) as keeping:
        assert keeping.refused("/bin/sh", "-c", "id").code == "policy"
        assert keeping.refused("id", shell=True).code == "policy"
        assert keeping.refused(SLEEP, "60", kind="python").code == "policy"
        assert keeping.refused(SLEEP, "60", env={b"LD_PRELOAD": b"/tmp/x.so"}).code == "policy"
        assert keeping.refused(SLEEP, "60", user="nobody").code == "policy"
        assert keeping.refused(shell=True).code == "no-program"
        # Three in one breath, and there is room for two.
        specs = tuple(keeping.spec(SLEEP, "60") for _ in range(3))
        keeping.agent.send(orders.Start(specs))
        assert keeping.agent.word(orders.Rejected).code == "max-tasks"
        keeping.agent.till(lambda: {s.task for s in specs[:2]} <= keeping.agent.tasks.keys())
        # What was refused once is refused for good: its id may not come to life later.
        for spec in specs[:2]:
            keeping.signal(spec.task, 9)
            keeping.end_of(spec.task)
        keeping.agent.send(orders.Start(specs[2:]))
        assert keeping.agent.word(orders.Rejected).task == specs[2].task
        assert keeping.end_of(keeping.start(ECHO, "frame", "1", "draft")).exit_code == 0


def test_a_policy_outlives_the_agent_and_is_found_in_the_state_folder(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "clientd.toml").write_text("max_tasks = 1\n[shared]\npaths = ['/net']\n")
    (tmp_path / "state" / "clientd.toml").chmod(0o600)
    with Keeping(tmp_path) as keeping:
        assert "policy" in keeping.facts.can and keeping.facts.shared == (b"/net",)
        keeping.start(SLEEP, "60")
        keeping.agent.leave()
        keeping.next_agent()
        assert keeping.refused("true").code == "max-tasks"


@pytest.mark.parametrize(("text", "said"), [
    ("user = ['x']", "user: there is no such key; write users"),
    ("max_tasks = 'many'", "max_tasks: write a number from 1 to"),
    ("orphans = 'kil=3'", "orphans: write keep, or kill=SECONDS"),
    ("[commands]\nmode = 'strict'", 'commands.mode: write "open" or "templates"'),
    ("users = [", "not TOML"),
])
def test_a_wrong_policy_stops_clientd_with_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = policy(tmp_path, text)
    done = subprocess.run(
        [*PYTHON, "clientd", "--name", "n1", "--master", "127.0.0.1:1", "--config", path,
         "--state", str(tmp_path / "state"), "--logs", str(tmp_path / "logs")],
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"clientd n1: {path}: ") and said in done.stderr


def test_copies_and_removals_stay_in_the_files_folder_unless_more_is_opened(
    tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("p")  # short: a reason has 300 characters at most
    source, open_to = tmp_path / "source", tmp_path / "open"
    source.write_text("contents")
    open_to.mkdir()
    with Cluster(tmp_path, nodes=["node1"]) as one:
        files = tmp_path / "node1" / "files"
        assert one.godwit("copy", str(source), "node1:a").returncode == 0
        assert one.godwit("copy", f"node1:{files}/a", str(tmp_path / "back")).returncode == 0
        for words in (
            ("copy", str(source), f"node1:{open_to}/b"), ("copy", "node1:/etc/hostname", "c"),
            ("copy", str(source), "node1:../b"), ("remove", f"node1:{source}"),
        ):
            done = one.godwit(*words)
            assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
            assert f"open to copies ({files})" in done.stderr
            assert f"files.roots in {tmp_path}/node1/clientd.toml on the node" in done.stderr
        assert source.exists() and not any(open_to.iterdir())
        one.kill_node("node1")
        one.restart_node("node1", "--config", policy(
            tmp_path, f'[files]\nroots = ["{open_to}"]\n'
        ))
        assert one.godwit("copy", str(source), f"node1:{open_to}/b").returncode == 0
        assert (open_to / "b").read_text() == "contents"
        assert one.godwit("remove", f"node1:{open_to}/b").returncode == 0
        assert not any(open_to.iterdir())
