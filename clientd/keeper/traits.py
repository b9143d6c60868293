"""What of a task decides where it can go, read from /proc while it runs: proc(5)."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress

from clientd.keeper import elf, processes, sockets, whose
from clientd.keeper.apart import init_of
from clientd.keeper.below import RIGHTS
from godwit.task.verdict import Binary, OpenFile, Place, Seen, Traits

#: Majors of terminals, <linux/major.h>: consoles, /dev/tty and /dev/console, pseudo-terminals.
_TERMINALS = {4, 5, *range(136, 144)}
#: /dev/null, zero, full, random, urandom: (1, minor).  CRIU opens them again.
_PLAIN_DEVICES = {3, 5, 7, 8, 9}
#: What memfd_secret(2) gives.
_SECRET = b"/secretmem"
#: What CRIU saves of anon_inode.
_SAVED = {"eventfd", "eventpoll", "signalfd", "timerfd", "inotify", "pidfd", "fanotify"}


def read(root: int) -> Traits:
    """Of the task whose program is ``root``, with all that belongs to it.

    What ends while it is read is left out.  Raises nothing: a task that is gone has no traits.
    """
    init = init_of(root)
    pids = list(processes.tree(init or root))
    cwd = _link(f"/proc/{root}/cwd")
    return Traits(
        machine=os.uname().machine, contained=init != 0,
        binaries=tuple(_binaries(pids)), files=tuple(_files(pids, cwd)), cwd=cwd,
        obstacles=tuple(dict.fromkeys((*_of_init(init, pids), *_obstacles(pids)))),
        memory_bytes=processes.memory(pids), cpu=flags(), ids=whose.ids(root),
    )


def look(path: bytes) -> Seen | None:
    """A file or folder as it is here, to be compared with a task's; None where there is none."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return Seen(seen.st_size, elf.build_id(path), seen.st_dev, seen.st_ino)


def place(
    name: str, can: tuple[str, ...], lacks: dict[str, str], paths: Iterable[bytes]
) -> Place:
    """This node, for a task that looks for these paths here: ``Traits.needs``."""
    found = {path: seen for path in paths if (seen := look(path))}
    return Place(
        name, os.uname().machine, can, lacks, flags(), free_bytes(), found,
    )


def free_bytes() -> int:
    """Bytes that can be had without swapping; 0 when nobody tells."""
    with suppress(OSError), open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def flags() -> frozenset[str]:
    """What the processor has, by the kernel's names."""
    with suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            name, _, words = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(words.split())
    return frozenset()


def _link(path: str) -> bytes:
    with suppress(OSError):
        return os.readlink(os.fsencode(path))
    return b""


def memory(root: int) -> int:
    """Bytes that a task has for itself."""
    return processes.memory(processes.tree(init_of(root) or root)) if root else 0


# ---- what it runs on --------------------------------------------------------------------------


def _mappings(pid: int) -> Iterator[bytes]:
    """Paths of what it has mapped; [heap] and the like, too."""
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(None, 5)
            if len(fields) == 6:
                yield fields[5]


def written_by_mapping(pid: int) -> set[bytes]:
    """Files that it has mapped shared, and may write to so: proc_pid_maps(5)."""
    found = set()
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(None, 5)
            if len(fields) == 6 and fields[1][1:2] == b"w" and fields[1][3:4] == b"s":
                found.add(fields[5])
    return found


def _binaries(pids: Iterable[int]) -> Iterator[Binary]:
    paths = {path for pid in pids for path in _mappings(pid) if path.startswith(b"/")}
    for path in sorted(paths):
        if path.startswith((b"/dev/", b"/memfd:", b"/SYSV")) or path.endswith(b" (deleted)"):
            continue
        with suppress(OSError):
            yield Binary(path, os.stat(path).st_size, elf.build_id(path))


# ---- what it has open -------------------------------------------------------------------------


def _descriptors(pids: Iterable[int]) -> Iterator[tuple[int, str, bytes]]:
    """Pid, number and what it is, of all open descriptors."""
    for pid in pids:
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                if target := _link(f"/proc/{pid}/fd/{number}"):
                    yield pid, number, target


def _files(pids: Iterable[int], cwd: bytes) -> Iterator[OpenFile]:
    seen: set[bytes] = set()
    for pid, number, path in _descriptors(pids):
        if path in seen or not path.startswith(b"/") or path.endswith(b" (deleted)"):
            continue
        with suppress(OSError):
            there = os.stat(f"/proc/{pid}/fd/{number}")
            if stat.S_ISREG(there.st_mode):
                seen.add(path)
                carried = path.startswith(cwd.rstrip(b"/") + b"/") if cwd else False
                yield OpenFile(
                    path, there.st_size, there.st_dev, there.st_ino, carried,
                    _locks(pid, number) - {"LEASE"} != set(),
                )


def _locks(pid: int, number: str) -> set[str]:
    """FLOCK, POSIX, OFDLCK, LEASE: what it has on that file, proc_locks(5)."""
    with suppress(OSError), open(f"/proc/{pid}/fdinfo/{number}") as file:
        return {line.split()[2] for line in file if line.startswith("lock:")}
    return set()


def _of_init(init: int, pids: list[int]) -> Iterator[tuple[str, str]]:
    """How its processes differ from its init, as which CRIU acts; a task without one is not asked.

    What CRIU is to do in an init needs rights: an earlier clientd's inits had none of another
    user's.
    """
    if not init:
        return
    if owner := whose.ids(init):
        with suppress(OSError):
            if int(whose.status(init)["CapEff"][0], 16) & RIGHTS != RIGHTS:
                yield "init", owner.name
    if stranger := whose.unseen(init, pids):
        yield "other-user", stranger
    own = _namespaces(init)
    for pid in pids:
        for kind, known in _namespaces(pid).items():
            if own.get(kind, known) != known:
                yield "namespace", kind.removesuffix("_for_children")


def _namespaces(pid: int) -> dict[str, bytes]:
    """Kind -> which, those that its children will be in, too: namespaces(7).

    A process that has ended has none.
    """
    with suppress(OSError):
        kinds = os.listdir(f"/proc/{pid}/ns")
        return {kind: known for kind in kinds if (known := _link(f"/proc/{pid}/ns/{kind}"))}
    return {}


def _obstacles(pids: list[int]) -> Iterator[tuple[str, str]]:
    held: dict[int, tuple[int, int]] = {}
    pipes: Counter[tuple[bytes, bool]] = Counter()
    for pid, number, target in _descriptors(pids):
        if target.startswith(b"pipe:["):
            pipes[target, may_write(pid, number)] += 1
            if flags_of(pid, number) & os.O_DIRECT:
                yield "file-kind", "a pipe that keeps packets apart"
        elif target.startswith(b"socket:["):
            held.setdefault(int(target[8:-1]), (pid, int(number)))
        elif target.startswith(b"anon_inode:"):
            yield from _anonymous(target[11:].decode().strip("[]"))
        else:
            yield from _device(pid, number, target)
    yield from sockets.obstacles(pids[0], held)
    yield from _pipes({pipe for pipe, writes in pipes if (pipe, not writes) not in pipes}, pids)
    for pid in pids:
        yield from _state(pid)


def _pipes(halves: set[bytes], pids: list[int]) -> Iterator[tuple[str, str]]:
    """Those whose other end somebody else has; if nobody has it, that is no matter."""
    if not halves:
        return
    hidden = False
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if pid in pids:
            continue
        try:
            os.listdir(f"/proc/{pid}/fd")
        except PermissionError:
            hidden = True
        except OSError:
            continue
        shared = halves.intersection(target for *_, target in _descriptors([pid]))
        if shared:
            halves = halves - shared
            yield "pipe", f"pid {pid} ({_name(pid)})"
    if halves and hidden:
        yield "pipe-unseen", min(halves).decode()


def _name(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/comm", errors="backslashreplace") as file:
        return file.read().rstrip("\n")
    return "?"


def may_write(pid: int, number: str) -> bool:
    return flags_of(pid, number) & os.O_ACCMODE != os.O_RDONLY


def flags_of(pid: int, number: str) -> int:
    """Of open(2), as a descriptor has them; 0 where there is none."""
    with suppress(OSError), open(f"/proc/{pid}/fdinfo/{number}") as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8)
    return 0


def _anonymous(kind: str) -> Iterator[tuple[str, str]]:
    if kind == "io_uring":
        yield "io-uring", kind
    elif kind not in _SAVED:
        yield "file-kind", kind


def _device(pid: int, number: str, target: bytes) -> Iterator[tuple[str, str]]:
    with suppress(OSError):
        there = os.stat(f"/proc/{pid}/fd/{number}")
        major, minor = os.major(there.st_rdev), os.minor(there.st_rdev)
        name = target.decode("utf-8", "backslashreplace")
        if target.startswith(_SECRET):
            yield "file-kind", "secret memory"
        elif "LEASE" in _locks(pid, number):
            yield "lease", name
        elif stat.S_ISREG(there.st_mode) and not there.st_nlink:
            # A memfd has none either; CRIU saves it.
            if name.endswith(" (deleted)") and not name.startswith("/memfd:"):
                yield "deleted", name.removesuffix(" (deleted)")
        elif stat.S_ISCHR(there.st_mode) and major in _TERMINALS:
            yield "tty", name
        elif stat.S_ISBLK(there.st_mode) or (
            stat.S_ISCHR(there.st_mode) and not (major == 1 and minor in _PLAIN_DEVICES)
        ):
            yield "device", name


def _state(pid: int) -> Iterator[tuple[str, str]]:
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("TracerPid:") and (tracer := line.split()[1]) != "0":
                yield "traced", tracer
    for path in _mappings(pid):
        if path.startswith(b"/dev/") and not path.startswith((b"/dev/zero", b"/dev/shm/")):
            yield "device", path.decode("utf-8", "backslashreplace")
        elif path.startswith(b"anon_inode:[io_uring]"):
            yield "io-uring", "io_uring"
        elif path.startswith(_SECRET):
            yield "file-kind", "secret memory"
        elif path.startswith(b"/SYSV"):
            yield "sysv", path.decode().removesuffix(" (deleted)")
