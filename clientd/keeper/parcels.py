"""Parcels: files by which snapshots pass between this node's keeper and its agent.

They lie in STATE/agent/parcels and belong to the agent's user.  Their names are ours: neither the
agent nor another node has a say in where anything lies.  What the agent writes into one is read
through the descriptor that it was made with, whatever lies by its name then.
"""

import os
import secrets
from contextlib import suppress

from godwit import failpoint


class Parcels:
    """All that are under way."""

    def __init__(self, agent: str):
        """``agent``: the agent's folder."""
        self._agent = agent
        self._top = os.path.join(agent, "parcels")
        #: Name -> its descriptor.
        self._open: dict[str, int] = {}

    def path(self, name: str) -> str:
        return os.path.join(self._top, name)

    @property
    def is_ours(self) -> bool:
        """The agent runs as we do."""
        return os.stat(self._agent).st_uid == os.geteuid()

    def make(self) -> str:
        """An empty one; its name.  Raises OSError."""
        self._make_folder()
        name = secrets.token_hex(8)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = self._open[name] = os.open(self.path(name), flags, 0o600)
        try:
            self._give(fd)
            failpoint.hit("parcel.made")
        except OSError:
            self.drop(name)
            raise
        return name

    def lend(self, path: str) -> str:
        """A file of ours by another name, for an agent that runs as we do.  Raises OSError."""
        self._make_folder()
        name = secrets.token_hex(8)
        os.link(path, self.path(name))
        self._open[name] = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        failpoint.hit("parcel.lent")
        return name

    def fd(self, name: str) -> int:
        """Its descriptor, which stays ours to close.  Raises KeyError."""
        return self._open[name]

    def take(self, name: str, path: str) -> bool:
        """Gives a parcel that the agent has filled its place for good, where that is quick and
        nobody else can have touched its name.  Raises OSError."""
        if not self.is_ours:
            return False
        os.rename(self.path(name), path)
        return True

    def drop(self, name: str) -> None:
        """None of that name is as good."""
        fd = self._open.pop(name, -1)
        if fd >= 0:
            os.close(fd)
            with suppress(FileNotFoundError):
                os.unlink(self.path(name))

    def drop_all(self) -> None:
        """The agent that had them is gone."""
        for name in list(self._open):
            self.drop(name)

    def sweep(self) -> None:
        """Drops what an earlier keeper left."""
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in set(os.listdir(self._top)) - set(self._open):
                with suppress(OSError):
                    os.unlink(self.path(name))

    def _make_folder(self) -> None:
        if os.path.isdir(self._top):
            return
        os.makedirs(self._top, 0o700)
        fd = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._give(fd)
        finally:
            os.close(fd)

    def _give(self, fd: int) -> None:
        owner = os.stat(self._agent)
        if owner.st_uid != os.geteuid():
            os.fchown(fd, owner.st_uid, owner.st_gid)
