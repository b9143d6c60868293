"""Every message there is, said by every kind of peer that may say none of them."""

import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from godwit.places import master_socket
from godwit.wire import frames, joining, messages, operations
from godwit.wire import messages as wire
from godwit.wire.preface import ADOPT, BULK, CONTROL, JOIN, OPERATOR, Show, encode_show
from godwit.wire.trust import Trust
from tests.certificates import Issuer, minted_by, self_made
from tests.real.cluster import Cluster
from tests.real.lines import Line
from tests.real.playing import authority, strangers
from tests.real.soaking.figures import Figures
from tests.real.soaking.junk import Stage, heard_by, refusal
from tests.test_dispatch import TABLE
from tests.test_operations import REPLIES, REQUESTS

#: Uid of an ordinary user who has nothing here.
NOBODY = 65534
#: What another user's process does: each request, on a connection of its own.
AT_SOCKET = """
import os, socket, sys
os.setgroups([])
os.setresgid(*[int(sys.argv[3])] * 3)
os.setresuid(*[int(sys.argv[3])] * 3)
for _ in range(int(sys.argv[2])):
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(sys.argv[1])
        except PermissionError:
            print("refused")
"""


@dataclass(frozen=True, slots=True)
class Nobody:
    """A kind of peer, at one port."""

    kind: str
    address: str
    preface: bytes
    #: None: it speaks no TLS.
    tls: ssl.SSLContext | None
    #: Payloads that anybody gets: a master shows its certificate to who wants to join.
    granted: int = 0


def payloads(name: str) -> Iterator[bytes]:
    """Every message, said in the name of node ``name``."""
    for message, _ in TABLE:
        if isinstance(message, wire.Hello):
            for channel in ("control", "stream"):
                yield messages.encode(
                    msgspec.structs.replace(message, name=name, channel=channel)  # type: ignore[arg-type]
                )
        else:
            yield messages.encode(message)
    for request, _ in REQUESTS:
        yield operations.encode(request)
    yield encode_show(Show("0" * 64, "receive"))
    for reply, _ in REPLIES:
        yield operations.encode(reply)
    encode = msgspec.msgpack.Encoder().encode
    for word in (
        joining.Join("id", "secret", name, b"request"), joining.Claim("secret", "m1", name),
        joining.Request(b"request"), joining.Joined(b"c", b"ca", "m1"), joining.Taken(),
        joining.Cluster(b"ca"),
    ):
        yield encode(word)


def nobodies(cluster: Cluster, stage: Stage, revoked: Trust, top: Path) -> Iterator[Nobody]:
    """All kinds, at the master's port and at the port of a node that listens."""
    top.mkdir()
    _, rogue = stage.rogues[0]
    key = Path(cluster.state, "trust", "ca-key.pem").read_bytes()
    ca = authority(cluster)
    certificates: dict[str, ssl.SSLContext | None] = {
        "no TLS": None,
        **{kind: make() for kind, make in strangers(cluster, rogue, top).items()},
        "revoked": revoked.client(),
        "signed and on no list": Issuer(ca, key).folder(
            top / "forged", "godwit:node:node1").client(),
        "another node": rogue.client(),
    }
    for kind, tls in certificates.items():
        yield Nobody(kind, stage.master, CONTROL, tls)
        yield Nobody(f"{kind}, as operator", stage.master, OPERATOR, tls)
        yield Nobody(f"{kind}, with no ticket", stage.master, BULK, tls)
        yield Nobody(f"{kind}, with no token", stage.master, JOIN, tls, granted=1)
        yield Nobody(f"{kind}, as master", stage.waiting, CONTROL, tls)
        yield Nobody(f"{kind}, with no code", stage.waiting, ADOPT, tls)
    own = stage.issuer.ca
    fellows = {
        "a fellow node": stage.issuer.folder(top / "fellow", "godwit:node:web8"),
        "self-made": self_made(top / "own", own),
        "minted by a fellow": minted_by(
            Trust(str(top / "fellow")), top / "minted-there", "godwit:master:m1", own),
    }
    for kind, folder in fellows.items():
        yield Nobody(f"{kind}, as master", stage.waiting, CONTROL, folder.client())


def attempt(nobody: Nobody, payload: bytes) -> str:
    """What is wrong with how it was refused, if anything."""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        Line(nobody.address, nobody.preface, nobody.tls) as line,
    ):
        if nobody.tls is None:
            return heard_by(line.link, frames.encode(payload))
        line.send(frames.encode(payload))
        said = list(line.hear())
        if len(said) > nobody.granted and not refusal(said[-1]):
            return f"it was told {said[-1]!r}"
    return ""


def try_all(kinds: Iterator[Nobody], figures: Figures, every: int) -> None:
    """One after the other; ``every`` n-th message of each, in a short soak."""
    for number, nobody in enumerate(kinds):
        name = "node1"
        for payload in list(payloads(name))[number % every :: every]:
            try:
                complaint = attempt(nobody, payload)
            except TimeoutError:
                complaint = "it did not hang up"
            figures.add("unauthenticated messages tried")
            figures.add(
                "unauthenticated messages not refused" if complaint
                else "unauthenticated messages refused", 1,
                f"{nobody.kind}: {payload[:60]!r}: {complaint}",
            )


def try_socket(state: str, figures: Figures) -> None:
    """Another user of this machine, at the operator's socket; only root can become one."""
    if os.geteuid():
        return
    tries = len(REQUESTS)
    command = [sys.executable, "-I", "-S", "-c", AT_SOCKET]
    done = subprocess.run(
        [*command, master_socket(state), str(tries), str(NOBODY)],
        capture_output=True, text=True, check=False,
    )
    refused = done.stdout.count("refused")
    figures.add("unauthenticated messages tried", tries)
    figures.add("unauthenticated messages refused", refused)
    figures.add("unauthenticated messages not refused", tries - refused, done.stderr[-200:])
