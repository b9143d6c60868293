"""The Unix socket between a node's CRIU and the pager that takes its pages to the other node.

The pager listens beside the move's image, in a folder that is its agent's alone; the first who
calls is CRIU, and whoever calls after that ends it all.
"""

import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from godwit.errors import TaskError

SUFFIX = ".pages"
#: Of a pager's process, as ps(1) shows it.
NAME = "godwit-pager"
#: Calls that a pager may leave unanswered.
CALLS = 16


@contextmanager
def _near(image: str) -> Iterator[str]:
    """A path to the socket that is short enough: sun_path has 108 bytes, see unix(7)."""
    folder = os.open(os.path.dirname(image), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(image)}{SUFFIX}"
    finally:
        os.close(folder)


def listening(image: str) -> socket.socket:
    """Where CRIU is to call.  Raises OSError."""
    os.makedirs(os.path.dirname(image), 0o700, exist_ok=True)  # the first of all moves
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _near(image) as path:
            sock.bind(path)
            os.chmod(path, 0o600)
        sock.listen(CALLS)
    except BaseException:
        sock.close()
        raise
    return sock


def joined(image: str) -> socket.socket:
    """A connection to the pager.  Raises TaskError when there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _near(image) as path:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise TaskError("pages", f"{image}{SUFFIX} is no socket")
            sock.setblocking(False)  # one that does not answer holds nobody up
            sock.connect(path)
            sock.setblocking(True)
    except OSError as err:
        sock.close()
        raise TaskError("pages", f"the other node's pages cannot be had: {err.strerror}") from err
    except BaseException:
        sock.close()
        raise
    return sock


def hang_up(image: str, by_force: bool = False) -> None:
    """Ends the pager, if there is one, so that whoever has called it sees the end.

    ``by_force``: it has not heard that it is to end.
    """
    try:
        with joined(image) as sock:
            if by_force:
                _kill(_peer(sock))
    except TaskError:
        with suppress(OSError):
            os.unlink(image + SUFFIX)  # what one that was killed left


def answer_as_ourselves(door: socket.socket) -> None:
    """Fact: whoever calls is told the process that called listen(2) last."""
    door.listen(CALLS)


def _peer(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)


def _kill(pid: int) -> None:
    with suppress(OSError), open(f"/proc/{pid}/comm") as comm:
        if comm.read().strip() == NAME:
            os.kill(pid, signal.SIGKILL)
