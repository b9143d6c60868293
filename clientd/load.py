"""How busy this machine is, by psutil; and what running tasks use, from /proc."""

import contextlib
import os
import time

import psutil

from godwit.task.record import Usage
from godwit.wire.messages import Load

_TICKS = os.sysconf("SC_CLK_TCK")


def take(tasks: int) -> Load:
    """The load now; ``cpu_percent`` counts from the last call."""
    memory = psutil.virtual_memory()
    users = psutil.users()
    return Load(
        cpus=psutil.cpu_count() or 1,
        cpu_percent=psutil.cpu_percent(),
        load1=os.getloadavg()[0],
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        tasks=tasks,
        users=len({user.name for user in users}),
        keyboard_idle_s=keyboard_idle([user.terminal for user in users], time.time()),
    )


def keyboard_idle(terminals: list[str | None], wall: float) -> float | None:
    """Seconds since input on any of these terminals: a tty's atime is its last read (w(1))."""
    idle: list[float] = []
    for terminal in terminals:
        with contextlib.suppress(OSError):
            if terminal:
                idle.append(wall - os.stat(f"/dev/{terminal}").st_atime)
    return max(0.0, min(idle)) if idle else None


def usage(pids: dict[str, int]) -> dict[str, Usage]:
    """What each task's process and its living descendants use; those that ended are left out."""
    stats = _stats()
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(int(stat[1]), []).append(pid)
    found: dict[str, Usage] = {}
    for task, pid in pids.items():
        if pid in stats:
            found[task] = _sum(pid, stats, children)
    return found


def _stats() -> dict[int, list[str]]:
    """Fields of /proc/PID/stat from the third on (state, ppid, ...), for every process."""
    stats: dict[int, list[str]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            # Processes come and go while we look.
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    text = file.read()
                # The command's name is in parentheses and may hold any byte, parentheses too.
                stats[int(name)] = text[text.rindex(")") + 2 :].split()
    return stats


def _sum(root: int, stats: dict[int, list[str]], children: dict[int, list[int]]) -> Usage:
    utime = stime = minflt = majflt = peak = voluntary = involuntary = 0
    todo = [root]
    while todo:
        pid = todo.pop()
        todo += children.get(pid, [])
        fields = stats[pid]
        # proc(5): 10 minflt, 11 cminflt, 12 majflt, 13 cmajflt, 14-17 utime, stime, cutime, cstime
        minflt += int(fields[7]) + int(fields[8])
        majflt += int(fields[9]) + int(fields[10])
        utime += int(fields[11]) + int(fields[13])
        stime += int(fields[12]) + int(fields[14])
        status = _status(pid)
        peak = max(peak, status.get("VmHWM", 0))
        voluntary += status.get("voluntary_ctxt_switches", 0)
        involuntary += status.get("nonvoluntary_ctxt_switches", 0)
    return Usage(
        utime_s=utime / _TICKS, stime_s=stime / _TICKS, maxrss_bytes=peak * 1024,
        minflt=minflt, majflt=majflt, nvcsw=voluntary, nivcsw=involuntary,
    )


def _status(pid: int) -> dict[str, int]:
    """The numbers of /proc/PID/status (VmHWM in KiB)."""
    numbers: dict[str, int] = {}
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            word = value.split()[:1]
            if word and word[0].isdecimal():
                numbers[key] = int(word[0])
    return numbers
