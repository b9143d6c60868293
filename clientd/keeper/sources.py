"""Source texts of python programs that came with a launch, by digest, till their tasks have begun.

A keeper that is started anew gives them to the runners that were still waiting for them.
"""

import hashlib
import os
import re
from collections.abc import Container
from contextlib import suppress

from godwit.errors import TaskError

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Sources:
    """Files in one folder, each called by its digest."""

    def __init__(self, folder: str):
        self._folder = folder

    def keep(self, text: bytes) -> None:
        """On the disk when it returns.  Raises OSError."""
        path = self._path(hashlib.sha256(text).hexdigest())
        if os.path.exists(path):
            return
        os.makedirs(self._folder, 0o700, exist_ok=True)
        with open(path + ".new", "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def open(self, digest: str) -> int:
        """A descriptor to read it with.  Raises TaskError when it did not come."""
        if not _DIGEST.fullmatch(digest):
            raise TaskError("bad-source", f"{digest!r} is no sha256 of a source")
        try:
            return os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise TaskError("no-source", "the program's source did not come along") from None
        except OSError as err:
            raise TaskError("no-source", f"the program's source: {err.strerror}") from err

    def prune(self, wanted: Container[str]) -> None:
        """Drops all but those."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                if name not in wanted:
                    with suppress(FileNotFoundError):
                        os.unlink(self._path(name))

    def _path(self, digest: str) -> str:
        return os.path.join(self._folder, digest)
