"""Containment without control groups: which processes are a task's, as far as that can be told.

A task's are: its session and its process group; everything that carries its mark, and its
keeper's, in the environment it was started with; and all descendants of these.  What left the
session, cleared its environment and outlived its parent is not found.
"""

import os
import re
import signal
from collections.abc import Collection, Iterable
from contextlib import suppress

from clientd.keeper import processes
from clientd.keeper.processes import Process
from godwit.task.record import Task

#: In a task's environment: its id; and which clientd of this machine started it.
MARK = b"GODWIT_TASK"
KEEPER_MARK = b"GODWIT_KEEPER"
#: Which keeper's, and which task's.
Mark = tuple[str, str]
#: A task's cgroup, or one below it: clientd.keeper.cgroups; the group is its keeper's mark.
_PLACE = re.compile(r"/godwit-[^/]*-([0-9a-f]{8})/t-([^/]+)(?=/|$)")
UNMARKED: Mark = ("", "")


class Census:
    """All processes at one moment, and their marks as far as somebody asked."""

    def __init__(self, everyone: Iterable[Process], keeper: str):
        self._keeper = keeper
        self._everyone = {process.pid: process for process in everyone}
        self._children: dict[int, list[int]] = {}
        for process in self._everyone.values():
            self._children.setdefault(process.parent, []).append(process.pid)
        self._marks: dict[int, Mark] = {}

    def _mark(self, pid: int) -> Mark:
        if pid not in self._marks:
            self._marks[pid] = mark_of(pid)
        return self._marks[pid]

    def members(self, task: Task, runs: bool) -> list[Process]:
        """All living processes of a task; ``runs``: its root has not been waited for.

        From then on its pid may be another's, and the number alone says nothing.
        """
        seeds = [
            pid for pid, process in self._everyone.items() if self._belongs(process, task, runs)
        ]
        found: dict[int, Process] = {}
        while seeds:
            pid = seeds.pop()
            if pid not in found:
                found[pid] = self._everyone[pid]
                seeds += self._children.get(pid, [])
        return [one for one in found.values() if not one.is_dead]

    def _belongs(self, process: Process, task: Task, runs: bool) -> bool:
        mark = self._mark(process.pid)
        if mark == (self._keeper, task.id):
            return True
        if runs and (process.pid, process.start_ticks) == (task.pid, task.start_ticks):
            return True  # one that was started by hand may lead nothing
        if not task.pid or task.pid not in (process.session, process.group):
            return False
        # Orphans of a task that we started are our children.
        return runs or (mark == UNMARKED and process.parent == os.getpid())


def kill(task: Task, runs: bool, keeper: str) -> None:
    """SIGKILL to all living processes of a task; see Census.members.

    First to all with their descendants, which cannot be told any more once their parents are
    gone; then to each that still carries the mark in the moment that it is seen: one that does
    nothing but fork and end is elsewhere when a census is complete.
    """
    for member in Census(processes.everyone(), keeper).members(task, runs):
        _kill(member)
    for process in processes.everyone():
        if mark_of(process.pid) == (keeper, task.id):
            _kill(process)


def _kill(process: Process) -> None:
    """Unless its pid has gone to another by now."""
    # A program with other rights than ours may not be signalled; the rest of them may.
    with suppress(ProcessLookupError, PermissionError):
        fd = os.pidfd_open(process.pid)
        try:
            now = processes.look(process.pid)
            if now and now.start_ticks == process.start_ticks:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)


def mark_of(pid: int) -> Mark:
    """Whose the process is by its cgroup; or else, by what it carries.

    What was restored from a snapshot, or moved as it is, keeps the environment that it was started
    with: its cgroup says whose it is now.
    """
    carried = processes.environment(pid)
    keeper, task = carried.get(KEEPER_MARK, b""), carried.get(MARK, b"")
    if keeper and (placed := _placed(pid)):
        return placed
    return keeper.decode("ascii", "replace"), task.decode("ascii", "replace")


def strangers(known: Collection[int]) -> set[int]:
    """Pids of our children that are none of those ``known``: orphans that tasks left to us."""
    return _own_children() - set(known)


def have_changed(before: set[int], known: Collection[int]) -> bool:
    """What was seen since ``before`` may have missed something.

    A process that does nothing but fork and end is never seen where it was; but whenever it has
    moved on, one of our children has ended and another has come.
    """
    seen = map(processes.look, before)
    return strangers(known) != before or any(one is None or one.is_dead for one in seen)


def _own_children() -> set[int]:
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children") as file:
            return {int(pid) for pid in file.read().split()}
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return {process.pid for process in processes.everyone() if process.parent == me}


def _placed(pid: int) -> Mark | None:
    """Of the task in whose cgroup it is, if it is in one; the innermost."""
    with suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            if line.startswith("0::") and (found := _PLACE.findall(line.rstrip("\n"))):
                keeper, task = found[-1]
                return keeper, task
    return None
