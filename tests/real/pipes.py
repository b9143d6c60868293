"""Pipes as big as post-copy needs them: on this machine, for as long as a block takes.

A machine whose clientd has CAP_SYS_RESOURCE does not need this.

The settings are the whole machine's, on which several may be in such a block at once: the last one
to leave puts back what the first one found.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from clientd.keeper.probing import LARGEST, PIPE_LIMIT, PIPE_SIZE

#: Locked, shared, by whoever is in a block; has the settings as the first one found them.
BEFORE = Path("/run/godwit-test-pipes")


@contextlib.contextmanager
def roomy() -> Iterator[None]:
    """Raises OSError where the machine's settings cannot be changed."""
    with BEFORE.open("a+") as file:
        _enter(file.fileno())
        try:
            Path(PIPE_LIMIT).write_text("0")
            if int(Path(PIPE_SIZE).read_text()) < LARGEST:
                Path(PIPE_SIZE).write_text(str(LARGEST))
            yield
        finally:
            _leave(file.fileno())


def _enter(fd: int) -> None:
    if _is_alone(fd):
        found = {name: Path(name).read_text() for name in (PIPE_LIMIT, PIPE_SIZE)}
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps(found).encode())
    fcntl.flock(fd, fcntl.LOCK_SH)


def _leave(fd: int) -> None:
    if _is_alone(fd):
        for path, value in json.loads(os.pread(fd, 1 << 16, 0)).items():
            with contextlib.suppress(OSError):
                Path(path).write_text(value)


def _is_alone(fd: int) -> bool:
    """Nobody else is in a block, or comes in as long as we have the lock."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
