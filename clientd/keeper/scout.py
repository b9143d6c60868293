"""A process of the keeper's that looks at a running task, or at what is here for one: proc(5).

    python -P -m clientd.keeper.scout     a question on descriptor 3, the answer to descriptor 4

It may have to wait for a file system that hangs, which the keeper must not; and nothing that it
looks at, however much of it there is, keeps the keeper from its work.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import PathFinder

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from clientd.keeper import processes, traits
from clientd.keeper.apart import init_of
from godwit.programs import PROGRAMS
from godwit.task.verdict import Binary, OpenFile, Place, Traits

QUESTION, ANSWER = 3, 4
#: Files and programs of a task that are told of, and bytes of all their paths.
MOST = 2000
MOST_BYTES = 1 << 20
#: Threads of a runner: the one that runs the task, and the one that hears its keeper.
RUNNERS_THREADS = 2


class OfTask(Struct, frozen=True, tag_field="of", tag="task"):
    """What decides where the task goes whose program is ``root``?"""

    root: int
    log: bytes
    #: Of a Python task; what it is called.
    program: str = ""
    #: What it has open in its working directory goes along.
    carries: bool = True


class OfPlace(Struct, frozen=True, tag_field="of", tag="place"):
    """What of these paths, and of this program, is here?  The rest of the answer is known."""

    known: Place
    paths: tuple[bytes, ...] = ()
    program: str = ""
    #: Of a Python task, as it would be here.
    cwd: bytes = b""


Question = OfTask | OfPlace

encode = msgspec.msgpack.Encoder().encode
_decode: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)


def answer(question: Question) -> Traits | Place:
    """Raises nothing: what cannot be seen is not there."""
    if isinstance(question, OfPlace):
        return _place(question)
    seen = traits.read(question.root)
    if question.program:
        seen = _of_python(question, seen)
    files = tuple(_carried(question, seen.files))
    along = {file.path for file in files if file.carried}
    binaries = tuple(binary for binary in seen.binaries if binary.path not in along)
    return _bounded(replace(seen, files=files, binaries=binaries))


def _carried(question: OfTask, files: tuple[OpenFile, ...]) -> Iterator[OpenFile]:
    """The log goes along in any case."""
    log = traits.look(question.log)
    for file in files:
        is_log = log is not None and (log.device, log.inode) == (file.device, file.inode)
        yield replace(file, carried=is_log or (file.carried and question.carries))


def _of_python(question: OfTask, seen: Traits) -> Traits:
    """It is not moved with its libraries, nor with where it stands: it is started there anew."""
    pids = list(processes.tree(init_of(question.root) or question.root))
    return replace(
        seen, binaries=(), cwd=b"", module=module_digest(question.program),
        children=max(0, len(pids) - 1), threads=max(0, _threads(question.root) - RUNNERS_THREADS),
    )


def _threads(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


def _bounded(seen: Traits) -> Traits:
    left = MOST_BYTES
    files: list[OpenFile] = []
    binaries: list[Binary] = []
    for file in [file for file in seen.files if file.matters]:
        left -= len(file.path)
        if left > 0 and len(files) < MOST:
            files.append(file)
    for binary in seen.binaries:
        left -= len(binary.path)
        if left > 0 and len(binaries) < MOST:
            binaries.append(binary)
    obstacles = seen.obstacles[:MOST]
    wanted = sum(file.matters for file in seen.files) + len(seen.binaries)
    missed = wanted - len(files) - len(binaries) + len(seen.obstacles) - len(obstacles)
    if missed:
        obstacles = (*obstacles, ("many", f"{missed} more"))
    return replace(
        seen, files=tuple(files), binaries=tuple(binaries), obstacles=obstacles
    )


def _place(question: OfPlace) -> Place:
    known = question.known
    seen = traits.place(known.name, known.can, known.lacks, question.paths)
    is_there = not question.cwd or os.path.isdir(question.cwd)
    return replace(
        known, machine=seen.machine, cpu=seen.cpu, free_bytes=seen.free_bytes, files=seen.files,
        kernel=os.uname().release, lacks_cwd=b"" if is_there else question.cwd,
        module=module_digest(question.program) if question.program else None,
    )


def module_digest(program: str) -> str:
    """sha256, hex, of the text of the module that the program is in; empty: there is none here.

    Nothing is imported: it would run with our rights.
    """
    where = PROGRAMS[program].where if program in PROGRAMS else program
    name, _, _ = where.rpartition(":")
    try:
        origin = _origin(name)
        if origin:
            with open(origin, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
    except (OSError, ImportError, ValueError, SyntaxError):
        pass
    return ""


def _origin(module: str) -> str:
    """The file of a module: each package is asked where its modules are."""
    folders: list[str] | None = None
    words = module.split(".")
    for number in range(1, len(words) + 1):
        spec = PathFinder.find_spec(".".join(words[:number]), folders)
        if spec is None:
            return ""
        found = spec.submodule_search_locations
        folders = list(found) if found is not None else []
    return spec.origin or "" if spec is not None else ""


def main() -> None:
    with open(QUESTION, "rb") as file:
        question = _decode.decode(file.read())
    with open(ANSWER, "wb") as file:
        file.write(encode(answer(question)))


if __name__ == "__main__":
    main()
