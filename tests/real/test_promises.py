"""Promises that no other test shows: harmed state, floods, slow readers, partitions, pickles."""

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from godwit.names import split_address
from godwit.wire import operations as op
from godwit.wire.preface import CONTROL, JOIN
from masterd.client import Client
from tests.real.cluster import PYTHON, Cluster, descendants, eventually

MB = 1024 * 1024
#: Its first act is to say which task it is.
PROGRAM = 'echo "$GODWIT_TASK" >> "$1"; exec sleep 300'


# ---- harmed state --------------------------------------------------------------------------


def harm(path: Path, how: str) -> None:
    """As a broken disk or a hasty person does it."""
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(data[: len(data) // 3])
    else:
        for at in range(0, len(data), 512):
            data[at] ^= 0x10
        path.write_bytes(data)


def written(ledger: Path) -> list[str]:
    """The words in a file that there may not be yet."""
    return ledger.read_text().split() if ledger.exists() else []


@pytest.mark.timeout(300)
def test_a_master_that_lost_its_database_starts_nothing_again(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with Cluster(tmp_path, nodes=["node1"]) as one:
        tasks = [one.launch("node1", "sh", "-c", PROGRAM, "sh", str(ledger)) for _ in range(3)]
        eventually(lambda: len(written(ledger)) == 3, "each has said which it is")
        for how in ("delete", "truncate", "flip"):
            one.kill_master()
            for path in Path(one.state).glob("master.db*"):
                if not path.name.endswith("damaged"):
                    harm(path, how)
            one.start_master()
            one.wait_up("node1")
            # A node is up when it has said hello, and tells of its tasks next.
            ids = {task["task"] for task in tasks}
            eventually(lambda ids=ids: ids <= one.tasks().keys(), "it has told of them")
            shown = one.tasks()
            for task in tasks:
                now = shown[task["task"]]
                assert (now["status"], now["pid"]) == ("running", task["pid"]), how
            assert sorted(written(ledger)) == sorted(t["task"] for t in tasks), how
        done = one.godwit("sKill", *(task["task"] for task in tasks))
        assert done.returncode == 0, done.stderr


# ---- floods and slow readers ---------------------------------------------------------------


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{pid} has no VmRSS")


def latency(client: Client, count: int = 100) -> float:
    """Seconds that a request takes, in the middle of so many."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        client.ask(op.ListNodes(0), op.Nodes)
        took.append(time.monotonic() - began)
    return statistics.median(took)


class Flood:
    """Callers that say half a hello, junk, or nothing; from several addresses at once."""

    def __init__(self, address: str):
        self._address = split_address(address)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(4)]
        self.calls = 0

    def __enter__(self) -> "Flood":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        held: list[socket.socket] = []
        says = (b"", b"gw", CONTROL, CONTROL + b"\x16\x03\x01", JOIN, b"GET / HTTP/1.1\r\n\r\n")
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                link = socket.create_connection(
                    self._address, 10, (f"127.0.7.{number * 16 + len(held) % 16 + 1}", 0)
                )
                held.append(link)
                link.sendall(says[len(held) % len(says)])
                self.calls += 1
            if len(held) > 200:
                held.pop(0).close()
        for link in held:
            link.close()


def test_a_flood_before_authentication_is_bounded_and_others_are_answered(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one, one.client() as client:
        assert one.master
        calm, before = latency(client), resident(one.master.pid)
        log = Path(one.logs, "masterd.log")
        written = log.stat().st_size
        with Flood(one.address) as flood:
            eventually(lambda: flood.calls > 500, "the flood has begun")
            flooded = latency(client)
            eventually(lambda: flood.calls > 2000, "it goes on")
            grown = resident(one.master.pid) - before
            assert one.states() == {"node1": "up"}
            assert one.godwit("execute", "--wait", "node1", "true").returncode == 0
        # Two processors are shared with the flood itself, so the margins are wide.
        assert flooded < max(200 * calm, 0.5), f"{calm:.4f} s, then {flooded:.4f} s"
        assert grown < 64 * MB, f"{grown} bytes more"
        assert log.stat().st_size - written < 100_000, "it cannot fill the log"


def test_a_reader_that_stopped_reading_costs_the_master_little(tmp_path: Path) -> None:
    size = 200 * MB
    with Cluster(tmp_path, nodes=["node1"]) as one, one.client() as client:
        assert one.master
        calm, before = latency(client), resident(one.master.pid)
        task = one.launch("node1", "head", "-c", str(size), "/dev/zero")["task"]
        with one.client() as dead, one.client() as slow:
            for reader in (dead, slow):
                reader.send(op.FollowLogs(0, (task,), live=True))
            slow.receive(None)
            assert one.godwit("wait", task).returncode == 0
            grown, meanwhile = resident(one.master.pid) - before, latency(client)
        assert grown < 64 * MB, f"{grown} bytes more"
        assert meanwhile < max(200 * calm, 0.5)
        assert one.states() == {"node1": "up"}


# ---- partitions ----------------------------------------------------------------------------

HUB, LEAF = "10.231.77.1", "10.231.77.2"
NSENTER = shutil.which("nsenter") or "nsenter"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def apart() -> Iterator[str]:
    """A network namespace with one link to ours; its name, and that of our end of the link."""
    name = f"gw{os.getpid() % 100_000}"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as err:
        pytest.skip(f"no network namespaces here: {err}")
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "leaf", "netns", name)
        ip("addr", "add", f"{HUB}/24", "dev", name)
        ip("link", "set", name, "up")
        for words in (
            ("addr", "add", f"{LEAF}/24", "dev", "leaf"), ("link", "set", "leaf", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", name, *words)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)
        ip("netns", "del", name)


class Apart(Cluster):
    """A master here, nodes in the namespace ``name``."""

    def __init__(self, top: Path, name: str, nodes: Sequence[str]):
        super().__init__(top, nodes)
        self._name = name
        self._listen = f"{HUB}:0"

    def start_node(self, name: str, *options: str) -> None:
        self.python = (NSENTER, f"--net=/run/netns/{self._name}", *PYTHON)
        try:
            super().start_node(name, *options)
        finally:
            self.python = tuple(PYTHON)


@pytest.mark.root
def test_a_partition_stops_nothing_and_its_node_is_unreachable_not_dead(
    tmp_path: Path, apart: str
) -> None:
    counter = tmp_path / "counter"
    script = f"while :; do echo >> {counter}; sleep 0.05; done"
    with Apart(tmp_path, apart, ["node1"]) as one:
        task = one.launch("node1", "sh", "-c", script)
        ip("link", "set", apart, "down")
        eventually(lambda: one.states().get("node1") == "unreachable", "cut off", 60)
        shown = one.shown(task["task"])
        assert shown["status"] == "unknown" and "unreachable" in shown["reason"]
        size = counter.stat().st_size
        eventually(lambda: counter.stat().st_size > size, "the task goes on")
        refused = one.godwit("execute", "node1", "true")
        assert refused.returncode == 1 and "unreachable" in refused.stderr
        ip("link", "set", apart, "up")
        eventually(lambda: one.states().get("node1") == "up", "it is back", 60)
        # A node is up when it has said hello, and tells of its tasks next.
        eventually(lambda: one.shown(task["task"])["status"] != "unknown", "it has told of it")
        shown = one.shown(task["task"])
        assert (shown["status"], shown["pid"]) == ("running", task["pid"])
        events = [each["text"] for each in one.json("events", "--json", "node1")["events"]]
        assert not [text for text in events if "dead" in text or "lost" in text], events
        assert one.godwit("sKill", task["task"]).returncode == 0


# ---- pickles -------------------------------------------------------------------------------

#: Loaded by every Python that finds it: says that it is there, and each class a pickle names.
AUDIT = """
import os, sys
def tell(text):
    # Opened each time: a process may close what it does not know.
    told = os.open({told!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    os.write(told, f"{{os.getpid()}} {{text}}\\n".encode())
    os.close(told)
def hook(event, given):
    if event == "pickle.find_class":
        tell(f"{{event}} {{given[0]}}.{{given[1]}}")
tell("listens")
sys.addaudithook(hook)
"""


class Audited(Cluster):
    """Every Python process of it writes to ``audit`` what classes it unpickles."""

    def environment(self, **more: str) -> dict[str, str]:
        folder = self.top / "site"
        folder.mkdir(exist_ok=True)
        site = folder / "sitecustomize.py"
        site.write_text(AUDIT.format(told=str(self.top / "audit")))
        return super().environment(PYTHONPATH=os.pathsep.join(
            filter(None, (str(folder), os.environ.get("PYTHONPATH")))
        ), **more)

    def pythons(self) -> set[int]:
        """The daemons, and all below them that is Python; the shadow of a task is none."""
        found = set()
        for daemon in filter(None, (self.master, *self.nodes.values())):
            for pid in (daemon.pid, *descendants(daemon.pid)):
                with contextlib.suppress(OSError):
                    if "python" in os.readlink(f"/proc/{pid}/exe"):
                        found.add(pid)
        return found

    def audit(self) -> list[tuple[int, str]]:
        lines = (self.top / "audit").read_text().splitlines()
        return [(int(line.split()[0]), line.partition(" ")[2]) for line in lines]


def test_no_daemon_ever_unpickles(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(100_000))
    unpickle = "import collections, pickle; pickle.loads(pickle.dumps(collections.Counter()))"
    with Audited(tmp_path) as two:
        begun = two.pythons()
        assert two.godwit("copy", str(source), "node1:a").returncode == 0
        assert two.godwit("copy", "node1:a", "node2:b").returncode == 0
        assert two.godwit("execute", "--wait", "-f", "all", "echo", "x").returncode == 0
        task = two.launch("node1", "sleep", "300")["task"]
        for words in (
            ("pause", task), ("resume", task), ("getrusage",), ("list",), ("events",),
            ("logs", task), ("sKill", task), ("remove", "node2:b"), ("remove", task),
        ):
            assert two.godwit(*words).returncode == 0, words
        # That the hook works: a task of a user's may unpickle what it likes.
        environment = f"PYTHONPATH={two.top / 'site'}"
        control = two.json(
            "execute", "--json", "--plain", "-e", environment, "node1", sys.executable, "-c",
            unpickle,
        )["tasks"][0]
        assert two.godwit("wait", control["task"]).returncode == 0
        # And that of a task which moves, its own process alone unpickles it.
        moving = two.json("run", "--json", "node1", "CountProcess", "1000000", "0.01")["tasks"][0]
        assert two.godwit("move", moving["task"], "node2").returncode == 0
        runner = two.shown(moving["task"])["pid"]
        with_zygote = two.pythons()
        assert two.godwit("sKill", moving["task"]).returncode == 0
        # Others come and go: what looks at a task, or is not what it will be.
        daemons = (begun | with_zygote) & two.pythons()
        assert len(daemons) >= len(("master", "keepers", "agents", "zygotes")) * 2 - 1
        listening = {pid for pid, said in two.audit() if said == "listens"}
        assert daemons <= listening
        unpickled = {pid for pid, said in two.audit() if said.startswith("pickle.find_class")}
        assert unpickled == {control["pid"], runner}
