"""Any process is frozen at any instant and goes on as our child: same pids, one log, true end."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import criu, pidfd, processes
from clientd.keeper.complaints import Complaint
from clientd.keeper.criu import inside
from clientd.keeper.processes import tree
from clientd.keeper.records import told_by
from clientd.keeper.watch import Root
from tests.real.cluster import Cluster, eventually
from tests.real.nursery import Nursery
from tests.real.specimens import PROGRAMS, compiled

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="CRIU needs root"),
]


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not shutil.which("gcc"):
        pytest.skip("no gcc to compile the program with")
    return compiled(tmp_path_factory.mktemp("threads"))


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    with Nursery(tmp_path) as nursery:
        found = nursery.find_criu()
        if not found.path:
            pytest.skip(f"no CRIU that works here: {found.reason}")
        yield nursery


def test_a_node_tells_which_criu_it_has(nursery: Nursery, tmp_path: Path) -> None:
    found = nursery.find_criu()
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster", nodes=["node1"]) as cluster:
        def known() -> bool:
            (node,) = cluster.json("list", "--json")["nodes"]
            return f"criu={found.version}" in node["can"] and "criu" not in node["lacks"]

        eventually(known, "node1 has found its CRIU")


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def states(init: int) -> set[str]:
    """The state letters of all of a task's processes that live."""
    there = (processes.look(pid) for pid in tree(init))
    return {found.state for found in there if found and not found.is_dead}


def counting(nursery: Nursery, task: str, *argv: str) -> Root:
    """A task that has written some lines."""
    root = nursery.start(task, *argv)
    nursery.till(lambda: lines(nursery.log(task)) >= 10, f"{argv[0]} counts")
    return root


def moved(nursery: Nursery, root: Root, images: Path, old: Path, log: Path) -> Root:
    """The task frozen, killed, restored under another log, and let go on."""
    dumped = nursery.dump(root, images)
    assert dumped.figures["frozen_us"] > 0 < dumped.figures["pages_written"]
    pids = {inside(pid) for pid in tree(root.init)}
    assert dumped.complaint is None
    nursery.till(lambda: states(root.init) == {"T"}, "it is stopped")
    nursery.kill(root)
    assert nursery.ended.pop(root.task)[0] == signal.SIGKILL
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
    try:
        restored = nursery.restore(root.task, images, {str(old): fd})
    finally:
        os.close(fd)
    assert isinstance(restored, Root)
    # It waits, stopped, and has written nothing.
    nursery.till(lambda: states(restored.init) == {"T"}, "it is stopped")
    assert {inside(pid) for pid in tree(restored.init)} == pids
    assert os.waitid(os.P_PID, restored.init, os.WEXITED | os.WNOHANG) is None  # our child
    assert log.read_bytes() == b""
    criu.thaw(restored.init, dumped.stopped)
    nursery.till(lambda: lines(log) >= 10, "it counts on")
    return restored


@pytest.mark.parametrize("name", [*PROGRAMS, "C with threads"])
def test_a_program_goes_on_where_it_was(
    nursery: Nursery, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    if name == "C with threads":
        program: tuple[str, ...] = (request.getfixturevalue("threads"), "100")
    else:
        program = PROGRAMS[name]
    root = counting(nursery, "a", *program)
    logs = [nursery.log("a"), tmp_path / "log1", tmp_path / "log2"]
    for hop in (1, 2):
        root = moved(nursery, root, tmp_path / f"images{hop}", logs[hop - 1], logs[hop])
    signal.pidfd_send_signal(root.pidfd, signal.SIGTERM)
    nursery.till(lambda: "a" in nursery.ended, "its end")
    status, used = nursery.ended["a"]
    assert status is not None
    assert told_by(status)[:2] == (7, None)
    assert used
    assert used.utime_s + used.stime_s > 0
    written = b"".join(log.read_bytes() for log in logs).split()
    assert written == [b"%d" % n for n in range(len(written))]
    assert len(written) >= 30


def test_a_signal_that_ends_it_afterwards_is_told_as_it_was(
    nursery: Nursery, tmp_path: Path
) -> None:
    root = counting(nursery, "a", *PROGRAMS["perl"])
    root = moved(nursery, root, tmp_path / "images", nursery.log("a"), tmp_path / "log1")
    pidfd.signal_group(root.pidfd, root.pid, signal.SIGQUIT)
    nursery.till(lambda: "a" in nursery.ended, "its end")
    status, _ = nursery.ended["a"]
    assert status is not None
    assert told_by(status)[:2] == (None, signal.SIGQUIT)


def test_what_was_frozen_goes_on_at_home_when_it_is_not_wanted_elsewhere(
    nursery: Nursery, tmp_path: Path
) -> None:
    root = counting(nursery, "a", *PROGRAMS["sh pipeline"])
    dumped = nursery.dump(root, tmp_path / "images")
    assert dumped.complaint is None
    size = lines(nursery.log("a"))
    criu.thaw(root.init, dumped.stopped)
    nursery.till(lambda: lines(nursery.log("a")) > size, "it counts on")
    nursery.kill(root)
    written = nursery.log("a").read_bytes().split()
    assert written == [b"%d" % n for n in range(len(written))]


def test_a_process_that_had_stopped_itself_stays_stopped(
    nursery: Nursery, tmp_path: Path
) -> None:
    script = "sh -c 'echo $$; kill -STOP $$; echo woken' & i=0; while :; do echo; sleep 0.01; done"
    root = counting(nursery, "a", "sh", "-c", script)
    nursery.till(lambda: len(criu.stopped_in(root.init)) == 1, "the child has stopped")
    child = int(nursery.log("a").read_bytes().split()[0])
    dumped = nursery.dump(root, tmp_path / "images")
    assert dumped.stopped == {child}
    size = lines(nursery.log("a"))
    criu.thaw(root.init, dumped.stopped)
    nursery.till(lambda: lines(nursery.log("a")) > size + 5, "it counts on")
    (still,) = (pid for pid in tree(root.init) if inside(pid) == child)
    assert processes.command_line(still)[0] == b"sh"
    assert states(still) == {"T"}
    assert b"woken" not in nursery.log("a").read_bytes()


@pytest.mark.parametrize(("program", "code", "text"), [
    ("import socket\n"
     "a = socket.create_server(('127.0.0.1', 0)); b = socket.create_connection(a.getsockname())",
     "tcp", "has a TCP connection"),
    ("import ctypes, os, time\nlibc = ctypes.CDLL(None)\nends = os.pipe()\n"
     "if os.fork() == 0: libc.ptrace(0, 0, 0, 0); os.write(ends[1], b'.'); time.sleep(300)\n"
     "os.read(ends[0], 1)", "traced", "debugger"),
    ("import ctypes\nlibc = ctypes.CDLL(None)\n"
     "libc.syscall(425, 8, ctypes.create_string_buffer(200)) >= 0 or exit(3)",
     "io-uring", "io_uring"),
])
def test_what_cannot_be_frozen_runs_on_and_the_reason_is_told(
    nursery: Nursery, tmp_path: Path, program: str, code: str, text: str
) -> None:
    count = "\nimport time\nwhile True: print(flush=True); time.sleep(.01)"
    try:
        root = counting(nursery, "a", sys.executable, "-I", "-S", "-c", program + count)
    except TimeoutError:
        if code == "io-uring" and "a" in nursery.ended:
            pytest.skip("this kernel has no io_uring, or not for us")
        raise
    dumped = nursery.dump(root, tmp_path / "images")
    assert dumped.complaint
    assert (dumped.complaint.code, text in dumped.complaint.text) == (code, True)
    size = lines(nursery.log("a"))
    nursery.till(lambda: lines(nursery.log("a")) > size + 5, "it counts on")


def test_a_restore_that_fails_leaves_nothing_and_says_what_is_missing(
    nursery: Nursery, tmp_path: Path
) -> None:
    carried = tmp_path / "files" / "carried"
    carried.write_text("x")
    program = f"exec 5<{carried}; " + PROGRAMS["handler"][2]
    root = counting(nursery, "a", "sh", "-c", program)
    assert nursery.dump(root, tmp_path / "images").complaint is None
    nursery.kill(root)
    carried.unlink()
    refused = nursery.restore("a", tmp_path / "images", {})
    assert isinstance(refused, Complaint)
    assert (refused.code, refused.text) == ("file-missing", f"{carried} is not there")
    carried.write_text("xy")
    refused = nursery.restore("a", tmp_path / "images", {})
    assert isinstance(refused, Complaint)
    assert refused.code == "file-differs"
    assert str(carried) in refused.text
    assert not nursery.watch.roots


def test_a_dump_that_takes_too_long_is_given_up_and_the_task_runs_on(
    nursery: Nursery, tmp_path: Path
) -> None:
    root = counting(nursery, "a", *PROGRAMS["perl"])
    late = nursery.dump(root, tmp_path / "images", limit_s=0.0)
    assert late.complaint
    assert late.complaint.code == "late"
    size = lines(nursery.log("a"))
    nursery.till(lambda: lines(nursery.log("a")) > size + 5, "it counts on")
    # And it can still be frozen.
    assert nursery.dump(root, tmp_path / "again").complaint is None
