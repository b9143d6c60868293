"""The godwit program as another shell starts it, and the manual."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from godwit import __version__
from godwit.wire import operations as op
from masterd.commands.manual import manual
from tests.scripted import Scripted, node, view

TOP = Path(__file__).parent.parent


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        yield master


def godwit(
    *words: str | bytes, state: Path | None = None, stdout: int | IO[bytes] = subprocess.PIPE,
    answers: bytes = b"",
) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(TOP), "GODWIT_STATE": str(state or "/nowhere")}
    argv = [sys.executable, "-P", "-m", "masterd.cli", *words]
    return subprocess.run(
        argv, env=environ, input=os.fsdecode(answers), errors="surrogateescape", stdout=stdout,
        stderr=subprocess.PIPE, text=True, timeout=30, check=False,
    )


def test_the_manual_is_up_to_date() -> None:
    assert (TOP / "docs/commands.md").read_text() == manual(), (
        "run: python -m masterd.commands.manual > docs/commands.md"
    )


def test_the_state_folder_is_an_option_or_the_environment(
    master: Scripted, tmp_path: Path
) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("node1", view("t1")),)))
    for done in (
        godwit("list", "-q", state=tmp_path), godwit("--state", str(tmp_path), "list", "-q"),
        godwit(f"--state={tmp_path}", "list", "-q"),
    ):
        assert (done.returncode, done.stdout, done.stderr) == (0, "t1\n", "")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_without_a_command_it_helps(words: list[str]) -> None:
    done = godwit(*words)
    assert done.returncode == 0 and "getrusage" in done.stdout and done.stderr == ""


def test_it_tells_its_version() -> None:
    assert godwit("--version").stdout == f"godwit {__version__}\n"


@pytest.mark.parametrize(("words", "status", "message"), [
    (["lst"], 2, "no command 'lst' (did you mean list?)"),
    (["uname", "-a"], 2, "no command 'uname' (`help` lists them)"),
    (["--frob"], 2, "godwit: no option --frob (see godwit --help)"),
    (["--state"], 2, "godwit: --state needs a folder (see godwit --help)"),
    (["shell", "x"], 2, "godwit: shell takes no arguments (see godwit --help)"),
    (["list", "--frob"], 2, "list: no option --frob (usage: list [options] [NODES])"),
    (["list"], 1, "list: no master runs in /nowhere (start one: bin/masterd --state /nowhere)"),
    ([b"\xff"], 2, r"no command '\udcff' (`help` lists them)"),
    (["exit"], 1, "exit: there is nothing to leave: this is no shell"
                  " (`godwit stop` stops the master)"),
])
def test_a_mistake_is_one_line_and_a_status(
    words: list[str | bytes], status: int, message: str
) -> None:
    done = godwit(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == message + "\n"


def test_bytes_of_the_command_line_reach_the_task(master: Scripted, tmp_path: Path) -> None:
    master.says(op.Execute, op.Tasks(0, (view("t"),)))
    assert godwit("execute", "all", b"prog", b"\xff\xfe", state=tmp_path).returncode == 0
    assert master.got(op.Execute)[0].argv == (b"prog", b"\xff\xfe")


def test_a_reader_that_goes_away_ends_it_quietly(master: Scripted, tmp_path: Path) -> None:
    master.says(op.ListNodes, op.Nodes(0, tuple(node(f"n{n}", view(f"t{n}")) for n in range(999))))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as unread:
        done = godwit("list", "--json", state=tmp_path, stdout=unread)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_is_one_line(master: Scripted, tmp_path: Path) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("node1"),)))
    with open("/dev/full", "wb") as full:
        done = godwit("list", state=tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (1, "godwit: No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_trouble(master: Scripted, tmp_path: Path, closed: str) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("node1"),)))
    line = f'exec "$0" -P -m masterd.cli --state "$1" list {closed}'
    environ = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, str(tmp_path)], env=environ, capture_output=True,
        text=True, timeout=30, check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_any_locale_takes_any_text(master: Scripted, tmp_path: Path) -> None:
    task = view("t1", argv=("größe 日本".encode(),))
    master.says(op.ListNodes, op.Nodes(0, (node("node1", task),)))
    environ = {
        **os.environ, "PYTHONPATH": str(TOP), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "masterd.cli", "--state", str(tmp_path), "list"],
        env=environ, capture_output=True, text=True, timeout=30, check=False,
    )
    assert (done.returncode, done.stderr) == (0, "") and r"gr\xf6\xdfe" in done.stdout


def test_the_menu_reads_its_answers_from_a_pipe(master: Scripted, tmp_path: Path) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("node1", view("k3f9a2xq")),)))
    master.says(op.ForgetTasks, op.Tasks(0, ()))
    master.says(op.ListTasks, op.Tasks(0, (view("k3f9a2xq"),)))
    done = godwit("menu", state=tmp_path, answers=b"2\nk3\xff\n2\n1\n0\n")
    assert "Choice: 2\nWhich task is to be ended and forgotten? " in done.stderr
    assert r"'k3\udcff' is not UTF-8 text" in done.stderr
    assert master.got(op.ForgetTasks) == [op.ForgetTasks(6, ("k3f9a2xq",))]
    assert done.returncode == 0


def test_the_menu_ends_where_there_is_nobody_to_answer(master: Scripted, tmp_path: Path) -> None:
    done = godwit("menu", state=tmp_path)
    assert (done.returncode, done.stderr) == (0, "Choice: \n")
