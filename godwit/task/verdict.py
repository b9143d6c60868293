"""The verdict before a freeze: can a task move to a node as it is, and if not, why not.  Pure.

What is known of the task (Traits) and of a node (Place) comes from whoever can see it; nothing is
frozen to find out.  A reason with the verdict ``no`` forbids; one with ``if`` names what has to be
so, which cannot be seen from here.
"""

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from godwit.task.reasons import Reason, Word, named

#: Share of a node's free memory that one task may need.
MOST_OF_FREE = 0.9
#: Seconds for the rest of a small task: freezing, the start of CRIU twice, the first steps.
OVERHEAD_S = 0.09
#: The first CRIU that saves a task of another user's without being root.
FOR_USERS = (3, 18)
#: The first that saves sockets of the network on Linux 6.16 and later.
FOR_INET = (4, 2)


class Binary(Struct, frozen=True, omit_defaults=True):
    """A program or library that the task runs on; the same by its build id, else by its size."""

    path: bytes
    size: int
    build_id: str = ""


class OpenFile(Struct, frozen=True, omit_defaults=True):
    """A regular file that the task has open, or its folder."""

    path: bytes
    size: int = 0
    #: Device and inode: one file on a shared file system has the same everywhere.
    device: int = 0
    inode: int = 0
    #: It goes along with the task.
    carried: bool = False
    #: The task holds a lock on it.
    locked: bool = False

    @property
    def matters(self) -> bool:
        """It depends on where the task goes: what travels need not be looked for elsewhere, but for
        a lock, which two copies of the task cannot have on one file."""
        return not self.carried or self.locked


class Ids(Struct, frozen=True, omit_defaults=True):
    """Whose processes are, as the kernel knows it: by numbers, which travel as they are."""

    #: For people.
    name: str
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


class Traits(Struct, frozen=True, omit_defaults=True):
    """What of a task decides where it can go."""

    machine: str
    #: It has a pid namespace of its own.
    contained: bool = True
    binaries: tuple[Binary, ...] = ()
    files: tuple[OpenFile, ...] = ()
    cwd: bytes = b""
    #: Each a kind of descriptor, mapping or state, a key of OBSTACLES; and what to name of it.
    obstacles: tuple[tuple[str, str], ...] = ()
    memory_bytes: int = 0
    #: Of the processor that it runs on: it may use any of them.
    cpu: frozenset[str] = frozenset()
    #: Of a Python task: the sha256 of its module's text, hex; empty where that cannot be found.
    module: str = ""
    #: Of a Python task: its child processes, and threads besides those that every one has.
    children: int = 0
    threads: int = 0
    #: Of its program, where that is not root's.
    ids: Ids | None = None

    @property
    def needs(self) -> tuple[bytes, ...]:
        """The paths to be looked at where it goes."""
        files = (file.path for file in self.files if file.matters)
        cwd = (self.cwd,) if self.cwd else ()
        return *(binary.path for binary in self.binaries), *files, *cwd


class Seen(Struct, frozen=True, omit_defaults=True):
    """A file as it is at a node."""

    size: int
    build_id: str = ""
    device: int = 0
    inode: int = 0


class Place(Struct, frozen=True, omit_defaults=True):
    """What of a node decides who can come."""

    name: str
    machine: str
    #: As in its Hello: "criu=4.1.1", "apart", ...
    can: tuple[str, ...] = ()
    lacks: dict[str, str] = {}
    cpu: frozenset[str] = frozenset()
    free_bytes: int = 0
    #: Of the paths that were asked about, those which are there.
    files: dict[bytes, Seen] = {}
    #: Folders that are the same at all nodes.
    shared: tuple[bytes, ...] = ()
    #: Bytes a second, dumped, brought here and restored; 0: not known.
    rate: float = 0.0
    kernel: str = ""
    #: What its policy has against this task: code and text.
    objection: tuple[str, str] | None = None
    #: Python programs that it knows by name.
    programs: frozenset[str] = frozenset()
    #: As of Traits, the module being the one here; None: not known.
    module: str | None = None
    #: The working directory that a Python task would have here, when that is not there.
    lacks_cwd: bytes = b""
    #: What the task's user is here, where it was started as one that is not root.
    ids: Ids | None = None


class Verdict(Struct, frozen=True, omit_defaults=True):
    """Whether a task can move to a node as it is."""

    node: str
    verdict: Word
    reasons: tuple[Reason, ...] = ()
    #: Estimated, stop and copy; None where it cannot move, or nothing is known of the rate.
    blackout_ms: int | None = None
    #: How it is moved: ``criu``, as it is, or ``python``, by godwit.task.pickled.
    kind: str = "criu"


def judge(task: Traits, here: Place, there: Place) -> Verdict:
    """All reasons there are, those that forbid first; without one it can."""
    return sum_up(there, "criu", (
        *_ability(here), *_ability(there), *policy(there), *_itself(task, here),
        *_ids(task, here, there), *_machine(task, there),
        *_versions(here, there), *_binaries(task, there), *_files(task, there),
        *_room(task, there),
    ), _ms(task, there))


def judge_here(task: Traits, here: Place) -> Verdict:
    """Whether it can be saved as it is, and be made again where it is: a snapshot of it."""
    return sum_up(here, "criu", (*_ability(here), *_itself(task, here)), None)


def sum_up(
    there: Place, kind: str, reasons: Iterable[Reason], blackout_ms: int | None
) -> Verdict:
    """The verdict that these reasons make; the graver first."""
    graver = tuple(sorted(reasons, key=lambda reason: reason.verdict != "no"))
    word = graver[0].verdict if graver else "yes"
    return Verdict(there.name, word, graver, None if word == "no" else blackout_ms, kind)


def policy(there: Place) -> Iterator[Reason]:
    """What the node's own policy has against it."""
    if there.objection is not None:
        code, text = there.objection
        yield Reason(code, f"{there.name}: {text}")


def _ability(place: Place) -> Iterator[Reason]:
    if not version_of(place.can):
        why = place.lacks.get("criu", "it has no CRIU")
        yield Reason("criu", f"{place.name}: {why}", "bin/get-criu gets one")
    if "apart" not in place.can:
        yield Reason("apart", f"{place.name}: {place.lacks.get('apart', 'no pid namespaces')}")


def _itself(task: Traits, here: Place) -> Iterator[Reason]:
    saves_inet = _numbers(version_of(here.can)) >= FOR_INET
    if not task.contained:
        yield Reason(
            "plain", "it has no pid namespace of its own", "start it with execute, without --plain"
        )
    for kind, name in dict.fromkeys(task.obstacles):
        if kind == "inet" and saves_inet:
            continue
        yield named(kind, name)


def _ids(task: Traits, here: Place, there: Place) -> Iterator[Reason]:
    """A task of another user than root."""
    version = version_of(here.can)
    if task.ids is not None and version and _numbers(version) < FOR_USERS:
        text = f"CRIU {version} on {here.name} saves no tasks of other users than root"
        yield Reason("criu-older", text, "bin/get-criu gets a newer one")
    if task.ids is not None and there.ids is not None:
        yield from differing(task.ids, there.ids, there.name)


def differing(ours: Ids, theirs: Ids, there: str) -> Iterator[Reason]:
    """Processes have the same numbers wherever they are restored, whoever has these there."""
    fix = f"give {theirs.name} the same numbers on both"
    for what, number, other in (("user", ours.uid, theirs.uid), ("group", ours.gid, theirs.gid)):
        if number != other:
            text = f"it runs as {what} {number}, and {theirs.name} is {what} {other} on {there}"
            yield Reason("user", text, fix)
    if more := sorted(ours.groups - theirs.groups - {theirs.gid}):
        named = ", ".join(map(str, more[:5])) + (", ..." if len(more) > 5 else "")
        text = f"it has the rights of groups {named}, which {theirs.name} has not on {there}"
        yield Reason("user", text, fix)


def _machine(task: Traits, there: Place) -> Iterator[Reason]:
    if task.machine != there.machine:
        yield Reason("machine", f"{there.name} is {there.machine}, it runs on {task.machine}")
    elif missing := sorted(task.cpu - there.cpu):
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        yield Reason(
            "cpu", f"the processor of {there.name} lacks {named}",
            "it can move if it does not use these", "if",
        )


def _versions(here: Place, there: Place) -> Iterator[Reason]:
    """What is older may not know what was saved."""
    ours, theirs = version_of(here.can), version_of(there.can)
    if ours and theirs and _numbers(theirs) < _numbers(ours):
        yield Reason(
            "criu-older", f"CRIU {theirs} on {there.name} is older than {ours} on {here.name}",
            "bin/get-criu gets a newer one", "if",
        )
    if here.kernel and there.kernel and _numbers(there.kernel)[:2] < _numbers(here.kernel)[:2]:
        yield Reason(
            "kernel-older", f"the kernel of {there.name} ({there.kernel}) is older than that of "
            f"{here.name} ({here.kernel})", "it can move if it uses nothing that is new", "if",
        )


def _numbers(version: str) -> tuple[int, ...]:
    """(6, 18, 5) of 6.18.5-arch1."""
    lead = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, lead.group().split("."))) if lead else ()


def _binaries(task: Traits, there: Place) -> Iterator[Reason]:
    for binary in task.binaries:
        path, seen = shown(binary.path), there.files.get(binary.path)
        if seen is None:
            yield Reason(
                "file-missing", f"{path} is not on {there.name}", "install the same version there"
            )
        elif not _is_same(binary, seen):
            yield Reason(
                "file-differs", f"{path} is another on {there.name}",
                "install the same version there",
            )


def _is_same(binary: Binary, seen: Seen) -> bool:
    if binary.build_id and seen.build_id:
        return binary.build_id == seen.build_id
    return binary.size == seen.size


def _files(task: Traits, there: Place) -> Iterator[Reason]:
    if task.cwd and task.cwd not in there.files and not is_shared(task.cwd, there):
        yield no_cwd(task.cwd, there)
    for file in task.files:
        path, seen = shown(file.path), there.files.get(file.path)
        if is_shared(file.path, there) or _is_one(file, seen):
            if file.locked:
                # The frozen copy holds it till the move is over, and the new one has to wait.
                yield Reason(
                    "file-lock", f"it holds a lock on {path}, which {there.name} shares",
                    "it can move once that is unlocked",
                )
        elif file.carried:
            continue
        elif seen is None:
            yield Reason("file-missing", f"{path} is not on {there.name}", "copy it there")
        elif seen.size != file.size:
            yield Reason("file-differs", f"{path} is another on {there.name}", "copy it there")


def _is_one(file: OpenFile, seen: Seen | None) -> bool:
    """One file, on a file system that both nodes have mounted."""
    return seen is not None and file.inode != 0 and (
        (seen.device, seen.inode) == (file.device, file.inode)
    )


def no_cwd(path: bytes, there: Place) -> Reason:
    """It has to find its working directory where it goes."""
    return Reason(
        "cwd", f"its working directory {shown(path)} is not on {there.name}",
        "make that folder there",
    )


def is_shared(path: bytes, there: Place) -> bool:
    """It is below a folder that is the same at all nodes."""
    return any(
        path == folder or path.startswith(folder.rstrip(b"/") + b"/") for folder in there.shared
    )


def _room(task: Traits, there: Place) -> Iterator[Reason]:
    # Its memory, and its images meanwhile.
    needed = 2 * task.memory_bytes
    if there.free_bytes and needed > MOST_OF_FREE * there.free_bytes:
        yield Reason(
            "memory", f"{there.name} has {there.free_bytes >> 20} MiB free, "
            f"and it needs {needed >> 20} MiB on its way",
        )


def _ms(task: Traits, there: Place) -> int | None:
    if not there.rate:
        return None
    return round(1000 * (OVERHEAD_S + task.memory_bytes / there.rate))


def version_of(can: tuple[str, ...]) -> str:
    """4.1.1 of "criu=4.1.1", or nothing."""
    return next((word[5:] for word in can if word.startswith("criu=")), "")


def shown(path: bytes) -> str:
    """A path as text."""
    return path.decode("utf-8", "backslashreplace")
