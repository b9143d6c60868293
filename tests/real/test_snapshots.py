"""Snapshots of real Python tasks: the task goes on, and others start from where it was."""

import json
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from tests.real.cluster import eventually
from tests.real.moving import Moving, numbers_in

#: Counts into its log and into a file that it keeps open.
WRITER = """
from godwit import Migratable, TransactionalFile

class Writer(Migratable):
    def __init__(self):
        self.n = 0
        self.out = TransactionalFile("out", "w")

    def step(self):
        self.out.write(f"{self.n}\\n")
        print(self.n)
        self.n += 1
        self.sleep(0.003)
        return True
"""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Moving]:
    with Moving(tmp_path, nodes=("node1",)) as cluster:
        yield cluster


def test_a_task_goes_on_after_a_checkpoint_without_losing_a_number(alone: Moving) -> None:
    task = alone.counting()
    pid = alone.shown(task)["pid"]
    taken = [alone.checkpoint(task, "--keep", "2")["id"] for _ in range(3)]
    numbers = alone.counts_on("node1", task)
    assert numbers == list(range(len(numbers)))
    assert (alone.shown(task)["pid"], alone.shown(task)["status"]) == (pid, "running")
    listed = alone.json("snapshots", "--json", task)["snapshots"]
    assert [one["id"] for one in listed] == taken[1:]
    assert [one["nodes"] for one in listed] == [["node1"]] * 2
    kept = alone.top / "node1" / "kept"
    assert sorted(path.name for path in kept.iterdir()) == sorted(
        f"{name}.{end}" for name in taken[1:] for end in ("zst", "json")
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.iterdir()} == {0o600}


def test_an_ended_task_starts_again_from_its_snapshot_under_a_new_id(alone: Moving) -> None:
    task = alone.counting()
    alone.checkpoint(task)
    refused = alone.godwit("restart", task)
    assert refused.returncode == 1 and "has not ended" in refused.stderr
    alone.counts_on("node1", task)
    alone.godwit("sKill", task)
    eventually(lambda: alone.shown(task)["status"] == "exited", "it has ended")
    whole = alone.numbers("node1", task)
    (again,) = alone.json("restart", "--json", task)["tasks"]
    numbers = alone.counts_on("node1", again["task"])
    assert again["task"] != task
    assert 0 < numbers[0] < whole[-1]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert alone.numbers("node1", task) == whole
    assert alone.godwit("kill", again["task"]).returncode == 0
    eventually(lambda: alone.shown(again["task"])["signal"] == "SIGINT", "it ends as any")


def test_what_is_done_to_a_task_that_stands_still_for_a_snapshot_is_done_then(
    alone: Moving,
) -> None:
    task = alone.counting()
    with alone.client() as client:
        for _ in range(10):
            taken: list[op.Reply] = []
            client.post(op.CheckpointTask(0, task), taken.append)
            while not taken:
                sent = client.ask(op.SignalTasks(0, (task,), signal.SIGCONT), op.Tasks)
                assert not sent.faults
            assert isinstance(taken[0], op.Snapshots)
    alone.counts_on("node1", task)


def test_forks_count_on_beside_the_task(alone: Moving) -> None:
    task = alone.counting()
    first = str(alone.checkpoint(task)["id"])
    alone.counts_on("node1", task)
    alone.checkpoint(task)
    words = ("fork", "--json", "--count", "2", "--from", first, task)
    forks = [one["task"] for one in alone.json(*words)["tasks"]]
    numbers = [alone.counts_on("node1", fork) for fork in forks]
    assert numbers[0][0] == numbers[1][0] > 0
    alone.counts_on("node1", task)
    unknown = alone.godwit("fork", task, "--from", "aaaaaaaa")
    assert unknown.returncode == 1 and "no snapshot aaaaaaaa" in unknown.stderr


def test_what_cannot_be_kept_is_refused_in_one_line(alone: Moving) -> None:
    plain = str(alone.launch("--plain", "node1", "sleep", "60")["task"])
    refused = alone.godwit("checkpoint", plain)
    assert refused.returncode == 1 and f"{plain}: " in refused.stderr
    task = alone.counting()
    none = alone.godwit("fork", task)
    assert none.returncode == 1 and "no snapshot of" in none.stderr
    assert alone.godwit("checkpoint", task, "--keep", "0").returncode == 2


def test_a_file_that_it_writes_is_as_it_was_and_what_came_later_is_kept_beside_it(
    alone: Moving, tmp_path: Path
) -> None:
    program, out = tmp_path / "writer.py", alone.files("node1") / "out"
    program.write_text(WRITER)
    task = alone.run("node1", f"{program}:Writer")
    alone.counts_on("node1", task)
    assert alone.checkpoint(task)["writes"] == ["out"]
    alone.counts_on("node1", task)
    refused = alone.godwit("fork", task)
    assert refused.returncode == 1 and "had out open for writing" in refused.stderr
    alone.godwit("sKill", task)
    whole = numbers_in(out)
    (again,) = alone.started("restart", "--json", task)
    first = alone.counts_on("node1", again)[0]
    assert 0 < first < whole[-1]
    assert numbers_in(out.with_name(f"out.before-{again}")) == whole
    busy = alone.godwit("restart", task)
    assert busy.returncode == 1 and "has it open for writing" in busy.stderr
    alone.godwit("sKill", again)
    assert numbers_in(out) == list(range(len(numbers_in(out))))
    assert alone.godwit("remove", task, again).returncode == 0
    state = alone.top / "node1"
    eventually(
        lambda: not any([*state.glob("kept/*"), *state.glob("starts/*"),
                         *state.glob("snapshots/*")]), "nothing is left",
    )


def test_a_keeper_that_dies_as_a_task_starts_from_a_snapshot_starts_it_once(
    alone: Moving,
) -> None:
    task = alone.counting()
    alone.checkpoint(task)
    alone.kill_node("node1")
    alone.start_failing("node1", "begun.before:kill")
    starting = alone.begin("fork", "--json", task)
    eventually(lambda: alone.nodes["node1"].ended, "the keeper dies")
    alone.restart_node("node1")
    out, err = starting.communicate(timeout=60)
    assert starting.returncode == 0, err
    (fork,) = json.loads(out)["tasks"]
    numbers = alone.counts_on("node1", fork["task"])
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_snapshots_go_with_their_task_and_serve_no_other_command(alone: Moving) -> None:
    task = alone.counting()
    known = str(alone.checkpoint(task)["id"])
    with alone.client() as client:
        for snapshot, code in ((known, "bad-snapshot"), ("../../x", "no-snapshot")):
            answer = client.ask(op.Execute(
                0, "node1", (b"CountProcess", b"5"), kind="python", snapshot=snapshot
            ), op.Tasks)
            assert not answer.tasks and [fault.code for fault in answer.faults] == [code]
    assert alone.godwit("remove", task).returncode == 0
    assert [*(alone.top / "node1" / "kept").iterdir()] == []
