"""Files and folders up, down and between nodes, by the command; whole or not there at all."""

import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.real.cluster import DEADLINE_S, PYTHON, Cluster, eventually, is_stopped, policy
from tests.real.moving import Moving

BIG = 96 * 1024 * 1024
#: Who sends a copy stops by itself after some of its blocks, of 1 MiB each.
PARTLY = "copy.send@8:stop"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that call the master, and one that is called by it; all paths are open."""
    top = tmp_path_factory.mktemp("three")
    options = ["--config", policy(top, '[files]\nroots = ["/"]\n')]
    with Cluster(top, options=options) as cluster:
        host, port = cluster.start_waiting_node("far", *options)
        code = cluster.code_file("far")
        done = cluster.godwit("register", "--code-file", code, host, port, "far")
        assert done.returncode == 0, done.stderr
        cluster.wait_up("far")
        yield cluster


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough bytes to be caught on their way, no two blocks alike."""
    path = tmp_path_factory.mktemp("big") / "big"
    path.write_bytes(os.urandom(BIG))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(top: Path) -> dict[str, object]:
    """A folder as a value: modes, contents, targets of links."""
    found: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = None
        else:
            found[name] = (path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def forest(top: Path) -> Path:
    """A folder with a bit of everything in it."""
    (top / "deep" / "deeper").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "deep" / "script").write_bytes(b"#!/bin/sh\nexit 3\n")
    (top / "deep" / "script").chmod(0o755)
    (top / "deep" / "deeper" / "a name\nwith \xe9").write_bytes(os.urandom(70_000))
    (top / "nothing").touch()
    (top / "link").symlink_to("deep/script")
    (top / "lost").symlink_to("/no/such")
    with (top / "hole").open("wb") as file:
        file.seek(1_000_000)
        file.write(b"end")
    return top


def partials(folder: Path) -> list[Path]:
    return list(folder.glob(".*.godwit-*"))


@pytest.mark.parametrize("first, second", [
    ("node1", "node2"), ("node1", "far"), ("far", "node1"), ("far", "far"), ("node2", "node2"),
])
def test_a_folder_goes_up_across_and_down_unchanged(
    three: Cluster, tmp_path: Path, first: str, second: str
) -> None:
    source = forest(tmp_path / "source")
    up = three.godwit("copy", str(source), f"{first}:{tmp_path}/up")
    assert up.returncode == 0, up.stderr
    across = three.godwit("copy", f"{first}:{tmp_path}/up", f"{second}:{tmp_path}/across")
    assert across.returncode == 0, across.stderr
    assert three.godwit("copy", f"{second}:{tmp_path}/across", f"{tmp_path}/down").returncode == 0
    assert tree(tmp_path / "down") == tree(source)
    # A copied program runs.
    done = three.godwit("execute", "--wait", second, f"{tmp_path}/across/deep/script")
    assert done.returncode == 3
    assert not list(tmp_path.rglob(".*.godwit-*"))


def test_the_json_says_what_was_copied(three: Cluster, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10)
    told = three.json("copy", "--json", str(tmp_path / "f"), "node1:told")
    assert told["copied"]["size"] == 10 and told["copied"]["files"] == 1
    assert told["copied"]["path"].startswith("node1:")
    assert (three.top / "node1" / "files" / "told").read_bytes() == b"x" * 10
    assert three.godwit("remove", "node1:told").returncode == 0
    assert not (three.top / "node1" / "files" / "told").exists()


def test_a_copy_goes_into_a_folder_and_replaces_a_file(three: Cluster, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "new").write_text("old")
    done = three.godwit("copy", str(tmp_path / "new"), f"node1:{tmp_path}/there/")
    assert done.returncode == 0 and f"node1:{tmp_path}/there/new" in done.stderr
    assert (tmp_path / "there" / "new").read_text() == "new"


def test_a_folder_is_removed_only_when_that_is_asked_for(three: Cluster, tmp_path: Path) -> None:
    forest(tmp_path / "top")
    refused = three.godwit("remove", f"node1:{tmp_path}/top")
    assert refused.returncode == 1 and "remove -r" in refused.stderr
    assert (tmp_path / "top" / "nothing").exists()
    said = three.godwit("remove", "-r", "--dry-run", f"node1:{tmp_path}/top")
    assert "would remove" in said.stdout and (tmp_path / "top" / "nothing").exists()
    assert three.godwit("remove", "-r", f"node1:{tmp_path}/top").returncode == 0
    assert not (tmp_path / "top").exists()


@pytest.mark.parametrize("source, target, named", [
    ("no-such", "node1:x", "no-such"), ("node1:no-such", "x", "no-such"),
    ("node1:/etc/hostname", "node2:/no/such/folder/x", "/no/such/folder"),
    ("/dev/zero", "node1:x", "/dev/zero"), ("node1:/dev/zero", "x", "/dev/zero"),
    ("nowhere:x", "y", "nowhere"),
])
def test_what_cannot_be_copied_is_one_line(
    three: Cluster, tmp_path: Path, source: str, target: str, named: str
) -> None:
    done = subprocess.run(
        [*PYTHON, "masterd.cli", "--state", three.state, "copy", source, target], cwd=tmp_path,
        env=three.environment(), capture_output=True, text=True, timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert named in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("contents", ["", "not empty"])
def test_what_is_no_file_is_not_replaced_by_one(
    three: Cluster, tmp_path: Path, contents: str
) -> None:
    (tmp_path / "new").write_text(contents)
    os.mkfifo(tmp_path / "fifo")
    done = three.godwit("copy", str(tmp_path / "new"), f"node1:{tmp_path}/fifo")
    assert done.returncode == 1 and "no file" in done.stderr
    assert (tmp_path / "fifo").is_fifo()
    assert not partials(tmp_path)


def test_a_terminal_shows_a_bar_and_a_pipe_does_not(
    three: Cluster, tmp_path: Path, big: Path
) -> None:
    child = pexpect.spawn(
        PYTHON[0], [*PYTHON[1:], "masterd.cli", "--state", three.state, "copy", str(big),
                    f"node1:{tmp_path}/bar"],
        env=three.environment(TERM="xterm"), encoding="utf-8", timeout=DEADLINE_S,
    )
    try:
        child.expect(r"\d+%\|.*[kMG]?B/s")
        child.expect(pexpect.EOF)
        child.wait()
    finally:
        child.close()
    assert child.exitstatus == 0
    piped = three.godwit("copy", str(big), f"node1:{tmp_path}/bar2")
    assert piped.stderr == f"node1:{tmp_path}/bar2: 1 file, {BIG} bytes\n"


@contextlib.contextmanager
def on_its_way(
    cluster: Cluster, source: str, target: str, folder: Path, sender: int = 0
) -> Iterator["subprocess.Popen[str]"]:
    """A copy of which some megabytes have come; ``sender``, which was started to fail PARTLY, or
    the command itself, is stopped."""
    failing = {} if sender else {"GODWIT_FAILPOINT": PARTLY}
    copy = subprocess.Popen(
        [*PYTHON, "masterd.cli", "--state", cluster.state, "copy", source, target],
        env=cluster.environment(**failing), stderr=subprocess.PIPE, text=True,
    )
    assert copy.stderr
    stopped = sender or copy.pid
    try:
        eventually(lambda: is_stopped(stopped), "its sender stops")
        eventually(lambda: any(p.stat().st_size > 1_000_000 for p in partials(folder)), "bytes")
        yield copy
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stopped, signal.SIGCONT)
        copy.stderr.close()
        copy.kill()
        copy.wait()


def test_an_upload_goes_on_after_the_nodes_agent_was_killed(tmp_path: Path, big: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        folder = tmp_path / "node1" / "files"
        with on_its_way(one, str(big), "node1:big", folder) as copy:
            assert not (folder / "big").exists()
            os.kill(one.agent("node1"), signal.SIGKILL)
            copy.send_signal(signal.SIGCONT)
            assert copy.stderr
            told = copy.stderr.read()
            assert copy.wait(60) == 0, told
        assert "goes on from there" in told
        assert digest(folder / "big") == digest(big)
        assert not partials(folder)


def test_a_copy_between_nodes_goes_on_after_the_receiver_was_killed(
    tmp_path: Path, big: Path
) -> None:
    options = ["--config", policy(tmp_path, f'[files]\nroots = ["{big.parent}"]\n')]
    with Moving(tmp_path, nodes=["node2"], options=options) as two:
        two.start_failing("node1", PARTLY)
        folder = tmp_path / "node2" / "files"
        sender = two.agent("node1")
        with on_its_way(two, f"node1:{big}", "node2:big", folder, sender) as copy:
            assert not (folder / "big").exists()
            os.kill(two.agent("node2"), signal.SIGKILL)
            os.kill(sender, signal.SIGCONT)
            assert copy.stderr
            told = copy.stderr.read()
            assert copy.wait(60) == 0, told
        assert "goes on from there" in told
        assert digest(folder / "big") == digest(big)
        assert not partials(folder)


def test_an_interrupted_copy_leaves_no_half_file_and_is_gone_on_with(
    three: Cluster, tmp_path: Path, big: Path
) -> None:
    with on_its_way(three, str(big), f"node1:{tmp_path}/big", tmp_path) as copy:
        copy.kill()
    assert not (tmp_path / "big").exists()
    (partial,) = partials(tmp_path)
    came = partial.stat().st_ino
    eventually(lambda: unlocked(partial), "the node has let go")
    assert three.godwit("copy", str(big), f"node1:{tmp_path}/big").returncode == 0
    # The very file that was begun.
    assert (tmp_path / "big").stat().st_ino == came
    assert digest(tmp_path / "big") == digest(big)
    assert not partials(tmp_path)


def unlocked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_heartbeats_and_commands_are_not_behind_a_copy(
    three: Cluster, tmp_path: Path, big: Path
) -> None:
    # The sender is stopped in the middle, and nobody else waits.
    with on_its_way(three, str(big), f"node1:{tmp_path}/big", tmp_path) as copy:
        for _ in range(5):
            assert three.godwit("on", "node1", "true").returncode == 0
        eventually(lambda: three.states()["node1"] == "up", "its beats are heard")
        copy.send_signal(signal.SIGCONT)
        assert copy.stderr
        copy.stderr.read()
        assert copy.wait(60) == 0
