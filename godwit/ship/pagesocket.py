"""The Unix socket between a node's CRIU and the pager that takes its pages to the other node.

The pager listens beside the move's image, in a folder that is its agent's alone; the first who
calls is CRIU, and whoever calls after that ends it all.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from godwit.errors import TaskError

SUFFIX = ".pages"


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
        sock.listen(2)
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
            sock.connect(path)
    except OSError as err:
        sock.close()
        raise TaskError("pages", f"the other node's pages cannot be had: {err.strerror}") from err
    except BaseException:
        sock.close()
        raise
    return sock


def hang_up(image: str) -> None:
    """Ends the pager, if there is one, and with it whoever has called it."""
    with suppress(OSError, TaskError):
        joined(image).close()
    with suppress(OSError):
        os.unlink(image + SUFFIX)
