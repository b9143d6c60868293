"""The shell with no terminal: lines from a pipe, a file, or nothing at all."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from tests.real.fake_master import FakeMaster

MAIN = "import sys; from masterd.shell import main; sys.exit(main(*sys.argv[1:]))"
TOP = str(Path(__file__).parents[1])


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path) as master:
        yield master


def argv(state: Path) -> list[str]:
    return [sys.executable, "-c", MAIN, str(state)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": TOP}


def shell(state: Path, text: bytes, *more: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*argv(state), *more], input=text, capture_output=True, timeout=60, env=environment()
    )


def sent(master: FakeMaster) -> list[bytes]:
    return [asked.argv[0] for asked in master.asked if isinstance(asked, op.Execute)]


def test_lines_of_a_pipe_run_without_prompt_or_welcome(master: FakeMaster, tmp_path: Path) -> None:
    done = shell(tmp_path, b"echo 1\n\n# no\n  echo 2  \r\nexit\necho 3\n")
    assert done.returncode == 0
    assert b"godwit @" not in done.stdout + done.stderr
    assert sent(master) == [b"echo 1", b"echo 2"]
    assert not (tmp_path / "history").exists()


def test_the_last_line_needs_no_end(master: FakeMaster, tmp_path: Path) -> None:
    assert shell(tmp_path, b"echo 1").returncode == 0
    assert sent(master) == [b"echo 1"]


def test_any_bytes_reach_the_nodes_as_they_are(master: FakeMaster, tmp_path: Path) -> None:
    line = bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b"")
    assert shell(tmp_path, b"echo " + line + b".\nlist '\n").returncode == 2
    assert sent(master) == [b"echo " + line + b"."]


def test_a_line_of_a_megabyte_is_one_line(master: FakeMaster, tmp_path: Path) -> None:
    line = b"echo " + b"x" * 1_000_000
    assert shell(tmp_path, line + b"\n").returncode == 0
    assert sent(master) == [line]


MISTAKES = {
    b"list '": "list: no closing '; nothing was run\n",
    b'kill "x': 'kill: no closing "; nothing was run\n',
    b"kill x\\": "kill: a backslash at the end has nothing to escape; nothing was run\n",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    line: bytes, master: FakeMaster, tmp_path: Path
) -> None:
    done = shell(tmp_path, line)
    assert (done.returncode, done.stderr.decode(), done.stdout) == (2, MISTAKES[line], b"")


def test_closed_streams_are_an_end_of_file(master: FakeMaster, tmp_path: Path) -> None:
    script = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", *argv(tmp_path)], env=environment())
    assert done.returncode == 0
    assert sent(master) == []


def test_lines_run_with_nobody_to_read_the_output(master: FakeMaster, tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *argv(tmp_path)],
        input=b"echo 1\n", env=environment(),
    )
    assert done.returncode == 0
    assert sent(master) == [b"echo 1"]


def test_a_reader_that_goes_away_ends_the_shell_without_a_word(
    master: FakeMaster, tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            argv(tmp_path), input=b"echo 1\necho 2\n", stdout=write, stderr=subprocess.PIPE,
            env=environment(), timeout=60,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
    assert sent(master) == [b"echo 1"]


def test_without_a_master_it_says_so_and_ends(tmp_path: Path) -> None:
    done = shell(tmp_path, b"list\n")
    assert done.returncode == 1
    assert done.stderr.startswith(b"godwit: no master runs in ")
    assert done.stderr.count(b"\n") == 1


def test_a_master_that_goes_away_between_lines_is_one_line_each(
    master: FakeMaster, tmp_path: Path
) -> None:
    with subprocess.Popen(
        argv(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(),
    ) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(b"echo 1\n")
        child.stdin.flush()
        assert b"echo 1" in child.stdout.readline()
        master.stop()
        child.stdin.write(b"echo 2\necho 3\n")
        child.stdin.close()
        told = child.stderr.read().decode().splitlines()
    assert [line.split(" in ")[0] for line in told[-2:]] == ["no master runs"] * 2
    assert child.returncode == 1


def test_the_end_of_the_master_s_own_shell_stops_nodes_and_master(
    master: FakeMaster, tmp_path: Path
) -> None:
    assert shell(tmp_path, b"echo 1\n", "owns_master").returncode == 0
    assert [type(a).__name__ for a in master.asked[-2:]] == ["ListNodes", "StopMaster"]
    assert getattr(master.asked[-1], "deregister", False)


def test_detach_leaves_nodes_and_master_alone(master: FakeMaster, tmp_path: Path) -> None:
    assert shell(tmp_path, b"detach\necho 1\n", "owns_master").returncode == 0
    assert [type(a).__name__ for a in master.asked] == ["Attach"]


def test_an_order_to_leave_is_passed_on_to_who_handled_it_before(
    master: FakeMaster, tmp_path: Path
) -> None:
    script = f"import signal; signal.signal(15, lambda *_: print('passed on')); {MAIN}"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(b"echo 1\n")
        child.stdin.flush()
        assert child.stderr.readline() == "node1: exit 0 · node2: exit 0\n".encode()
        child.send_signal(signal.SIGTERM)
        told = child.stdout.read()
        assert child.stderr.read() == b""
    assert told.splitlines()[-1:] == [b"passed on"]
    assert child.returncode == 143


def test_answers_to_the_menu_s_questions_are_lines_of_the_same_pipe(
    master: FakeMaster, tmp_path: Path
) -> None:
    done = shell(tmp_path, b"menu\n1\n2\necho 1\n0\necho \xff\n")
    assert done.returncode == 0
    launched = [asked for asked in master.asked if isinstance(asked, op.Execute)]
    assert [(asked.nodes, asked.argv) for asked in launched] == [
        ("node2", (b"echo 1",)), ("all", (b"echo \xff",)),
    ]
    assert b"Choice: 1\nOn which node? 2\n" in done.stderr


def test_a_pipe_that_ends_in_the_menu_ends_menu_and_shell(
    master: FakeMaster, tmp_path: Path
) -> None:
    done = shell(tmp_path, b"menu\n1\n")
    assert (done.returncode, sent(master)) == (0, [])
