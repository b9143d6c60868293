"""Tasks of another user move as root's do, and have that user's rights alone wherever they are."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard

from clientd.keeper import processes, whose
from clientd.keeper.apart import init_of, is_init
from clientd.keeper.moves import parcel
from clientd.keeper.processes import tree
from clientd.keeper.shadows.process import NAME
from tests.real.cluster import eventually, policy
from tests.real.moving import MovingProcesses
from tests.real.specimens import PROGRAMS

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root acts for other users"),
]
USER = pwd.getpwnam("nobody")
#: What executes other words as USER.
AS_USER = (
    whose.SETPRIV, f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups",
    "--inh-caps=-all", "--",
)
#: Of /proc/PID/status.
RIGHTS = (
    "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
)
#: The tag of that in CRIU's creds_entry, a protobuf's: field 18, a varint.
NO_NEW_PRIVS = b"\x90\1"
#: In an init's folder of proc(5).
HIDDEN = ("mem", "environ", "maps", "cwd/.", "root/.", "fd/0", "ns/pid", "exe")
#: Counts into a file that it made, and to its log.
WRITING = """
$| = 1; $SIG{TERM} = sub { exit 7 };
open($out, ">", "counted"); chmod(0640, "counted"); select($out); $| = 1; select(STDOUT);
for ($n = 0;; $n++) { print "$n\\n"; print $out "$n\\n"; select(undef, undef, undef, 0.005) }
"""
#: Counts, with a file open that it could write to.
HOLDING = """
$| = 1; $SIG{TERM} = sub { exit 7 };
open($held, "+<", $ARGV[0]) or die;
for ($n = 0;; $n++) { print "$n\\n"; select(undef, undef, undef, 0.005) }
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[MovingProcesses]:
    """Not below pytest's own folders: no other user is let into these.  On node3 only USER's tasks
    may run."""
    with TemporaryDirectory(prefix="users-") as top:
        os.chmod(top, 0o711)
        with MovingProcesses(Path(top)) as cluster:
            file = policy(Path(top), f"users = ['{USER.pw_name}']")
            cluster.start_node("node3", "--config", file)
            cluster.wait_up("node3")
            yield cluster


def counter(cluster: MovingProcesses, *argv: str, cwd: str = "/") -> str:
    """A task of USER's on node1 that counts."""
    words = ("--user", USER.pw_name, "--cwd", cwd, "node1", "--", *argv)
    task = str(cluster.launch(*words)["task"])
    eventually(lambda: len(cluster.numbers("node1", task)) > 3, f"{task} counts")
    return task


def program(cluster: MovingProcesses, task: str) -> int:
    return int(cluster.shown(task)["pid"])


def rights(cluster: MovingProcesses, task: str) -> dict[str, list[str]]:
    status = whose.status(program(cluster, task))
    return {name: status[name] for name in RIGHTS}


def ends_with_7(cluster: MovingProcesses, task: str) -> None:
    assert cluster.godwit("signal", task, "TERM").returncode == 0
    assert cluster.godwit("wait", "--timeout", "60", task).returncode == 7


def test_it_has_its_users_rights_alone_wherever_it_is(pair: MovingProcesses) -> None:
    tasks = [counter(pair, *PROGRAMS[name]) for name in ("handler", "sh pipeline")]
    before = [rights(pair, task) for task in tasks]
    for was in before:
        assert was["Uid"] == [str(USER.pw_uid)] * 4 and was["Gid"] == [str(USER.pw_gid)] * 4
        assert {int(was[f"Cap{kind}"][0], 16) for kind in ("Inh", "Prm", "Eff", "Amb")} == {0}
        assert was["NoNewPrivs"] == ["1"]
    for task in tasks:
        (verdict,) = pair.json("why", "--json", task, "node2")["nodes"]
        assert (verdict["verdict"], verdict["reasons"]) == ("yes", []), verdict
    for target, where in (("node2", "node2"), ("home", "node1")):
        moves = pair.json("move", "--json", *tasks, target)["moves"]
        assert [move["result"] for move in moves] == ["done"] * len(tasks), moves
        for task in tasks:
            pair.goes_on(where, task)
        assert [rights(pair, task) for task in tasks] == before
    ends_with_7(pair, tasks[0])
    pids = list(tree(init_of(program(pair, tasks[1]))))
    assert len(pids) > 3 and is_init(pids[0])
    assert pair.godwit("sKill", tasks[1]).returncode == 0
    assert pair.godwit("wait", "--timeout", "60", tasks[1]).returncode == 128 + signal.SIGKILL
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all are gone")


def test_its_init_is_that_user_who_may_mount_and_is_out_of_that_users_reach(
    pair: MovingProcesses
) -> None:
    """What proc(5) has of a process is shown to those who may trace it: ptrace(2)."""
    task = counter(pair, *PROGRAMS["perl"])
    for _ in range(2):
        init = init_of(program(pair, task))
        status = whose.status(init)
        assert status["Uid"] == [str(USER.pw_uid)] * 4 and status["NoNewPrivs"] == ["1"]
        assert int(status["CapPrm"][0], 16) == 1 << 21
        hidden = [f"/proc/{init}/{name}" for name in HIDDEN]
        looked = as_user("cat", *hidden, os.path.realpath(f"/proc/{init}/cwd"))
        assert looked.stdout == "" and looked.stderr.count("denied") == len(HIDDEN) + 1, looked
        # The same may look into the program.
        assert as_user("cat", f"/proc/{program(pair, task)}/environ").returncode == 0
        pair.move(task, "node2" if pair.shown(task)["node"] == "node1" else "node1")
    ends_with_7(pair, task)


def as_user(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*AS_USER, *words], capture_output=True, text=True, check=False)


def test_what_it_writes_goes_along_and_stays_its_users(pair: MovingProcesses) -> None:
    for node in ("node1", "node2"):
        # Its user is let into this folder of the node's.
        (folder := pair.files(node) / "users").mkdir()
        os.chown(folder, USER.pw_uid, USER.pw_gid)
        for above in (pair.files(node), pair.files(node).parent):
            above.chmod(0o711)
    task = counter(pair, "perl", "-e", WRITING, cwd="users")
    for target in ("node2", "node1", "node2"):
        pair.move(task, target)
        pair.goes_on(target, task)
        counted = pair.files(target) / "users" / "counted"
        found = counted.stat()
        assert (found.st_uid, found.st_gid) == (USER.pw_uid, USER.pw_gid)
        assert found.st_mode & 0o777 == 0o640
    ends_with_7(pair, task)
    numbers = [int(line) for line in counted.read_text().split()]
    assert numbers == list(range(len(numbers))) and len(numbers) > 10


def test_its_user_signals_it_by_the_shadow_that_it_leaves_at_home(pair: MovingProcesses) -> None:
    task = counter(pair, *PROGRAMS["perl"])
    pair.move(task, "node2")
    title = (NAME, task.encode(), b"->", b"node2")

    def shadows() -> list[int]:
        return [
            one.pid for one in processes.everyone()
            if not one.is_dead and processes.command_line(one.pid)[:4] == title
        ]

    eventually(lambda: len(shadows()) == 1, "its shadow")
    (shadow,) = shadows()
    # It first sleeps once it has blocked all signals.
    eventually(lambda: getattr(processes.look(shadow), "state", "") == "S", "it waits for signals")
    assert whose.status(shadow)["Uid"] == [str(USER.pw_uid)] * 4
    assert as_user("kill", "-TERM", str(shadow)).returncode == 0
    assert pair.godwit("wait", "--timeout", "60", task).returncode == 7


def test_a_python_task_of_a_user_moves_too(pair: MovingProcesses) -> None:
    words = ("run", "--json", "--user", USER.pw_name, "-C", "/", "node1", "CountProcess", "1000000",
             "0.005")
    task = str(pair.json(*words)["tasks"][0]["task"])
    eventually(lambda: len(pair.numbers("node1", task)) > 3, f"{task} counts")
    pair.move(task, "node2")
    pair.goes_on("node2", task)
    assert whose.status(program(pair, task))["Uid"] == [str(USER.pw_uid)] * 4
    assert pair.godwit("sKill", task).returncode == 0


def test_a_node_where_root_runs_nothing_takes_none_and_says_so(pair: MovingProcesses) -> None:
    task = counter(pair, *PROGRAMS["perl"])
    refused = pair.godwit("move", task, "node3")
    assert refused.returncode == 1 and "no task runs as root" in refused.stderr, refused.stderr
    pair.goes_on("node1", task)
    pair.godwit("sKill", task)


# ---- snapshots of it ---------------------------------------------------------------------------


def test_what_starts_from_its_snapshot_has_its_users_rights_alone(pair: MovingProcesses) -> None:
    task = counter(pair, *PROGRAMS["sh pipeline"])
    before = rights(pair, task)
    pair.checkpoint(task)
    pair.goes_on("node1", task)
    (fork,) = pair.started("fork", "--json", task)
    assert pair.godwit("sKill", task).returncode == 0
    assert pair.godwit("wait", "--timeout", "60", task).returncode == 128 + signal.SIGKILL
    (again,) = pair.started("restart", "--json", task)
    for each in (fork, again):
        pair.counts_on("node1", each)
        assert rights(pair, each) == before
    pair.move(again, "node2")
    pair.counts_on("node2", again)
    assert rights(pair, again) == before
    for each in (fork, again):
        ends_with_7(pair, each)


def test_a_child_that_has_ended_and_was_not_waited_for_moves_as_that(
    pair: MovingProcesses
) -> None:
    task = counter(pair, "perl", "-e", "fork or exit 3; " + PROGRAMS["perl"][-1])
    # It may count before its child has come so far.
    eventually(lambda: states_below(program(pair, task)) == ["Z"], "its child has ended")
    pair.move(task, "node2")
    pair.goes_on("node2", task)
    assert states_below(program(pair, task)) == ["Z"]
    assert pair.godwit("sKill", task).returncode == 0


def states_below(root: int) -> list[str]:
    below = [processes.look(pid) for pid in tree(root) if pid != root]
    return [found.state for found in below if found]


def tampered(snapshot: Path, member: bytes, was: bytes, now: bytes) -> None:
    """What the last of these bytes in one of its images become."""
    image = bytearray(zstandard.ZstdDecompressor().stream_reader(snapshot.read_bytes()).readall())
    raw = snapshot.with_suffix(".tmp")
    raw.write_bytes(image)
    with raw.open("rb") as file:
        (found,) = (one for one in parcel.opened(file.fileno()).members if one.name == member)
    raw.unlink()
    at = image.rindex(was, found.at, found.at + found.size)
    image[at:at + len(was)] = now
    snapshot.write_bytes(zstandard.compress(image))


def test_what_was_restored_with_another_right_never_runs(pair: MovingProcesses) -> None:
    """As CRIU would, of a process that was made to say something else of itself."""
    task = counter(pair, *PROGRAMS["handler"])
    one = pair.checkpoint(task)
    assert pair.godwit("sKill", task).returncode == 0
    assert pair.godwit("wait", "--timeout", "60", task).returncode == 128 + signal.SIGKILL
    snapshot = pair.top / "node1" / "kept" / f"{one['id']}.zst"
    tampered(snapshot, b"core-2.img", NO_NEW_PRIVS + b"\1", NO_NEW_PRIVS + b"\0")
    refused = pair.godwit("restart", task)
    assert refused.returncode == 1 and "not no_new_privs" in refused.stderr, refused


def test_no_name_that_its_user_made_opens_what_that_user_may_not_open(
    pair: MovingProcesses
) -> None:
    """What is restored is opened by name, and names are the user's own."""
    folder = pair.top / "names"
    folder.mkdir()
    os.chown(folder, USER.pw_uid, USER.pw_gid)
    mine, roots = folder / "mine", pair.top / "roots"
    for path in (mine, roots):
        path.write_text("all may read this")
    os.chown(mine, USER.pw_uid, USER.pw_gid)
    task = counter(pair, "perl", "-e", HOLDING, str(mine))
    pair.checkpoint(task)
    ends_with_7(pair, task)
    (again,) = pair.started("restart", "--json", task)
    pair.counts_on("node1", again)
    ends_with_7(pair, again)
    mine.rename(folder / "other")
    mine.symlink_to(roots)
    refused = pair.godwit("restart", task)
    assert refused.returncode == 1 and "Permission denied" in refused.stderr, refused
