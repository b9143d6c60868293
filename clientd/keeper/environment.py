"""What a task finds around it: its environment, and which file its first word means.  Pure."""

import errno
import os
from collections.abc import Callable, Mapping

from clientd.keeper.kinship import KEEPER_MARK, MARK
from godwit.errors import TaskError
from godwit.task.record import Spec

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = b"/bin/sh"
#: Taken over from clientd's own environment; with LC_ in front, too.
INHERITED = (b"LANG", b"LANGUAGE", b"TZ")

#: What execvp(3) takes as: not in this folder, try the next.
_ELSEWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT}


def words(spec: Spec) -> tuple[bytes, ...]:
    """The words for execve(2)."""
    return (SHELL, b"-c", spec.argv[0]) if spec.shell else spec.argv


def check(spec: Spec) -> None:
    """Raises TaskError for what execve(2) could only misunderstand."""
    if not spec.argv or (spec.shell and len(spec.argv) != 1):
        raise TaskError("no-program", "there is no program to start")
    for what, value in (
        *(("a word of the command", word) for word in spec.argv),
        *((f"the variable {_shown(name)}", name + value) for name, value in spec.env.items()),
        ("the working directory", spec.cwd),
    ):
        if b"\0" in value:
            raise TaskError("nul-byte", f"{what} has a NUL byte in it")
    for name in spec.env:
        if not name or b"=" in name:
            raise TaskError("bad-env", f"{_shown(name)} cannot be the name of a variable")


def of_user(
    name: str, home: str, shell: str, inherited: Mapping[bytes, bytes]
) -> dict[bytes, bytes]:
    """What every task of a user has; ``inherited`` is clientd's own environment."""
    kept = {
        key: value for key, value in inherited.items()
        if key in INHERITED or key.startswith(b"LC_")
    }
    return kept | {
        b"PATH": DEFAULT_PATH,
        b"HOME": os.fsencode(home),
        b"USER": os.fsencode(name),
        b"LOGNAME": os.fsencode(name),
        b"SHELL": os.fsencode(shell) or SHELL,
    }


def of_task(user: Mapping[bytes, bytes], spec: Spec, node: str, keeper: str) -> dict[bytes, bytes]:
    """A task's whole environment.  What marks its processes as its own cannot be overridden."""
    return {
        **user,
        **spec.env,
        MARK: spec.task.encode(),
        KEEPER_MARK: keeper.encode(),
        b"GODWIT_NODE": node.encode(),
        b"GODWIT_INDEX": b"%d" % spec.index,
    }


def candidates(word: bytes, path: bytes) -> list[bytes]:
    """The files that execvp(3) would try for this first word, in its order."""
    if b"/" in word or not word:
        return [word]
    return [folder + b"/" + word if folder else word for folder in path.split(b":")]


def choose(word: bytes, path: bytes, probe: Callable[[bytes], int]) -> bytes:
    """The first candidate that can be executed, as far as ``probe`` can tell.

    ``probe`` gives 0 or an errno for a file.  Raises TaskError: ENOENT only when no folder has
    such a file, the reason it cannot be executed otherwise.
    """
    refused = errno.ENOENT
    for file in candidates(word, path):
        problem = probe(file)
        if not problem:
            return file
        if problem not in _ELSEWHERE:
            refused = problem
    raise refusal(word, refused)


#: What an errno of execve(2) means to whoever asked for the program.
_MEANINGS = {
    errno.ENOENT: "no such program",
    errno.ENOTDIR: "no such program",
    errno.EACCES: "not an executable file, or not for this user",
    errno.EISDIR: "is a directory",
    errno.ENOEXEC: "neither a program of this machine nor a script with a #! line",
    errno.E2BIG: "the command and its environment are too long",
    errno.ETXTBSY: "is being written to",
}


def refusal(word: bytes, number: int, meaning: str = "") -> TaskError:
    """The error of a program that could not be executed, naming it."""
    text = meaning or _MEANINGS.get(number) or os.strerror(number)
    return TaskError(errno.errorcode.get(number, str(number)), f"{_shown(word)}: {text}")


def _shown(word: bytes, most: int = 200) -> str:
    text = word.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= most else text[:most] + "...")
