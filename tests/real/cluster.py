"""A real master and real nodes, on this machine, for as long as a test takes.

    with Cluster(tmp_path) as cluster:
        cluster.godwit("execute", "node1", "true")

Each daemon runs below an init of its own (tests/real/init.py), so that it can be killed like in
production.  Leaving the block deregisters the nodes and fails when anything of theirs is left.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pexpect

from clientd.keeper import processes
from godwit.errors import GodwitError
from godwit.ship import pagesocket
from godwit.wire import operations as op
from masterd.client import Client
from masterd.commands import asjson
from tests.real import init

#: Seconds for what takes well under one on an idle machine.
DEADLINE_S = 30.0
PYTHON = (sys.executable, "-P", "-m")


def eventually(true: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    """Looks until ``true()`` holds.  Raises TimeoutError, saying what did not come about."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)


class Daemon:
    """One daemon process below its init; stdout and stderr go to ``told``."""

    def __init__(self, argv: Sequence[str], told: Path, environment: dict[str, str]):
        self.argv = list(argv)
        self.told = told
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, told.open("ab") as output:
                self.init = subprocess.Popen(
                    [sys.executable, "-I", "-S", init.__file__, str(theirs.fileno()), *argv],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    pass_fds=(theirs.fileno(),), env=environment,
                )
            self.pid = int(ours.recv(20))
            self._pidfd = os.pidfd_open(self.pid)

    def send(self, number: int) -> None:
        """To the daemon itself; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    @property
    def ended(self) -> bool:
        """Ended and reaped."""
        try:
            signal.pidfd_send_signal(self._pidfd, 0)
        except ProcessLookupError:
            return True
        return False

    def end(self, number: int = signal.SIGTERM) -> None:
        """Sends the signal and waits until the daemon has ended; its tasks may go on."""
        self.send(number)
        eventually(lambda: self.ended, f"end of {self}\n{self.text()}")

    def close(self, expect_empty: bool) -> list[str]:
        """Ends everything below the init; what was there although nothing should have been."""
        left: list[str] = []
        try:
            self.init.wait(DEADLINE_S if expect_empty else 0)
        except subprocess.TimeoutExpired:
            below = map(described, descendants(self.init.pid))
            left = [f"{each} below init of {self}" for each in below]
            self.init.terminate()
            self.init.wait(DEADLINE_S)
        os.close(self._pidfd)
        return left if expect_empty else []

    def text(self) -> str:
        """What it wrote to stdout and stderr."""
        return self.told.read_text(errors="backslashreplace")

    def __str__(self) -> str:
        first = self.argv.index("-m") + 1 if "-m" in self.argv else 0
        return " ".join(self.argv[first:])


class Cluster:
    """A master and nodes in folders below ``top``; options apply to every clientd.

    ``python``: what runs a module; as another user, perhaps, who owns ``top``.
    """

    def __init__(
        self, top: Path, nodes: Sequence[str] = ("node1", "node2"), options: Sequence[str] = (),
        python: Sequence[str] = PYTHON,
    ):
        self.top = top
        self.state = str(top / "master")
        self.logs = str(top / "logs")
        self.master: Daemon | None = None
        self.nodes: dict[str, Daemon] = {}
        #: By node, what came before its present daemon: tasks of that time live below its init.
        self._earlier: list[tuple[str, Daemon]] = []
        #: By node, how long its log was when its present daemon was started.
        self._log_began: dict[str, int] = {}
        self._names = tuple(nodes)
        self._options = tuple(options)
        self.python = tuple(python)
        #: None that the kernel may give to a connection while the master is away.
        self._listen = f"127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        try:
            self.start_master()
            for name in self._names:
                self.start_node(name)
            self.wait_up(*self._names)
        except BaseException:
            self._end_all()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        left = self._end_all()
        if kind is None:
            assert not left, "left behind: " + "; ".join(left)

    # ---- what a test does with it ----------------------------------------------------------

    def godwit(
        self, *args: str | bytes, input: str | None = None, within_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """One run of the CLI."""
        return subprocess.run(
            [*self.python, "masterd.cli", "--state", self.state, *args],
            input="" if input is None else input, capture_output=True, text=True,
            errors="surrogateescape", timeout=within_s, env=self.environment(),
        )

    def json(self, *args: str) -> Any:
        """What ``godwit ARGS`` (with --json among them) prints, read.  Raises when it fails."""
        done = self.godwit(*args)
        assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def shell(self, term: str = "xterm", columns: int = 100) -> "pexpect.spawn[str]":
        """A person at a terminal, attached to the master by ``godwit shell``."""
        child = pexpect.spawn(
            sys.executable, [*PYTHON[1:], "masterd.cli", "--state", self.state, "shell"],
            env=self.environment(TERM=term), encoding="utf-8", timeout=DEADLINE_S,
            dimensions=(24, columns),
        )
        child.delaybeforesend = None
        return child

    def launch(self, *args: str) -> dict[str, Any]:
        """The one task that ``execute --json ARGS`` started."""
        (task,) = self.json("execute", "--json", *args)["tasks"]
        found: dict[str, Any] = task
        return found

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Every task by its id, as ``list`` has it."""
        with self.client() as client:
            nodes = client.ask(op.ListNodes(0), op.Nodes).nodes
        return {view.task.id: asjson.task(view) for node in nodes for view in node.tasks}

    def shown(self, task: str) -> dict[str, Any]:
        """One task as ``list`` has it."""
        return self.tasks()[task]

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """A connection of the operator's, without the CLI."""
        client = Client.connect(self.state)
        try:
            yield client
        finally:
            client.close()

    def environment(self, **more: str) -> dict[str, str]:
        """The tests' own environment without GODWIT_*, and with a home folder of the cluster's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("GODWIT_")}
        return {**kept, "HOME": str(self.top), **more}

    @property
    def address(self) -> str:
        """HOST:PORT of the master."""
        return (self.top / "master" / "address").read_text().strip()

    def states(self) -> dict[str, str]:
        """Each node's state as the master sees it; nothing while there is no master."""
        try:
            with self.client() as client:
                return {n.name: n.state for n in client.ask(op.ListNodes(0), op.Nodes).nodes}
        except GodwitError:
            return {}

    def wait_up(self, *names: str) -> None:
        """Until these nodes are up, and each has joined since its daemon was started."""
        def up() -> bool:
            if not all(map(self._joined, names)):  # which asks nobody
                return False
            states = self.states()
            return all(states.get(name) == "up" for name in names)

        eventually(up, f"{', '.join(names)} up\n{self.told()}")

    def _joined(self, name: str) -> bool:
        """Its log says so; a node whose daemon was killed is up till the master misses it."""
        with contextlib.suppress(FileNotFoundError), self.log(name).open("rb") as log:
            log.seek(self._log_began.get(name, 0))
            return b"joined the master" in log.read()
        return False

    def _up(self) -> set[str]:
        return {name for name, state in self.states().items() if state == "up"}

    def _gets_an_agent(self, name: str) -> bool:
        """Its agent ended, and another has not joined yet."""
        with contextlib.suppress(FileNotFoundError):
            told = self.log(name).read_text(errors="replace")
            ended = map(told.rfind, ("; another starts in ", "the agent ended for another"))
            return max(ended) > told.rfind("joined the master")
        return False

    def log(self, name: str) -> Path:
        """The log of a node's daemon."""
        return Path(self.logs, name, "clientd.log")

    def told(self) -> str:
        """What all daemons wrote, for the message of a failure."""
        daemons = [self.master, *self.nodes.values()]
        return "\n".join(f"--- {d}\n{d.text()}" for d in daemons if d)

    # ---- daemons ---------------------------------------------------------------------------

    def start_master(self) -> None:
        """Starts the master and waits until it answers; again on the port and state it had."""
        self.master = self._daemon(
            "master",
            [
                *self.python, "masterd", "--headless", "--listen", self._listen,
                "--state", self.state, "--logs", self.logs,
            ],
            self.top / "masterd.err", self.environment(),
        )
        eventually(self._answers, f"masterd answers\n{self.master.text()}")
        self._listen = self.address

    def start_node(self, name: str, *options: str) -> None:
        """Starts a node that joins the master; again on the state it had."""
        if earlier := self.nodes.pop(name, None):
            self._earlier.append((name, earlier))
        log = self.log(name)
        self._log_began[name] = log.stat().st_size if log.exists() else 0
        self.nodes[name] = self._daemon(
            name,
            [
                *self.python, "clientd", "--name", name, "--master", self.address,
                "--token-file", self.token_file(),
                "--state", self._folder(name), "--logs", self.logs, *self._options, *options,
            ],
            self.top / f"{name}.err", self.environment(),
        )

    def start_waiting_node(self, name: str, *options: str) -> tuple[str, str]:
        """Starts a node that waits for ``register``; its host and port once it listens."""
        port = str(free_port())
        self.nodes[name] = daemon = self._daemon(
            name,
            [
                *self.python, "clientd", "--name", name, "--listen", f"127.0.0.1:{port}",
                "--state", str(self.top / name), "--logs", self.logs, *options,
            ],
            self.top / f"{name}.err", self.environment(),
        )
        eventually(lambda: f"listening on 127.0.0.1:{port}" in daemon.text(), f"{name} listens")
        return "127.0.0.1", port

    def code_file(self, name: str) -> str:
        """A copy of the code that a node which waits for ``register`` asks for."""
        copy = self.top / f"{name}.code"
        if not copy.exists():
            code = self.top / name / "agent" / "trust" / "code"
            eventually(code.exists, f"the code of {name}")
            copy.write_text(code.read_text())
        return str(copy)

    def _folder(self, name: str) -> str:
        """A node's state folder, as the node calls it."""
        return str(self.top / name)

    def agent(self, name: str) -> int:
        """The pid of a node's agent, once it has one."""
        found: list[int] = []

        def there() -> bool:
            found[:] = self._agents(name)
            return bool(found)

        eventually(there, f"an agent of {name}")
        return found[0]

    def _agents(self, name: str) -> list[int]:
        found = []
        for pid in children(self.nodes[name].pid):
            with contextlib.suppress(OSError):
                is_pager = Path(f"/proc/{pid}/comm").read_text().strip() == pagesocket.NAME
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"clientd.agent" in words and not is_pager:
                    found.append(pid)
        return found

    def token_file(self) -> str:
        """A file with a token that lets any node join, made at first need."""
        path = self.top / "token"
        if not path.exists():
            with self.client() as client:
                request = op.MakeToken(0, uses=1000, ttl_s=3600.0)
                path.write_text(client.ask(request, op.TokenMade).token)
        return str(path)

    def _daemon(
        self, name: str, argv: Sequence[str], told: Path, environment: dict[str, str]
    ) -> Daemon:
        """Starts one, ``master`` or a node; on this machine."""
        return Daemon(argv, told, environment)

    def kill_master(self) -> None:
        """kill -9."""
        assert self.master
        self.master.end(signal.SIGKILL)
        self.master.close(expect_empty=True)
        self.master = None

    def restart_master(self) -> None:
        """Starts the master that was killed."""
        self.start_master()

    def kill_node(self, name: str) -> None:
        """kill -9 of the keeper; its tasks live on."""
        self.nodes[name].end(signal.SIGKILL)

    def restart_node(self, name: str, *options: str) -> None:
        """Starts the clientd that was killed, and waits until the master has it again."""
        self.start_node(name, *options)
        self.wait_up(name)

    def _answers(self) -> bool:
        assert self.master
        if self.master.ended:
            raise RuntimeError(f"masterd ended\n{self.master.text()}")
        with contextlib.suppress(GodwitError), self.client():
            return True
        return False

    def _end_all(self) -> list[str]:
        """Ends everything, in order where that can be; what was left where nothing should be."""
        dismissed = self._deregister()
        left: list[str] = []
        for name, daemon in [*self.nodes.items(), *self._earlier]:
            left += daemon.close(expect_empty=name in dismissed)
        if self.master:
            left += self.master.close(expect_empty=bool(dismissed))
        return left

    def _deregister(self) -> set[str]:
        """Has the master dismiss the nodes that are up, and stop; their names.

        A node is up for some seconds without its agent: then it could not be told.
        """
        def whole() -> bool:
            return not any(map(self._gets_an_agent, self._up()))

        with contextlib.suppress(TimeoutError):
            eventually(whole, "nodes have their agents")
        up = self._up()
        try:
            with self.client() as client:
                client.ask(op.StopMaster(0, deregister=True), op.Ok)
        except GodwitError:
            return set()
        return up


def hang_up(child: "pexpect.spawn[str]") -> None:
    """Closes a terminal and ends who is at it.

    close() itself fails when one that it killed is not gone a tenth of a second later.
    """
    with contextlib.suppress(pexpect.ExceptionPexpect):
        child.close(force=True)
        return
    child.wait()
    child.close()


def policy(top: Path, text: str) -> str:
    """A policy file for nodes, who are given it by --config."""
    path = top / "clientd.toml"
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def free_port() -> int:
    """A TCP port that nobody listens on, below those the kernel gives to connections.

    Of those that are for this worker of pytest's: another may be about to listen on one of its.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    begin = 20_000 + 1000 * (worker % 12)
    while True:
        port = random.randrange(begin, begin + 1000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def children(pid: int) -> list[int]:
    """Pids of a process's children; none of a process that is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]
    return []


def is_stopped(pid: int) -> bool:
    """SIGSTOP has had its effect."""
    found = processes.look(pid)
    return found is not None and found.state == "T"


def living(task: str, below: int) -> set[int]:
    """Processes of a task among the descendants of ``below``, on whichever host: their pids as
    they are seen from here."""
    mark = b"GODWIT_TASK=" + task.encode()
    found = set()
    for pid in descendants(below):
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    return found


def described(pid: int) -> str:
    """For who reads what is left."""
    process = processes.look(pid)
    words = b" ".join(processes.command_line(pid)).decode(errors="backslashreplace")[:100]
    return f"pid {pid} ({process.state if process else 'gone'} {words})"


def descendants(pid: int) -> list[int]:
    """Pids of all below a process."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found
