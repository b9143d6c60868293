"""Processes that were started by hand, adopted by a real keeper; the test is its agent."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clientd.keeper import orders, processes
from godwit.task.lifecycle import Status
from tests.real.cluster import eventually
from tests.real.keeping import Keeping


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    with Keeping(tmp_path) as keeping:
        yield keeping


@contextmanager
def by_hand(*words: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, that is none of the keeper's."""
    process = subprocess.Popen(words or ("sleep", "1000"), **more)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def is_kthreadd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "kthreadd\n"
    except OSError:
        return False


def state_of(pid: int) -> str:
    process = processes.look(pid)
    return process.state if process else ""


def adopt(keeping: Keeping, pid: int, **more: object) -> str:
    return keeping.start(str(pid), kind="adopted", **more)


def test_it_is_a_task_that_runs_on_as_it_was(keeping: Keeping, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file, by_hand(
        "sh", "-c", "trap 'echo two; exit 7' HUP; echo one; while :; do sleep 0.02; done",
        stdout=file, start_new_session=True,
    ) as process:
        eventually(lambda: b"one" in output.read_bytes(), "it writes")
        task = adopt(keeping, process.pid)
        known = keeping.agent.tasks[task]
        assert (known.pid, known.status) == (process.pid, Status.RUNNING)
        assert "started by hand: sh -c" in known.reason
        assert os.path.samefile(known.log, output)
        assert keeping.signal(task, signal.SIGHUP).code == ""
        assert process.wait() == 7
        assert b"two" in keeping.log(task)
        ended = keeping.end_of(task)
        assert ended.exit_code == 7 or ended.status is Status.UNKNOWN
        assert keeping.ask(orders.Forget, task).code == ""
        assert b"two" in output.read_bytes()  # the file is not ours to remove


def test_of_several_in_one_group_the_one_that_is_meant_gets_the_signal(keeping: Keeping) -> None:
    with by_hand(stdout=subprocess.DEVNULL) as one, by_hand() as other:
        assert os.getpgid(one.pid) == os.getpgid(0)
        task = adopt(keeping, one.pid)
        known = keeping.agent.tasks[task]
        assert "its output goes to no file" in known.reason and not known.log
        assert keeping.ask(orders.Pause, task).code == ""
        eventually(lambda: state_of(one.pid) == "T", "it is stopped")
        eventually(lambda: state_of(other.pid) == "S", "the other sleeps")  # not before it began to
        assert keeping.ask(orders.Pause, task, resume=True).code == ""
        assert keeping.signal(task, signal.SIGKILL, whole=True).code == ""
        assert one.wait() == -signal.SIGKILL
        assert other.poll() is None


def test_it_is_known_again_after_a_restart(keeping: Keeping) -> None:
    with by_hand() as process:
        task = adopt(keeping, process.pid)
        keeping.kill()
        keeping.run()
        assert keeping.agent.tasks[task].status is Status.RUNNING
        assert keeping.signal(task, signal.SIGTERM).code == ""
        assert process.wait() == -signal.SIGTERM
        keeping.end_of(task)


def test_what_is_not_to_be_adopted_is_refused_with_the_reason(keeping: Keeping) -> None:
    own = keeping.start("sleep", "1000")
    pid = keeping.agent.tasks[own].pid
    dead = subprocess.Popen(["true"])
    dead.wait()
    for word, code in (
        ("0", "ESRCH"), ("x", "bad-pid"), ("-1", "bad-pid"), ("007", "bad-pid"),
        ("99999999999", "ESRCH"), (str(dead.pid), "ESRCH"), ("1", "own"),
        (str(keeping.daemon.pid), "own"), (str(pid), "task"), ("2", "kernel"),
    ):
        if word == "2" and not is_kthreadd(2):
            continue  # a pid namespace has none
        refused = keeping.refused(word, kind="adopted")
        assert (word, refused.code) == (word, code), refused.text
    with by_hand() as process:
        adopt(keeping, process.pid)
        assert keeping.refused(str(process.pid), kind="adopted").code == "task"


@pytest.mark.parametrize(("text", "lets"), [
    ('users = ["root"]', False), ('users = ["root"]\nadopt = true', True), ("adopt = false", False),
])
@pytest.mark.skipif(os.geteuid() != 0, reason="the policy names root")
def test_a_policy_that_limits_anything_has_to_let_it(
    tmp_path: Path, text: str, lets: bool
) -> None:
    policy = tmp_path / "clientd.toml"
    policy.write_text(text)
    with Keeping(tmp_path, "--config", str(policy)) as keeping, by_hand() as process:
        if lets:
            adopt(keeping, process.pid)
        else:
            refused = keeping.refused(str(process.pid), kind="adopted")
            assert refused.code == "policy" and "adopt = true" in refused.text


@pytest.mark.skipif(os.geteuid() != 0, reason="processes of other users need root")
def test_a_user_whom_the_policy_does_not_name_keeps_his_processes(tmp_path: Path) -> None:
    policy = tmp_path / "clientd.toml"
    policy.write_text('users = ["root"]\nadopt = true')
    with (
        Keeping(tmp_path, "--config", str(policy)) as keeping,
        by_hand("sleep", "1000", user=65534, cwd="/") as process,
    ):
        refused = keeping.refused(str(process.pid), kind="adopted")
        assert refused.code == "policy" and "nobody" in refused.text
