"""Which process is which: read from /proc, see proc(5)."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from msgspec import Struct


class Process(Struct, frozen=True):
    """One process as /proc/PID/stat shows it.

    ``pid`` and ``start_ticks`` (clock ticks since boot) name one process for as long as the
    machine is up.
    """

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int
    #: As wait(2) has it; only of a zombie (``state`` Z), and only when we may see it.
    status: int

    @property
    def is_dead(self) -> bool:
        """Ended, and perhaps not yet waited for."""
        return self.state in "ZX"


def parse(stat: bytes) -> Process:
    """The name, field 2, may hold anything, spaces and parentheses too: count from its end."""
    pid = int(stat.partition(b" ")[0])
    rest = stat[stat.rindex(b")") + 2:].split()
    return Process(
        pid, rest[0].decode(), int(rest[1]), int(rest[2]), int(rest[3]), int(rest[19]),
        int(rest[49]) if len(rest) > 49 else 0,
    )


def look(pid: int) -> Process | None:
    """The process that has this pid now."""
    with suppress(OSError):
        return parse(_read(f"/proc/{pid}/stat"))
    return None


def everyone() -> Iterator[Process]:
    """All processes that we may see, zombies too.

    The newest first: who forks and ends all the time is gone a moment after the list was made.
    """
    for pid in sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True):
        if process := look(pid):
            yield process


def tree(top: int) -> Iterator[int]:
    """A pid and those of all its descendants; of an init, of all in its namespace."""
    yield top
    with suppress(OSError), open(f"/proc/{top}/task/{top}/children") as file:
        children = [int(pid) for pid in file.read().split()]
        for child in children:
            yield from tree(child)


def memory(pids: Iterable[int]) -> int:
    """Bytes that only they have: anonymous and shared memory, not what comes from files."""
    kib = 0
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith(("RssAnon:", "RssShmem:")):
                    kib += int(line.split()[1])
    return kib * 1024


def environment(pid: int) -> dict[bytes, bytes]:
    """What the process was started with; nothing if it is gone, or none of our business."""
    with suppress(OSError):
        pairs = _read(f"/proc/{pid}/environ").split(b"\0")
        return {name: value for name, _, value in (pair.partition(b"=") for pair in pairs)}
    return {}


def command_line(pid: int) -> tuple[bytes, ...]:
    with suppress(OSError):
        return tuple(_read(f"/proc/{pid}/cmdline").split(b"\0")[:-1])
    return ()


def boot_id() -> str:
    """Random, made by the kernel at each boot: random(4)."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 65536)
        while more := os.read(fd, 65536):
            data += more
        return data
    finally:
        os.close(fd)
