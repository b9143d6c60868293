"""Paths on this machine, for completion."""

import os
from collections.abc import Iterable


def local_files(beginning: str) -> Iterable[str]:
    """Paths on this machine that begin so; folders end in a slash; hidden ones when asked for."""
    folder, name = os.path.split(beginning)
    try:
        entries = list(os.scandir(folder or "."))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(name) and (name or not entry.name.startswith(".")):
            yield os.path.join(folder, entry.name) + "/" * entry.is_dir()
