"""What belongs to a task, and how all of it is stopped or ended: by its cgroup where it has one,
else by kinship."""

from collections.abc import Collection, Iterable

from clientd.keeper import kinship, processes
from clientd.keeper.apart import is_init
from clientd.keeper.cgroups import Cgroups
from clientd.keeper.processes import Process
from godwit.task.record import Spec, Task


class Containment:
    """Every task's processes.

    ``runs``: the task's root has not been waited for, so its pid is no other's.
    """

    def __init__(self, cgroups: Cgroups | None, mark: str):
        """``mark``: this clientd's own, that its tasks carry."""
        self._cgroups = cgroups
        self._mark = mark

    def _census(self) -> kinship.Census:
        return kinship.Census(processes.everyone(), self._mark)

    def enter(self, task: str, many: bool) -> int:
        """A cgroup to start the task in, open; or -1 if what is spawned from now on belongs to it.

        ``many``: others follow at once.  Raises OSError.
        """
        return self._cgroups.join(task, many) if self._cgroups else -1

    def room(self, task: str) -> int:
        """The task's cgroup, open; or -1 where there is none.  Raises OSError."""
        return self._cgroups.room(task) if self._cgroups else -1

    def leave(self) -> None:
        """What is spawned from now on belongs to no task."""
        if self._cgroups:
            self._cgroups.go_home()

    def _cgroup(self, task: Task) -> Cgroups | None:
        return self._cgroups if self._cgroups and self._cgroups.holds(task.id) else None

    def left(self, task: Task, is_child: bool, known: Collection[int]) -> int | None:
        """How many processes of a task run on now that its root has been waited for.

        None when there is nothing left; 0 when what is left is just ending.  ``is_child``: the
        root was our child.  ``known``: our children that nobody left to us.
        """
        if cgroup := self._cgroup(task):
            return None if cgroup.clear(task.id) else len(cgroup.members(task.id))
        # What a child leaves behind becomes our child: mostly there is none, and no need to look
        # any further.
        strangers = kinship.strangers(known)
        if is_child and not strangers:
            return None
        left = len(self._census().members(task, False))
        return left if left or kinship.have_changed(strangers, known) else None

    def emptied(self, tasks: Iterable[Task], known: Collection[int]) -> list[str]:
        """Those of which no process is left; the root of none of them runs."""
        empty: list[str] = []
        others: list[Task] = []
        for task in tasks:
            cgroup = self._cgroup(task)
            if cgroup is None:
                others.append(task)
            elif cgroup.clear(task.id):
                empty.append(task.id)
        if others:
            strangers, census = kinship.strangers(known), self._census()
            others = [task for task in others if not census.members(task, False)]
            if not kinship.have_changed(strangers, known):
                empty += [task.id for task in others]
        return empty

    def kill(self, task: Task, runs: bool) -> None:
        """SIGKILL to everything that the task ever started, as far as it can be found."""
        if cgroup := self._cgroup(task):
            cgroup.kill(task.id)
        else:
            kinship.kill(task, runs, self._mark)

    def freeze(self, task: Task, frozen: bool) -> bool:
        """Stops all of a task where it is, or lets it go on; false when it has no cgroup.

        Raises OSError.
        """
        cgroup = self._cgroup(task)
        if cgroup:
            cgroup.freeze(task.id, frozen)
        return cgroup is not None

    def fence(self, task: str, frozen: bool) -> None:
        """As ``freeze``, of a task that may have come by a move; no matter if it has no cgroup.

        Raises OSError.
        """
        if self._cgroups and self._cgroups.holds(task):
            self._cgroups.freeze(task, frozen)

    def clear(self, task: str) -> None:
        """Nothing came of the task."""
        if self._cgroups:
            self._cgroups.clear(task)

    def discard(self, task: str) -> None:
        """Ends whatever was started for a task that came to nothing, or may yet be started anew."""
        nothing = Task(Spec(task, ()))
        if cgroup := self._cgroup(nothing):
            cgroup.kill_each(task)
        else:
            self.kill(nothing, False)
        self.clear(task)

    def survey(self, bases: Iterable[str]) -> dict[str, list[Process]]:
        """All living processes of tasks that an earlier keeper with our mark started.

        Without the inits, which are none of the tasks' own.
        """
        found: dict[str, list[Process]] = {}
        for process in processes.everyone():
            keeper, task = kinship.mark_of(process.pid)
            if keeper != self._mark or process.is_dead or is_init(process.pid):
                continue
            found.setdefault(task, []).append(process)
        if self._cgroups:
            for task in self._cgroups.survey(bases):
                seen = map(processes.look, self._cgroups.members(task))
                found[task] = [one for one in seen if one and not is_init(one.pid)]
        return found

    def close(self) -> None:
        if self._cgroups:
            self._cgroups.close()
