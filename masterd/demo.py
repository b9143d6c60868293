"""bin/demo: a master, some nodes and a shell on this machine; afterwards all of it is gone.

The daemons' state is a scratch folder.  They end when the shell does, however that ends: in
order if the master answers, by force if not.  Should this process be killed with no chance to do
that, the master gets SIGTERM from the kernel and the nodes follow their orphan policy.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import docopt

from godwit.errors import GodwitError, StartError, UsageError
from godwit.wire import operations as op
from masterd import shell
from masterd.client import Client

USAGE = """\
A master with some nodes on this machine, and a shell.  All of it ends with the shell.

Usage: demo [--nodes N]

Options:
  --nodes N   how many nodes, at most 50 [default: 2]
  -h, --help  this text
"""

MOST_NODES = 50
#: Seconds the daemons have to start, and the nodes to join.
START_S = 20.0
#: Seconds without a master after which a node ends its tasks and itself.
ORPHANS_S = 10
#: Seconds the daemons have to end after they were told to, or have lost their master.
END_S = ORPHANS_S + 5.0
#: Lines shown of what a daemon wrote that did not start.
SHOWN = 10

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """The shell's exit status; 1 when the daemons do not start, 2 for wrong usage."""
    try:
        return demonstrate(asked(sys.argv[1:]))
    except UsageError as err:
        print(f"demo: {err}", file=sys.stderr)
        return err.exit_status
    except GodwitError as err:
        print(f"demo: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def asked(argv: Sequence[str]) -> int:
    """How many nodes.  Raises UsageError."""
    try:
        given = docopt.docopt(USAGE, list(argv))["--nodes"]
    except docopt.DocoptExit as err:
        raise UsageError(f"usage: demo [--nodes N], not {argv}", exit_status=2) from err
    if not (given.isascii() and given.isdigit() and 1 <= int(given[:4]) <= MOST_NODES):
        raise UsageError(f"--nodes: 1 to {MOST_NODES} can be had, not {given}", exit_status=2)
    return int(given)


def demonstrate(nodes: int) -> int:
    """Starts everything, runs the shell, ends everything."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # What was ignored when we were started (nohup) stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)
    # What nodes leave behind, which may end before the shell does, becomes ours.
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory(prefix="godwit-demo-") as top, ended(Daemons(top)) as daemons:
        address = daemons.start(nodes)
        if sys.stdin is not None and sys.stdin.isatty():
            print(
                f"demo: a master on {address} with {nodes} nodes; `help` says what there is,"
                " `exit` ends it all",
                file=sys.stderr,
            )
        return shell.main(daemons.state, owns_master=True)


def leave(number: int, _frame: FrameType | None) -> None:
    """A signal handler: ends by way of all clean-up."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def ended(daemons: "Daemons") -> Iterator["Daemons"]:
    """Whatever happens in the block, nothing of the daemons is left after it."""
    try:
        yield daemons
    finally:
        # From here on everything has its deadline; being hurried would leave things behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        daemons.end()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Daemons:
    """A master and nodes below the folder ``top``, as children of this process."""

    def __init__(self, top: str):
        self.state = os.path.join(top, "master")
        self._top = top
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, nodes: int) -> str:
        """The master's HOST:PORT, once all nodes are up.  Raises StartError."""
        deadline = time.monotonic() + START_S
        self._start(
            "masterd", "--headless", "--listen", "127.0.0.1:0", "--state", self.state,
            "--logs", os.path.join(self._top, "logs"), with_us=True,
        )
        with self._connected(deadline) as client:
            address = client.attached.address if client.attached else ""
            names = [f"node{n}" for n in range(1, nodes + 1)]
            token = client.ask(op.MakeToken(0, uses=nodes), op.TokenMade).token
            token_file = os.path.join(self._top, "token")
            with open(token_file, "w", opener=_private) as file:
                file.write(token)
            for name in names:
                self._start(
                    "clientd", "--name", name, "--master", address, "--token-file", token_file,
                    "--state", os.path.join(self._top, name),
                    "--logs", os.path.join(self._top, "logs"), "--orphans", f"kill={ORPHANS_S}",
                    called=name,
                )
            while not self._up(client, names):
                self._wait(deadline)
        return address

    def end(self) -> None:
        """Deregisters the nodes and stops the master, or waits until they see that it is gone.

        What then still runs is killed.
        """
        with contextlib.suppress(GodwitError):
            self._dismiss(time.monotonic() + END_S)
        deadline = time.monotonic() + END_S
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in self._running.values():
            process.kill()
            process.wait()
        _end_children()

    def _start(self, module: str, *args: str, called: str = "", with_us: bool = False) -> None:
        name = called or module
        with open(self._told(name), "wb") as told:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *args],
                stdin=subprocess.DEVNULL, stdout=told, stderr=told,
                # Ctrl-C in the shell is not meant for them.
                start_new_session=True,
                preexec_fn=_ends_with(os.getpid()) if with_us else None,
            )

    def _told(self, name: str) -> str:
        return os.path.join(self._top, f"{name}.stderr")

    @contextlib.contextmanager
    def _connected(self, deadline: float) -> Iterator[Client]:
        """A connection to the master as soon as it answers.  Raises StartError."""
        while True:
            with contextlib.suppress(UsageError):
                client = Client.connect(self.state)
                break
            self._wait(deadline)
        with contextlib.closing(client):
            yield client

    def _up(self, client: Client, names: Sequence[str]) -> bool:
        """Each is up and has told how busy it is, so that a first `list` is whole."""
        nodes = client.ask(op.ListNodes(0), op.Nodes).nodes
        told = {node.name for node in nodes if node.state == "up" and node.load.memory_bytes}
        return told >= set(names)

    def _wait(self, deadline: float) -> None:
        """A moment, before another look.  Raises StartError when it is no use to wait."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise StartError(f"{name} did not start:\n{self._last_words(name)}")
        if time.monotonic() > deadline:
            told = "\n".join(f"{name}:\n{self._last_words(name)}" for name in self._running)
            raise StartError(f"the nodes did not join within {START_S:g} s\n{told}")
        time.sleep(0.02)

    def _last_words(self, name: str) -> str:
        with open(self._told(name), encoding="utf-8", errors="backslashreplace") as told:
            return "".join(told.readlines()[-SHOWN:]).rstrip()

    def _dismiss(self, deadline: float) -> None:
        stop = op.StopMaster(0, deregister=True)
        with (
            contextlib.closing(Client.connect(self.state)) as client,
            client.stream(stop, deadline=deadline) as answers,
        ):
            for _ in answers:
                pass


#: Loaded before any fork.
_libc = ctypes.CDLL(None)


def _prctl(option: int, value: int) -> None:
    _libc.prctl(option, value, 0, 0, 0)


def _ends_with(parent: int) -> Callable[[], None]:
    """For a child between fork and exec: SIGTERM when its parent dies."""

    def bind() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have died before the kernel was told.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return bind


def _end_children() -> None:
    """Kills the children; theirs then become ours, until none is left."""
    while pids := _children():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(-1, 0)


def _children() -> list[int]:
    """Pids of children that have not been reaped, of all threads: proc(5)."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children") as file:
            found += map(int, file.read().split())
    return found


if __name__ == "__main__":
    sys.exit(main())
