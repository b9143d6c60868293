"""Python tasks on a real node: launched, refused, ended, found again."""

import hashlib
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from clientd.keeper import orders
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from tests.real.cluster import Cluster, eventually
from tests.real.keeping import Keeping

SOURCE = b"""
import os
from godwit import Migratable

class Ticker(Migratable):
    def __init__(self, *words):
        self.n = 0
        if words:
            raise ValueError(words[0])
    def step(self):
        print(self.n, os.getcwd(), os.environ["GODWIT_NODE"])
        self.n += 1
        self.sleep(0.01)
        return True

class Waiter(Migratable):
    def __init__(self, fifo):
        open(fifo).read()
    def step(self):
        print("at last")
"""
DIGEST = hashlib.sha256(SOURCE).hexdigest()


def start(keeping: Keeping, *argv: str, source: bytes = b"", **more: object) -> str:
    """A python task; its id once it runs."""
    spec = ask(keeping, *argv, source=source, **more)
    keeping.agent.till(lambda: spec in keeping.agent.tasks)
    return spec


def ask(keeping: Keeping, *argv: str, source: bytes = b"", **more: object) -> str:
    digest = hashlib.sha256(source).hexdigest() if source else ""
    spec = keeping.spec(*argv, kind="python", digest=digest, **more)
    keeping.agent.send(orders.Start((spec,), source))
    return spec.task


def end(keeping: Keeping, task: str, number: int = signal.SIGINT) -> Task:
    keeping.signal(task, number)
    return keeping.end_of(task)


def test_a_program_runs_as_a_task_and_ends_with_its_usage(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        task = start(keeping, "CountProcess", "3", "0")
        ended = keeping.end_of(task)
        assert (ended.status, ended.exit_code) == (Status.EXITED, 0)
        assert keeping.log(task) == b"0\n1\n2\n3\n"
        assert ended.usage and ended.usage.maxrss_bytes and not ended.usage.maxrss_is_bound
        assert not list((keeping.state / "run").iterdir())


def test_a_source_that_came_along_runs_and_is_not_kept(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        task = start(keeping, "ticker.py:Ticker", source=SOURCE)
        eventually(lambda: keeping.log(task) != b"", "its first step")
        ended = end(keeping, task)
        assert ended.signal == signal.SIGINT
        first = keeping.log(task).split(b"\n")[0].decode()
        assert first == f"0 {keeping.state}/files node1"
        assert not list((keeping.state / "sources").iterdir())


REFUSED: list[tuple[tuple[str, ...], bytes, str, str]] = [
    (
        ("CountProces", "3"), b"", "no-program",
        "Job creation failed: program not found: did you mean CountProcess?",
    ),
    (("CountProcess",), b"", "usage", "usage: CountProcess N [PAUSE]"),
    (("t.py:Ticker", "not so"), SOURCE, "refused", "t.py:Ticker: not so"),
    (
        ("t.py:Tickr",), SOURCE, "no-program",
        "Job creation failed: program not found: did you mean Ticker?",
    ),
]


def test_what_cannot_begin_was_never_a_task(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        for argv, source, code, text in REFUSED:
            task = ask(keeping, *argv, source=source)
            assert keeping.agent.word(orders.Rejected) == orders.Rejected(task, code, text)
        assert not list(keeping.logs.glob("t*.log"))
        assert not list((keeping.state / "run").iterdir())
        assert not list((keeping.state / "sources").iterdir())


def test_a_source_that_did_not_come_is_missed(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        spec = keeping.spec("t.py:Ticker", kind="python", digest=DIGEST)
        keeping.agent.send(orders.Start((spec,)))
        assert keeping.agent.word(orders.Rejected).code == "no-source"


def test_a_task_that_has_not_begun_can_be_removed(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        os.mkfifo(tmp_path / "fifo")
        task = ask(keeping, "t.py:Waiter", str(tmp_path / "fifo"), source=SOURCE)
        with (tmp_path / "fifo").open("w"):  # it is in its constructor
            assert keeping.ask(orders.Forget, task).code == ""
        assert not list(keeping.logs.glob("t*.log"))


def test_a_python_task_is_paused_and_resumed(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        task = start(keeping, "t.py:Ticker", source=SOURCE)
        assert keeping.ask(orders.Pause, task).code == ""
        assert keeping.agent.tasks[task].status is Status.PAUSED
        assert keeping.ask(orders.Pause, task, resume=True).code == ""
        assert end(keeping, task).signal == signal.SIGINT


@pytest.mark.parametrize("without", ["", "WITHOUT_CLONE3", "WITHOUT_CGROUPS"])
def test_all_of_a_python_task_is_found_and_ended(tmp_path: Path, without: str) -> None:
    source = (
        b"import os, subprocess\nfrom godwit import Migratable\nclass T(Migratable):\n"
        b"    def step(self):\n        print(subprocess.Popen(['sleep', '1000'], "
        b"start_new_session=True).pid)\n        raise SystemExit(3)\n"
    )
    with Keeping(tmp_path, environment={without: "1"} if without else {}) as keeping:
        task = start(keeping, "t.py:T", source=source)
        ended = keeping.end_of(task)
        assert ended.exit_code == 3
        child = int(keeping.log(task))
        groups = Path(f"/proc/{child}/cgroup").read_text()
        assert (f"/t-{task}\n" in groups) == ("contain" in keeping.facts.can)
        assert keeping.ask(orders.Forget, task).code == ""
        eventually(lambda: not Path(f"/proc/{child}").exists(), "end of what it left")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_python_task_runs_as_its_user(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        source = (
            b"import os\nfrom godwit import Migratable\nclass T(Migratable):\n"
            b"    def step(self): print(os.getresuid(), os.environ['USER'])\n"
        )
        task = start(keeping, "t.py:T", source=source, user="nobody", cwd=b"/")
        assert keeping.end_of(task).exit_code == 0
        assert keeping.log(task) == b"(65534, 65534, 65534) nobody\n"
        rejected = ask(keeping, "t.py:T", source=source, user="nosuchuser")
        assert keeping.agent.word(orders.Rejected).task == rejected


def test_tasks_run_on_when_the_keeper_is_killed_and_end_by_their_signal(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        task = start(keeping, "t.py:Ticker", source=SOURCE)
        pid = keeping.agent.tasks[task].pid
        keeping.kill()
        keeping.run()
        assert keeping.agent.tasks[task].status is Status.RUNNING
        assert keeping.agent.tasks[task].pid == pid
        keeping.signal(task, signal.SIGINT)
        assert keeping.end_of(task).status in (Status.EXITED, Status.UNKNOWN)
        lines = keeping.log(task).splitlines()
        assert [line.split()[0] for line in lines] == [b"%d" % n for n in range(len(lines))]


def test_a_launch_goes_on_after_the_keeper_was_killed(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        os.mkfifo(tmp_path / "fifo")
        task = ask(keeping, "t.py:Waiter", str(tmp_path / "fifo"), source=SOURCE)
        with (tmp_path / "fifo").open("w"):  # it is in its constructor
            keeping.kill()
            keeping.run()
            assert keeping.agent.tasks[task].status is Status.STARTING
        keeping.agent.till(lambda: keeping.agent.tasks[task].status is not Status.STARTING)
        keeping.end_of(task)
        assert keeping.log(task) == b"at last\n"


def test_a_task_that_began_unrecorded_is_recorded_by_the_next_keeper(tmp_path: Path) -> None:
    with Keeping(tmp_path, environment={"GODWIT_FAILPOINT": "begun.before:kill"}) as keeping:
        task = ask(keeping, "t.py:Ticker", source=SOURCE)
        with pytest.raises((EOFError, ConnectionError)):
            while True:
                keeping.agent.next()
        keeping.environment.clear()
        keeping.daemon.end(signal.SIGKILL)
        keeping.run()
        keeping.agent.till(lambda: keeping.agent.tasks[task].status is Status.RUNNING)
        keeping.signal(task, signal.SIGKILL)
        keeping.end_of(task)
        lines = keeping.log(task).splitlines()
        assert [line.split()[0] for line in lines] == [b"%d" % n for n in range(len(lines))]


def test_a_node_that_stops_ends_what_has_not_begun(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        os.mkfifo(tmp_path / "fifo")
        task = ask(keeping, "t.py:Waiter", str(tmp_path / "fifo"), source=SOURCE)
        with (tmp_path / "fifo").open("w"):
            keeping.agent.send(orders.Stop(end_tasks=True))
            assert keeping.agent.word(orders.Rejected).task == task


# ---- from the command line ---------------------------------------------------------------------


def test_programs_run_from_the_command_line(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        ran = cluster.godwit("run", "-f", "--wait", "all", "CountProcess", "2", "0")
        assert ran.returncode == 0
        assert sorted(line.split()[-1] for line in ran.stdout.splitlines()) == sorted("001122")

        (tmp_path / "countdown.py").write_bytes(SOURCE)
        task = cluster.json("run", "--json", "node2", f"{tmp_path}/countdown.py:Ticker")["tasks"][0]
        assert (task["kind"], task["command"]) == ("python", "countdown.py:Ticker")
        assert cluster.godwit("kill", task["task"]).returncode == 0
        assert cluster.godwit("wait", task["task"]).returncode == 128 + signal.SIGINT

        refused = cluster.godwit("run", "node1", "CountProces", "2")
        assert refused.returncode == 1
        assert refused.stderr == (
            "node1: Job creation failed: program not found: did you mean CountProcess?\n"
        )
        asked = cluster.godwit("run", "--wait", "-q", "node1", input="CountProcess 1 0\n")
        assert asked.returncode == 0, asked.stderr

        names = [each["name"] for each in cluster.json("programs", "--json")["programs"]]
        assert names == ["CopyProcess", "CountProcess", "Factorial", "GrepProcess", "StatProcess"]


def test_a_source_outlives_the_master_and_goes_with_its_last_task(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_bytes(SOURCE)
    with Cluster(tmp_path, nodes=("node1",)) as cluster:
        (task,) = cluster.json("run", "--json", "node1", f"{tmp_path}/t.py:Ticker")["tasks"]
        cluster.kill_master()
        cluster.restart_master()
        cluster.wait_up("node1")
        assert stored(cluster) == [DIGEST]
        assert cluster.godwit("remove", task["task"]).returncode == 0
        eventually(lambda: stored(cluster) == [], "end of the source")


def stored(cluster: Cluster) -> list[str]:
    with closing(sqlite3.connect(f"{cluster.state}/master.db")) as db:
        return [digest for (digest,) in db.execute("SELECT digest FROM sources")]
