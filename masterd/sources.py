"""Texts of Python programs: kept while a task needs them, or a copy of its snapshot.  Pure."""

from collections.abc import Iterator

from masterd import actions as do
from masterd.registry import Registry


class Sources:
    """See the module."""

    def __init__(self, registry: Registry):
        self._registry = registry
        #: By their sha256, hex.
        self.texts: dict[str, bytes] = {}
        #: Of tasks that other nodes have snapshots of, theirs.
        self._held: dict[str, str] = {}

    def hold(self, task: str, digest: str) -> None:
        """Of this task something may be started when it is long forgotten itself."""
        if digest:
            self._held[task] = digest

    def held(self, task: str) -> str:
        """The digest of what is held for it, or nothing."""
        return self._held.get(task, "")

    def release(self, task: str) -> Iterator[do.Action]:
        """Nothing of it is left to start from."""
        yield from self.spare(self._held.pop(task, ""))

    def spare(self, digest: str) -> Iterator[do.Action]:
        """One of those that had need of it has none any more."""
        if digest in self.texts and digest not in self._held.values() and not any(
            known.spec.digest == digest for node in self._registry.nodes.values()
            for known in node.tasks.values()
        ):
            del self.texts[digest]
            yield do.DropSource(digest)
