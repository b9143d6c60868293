"""The verdict before a freeze for Python tasks, whose object is pickled.  Pure.

Their program has to be the same where they go, and what is no part of their object does not
matter.  What is part of it cannot be seen from outside: what may be in the way is a condition
here, and the runner, which is asked before it stands still, names the attribute.
"""

from collections.abc import Iterator

from godwit.task.reasons import Reason, named
from godwit.task.verdict import (
    Place,
    Traits,
    Verdict,
    is_shared,
    no_cwd,
    policy,
    shown,
    sum_up,
)

#: Kinds of OBSTACLES that an object may hold.  A Unix socket and pipes are in every runner.
HELD = ("tcp", "inet", "socket", "file-kind", "device", "tty", "io-uring", "deleted", "many")

_PART = "it can move if that is no part of its object"


def judge(
    task: Traits, program: str, digest: str, here: Place, there: Place, blackout_ms: int | None
) -> Verdict:
    """All reasons there are; ``digest``: of the program's source, which then goes along.

    ``blackout_ms`` is an estimate, if there is one.
    """
    return sum_up(there, "python", (
        *_ability(here), *_ability(there), *policy(there), *_program(task, program, digest, there),
        *_itself(task), *_files(task, there),
    ), blackout_ms)


def _ability(place: Place) -> Iterator[Reason]:
    if "python" not in place.can:
        why = place.lacks.get("python", "it runs no Python programs")
        yield Reason("python", f"{place.name}: {why}")


def _program(task: Traits, program: str, digest: str, there: Place) -> Iterator[Reason]:
    if digest:
        return
    if there.module == "" or (":" not in program and program not in there.programs):
        yield Reason(
            "no-program", f"{there.name} has no program {program}",
            "install its module there, or run it from a file: its source goes along then",
        )
    elif there.module and task.module and there.module != task.module:
        yield Reason(
            "other-source", f"{program} on {there.name} is not the source that the task runs",
            "install the same version there",
        )


def _itself(task: Traits) -> Iterator[Reason]:
    if task.children:
        yield Reason(
            "has-children", "it has child processes, which cannot travel",
            "it can move once they have ended",
        )
    if task.threads:
        yield Reason(
            "has-threads", f"it has {task.threads} more threads than a task needs",
            "it can move if none of them is Python's", "if",
        )
    for kind, name in dict.fromkeys(task.obstacles):
        if kind in HELD:
            reason = named(kind, name)
            yield Reason(reason.code, reason.text, _PART, "if")


def _files(task: Traits, there: Place) -> Iterator[Reason]:
    if there.lacks_cwd:
        yield no_cwd(there.lacks_cwd, there)
    for file in task.files:
        if file.carried or is_shared(file.path, there):
            continue
        path, seen = shown(file.path), there.files.get(file.path)
        if seen is None:
            yield Reason("file-missing", f"{path} is not on {there.name}", "copy it there")
        elif seen.size != file.size and (seen.device, seen.inode) != (file.device, file.inode):
            yield Reason(
                "file-differs", f"{path} is another on {there.name}",
                "it can move if what it has read and written of it is the same there", "if",
            )
