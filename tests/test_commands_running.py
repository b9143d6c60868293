"""run and programs, against a master that does as it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from tests.scripted import Desk, Scripted, view

ABOUT = {"CountProcess": "N [PAUSE]: prints 0 to N", "Factorial": "N OUT: writes N! to OUT"}


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        master.says(op.Execute, op.Tasks(0, (view("k3f9a2xq", kind="python"),)))
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


def test_run_asks_for_a_python_task(master: Scripted, desk: Desk) -> None:
    assert desk.run("run", "-q", "node1", "CountProcess", "5", "--wait") == 0
    assert desk.said == ["k3f9a2xq"]
    assert master.got(op.Execute) == [
        op.Execute(2, "node1", (b"CountProcess", b"5", b"--wait"), kind="python")
    ]


def test_all_that_can_be_said_of_a_run_reaches_the_master(master: Scripted) -> None:
    with Desk(master, environ={"HERE": "it is"}) as desk:
        assert desk.run(
            "run", "-C", "/tmp", "-e", "A=1", "-eHERE", "--name", "n", "--user", "u",
            "--count", "3", "-q", "@a,b", "mod:Class",
        ) == 0
    assert master.got(op.Execute) == [op.Execute(
        2, "@a,b", (b"mod:Class",), cwd=b"/tmp", env={b"A": b"1", b"HERE": b"it is"}, name="n",
        user="u", count=3, kind="python",
    )]


@pytest.mark.parametrize(("typed", "sent"), [
    ("t.py:T", b"t.py:T"), ("./t.py:T", b"t.py:T"), ("t.py", b"t.py"), ("t.py:", b"t.py"),
])
def test_the_text_of_a_file_goes_along(
    master: Scripted, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    typed: str, sent: bytes,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.py").write_text("class T: pass\n")
    assert desk.run("run", "-q", "node1", typed, "1") == 0
    (asked,) = master.got(op.Execute)
    assert (asked.argv, asked.source) == ((sent, b"1"), b"class T: pass\n")


@pytest.mark.parametrize("program", ["gone.py:T", "folder.py", "empty.py"])
def test_a_file_that_is_none_is_refused_here(
    master: Scripted, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "empty.py").write_text("\n")
    assert desk.run("run", "node1", program) == 1
    assert desk.noted[0].startswith("run: Job creation failed: ")
    assert not master.got(op.Execute)


def test_a_program_is_asked_for_when_none_is_named(master: Scripted) -> None:
    with Desk(master, "GrepProcess 'a b' in out") as desk:
        assert desk.run("run", "-q", "node1") == 0
        assert desk.asked == ["Run Job > "]
    (asked,) = master.got(op.Execute)
    assert asked.argv == (b"GrepProcess", b"a b", b"in", b"out")


@pytest.mark.parametrize("answers", [(), ("",), ("'a",), ("--wait",)])
def test_no_program_is_a_misuse(master: Scripted, answers: tuple[str, ...]) -> None:
    with Desk(master, *answers) as desk:
        assert desk.run("run", "node1") == 2
    assert not master.got(op.Execute)


def test_programs_are_listed_with_their_nodes(master: Scripted, desk: Desk) -> None:
    master.says(op.ListPrograms, op.Programs(0, (
        op.NodePrograms("node1", ABOUT),
        op.NodePrograms("node2", {"Factorial": ABOUT["Factorial"]}),
    )))
    assert desk.run("programs") == 0
    assert desk.said == [
        "PROGRAM       TAKES      NODES        WHAT IT DOES",
        "CountProcess  N [PAUSE]  node1        prints 0 to N",
        "Factorial     N OUT      node1,node2  writes N! to OUT",
    ]
    assert master.got(op.ListPrograms) == [op.ListPrograms(2, "all")]


def test_programs_are_json_for_scripts(master: Scripted, desk: Desk) -> None:
    master.says(op.ListPrograms, op.Programs(0, (op.NodePrograms("node1", ABOUT),)))
    assert desk.run("programs", "node1", "-o", "jsonl") == 0
    assert desk.said[0] == (
        '{"name": "CountProcess", "takes": "N [PAUSE]", "does": "prints 0 to N", '
        '"nodes": ["node1"]}'
    )
    assert desk.run("programs", "-o", "name") == 0
    assert desk.said[2:] == ["CountProcess", "Factorial"]


def test_a_process_is_adopted_by_its_pid(master: Scripted, desk: Desk) -> None:
    assert desk.run("adopt", "-q", "--name", "b", "node1", "4711") == 0
    assert desk.said == ["k3f9a2xq"]
    assert master.got(op.Execute) == [
        op.Execute(2, "node1", (b"4711",), name="b", kind="adopted")
    ]


@pytest.mark.parametrize("pid", ["0", "-5", "x", "4711x", ""])
def test_what_is_no_pid_is_wrong_usage(master: Scripted, desk: Desk, pid: str) -> None:
    assert desk.run("adopt", "node1", "--", pid) == 2
    assert master.got(op.Execute) == []


def test_a_log_at_home_is_asked_for(master: Scripted, desk: Desk) -> None:
    assert desk.run("run", "-q", "--log-at-home", "node1", "P") == 0
    assert master.got(op.Execute) == [
        op.Execute(2, "node1", (b"P",), kind="python", log_at_home=True)
    ]
