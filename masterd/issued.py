"""Which certificate is whose, and the master's id, once more beside the database.

Without these a damaged database would cost every node its place: each would need a new token.
So they are written here first, in a file of their own, and the file has the last word.

Each line is a CRC-32 and a JSON object, ``{"fact": NAME, "value": V}`` or
``{"node": NAME, "leaves": [...]}``; the last one about a name counts.  A torn end is left out.
With any other damage the file counts for nothing: a revocation could be in what is lost.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterable

from masterd import actions as do

Issue = do.KeepFact | do.KeepLeaves
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class Issued:
    """The file at ``path``, which need not be there."""

    def __init__(self, path: str):
        self.path = path

    def load(self) -> list[Issue] | None:
        """What counts now; None when the file is missing or damaged.  Raises OSError."""
        try:
            with open(self.path, "rb") as file:
                *lines, _ = file.read().split(b"\n")
        except FileNotFoundError:
            return None
        found: dict[tuple[str, str], Issue] = {}
        for line in lines:
            issue = _read(line)
            if issue is None:
                return None
            found[type(issue).__name__, issue.name] = issue
        return [issue for issue in found.values() if issue != do.KeepLeaves(issue.name, ())]

    def append(self, issues: Iterable[Issue]) -> None:
        """Durable when this returns.  Raises OSError."""
        if data := b"".join(map(_line, issues)):
            fd = os.open(self.path, _FLAGS | os.O_APPEND, 0o600)
            try:
                before = os.fstat(fd).st_size
                try:
                    _write(fd, data)
                except OSError:
                    # Half a line would spoil what comes after it.
                    os.ftruncate(fd, before)
                    raise
            finally:
                os.close(fd)

    def rewrite(self, issues: Iterable[Issue]) -> None:
        """The file says this and no more.  Raises OSError, and then it is as it was."""
        fresh = self.path + ".new"
        fd = os.open(fresh, _FLAGS | os.O_TRUNC, 0o600)
        try:
            _write(fd, b"".join(map(_line, issues)))
        finally:
            os.close(fd)
        os.replace(fresh, self.path)
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data):]
    os.fsync(fd)


def _line(issue: Issue) -> bytes:
    about: dict[str, object]
    if isinstance(issue, do.KeepFact):
        about = {"fact": issue.name, "value": issue.value}
    else:
        about = {"node": issue.name, "leaves": issue.leaves}
    text = json.dumps(about).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _read(line: bytes) -> Issue | None:
    """None for a line that is not as it was written."""
    crc, _, text = line.partition(b" ")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if int(crc, 16) == zlib.crc32(text):
            about = json.loads(text)
            if "fact" in about:
                return do.KeepFact(about["fact"], about["value"])
            return do.KeepLeaves(about["node"], tuple(about["leaves"]))
    return None
