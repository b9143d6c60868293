"""What the tests of godwit.bulk share: copies between two threads, and trees as values."""

import contextlib
import os
import select
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from godwit import bulk
from godwit.errors import TransferError

NOBODY = 65534

Outcome = bulk.Summary | TransferError
End = Callable[[socket.socket], bulk.Summary]
#: A tree as a value: a file's bytes and mode, a link's target, or a folder's contents.
Tree = tuple[bytes, int] | str | dict[bytes, "Tree"]


@dataclass(slots=True)
class Running:
    """One end of a copy, in a thread."""

    end: End
    link: socket.socket
    outcome: list[Outcome | BaseException] = field(default_factory=list)

    def __call__(self) -> None:
        with self.link:
            try:
                self.outcome.append(self.end(self.link))
            except BaseException as err:  # noqa: BLE001  the test looks at it
                self.outcome.append(err)


@contextlib.contextmanager
def running(end: End, link: socket.socket) -> Iterator[Running]:
    """Runs one end until the block is left; closes its link."""
    run = Running(end, link)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield run
    finally:
        thread.join()


def between(sender: End, receiver: End) -> tuple[Outcome, Outcome]:
    """Lets two ends talk; gives what came of each."""
    near, far = socket.socketpair()
    with running(receiver, far) as receiving, running(sender, near) as sending:
        pass
    return plain(sending), plain(receiving)


def plain(run: Running) -> Outcome:
    """A Summary or a TransferError; anything else fails the test."""
    (outcome,) = run.outcome
    if isinstance(outcome, bulk.Summary | TransferError):
        return outcome
    raise outcome


def copied(source: bulk.Source | bytes, target: bulk.Target | bytes) -> bulk.Summary:
    """A copy that works, by both ends' account."""
    sent, received = outcomes(source, target)
    assert isinstance(sent, bulk.Summary), sent
    assert sent == received
    return sent


def outcomes(source: bulk.Source | bytes, target: bulk.Target | bytes) -> tuple[Outcome, Outcome]:
    return between(lambda link: bulk.send(link, source), lambda link: bulk.receive(link, target))


def refused(source: bulk.Source | bytes, target: bulk.Target | bytes) -> TransferError:
    """A copy that fails: why, of which both ends were told."""
    sent, received = outcomes(source, target)
    assert isinstance(sent, TransferError), sent
    assert isinstance(received, TransferError), received
    assert (sent.code, sent.text) == (received.code, received.text)
    assert sent.remote != received.remote
    return sent


def cut_after(count: int, source: bytes, target: bytes) -> tuple[Outcome, Outcome]:
    """A copy over a connection that breaks after ``count`` bytes from the sender."""
    near, near_far = socket.socketpair()
    far, far_near = socket.socketpair()
    with (
        running(lambda link: bulk.receive(link, target), far) as receiving,
        running(lambda link: bulk.send(link, source), near) as sending,
        near_far,
        far_near,
    ):
        pass_on(near_far, far_near, count)
    return plain(sending), plain(receiving)


def pass_on(near: socket.socket, far: socket.socket, count: int) -> None:
    """Passes bytes both ways until ``count`` have gone from near to far, or one side ends."""
    while count:
        ready, _, _ = select.select([near, far], [], [])
        if far in ready:
            data = far.recv(65536)
            with contextlib.suppress(BrokenPipeError):
                near.sendall(data)
            if not data:
                return
        if near in ready:
            data = near.recv(min(count, 65536))
            if not data:
                far.shutdown(socket.SHUT_WR)
                return
            far.sendall(data)
            count -= len(data)


def plant(path: bytes, tree: Tree) -> None:
    """Makes a tree on disk."""
    if isinstance(tree, str):
        os.symlink(tree, path)
    elif isinstance(tree, tuple):
        with open(path, "wb") as file:
            file.write(tree[0])
        os.chmod(path, tree[1])
    else:
        os.mkdir(path)
        for name, inside in tree.items():
            plant(os.path.join(path, name), inside)


def seen(path: bytes) -> Tree:
    """The tree that is on disk."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return os.fsdecode(os.readlink(path))
    if stat.S_ISDIR(found.st_mode):
        return {name: seen(os.path.join(path, name)) for name in sorted(os.listdir(path))}
    with open(path, "rb") as file:
        return file.read(), stat.S_IMODE(found.st_mode)


def times(path: bytes) -> dict[bytes, int]:
    """The mtime of everything in a tree, nanoseconds."""
    found = {path: os.lstat(path).st_mtime_ns}
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            inside = os.path.join(folder, name)
            found[inside] = os.lstat(inside).st_mtime_ns
    return {os.path.relpath(inside, path): at for inside, at in found.items()}


def partials(folder: bytes) -> list[bytes]:
    return [name for name in os.listdir(folder) if b".godwit-" in name]


needs_openssl = pytest.mark.skipif(
    not shutil.which("openssl"), reason="makes its certificate with openssl(1)"
)


def tls_contexts(scratch: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server with a certificate of its own making, and for a client that takes any."""
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=n"
    key, certificate = scratch / "key", scratch / "certificate"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made.split(), *files], check=True, capture_output=True)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    calling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    calling.check_hostname = False
    calling.verify_mode = ssl.CERT_NONE
    return serving, calling


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """The block runs without root's rights, whoever runs the tests."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
