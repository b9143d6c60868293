"""Several hosts on this machine, for as long as a test takes: each with its own network, pids,
mounts and name, on a switch of the test's own.

    with Hosts("master", "node1", "node2") as hosts:
        daemon = hosts["node1"].start([...], told, environment)
        hosts.partition({"node1"}, {"master", "node2"})
        hosts.heal()

No namespace has a name that could be left over: they end with their processes, and those with the
block, whatever happened in it.  Nothing is to be seen of it in this machine's own network.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest

from clientd.keeper.criu import inside
from tests.real import host_main
from tests.real.cluster import (
    DEADLINE_S,
    Cluster,
    Daemon,
    children,
    descendants,
    described,
    eventually,
)

TOP = Path(__file__).parent.parent.parent
#: Of the switch's network, which is nobody else's.
PREFIX = "10.99.0."
#: What the hosts are made with.
NEEDS = ("unshare", "nsenter", "ip")


def missing() -> str:
    """Why there can be no hosts here, or nothing."""
    if os.geteuid() != 0:
        return "hosts in namespaces need root"
    lacking = [name for name in NEEDS if not shutil.which(name)]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "ip", "link",
         "add", "br0", "type", "bridge"], capture_output=True, text=True,
    )
    return done.stderr.strip()


class Host:
    """One host: pid 1 of its namespaces is ours to give orders to."""

    def __init__(self, name: str, address: str):
        self.name = name
        self.address = address
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._unshare = subprocess.Popen(
                ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child",
                 "--mount-proc", sys.executable, "-I", "-S", host_main.__file__, name,
                 str(theirs.fileno())],
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
            )
        self._orders = ours
        if not ours.recv(host_main.MOST):
            self.close()
            raise RuntimeError(f"the host {name} did not come up")
        #: Of pid 1, as it is seen from here.
        (self.pid,) = children(self._unshare.pid)

    def start(self, argv: Sequence[str], told: Path, environment: Mapping[str, str]) -> int:
        """Starts a program there; its pid as it is seen from here.  Output goes to ``told``."""
        order = {"argv": list(argv), "output": str(told), "environment": dict(environment)}
        self._orders.send(json.dumps(order).encode())
        answer = json.loads(self._orders.recv(host_main.MOST))
        if "error" in answer:
            raise OSError(f"{self.name}: {argv[0]}: {answer['error']}")
        return next(pid for pid in children(self.pid) if inside(pid) == answer["pid"])

    def run(self, *argv: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs a program there and waits for it."""
        return subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", *argv], check=check,
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )

    def close(self) -> None:
        """Ends it and everything in it."""
        self._orders.close()
        try:
            self._unshare.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            for pid in children(self._unshare.pid):
                os.kill(pid, signal.SIGKILL)
            self._unshare.wait()


class Hosts:
    """Hosts by name, the switch between them, and the links."""

    def __init__(self, *names: str):
        self._names = names
        self._hosts: dict[str, Host] = {}
        self._switch: Host | None = None
        self._bridges = 0

    def __enter__(self) -> "Hosts":
        try:
            self._switch = Host("switch", "")
            self._bridge()
            for number, name in enumerate(self._names, 1):
                self._add(name, number)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def close(self) -> None:
        for host in self._hosts.values():
            host.close()
        if self._switch:
            self._switch.close()

    def _on_switch(self, *words: str, check: bool = True) -> int:
        """Runs a program in its network, but with our pids: ``ip`` names networks by them."""
        assert self._switch
        return subprocess.run(
            ["nsenter", "--target", str(self._switch.pid), "--net", *words],
            check=check, capture_output=True, stdin=subprocess.DEVNULL,
        ).returncode

    def _ip(self, *words: str) -> None:
        self._on_switch("ip", *words)

    def _bridge(self) -> str:
        """One more, empty."""
        name = f"br{self._bridges}"
        self._bridges += 1
        self._ip("link", "add", name, "type", "bridge", "forward_delay", "0", "stp_state", "0")
        self._ip("link", "set", name, "up")
        return name

    def _add(self, name: str, number: int) -> None:
        host = self._hosts[name] = Host(name, f"{PREFIX}{number}")
        self._ip("link", "add", _port(name), "type", "veth", "peer", "name", "eth0",
                 "netns", str(host.pid))
        self._ip("link", "set", _port(name), "master", "br0", "up")
        host.run("ip", "link", "set", "lo", "up")
        host.run("ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")

    # ---- links -----------------------------------------------------------------------------

    def partition(self, *groups: Collection[str]) -> None:
        """Who is in one group reaches the others of it and nobody else; silently, as when a
        switch fails: no link goes down.  Who is in no group is alone.
        """
        for name in self._hosts:
            self._ip("link", "set", _port(name), "nomaster")
        for group in groups:
            bridge = self._bridge()
            for name in group:
                self._ip("link", "set", _port(name), "master", bridge)

    def heal(self) -> None:
        """Everybody reaches everybody."""
        for name in self._hosts:
            self._ip("link", "set", _port(name), "master", "br0", "up")

    def unplug(self, name: str) -> None:
        """The host's link goes down, and it can see that."""
        self._ip("link", "set", _port(name), "down")

    def plug(self, name: str) -> None:
        self._ip("link", "set", _port(name), "up")

    def disturb(self, name: str, *how: str) -> bool:
        """netem's words ("delay", "50ms", "loss", "1%") for what goes to a host; none: as before.

        False where this kernel has no netem.
        """
        words = ["tc", "qdisc", "replace", "dev", _port(name), "root"]
        words += ["netem", *how] if how else ["pfifo_fast"]
        return self._on_switch(*words, check=False) == 0

    def reach(self, one: str, other: str) -> bool:
        """A datagram gets from one to the other and back within a second."""
        echo = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "s.settimeout(float(sys.argv[2])); s.connect((sys.argv[1], 9)); s.send(b'x')\n"
            "try: s.recv(9)\n"
            "except ConnectionRefusedError: print('there')\n"  # ICMP: nobody listens, but it came
            "except OSError: pass\n"
        )
        words = ("-I", "-S", "-c", echo, self[other].address, "1")
        return "there" in self[one].run(sys.executable, *words, check=False).stdout


def _port(name: str) -> str:
    """The switch's end of a host's link; 15 bytes at most (IFNAMSIZ)."""
    return f"p-{name}"[:15]


class HostDaemon(Daemon):
    """One daemon process on a host, a child of its pid 1."""

    def __init__(
        self, host: Host, argv: Sequence[str], told: Path, environment: dict[str, str]
    ):
        self.argv = list(argv)
        self.told = told
        self._host = host
        self.pid = host.start(argv, told, environment)
        self._pidfd = os.pidfd_open(self.pid)

    def close(self, expect_empty: bool) -> list[str]:
        """Ends everything on the host but its pid 1; what was there although it should not."""
        left: list[str] = []
        if expect_empty:
            with contextlib.suppress(TimeoutError):
                eventually(lambda: not children(self._host.pid), "an empty host")
            left = [f"{described(pid)} on {self._host.name}" for pid in descendants(self._host.pid)]
        while pids := descendants(self._host.pid):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        os.close(self._pidfd)
        return left

    def follow(self, earlier: "HostDaemon") -> None:
        """In the stead of one that ended: what that left on the host ends with this.

        It is known by the same descriptor: so none is new after a test that a cluster outlives.
        """
        os.dup2(self._pidfd, earlier._pidfd, inheritable=False)
        os.close(self._pidfd)
        self._pidfd = earlier._pidfd


class HostCluster(Cluster):
    """A master and nodes, each on a host of its own that has its name."""

    def __init__(
        self, top: Path, hosts: Hosts, nodes: Sequence[str] = ("node1", "node2"),
        options: Sequence[str] = (), master: str = "master",
    ):
        super().__init__(top, nodes, options)
        self.hosts = hosts
        self._listen = f"{hosts[master].address}:0"

    def start_node(self, name: str, *options: str) -> None:
        super().start_node(name, *options)
        present = self.nodes[name]
        for _, earlier in self._earlier:
            assert isinstance(earlier, HostDaemon) and isinstance(present, HostDaemon)
            present.follow(earlier)
        self._earlier.clear()

    def power_off(self, name: str) -> None:
        """All that runs on the host is gone at once, and so is what it was about to say."""
        for pid in descendants(self.hosts[name].pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _daemon(
        self, name: str, argv: Sequence[str], told: Path, environment: dict[str, str]
    ) -> Daemon:
        return HostDaemon(self.hosts[name], argv, told, {**environment, "PYTHONPATH": str(TOP)})


@pytest.fixture(scope="session")
def hosts_here() -> None:
    """Skips, loudly, where there can be no hosts."""
    if why := missing():
        pytest.skip(f"no hosts in namespaces here: {why}")
