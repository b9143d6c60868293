"""Nodes, masters and strangers that a test plays against real daemons."""

import contextlib
import json
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from clientd import enrol
from godwit.wire import joining, messages, trust
from godwit.wire import messages as wire
from godwit.wire.link import connect
from godwit.wire.preface import ADOPT, CONTROL
from godwit.wire.tokens import read_code
from godwit.wire.trust import Trust
from tests.certificates import Issuer, minted_by, self_made, without
from tests.real.cluster import PYTHON, Cluster, Daemon, descendants, eventually, free_port
from tests.real.lines import Line

LOCAL = "127.0.0.1"


def token(cluster: Cluster, *options: str) -> str:
    """As an operator makes it."""
    done = cluster.godwit("token", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def join(cluster: Cluster, folder: Trust, name: str, text: str) -> None:
    """As clientd does it.  Raises what enrol.join raises."""
    os.makedirs(folder.folder, exist_ok=True)
    enrol.join(folder, name, LOCAL, port_of(cluster), text)


def enrolled(cluster: Cluster, folder: Path, name: str) -> Trust:
    found = Trust(str(folder))
    join(cluster, found, name, token(cluster, "--node", name))
    return found


def port_of(cluster: Cluster) -> int:
    return int(cluster.address.rpartition(":")[2])


def authority(cluster: Cluster) -> bytes:
    return Path(cluster.state, "trust", trust.CA).read_bytes()


def strangers(two: Cluster, web7: Trust, top: Path) -> dict[str, Callable[[], ssl.SSLContext]]:
    ca = authority(two)
    return {
        "no certificate": lambda: without(web7.client()),
        "self-signed": lambda: self_made(top / "self", ca).client(),
        "of another authority": lambda: Issuer().folder(
            top / "other", "godwit:node:web7", ca
        ).client(),
        "minted by a node": lambda: minted_by(
            web7, top / "minted", "godwit:node:web8", ca
        ).client(),
        "minted master": lambda: minted_by(web7, top / "m", "godwit:master:x", ca).client(),
    }


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clientd(
    cluster: Cluster, top: Path, name: str, *options: str, **environment: str
) -> Daemon:
    """A clientd of the test's own, on state below ``top``."""
    return Daemon(
        [*PYTHON, "clientd", "--name", name, "--state", str(top / name),
         "--logs", cluster.logs, *options],
        top / f"{name}.err", cluster.environment(**environment),
    )


def agent_of(daemon: Daemon) -> int:
    """Pid of a clientd's agent; 0 while there is none."""
    for pid in descendants(daemon.init.pid):
        with contextlib.suppress(OSError):
            if b"clientd.agent" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return 0


class Waiting:
    """A clientd that waits for a master."""

    def __init__(self, cluster: Cluster, top: Path):
        self._cluster = cluster
        self.top = top
        self.log = cluster.log("web7")
        self.trust = top / "web7" / "agent" / "trust"
        self.port = free_port()
        self._run()

    def _run(self) -> None:
        at = f"{LOCAL}:{self.port}"
        self.daemon = clientd(self._cluster, self.top, "web7", "--listen", at)

    def wait(self) -> None:
        """Until it waits for a master."""
        def printed() -> bool:
            return (self.trust / "code").exists() and self.code in self.daemon.text()

        eventually(printed, f"its code\n{self.daemon.text()}")

    def again(self) -> None:
        """After it has ended by itself: another start."""
        eventually(lambda: self.daemon.ended, "its end")
        assert self.daemon.close(expect_empty=True) == []
        self._run()
        self.wait()

    def said(self) -> list[str]:
        if not self.log.exists():
            return []
        return [json.loads(line)["text"] for line in self.log.read_text().splitlines()]

    @property
    def code(self) -> str:
        return (self.trust / "code").read_text().strip()

    def stop(self) -> None:
        self.daemon.end()
        assert self.daemon.close(expect_empty=True) == []


@contextlib.contextmanager
def waiting(cluster: Cluster, top: Path) -> Iterator[Waiting]:
    one = Waiting(cluster, top)
    try:
        one.wait()
        yield one
    finally:
        one.stop()


def greeted(address: str, master: Trust, channel: str) -> Line:
    """A connection of a master's that has welcomed the node."""
    line = Line(address, CONTROL, master.client())
    line.say(wire.Adopt(wire.VERSION, "m1", "web7", channel))  # type: ignore[arg-type]
    assert isinstance(line.heard(messages.decode_opening), wire.Hello)
    line.say(wire.Welcome("m1"))
    return line


def adopt(issuer: Issuer, node: Waiting) -> None:
    """As a master does it."""
    code = read_code(node.code)
    sock = connect((LOCAL, node.port), ADOPT)
    with sock, trust.blind_client().wrap_socket(sock) as link:
        assert trust.peer_of(link).leaf == code.leaf
        joining.send(link, joining.Claim(code.secret, "m1", "web7"))
        request = joining.receive(link, joining.Request).request
        certificate = issuer.sign(request, "godwit:node:web7")
        joining.send(link, joining.Joined(certificate, issuer.ca, "m1"))
        joining.receive(link, joining.Taken)
