"""Every way in which a program can end, or not begin, comes back true through node and master."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.wire import operations as op
from masterd.client import Client
from tests.real.cluster import Cluster, eventually

SIGNALS = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGABRT, signal.SIGBUS,
    signal.SIGFPE, signal.SIGKILL, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2, signal.SIGPIPE,
    signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGRTMIN + 3,
)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("one"), nodes=["node1"]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(one: Cluster) -> Iterator[Client]:
    with one.client() as client:
        yield client


def execute(client: Client, *argv: bytes, **more: object) -> op.Tasks:
    request = op.Execute(0, "node1", argv=argv, **more)  # type: ignore[arg-type]
    return client.ask(request, op.Tasks)


def test_all_exit_codes_are_told_as_they_were(one: Cluster) -> None:
    done = one.godwit(
        "execute", "--json", "--wait", "--count", "256", "node1", "sh", "-c", "exit $GODWIT_INDEX"
    )
    # The first that is not 0, in the order of the tasks.
    assert done.returncode == 1
    tasks = [task for task in one.tasks().values() if task["command"].startswith("sh -c 'exit")]
    assert sorted(task["exit_code"] for task in tasks) == list(range(256))
    assert {(task["status"], task["signal"]) for task in tasks} == {("exited", None)}


@pytest.mark.parametrize("code", [0, 1, 2, 124, 125, 126, 127, 128, 130, 137, 255])
def test_wait_exits_with_the_code_of_the_task(one: Cluster, code: int) -> None:
    done = one.godwit("execute", "--wait", "node1", "sh", "-c", f"exit {code}")
    assert done.returncode == code
    assert f"exit {code}" in done.stderr


def test_every_signal_that_ends_a_task_is_named(client: Client) -> None:
    sent = {}
    for number in SIGNALS:
        (view,) = execute(client, b"sleep", b"300").tasks
        sent[view.task.id] = number
        answer = client.ask(op.SignalTasks(0, (view.task.id,), number), op.Tasks)
        assert not answer.faults
    ended = client.ask(op.AwaitTasks(0, tuple(sent), 60.0), op.Tasks)
    told = {view.task.id: view.task for view in ended.tasks}
    assert {task: told[task].signal for task in sent} == sent
    assert all(task.exit_code is None and task.status == "exited" for task in told.values())


def test_a_task_starts_with_every_signal_at_its_default_and_none_blocked(one: Cluster) -> None:
    done = one.godwit("execute", "--wait", "-f", "node1", "cat", "/proc/self/status")
    masks = dict(line.split() for line in done.stdout.splitlines() if line.startswith("Sig"))
    # posix_spawn(3) of glibc leaves its own two, 32 and 33, ignored in whatever it starts.
    internal = 1 << 31 | 1 << 32
    assert int(masks["SigBlk:"], 16) == 0
    assert int(masks["SigIgn:"], 16) & ~internal == 0


def test_a_task_has_no_descriptor_but_its_own(one: Cluster) -> None:
    done = one.godwit("execute", "--wait", "-f", "node1", "ls", "-l", "/proc/self/fd")
    rows = [line.split(" -> ") for line in done.stdout.splitlines() if " -> " in line]
    found = {row[0].split()[-1]: row[1] for row in rows}
    opened_by_ls = found.pop("3")
    assert opened_by_ls.endswith("/fd")
    assert sorted(found) == ["0", "1", "2"]
    assert found["0"] == "/dev/null"
    assert found["1"] == found["2"] and found["1"].endswith(".log")
    assert Path(found["1"]).parent == Path(one.logs, "node1")


def test_a_task_leads_a_session_of_its_own(one: Cluster) -> None:
    done = one.godwit("execute", "--wait", "-f", "node1", "cat", "/proc/self/stat")
    pid, _, _, _, group, session, terminal = done.stdout.split()[:7]
    assert pid == group == session and terminal == "0"


def test_the_log_of_a_task_is_appended_to_never_overwritten(one: Cluster) -> None:
    # Two writers with offsets of their own would overwrite each other without O_APPEND.
    task = one.launch("node1", "sh", "-c", "echo 1; (echo 2 > /dev/stdout); echo 3 >> /dev/stderr")
    assert one.godwit("wait", task["task"]).returncode == 0
    flags = one.godwit(
        "execute", "--wait", "-f", "node1", "grep", "flags", "/proc/self/fdinfo/1"
    ).stdout.split()[1]
    assert int(flags, 8) & os.O_APPEND


def test_the_folder_and_the_environment_are_as_asked(one: Cluster, tmp_path: Path) -> None:
    done = one.godwit(
        "execute", "--wait", "-f", "--cwd", str(tmp_path), "-e", "FRUIT=a pear", "-e", "EMPTY=",
        "node1", "sh", "-c",
        'pwd; echo "$FRUIT" "[$EMPTY]" "${HOME:+home}" "$GODWIT_NODE"; env | wc -l',
    )
    where, said, count = done.stdout.splitlines()
    assert (where, said) == (str(tmp_path), "a pear [] home node1")
    assert int(count) < 20  # nothing of clientd's own environment but the locale


@pytest.fixture
def unfit(tmp_path: Path) -> dict[str, Path]:
    """Files that cannot be executed, each in its own way."""
    files = {}
    for name, text, mode in (
        ("forbidden", "#!/bin/sh\n", 0o644),
        ("format", "neither ELF nor a script\n", 0o755),
        ("interpreter", "#!/no/such/interpreter\n", 0o755),
        ("empty", "", 0o755),
    ):
        files[name] = tmp_path / name
        files[name].write_text(text)
        files[name].chmod(mode)
    files["folder"] = tmp_path
    return files


@pytest.mark.parametrize("kind, code", [
    ("forbidden", "EACCES"), ("folder", "EISDIR"), ("format", "ENOEXEC"),
    ("interpreter", "ENOENT"), ("empty", "ENOEXEC"),
])
def test_a_file_that_cannot_be_executed_is_an_error_that_names_it(
    client: Client, unfit: dict[str, Path], kind: str, code: str
) -> None:
    refused(client, code, str(unfit[kind]), os.fsencode(unfit[kind]))


def refused(client: Client, code: str, named: str, *argv: bytes, **more: object) -> None:
    """The launch is refused with the code, the fault names what is wrong, and no task is left."""
    before = client.ask(op.ListNodes(0), op.Nodes).nodes[0].tasks
    answer = execute(client, *argv, **more)
    (fault,) = answer.faults
    assert not answer.tasks and fault.code == code and named in fault.message
    after = client.ask(op.ListNodes(0), op.Nodes).nodes[0].tasks
    assert [view.task.id for view in after] == [view.task.id for view in before]


def test_what_is_nowhere_is_named(client: Client) -> None:
    refused(client, "ENOENT", "no-such-program", b"no-such-program", b"--help")
    refused(client, "ENOENT", "/no/such/program", b"/no/such/program")


def test_a_word_of_128_kib_is_too_long_and_one_less_is_not(client: Client) -> None:
    # MAX_ARG_STRLEN of execve(2): 32 pages with the NUL.
    refused(client, "E2BIG", "too long", b"true", b"x" * 131072)
    assert not execute(client, b"true", b"x" * 131071).faults


def test_a_nul_byte_is_an_error_wherever_it_stands(client: Client) -> None:
    refused(client, "nul-byte", "NUL", b"echo", b"a\0b")
    refused(client, "nul-byte", "NUL", b"ec\0ho")
    refused(client, "nul-byte", "NUL", b"true", env={b"A": b"\0"})
    refused(client, "nul-byte", "NUL", b"true", cwd=b"/tmp\0")


def test_a_folder_to_start_in_that_is_not_there_is_named(client: Client) -> None:
    refused(client, "ENOENT", "/no/such/folder", b"true", cwd=b"/no/such/folder")
    refused(client, "ENOTDIR", "/etc/passwd", b"true", cwd=b"/etc/passwd")


def test_a_user_that_is_not_there_is_named(client: Client) -> None:
    answer = execute(client, b"true", user="no-such-user")
    (fault,) = answer.faults
    assert not answer.tasks and "no-such-user" in fault.message


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_task_runs_as_the_user_asked_for(one: Cluster) -> None:
    done = one.godwit(
        "execute", "--wait", "-f", "--user", "nobody", "--cwd", "/", "node1", "id", "-un"
    )
    assert (done.returncode, done.stdout) == (0, "nobody\n")


def test_a_signal_reaches_the_whole_process_group(one: Cluster) -> None:
    task = one.launch("node1", "sh", "-c", "sleep 301 & sleep 302 & echo ready; wait")
    eventually(lambda: one.godwit("logs", task["task"]).stdout == "ready\n", "both sleeps")
    group = members(task["pid"])
    assert len(group) == 3
    assert one.godwit("kill", "-TERM", task["task"]).returncode == 0
    eventually(lambda: not members(task["pid"]), "end of the group")


def members(group: int) -> list[int]:
    """Pids in a process group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, its_group = stat.rpartition(")")[2].split()[:3]
        if int(its_group) == group and state not in "ZX":
            found.append(int(folder.name))
    return found
