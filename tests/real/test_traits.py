"""What decides where a task can go is read from it while it runs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from clientd.keeper import elf, traits, whose
from godwit.task.reasons import OBSTACLES
from godwit.task.verdict import Seen, Traits, judge
from tests.real.cluster import eventually
from tests.real.keeping import Keeping

PAUSE = "import time; time.sleep(300)"
WAIT = (
    "\nimport sys\nprint('ready', flush=True)\nsys.stdin.read()\n"
    "globals().get('end', int)()\n"
)


@contextmanager
def running(program: str, cwd: Path) -> Iterator[int]:
    """A Python program that has come so far; its pid."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program + WAIT], cwd=cwd,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # ours may be a file that pytest has deleted
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


def traits_of(program: str, cwd: Path) -> Traits:
    with running(program, cwd) as pid:
        return traits.read(pid)


def test_a_program_and_its_libraries_are_known_by_their_build_ids(tmp_path: Path) -> None:
    found = traits_of("", tmp_path)
    binaries = {binary.path: binary for binary in found.binaries}
    exe = os.fsencode(os.path.realpath(sys.executable))
    assert exe in binaries
    assert any(b"libc" in path for path in binaries)
    for path, binary in binaries.items():
        assert traits.look(path) == Seen(
            binary.size, binary.build_id, os.stat(path).st_dev, os.stat(path).st_ino
        )
    assert found.machine == os.uname().machine
    assert found.cpu == traits.flags() != frozenset()
    assert not found.contained
    assert found.memory_bytes > 1 << 20


def test_a_lock_that_it_holds_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    program = "import fcntl\na, b = open('a', 'w'), open('b', 'w')\nfcntl.lockf(a, fcntl.LOCK_EX)"
    found = {file.path: file.locked for file in traits_of(program, tmp_path).files}
    assert found == {os.fsencode(tmp_path / "a"): True, os.fsencode(tmp_path / "b"): False}


def test_open_files_are_told_and_which_of_them_go_along(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    inner, outer = tmp_path / "here" / "inner", tmp_path / "outer"
    inner.write_text("12345")
    outer.write_text("1")
    program = f"a, b = open({str(inner)!r}, 'a'), open({str(outer)!r})\nc = open('/dev/null')"
    found = traits_of(program, tmp_path / "here")
    files = {file.path: file for file in found.files}
    assert found.cwd == os.fsencode(tmp_path / "here")
    assert (files[os.fsencode(inner)].size, files[os.fsencode(inner)].carried) == (5, True)
    assert files[os.fsencode(outer)].inode == outer.stat().st_ino
    assert not files[os.fsencode(outer)].carried
    # stdin and stdout, whose other ends are ours; /dev/null is no obstacle.
    assert {kind for kind, _ in found.obstacles} == {"pipe"}


@pytest.mark.parametrize(("program", "kind"), [
    ("import socket\na = socket.create_server(('127.0.0.1', 0))\n"
     "b = socket.create_connection(a.getsockname())", "tcp"),
    ("import socket\na = socket.create_server(('::1', 0), family=socket.AF_INET6)\n"
     "b = socket.create_connection(a.getsockname()[:2])", "tcp"),
    ("import socket\na = socket.create_server(('127.0.0.1', 0))\n"
     "b = socket.create_connection(a.getsockname()); a.accept()[0].close()", "tcp"),
    ("import socket\na = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "socket"),
    ("import os\na = os.pipe2(os.O_DIRECT)", "file-kind"),
    ("import ctypes, os\na = ctypes.CDLL(None).syscall(447, 0); a >= 0 or os._exit(3)",
     "file-kind"),
    ("import ctypes\nlibc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p\n"
     "a = libc.shmget(0, 4096, 0o600); libc.shmat(a, None, 0); libc.shmctl(a, 0, None)", "sysv"),
    ("import os\na, b = os.openpty()", "tty"),
    ("import ctypes, os\nlibc = ctypes.CDLL(None)\n"
     "libc.syscall(425, 8, ctypes.create_string_buffer(200)) >= 0 or os._exit(3)", "io-uring"),
    ("import ctypes\nlibc = ctypes.CDLL(None)\nchild = __import__('os').fork()\n"
     "if not child: libc.ptrace(0, 0, 0, 0); import time; time.sleep(300)\n"
     "import os, time\nend = lambda: (os.kill(child, 9), os.waitpid(child, 0))\n"
     "while 'TracerPid:\\t0' in open(f'/proc/{child}/status').read(): time.sleep(0.01)", "traced"),
])
def test_what_is_in_the_way_is_told(tmp_path: Path, program: str, kind: str) -> None:
    if "SOCK_RAW" in program and os.geteuid() != 0:
        pytest.skip("a raw socket needs root")
    if "INET6" in program and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    try:
        found = traits_of(program, tmp_path)
    except AssertionError:
        if kind in ("io-uring", "file-kind"):
            pytest.skip(f"this kernel has no {kind} of that sort, or not for us")
        raise
    assert kind in {each for each, _ in found.obstacles}
    assert {each for each, _ in found.obstacles} <= OBSTACLES.keys()


#: Each of them CRIU saves from version 4.2 on, and by kernels before Linux 6.16.
INET = [
    "a = socket.create_server(('127.0.0.1', 0))", "a = socket.socket()",
    "a = socket.socket(type=socket.SOCK_DGRAM)",
    "a = socket.socket(type=socket.SOCK_DGRAM); a.bind(('127.0.0.1', 0))",
    "a = socket.socket(socket.AF_INET6)",
]


@pytest.mark.parametrize("program", INET)
def test_sockets_that_nobody_is_connected_to_are_told_where_the_kernel_tells_criu_too_little(
    tmp_path: Path, program: str
) -> None:
    found = {kind for kind, _ in traits_of(f"import socket\n{program}", tmp_path).obstacles}
    with socket.socket() as ours:
        try:
            ours.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
        except OSError:
            assert found == {"pipe", "inet"}
        else:
            assert found == {"pipe"}


@pytest.mark.parametrize("program", [
    "a, b = socket.socketpair()", "a, b = socket.socketpair(type=socket.SOCK_DGRAM)",
    "a, b = socket.socketpair(); b.close()", "a = socket.socket(socket.AF_UNIX)",
    "a = socket.socket(socket.AF_UNIX); a.bind('s'); a.listen()",
    "a = socket.socket(socket.AF_UNIX); a.bind('s'); a.listen()\n"
    "b = socket.socket(socket.AF_UNIX); b.connect('s'); c = a.accept()[0]",
    "a = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
])
def test_sockets_whose_ends_are_its_own_are_in_nobodys_way(tmp_path: Path, program: str) -> None:
    found = traits_of(f"import socket\n{program}", tmp_path)
    assert {kind for kind, _ in found.obstacles} == {"pipe"}  # stdin and stdout


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
@pytest.mark.parametrize("name", ["s", "\0godwit.test.{}"])
def test_the_other_end_of_a_unix_socket_is_named(tmp_path: Path, name: str, kind: int) -> None:
    bound = name.format(os.getpid()) if name[0] == "\0" else str(tmp_path / name)
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(bound)
        if kind != socket.SOCK_DGRAM:
            listener.listen()
        program = f"import socket\na = socket.socket(1, {int(kind)}); a.connect({bound!r})"
        with running(program, tmp_path) as pid:
            accepted = listener if kind == socket.SOCK_DGRAM else listener.accept()[0]
            with accepted:
                told = dict(traits.read(pid).obstacles)
    assert told["unix-socket"] == bound.replace("\0", "@")


def test_of_many_connections_one_is_named(tmp_path: Path) -> None:
    program = (
        "import socket\na = socket.create_server(('127.0.0.1', 0))\n"
        "b = [(socket.create_connection(a.getsockname()), a.accept()[0]) for _ in range(3)]"
    )
    (named,) = [name for kind, name in traits_of(program, tmp_path).obstacles if kind == "tcp"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+ and 3 more", named)


def test_a_unix_socket_of_another_network_has_an_end_that_cannot_be_seen(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("another network needs root")
    program = (
        "import ctypes, socket\nctypes.CDLL(None).unshare(0x40000000) == 0 or exit(3)\n"
        "a, b = socket.socketpair()"
    )
    assert "unix-unseen" in dict(traits_of(program, tmp_path).obstacles)


def test_a_pipe_of_its_own_and_what_is_waited_on_are_in_nobodys_way(tmp_path: Path) -> None:
    found = traits_of(
        "import os, select\na = os.pipe(); b = select.epoll(); c = os.eventfd(0)", tmp_path
    )
    assert [kind for kind, _ in found.obstacles] == ["pipe"]  # stdin and stdout, to us


def test_who_has_the_other_end_of_a_pipe_is_named(tmp_path: Path) -> None:
    found = traits_of("import os\na, b = os.pipe(); os.close(a)", tmp_path)
    comm = Path("/proc/self/comm").read_text().strip()
    assert found.obstacles == (("pipe", f"pid {os.getpid()} ({comm})"),)


def test_files_that_are_locked_and_leased_are_told_and_no_lease_is_broken(tmp_path: Path) -> None:
    program = (
        "import fcntl\na, b = open('a', 'w'), open('b', 'w')\n"
        "fcntl.fcntl(a, fcntl.F_SETLEASE, fcntl.F_WRLCK); fcntl.flock(b, fcntl.LOCK_EX)"
    )
    with running(program, tmp_path) as pid:
        found = [traits.read(pid) for _ in range(2)]  # SIGIO would have ended it
    first, second = (replace(each, memory_bytes=0) for each in found)  # it may take some just now
    assert first == second
    assert ("lease", str(tmp_path / "a")) in found[0].obstacles
    locked = {file.path for file in found[0].files if file.locked}
    assert locked == {os.fsencode(tmp_path / "b")}


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    if os.geteuid() != 0:
        pytest.skip("pid namespaces need root")
    with Keeping(tmp_path_factory.mktemp("traits")) as keeping:
        if "apart" not in keeping.facts.can:
            pytest.skip(f"no pid namespaces here: {keeping.facts.lacks['apart']}")
        yield keeping


def contained(keeping: Keeping, program: str) -> Traits:
    """Of a task, once its program has done all of that."""
    words = (sys.executable, "-I", "-S", "-c", f"{program}\nprint('ready', flush=True)\n{PAUSE}")
    task = keeping.start(*words, contained=True)
    eventually(lambda: keeping.log(task) == b"ready\n", "ready")
    try:
        return traits.read(keeping.agent.tasks[task].pid or 0)
    finally:
        keeping.signal(task, signal.SIGKILL, whole=True)


@pytest.mark.parametrize(("kind", "flag"), [
    ("mnt", 0x00020000), ("net", 0x40000000), ("uts", 0x04000000), ("ipc", 0x08000000),
    ("pid", 0x20000000), ("user", 0x10000000), ("cgroup", 0x02000000),
])
def test_a_namespace_of_its_own_is_told(keeping: Keeping, kind: str, flag: int) -> None:
    found = contained(
        keeping, f"import ctypes, subprocess\nassert ctypes.CDLL(None).unshare({flag}) == 0\n"
        "subprocess.Popen(['sleep', '300'])"  # a pid namespace begins with a child
    )
    assert found.obstacles == (("namespace", kind),)


def test_a_process_of_another_user_is_told_where_criu_may_not_look_into_it(
    keeping: Keeping,
) -> None:
    found = contained(
        keeping, "import subprocess; subprocess.Popen(['sleep', '300'], user=65534)"
    )
    rights = int(whose.status("self")["CapEff"][0], 16)
    has_all = bool(rights >> whose.CAP_SYS_RESOURCE & 1)
    assert [kind for kind, _ in found.obstacles] == ([] if has_all else ["other-user"])


@pytest.mark.parametrize("program", ["", "import os\nif os.fork() == 0: os._exit(0)\n"
                         "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)"])
def test_a_task_with_nothing_special_and_a_zombie_have_nothing_in_the_way(
    keeping: Keeping, program: str
) -> None:
    assert contained(keeping, program).obstacles == ()


def test_a_task_could_go_where_it_is_but_for_what_is_in_the_way(tmp_path: Path) -> None:
    found = traits_of("", tmp_path)
    can = ("apart", "criu=4.1.1")
    here = traits.place("here", can, {}, found.needs)
    assert here.files.keys() == set(found.needs)
    assert here.free_bytes > 0
    verdict = judge(found, here, here)
    # Started by hand, with pipes that are ours.
    assert [reason.code for reason in verdict.reasons] == ["plain", "pipe"]


def test_a_task_that_is_gone_has_nothing(tmp_path: Path) -> None:
    with running("", tmp_path) as pid:
        pass
    found = traits.read(pid)
    assert (found.binaries, found.files, found.obstacles) == ((), (), ())


def test_a_file_that_is_not_there_is_not_seen(tmp_path: Path) -> None:
    assert traits.look(os.fsencode(tmp_path / "none")) is None


# ---- build ids -----------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("readelf"), reason="no readelf to compare with")
def test_a_build_id_is_what_readelf_says() -> None:
    for path in ("/bin/sh", "/usr/bin/env", "/bin/ls"):
        told = subprocess.run(["readelf", "-n", path], capture_output=True, text=True).stdout
        wanted = told.partition("Build ID: ")[2].split("\n")[0]
        assert wanted
        assert elf.build_id(os.fsencode(path)) == wanted


def test_what_is_no_program_has_no_build_id(tmp_path: Path) -> None:
    whole = Path("/bin/sh").read_bytes()
    for name, content in (
        ("empty", b""), ("text", b"#!/bin/sh\n"), ("magic", b"\x7fELF"),
        ("cut", whole[:64]), ("cut later", whole[:200]), ("wild", whole[:4] + b"\xff" * 500),
        ("far", whole[:32] + b"\xff" * 7 + whole[39:4096]),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert elf.build_id(os.fsencode(path)) == ""
    assert elf.build_id(os.fsencode(tmp_path)) == ""
