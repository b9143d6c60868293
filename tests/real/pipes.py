"""Pipes as big as post-copy needs them: on this machine, for as long as a block takes.

A machine whose clientd has CAP_SYS_RESOURCE does not need this.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from clientd.keeper.probing import LARGEST, PIPE_LIMIT, PIPE_SIZE


@contextlib.contextmanager
def roomy() -> Iterator[None]:
    """Raises OSError where the machine's settings cannot be changed."""
    before = {Path(name): Path(name).read_text() for name in (PIPE_LIMIT, PIPE_SIZE)}
    try:
        Path(PIPE_LIMIT).write_text("0")
        if int(before[Path(PIPE_SIZE)]) < LARGEST:
            Path(PIPE_SIZE).write_text(str(LARGEST))
        yield
    finally:
        for path, value in before.items():
            with contextlib.suppress(OSError):
                path.write_text(value)
