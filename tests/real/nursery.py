"""A keeper's parts without the keeper: tasks of this process's own, frozen and restored at will."""

import os
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

from clientd.keeper import criu
from clientd.keeper.apart import Apart
from clientd.keeper.complaints import Complaint
from clientd.keeper.criu import Criu, Dumped, Restored
from clientd.keeper.errands import Errands
from clientd.keeper.loop import Loop
from clientd.keeper.probing import Found, Probing
from clientd.keeper.spawn import Place, Spawner
from clientd.keeper.watch import Root, Watch
from godwit.task.record import Spec, Usage
from tests.real.cluster import DEADLINE_S


class Nursery:
    """Starts contained tasks; each ends with the block."""

    def __init__(self, top: Path):
        self.top = top
        self.loop = Loop()
        others: dict[int, Callable[[], None]] = {}
        self.errands = Errands(self.loop, others)
        self.watch = Watch(self.loop, self._ended, others)
        self._apart = Apart(str(top / "bin"))
        limit = (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        (top / "files").mkdir()
        self.spawner = Spawner(
            Place("here", "mark", str(top / "logs"), os.fsencode(top / "files"), limit, limit),
            self._apart,
        )
        self.ended: dict[str, tuple[int | None, Usage | None]] = {}
        self._criu: Criu | None = None

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        for root in list(self.watch.roots.values()):
            criu.end(root.waited)
        self.till(lambda: not self.watch.roots, "end of all")
        self.errands.close()
        self.spawner.close()
        self.loop.close()

    def _ended(self, root: Root, status: int | None, used: Usage | None) -> None:
        self.ended[root.task] = status, used

    def till(self, true: Callable[[], bool], what: str) -> None:
        """Turns the loop until it is so.  Raises TimeoutError."""
        until = self.loop.now() + DEADLINE_S
        while not true():
            if self.loop.now() > until:
                raise TimeoutError(f"not within {DEADLINE_S:g} s: {what}")
            self.loop.alarm("look", 0.01, lambda: None)
            self.loop.turn(wait=True)
            self.watch.reap()  # as after SIGCHLD

    def find_criu(self) -> Found:
        """The CRIU of this machine, as a node finds it."""
        came: list[Found] = []
        Probing(self.errands, str(self.top / "criu.json"), came.append).start()
        self.till(lambda: bool(came), "an answer of criu's")
        if came[0].path:
            self._criu = Criu(came[0].path, self.errands, came[0].version)
        return came[0]

    def start(self, task: str, *argv: str) -> Root:
        spec = Spec(task, tuple(map(os.fsencode, argv)), contained=True)
        spawned = self.spawner.spawn(spec)
        return self._watched(
            Root(task, spawned.pid, spawned.start_ticks, True, 0, spawned.init, spawned.pidfd)
        )

    def _watched(self, root: Root) -> Root:
        self.watch.add(root)
        return self.watch.roots[root.task]

    def log(self, task: str) -> Path:
        return Path(self.spawner.log_path(task))

    def dump(self, root: Root, images: Path, **more: object) -> Dumped:
        """Raises nothing: the complaint, if any, is in what comes."""
        assert self._criu
        images.mkdir(exist_ok=True)
        came: list[Dumped] = []
        self._criu.dump(root.init, str(images), came.append, **more)  # type: ignore[arg-type]
        self.till(lambda: bool(came), "end of the dump")
        return came[0]

    def restore(
        self, task: str, images: Path, files: Mapping[str, int], **more: object
    ) -> Root | Complaint:
        """The task, stopped and watched; or why it could not be restored."""
        assert self._criu
        came: list[Restored] = []
        self._criu.restore(str(images), came.append, files=files, **more)  # type: ignore[arg-type]
        self.till(lambda: bool(came), "end of the restore")
        told = came[0]
        if told.complaint:
            return told.complaint
        assert told.program
        program = told.program
        return self._watched(
            Root(task, program.pid, program.start_ticks, True, 0, told.init, program.pidfd)
        )

    def kill(self, root: Root) -> None:
        """Ends all of it and waits for it."""
        criu.end(root.init)
        self.till(lambda: root.task not in self.watch.roots, f"end of {root.task}")
