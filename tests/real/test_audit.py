"""The audit log of a real master: who, what, which request, how it went; and no secret."""

import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import Cluster

ME = pwd.getpwuid(os.geteuid()).pw_name
PASSWORD = "hunter2-hunter2"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("one"), nodes=["node1"]) as cluster:
        yield cluster


def lines(cluster: Cluster) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(cluster.logs, "audit.log").read_text().splitlines()]


def test_each_change_has_one_line_by_the_time_it_is_answered(one: Cluster, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    before = len(lines(one))
    task = one.launch("-e", f"PW={PASSWORD}", "node1", "sleep", "300")["task"]
    for words in (
        ("pause", task), ("resume", task), ("signal", task, "WINCH"), ("sKill", task),
        ("copy", str(tmp_path / "f"), "node1:f"), ("remove", "node1:f"), ("remove", task),
        ("token",), ("list",), ("logs", "-n", "1", task), ("events",), ("revoke", "nobody-here"),
        ("copy", str(tmp_path / "f"), "node1:/etc/x"), ("execute", "node1", "no-such-program"),
    ):
        done = one.godwit(*words)
        if words == ("token",):
            token = done.stdout.strip()
    made = lines(one)[before:]
    # Of a copy's refusal its own connection tells as well: whichever the command hears first.
    assert made[10]["result"] in ("denied", "cancelled")
    made[10]["result"] = "denied"
    assert [(line["what"], line["result"]) for line in made] == [
        ("Execute", "ok"), ("PauseTasks", "ok"), ("PauseTasks", "ok"), ("SignalTasks", "ok"),
        ("SignalTasks", "ok"), ("Copy", "ok"), ("EraseFile", "ok"), ("ForgetTasks", "ok"),
        ("MakeToken", "ok"), ("Revoke", "no-such-node"), ("Copy", "denied"), ("Execute", "ENOENT"),
    ]
    for line in made:
        who = line["who"]
        assert isinstance(who, dict) and isinstance(line["request"], int)
        assert who["uid"] == os.geteuid() and who["user"] == ME and who["pid"] > 0
    assert made[0]["tasks"] == [f"node1:{task}"]
    text = Path(one.logs, "audit.log").read_text()
    assert token.startswith("gw1.") and token not in text and PASSWORD not in text
    assert token.rpartition(".")[2] not in text


def test_a_node_that_joined_has_a_line(one: Cluster) -> None:
    (joined,) = [line for line in lines(one) if line["what"] == "Certificate"]
    who = joined["who"]
    assert isinstance(who, dict) and who["node"] == "node1"
    assert str(who["address"]).startswith("127.0.0.1:")


def test_the_audit_log_is_for_its_owner_alone(one: Cluster) -> None:
    assert stat.S_IMODE(os.stat(Path(one.logs, "audit.log")).st_mode) == 0o600
