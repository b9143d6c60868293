"""One daemon for each state folder, by flock(2): the kernel lets go when the process ends."""

import fcntl
import os
from contextlib import suppress

from godwit.errors import StartError


def hold(folder: str, who: str) -> int:
    """Makes ``folder`` (0700) and holds its lock; the descriptor must stay open.

    Raises StartError, naming the folder and the pid, when another process holds it.
    """
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise StartError(f"the state folder {folder} cannot be used: {err.strerror}") from err
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "?"
        os.close(fd)
        raise StartError(
            f"{who} runs already on the state folder {folder} (pid {holder})"
        ) from None
    # The pid is for people; on a full disk there may be no room for it.
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
