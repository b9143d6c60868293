"""The agent as another user: it can do its work, and no more than that user can."""

import contextlib
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import PYTHON, Cluster, eventually, policy
from tests.real.test_ordinary_user import CHECKOUT, PROBE

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an agent as another user"),
]
#: The agent's user, and one for tasks; neither is anybody's on a machine.
USER, OTHER = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture(scope="module")
def python() -> tuple[str, ...]:
    """A Python that the agent's user can run, too."""
    path = f"PYTHONPATH={CHECKOUT}:{sysconfig.get_path('purelib')}"
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    for words in (("/usr/bin/env", sys.executable), ("/usr/bin/env", path, system)):
        tried = subprocess.run(
            [*words, "-P", "-c", PROBE], user=USER.pw_uid, group=USER.pw_gid, extra_groups=[],
            cwd="/", capture_output=True,
        )
        if tried.returncode == 0:
            return (*words, "-P", "-m")
    pytest.skip("neither this Python nor the system's is for another user to run")


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder that others may enter."""
    with open_folder() as folder:
        yield folder


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="godwit-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def one(python: tuple[str, ...]) -> Iterator[Cluster]:
    """All paths are open, as far as clientd goes."""
    with open_folder() as top:
        config = policy(top, '[files]\nroots = ["/"]\n')
        with Cluster(top, nodes=[], python=python) as cluster:
            os.chmod(cluster.token_file(), 0o600)
            cluster.start_node("node1", "--agent-user", USER.pw_name, "--config", config)
            cluster.wait_up("node1")
            yield cluster


def test_the_agent_has_its_users_rights_and_none_of_roots(one: Cluster) -> None:
    top = one.top
    status = status_of(one.agent("node1"))
    assert status["Uid"].split() == [str(USER.pw_uid)] * 4
    assert status["Gid"].split() == [str(USER.pw_gid)] * 4
    groups = os.getgrouplist(USER.pw_name, USER.pw_gid)
    assert sorted(map(int, status["Groups"].split())) == sorted(groups)
    for word in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[word], 16) == 0, word
    assert status["NoNewPrivs"] == "1"
    environ = Path(f"/proc/{one.agent('node1')}/environ").read_bytes()
    assert f"HOME={top}".encode() not in environ.split(b"\0")
    # Its keys are its own and nobody else's; the journal and the policy are not its own.
    own = (top / "node1" / "agent" / "trust" / "own.pem").stat()
    assert own.st_uid == USER.pw_uid and stat.S_IMODE(own.st_mode) == 0o600
    assert (top / "node1" / "journal").stat().st_uid == 0
    assert stat.S_IMODE((top / "node1").stat().st_mode) == 0o711


def test_it_follows_logs_keeps_times_and_writes_lines_into_the_daemons_log(one: Cluster) -> None:
    done = one.godwit("execute", "--wait", "-f", "node1", "sh", "-c", "id -u; sleep 0.1; echo end")
    assert done.returncode == 0
    assert done.stdout == "0\nend\n"
    task = one.launch("--name", "lines", "node1", "sh", "-c", "id -u; echo end")["task"]
    assert one.godwit("wait", task).returncode == 0
    log = Path(one.shown(task)["log"]).stat()
    assert (log.st_uid, log.st_gid, stat.S_IMODE(log.st_mode)) == (0, USER.pw_gid, 0o640)
    assert one.godwit("logs", "--since", "1h", task).stdout == "0\nend\n"
    lines = [json.loads(line) for line in one.log("node1").read_text().splitlines()]
    joined = [line for line in lines if "joined the master" in line["text"]]
    assert joined[0]["from"] == "agent node1" and joined[0]["pid"] == one.agent("node1")


def test_copies_are_read_and_written_as_that_user(one: Cluster, top: Path) -> None:
    (top / "source").write_text("contents")
    assert one.godwit("copy", str(top / "source"), "node1:there").returncode == 0
    there = one.top / "node1" / "files" / "there"
    assert there.stat().st_uid == USER.pw_uid and there.read_text() == "contents"
    assert one.godwit("copy", "node1:there", "node1:again").returncode == 0
    for words in (
        ("copy", "node1:/etc/shadow", str(top / "x")), ("remove", "node1:/etc/hostname"),
        ("copy", f"node1:{one.top}/node1/journal", str(top / "x")),
        ("copy", str(top / "source"), "node1:/etc/x"),
    ):
        done = one.godwit(*words)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert "permi" in done.stderr, done.stderr
    assert one.godwit("remove", "node1:there").returncode == 0 and not there.exists()


def test_tasks_run_as_any_user_but_the_agents(one: Cluster) -> None:
    done = one.godwit("execute", "--wait", "-f", "--user", OTHER.pw_name, "node1", "id", "-un")
    assert done.returncode == 0 and OTHER.pw_name in done.stdout, done.stderr
    refused = one.godwit("execute", "--user", USER.pw_name, "node1", "true")
    assert refused.returncode == 1 and "the user of this node's agent" in refused.stderr


def test_a_killed_agent_comes_back_as_that_user_and_no_byte_is_lost(
    one: Cluster, top: Path
) -> None:
    gate = top / "gate"
    script = f"echo first; until [ -e {gate} ]; do sleep 0.02; done; echo last"
    task = one.launch("node1", "sh", "-c", script)["task"]
    killed = one.agent("node1")
    os.kill(killed, signal.SIGKILL)
    one.wait_up("node1")
    gate.touch()
    assert one.godwit("wait", task).returncode == 0
    assert one.godwit("logs", task).stdout == "first\nlast\n"
    assert one.agent("node1") != killed
    assert status_of(one.agent("node1"))["Uid"].split()[0] == str(USER.pw_uid)


def test_an_upgrade_starts_another_agent_as_that_user(one: Cluster) -> None:
    before = one.agent("node1")
    done = one.godwit("upgrade", "node1")
    assert done.returncode == 0, done.stderr
    assert one.agent("node1") != before
    assert status_of(one.agent("node1"))["Uid"].split()[0] == str(USER.pw_uid)


def test_a_node_changes_over_to_a_user_and_not_back_unseen(
    top: Path, python: tuple[str, ...]
) -> None:
    with Cluster(top, nodes=["node1"], python=python) as one:
        (top / "source").write_text("old")
        assert one.godwit("copy", str(top / "source"), "node1:old").returncode == 0
        task = one.launch("node1", "echo", "before")["task"]
        assert one.godwit("wait", task).returncode == 0
        one.kill_node("node1")
        # Its token is of no use any more: the certificate is the one it had.
        one.restart_node("node1", "--agent-user", USER.pw_name)
        assert one.godwit("logs", task).stdout == "before\n"
        (top / "source").write_text("new")
        assert one.godwit("copy", str(top / "source"), "node1:old").returncode == 0
        assert (top / "node1" / "files" / "old").read_text() == "new"
        one.kill_node("node1")
        for options, whom in (((), "root"), (("--agent-user", OTHER.pw_name), OTHER.pw_name)):
            done = started(one, top, *options)
            assert done.returncode == 1 and done.stderr.count("\n") == 1
            assert f"belongs to the user {USER.pw_name}" in done.stderr
            assert f"chown -R it to {whom}" in done.stderr
        one.restart_node("node1", "--agent-user", USER.pw_name)


def started(
    one: Cluster | None, top: Path, *options: str
) -> "subprocess.CompletedProcess[str]":
    """A clientd that does not get far."""
    words = one.python if one else PYTHON
    return subprocess.run(
        [*words, "clientd", "--name", "node1", "--master", "127.0.0.1:1",
         "--state", str(top / "node1"), "--logs", str(top / "logs"), *options],
        capture_output=True, text=True, timeout=60,
    )


@pytest.mark.parametrize(("user", "said"), [
    ("no-such-user-at-all", "there is no user 'no-such-user-at-all'"),
    ("root", "that is root"),
])
def test_a_user_that_cannot_be_the_agents_is_one_line(tmp_path: Path, user: str, said: str) -> None:
    done = started(None, tmp_path, "--agent-user", user)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_policy_that_lets_tasks_run_as_the_agents_user_is_refused(tmp_path: Path) -> None:
    config = policy(tmp_path, f"users = ['{OTHER.pw_name}', '{USER.pw_name}']")
    done = started(None, tmp_path, "--agent-user", USER.pw_name, "--config", config)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{config}: users: {USER.pw_name} is the agent's user" in done.stderr


def test_an_orphan_with_such_an_agent_is_registered_by_its_code(one: Cluster) -> None:
    host, port = one.start_waiting_node("far", "--agent-user", USER.pw_name)
    done = one.godwit("register", "--code-file", one.code_file("far"), host, port, "far")
    assert done.returncode == 0, done.stderr
    one.wait_up("far")
    # Both ends of a copy between nodes are such agents.
    (one.top / "node1" / "files" / "between").write_text("x")
    assert one.godwit("copy", "node1:between", "far:").returncode == 0
    assert one.godwit("execute", "--wait", "-f", "far", "cat", "between").stdout == "x"
    pass_a_snapshot(one, "node1", "far")
    assert one.godwit("dereg", "--yes", "far").returncode == 0
    assert one.nodes.pop("far").close(expect_empty=True) == []


def pass_a_snapshot(one: Cluster, source: str, peer: str) -> None:
    """Through the hands of both agents, into and out of folders that are root's alone."""
    (task,) = one.json("run", "--json", source, "CountProcess", "1000000", "0.01")["tasks"]
    (taken,) = one.json("checkpoint", "--json", task["task"])["snapshots"]
    assert taken["nodes"] == [source, peer]
    here = one.top / source / "kept" / f"{taken['id']}.zst"
    there = one.top / peer / "lodged" / f"{taken['id']}.zst"
    assert there.read_bytes() == here.read_bytes()
    for path in (here, there, there.with_suffix(".json")):
        found = path.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o600)
    for name in (source, peer):
        parcels = one.top / name / "agent" / "parcels"
        eventually(lambda parcels=parcels: not any(parcels.iterdir()), f"no parcels at {name}")
    (fork,) = one.json("fork", "--json", task["task"], peer)["tasks"]
    assert one.godwit("sKill", task["task"], fork["task"]).returncode == 0


def test_folders_that_the_user_may_not_enter_are_said_at_the_start(
    one: Cluster, top: Path
) -> None:
    closed = top / "closed"
    closed.mkdir(mode=0o700)
    done = started(one, closed, "--agent-user", USER.pw_name)
    assert done.returncode == 1
    assert f"may not enter {closed}/node1/agent" in done.stderr.splitlines()[-1]
