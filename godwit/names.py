"""Names of nodes and tasks, and addresses: what is one, and how a new task id is made.  Pure."""

import re
from collections.abc import Callable

from godwit.errors import UsageError

#: Characters of a task id.
ID_LENGTH = 8
#: Node names that would be taken for something else: words of the shell's own.
RESERVED = frozenset({"all", "auto", "local"})
HIGHEST_PORT = 65535

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ALPHABET = _LETTERS + "0123456789"
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
#: A task id begins with a letter: digits alone are always a pid.
_TASK = re.compile(rf"[a-z][a-z0-9]{{{ID_LENGTH - 1}}}")
_ADDRESS = re.compile(
    r"(?: \[ (?P<six> [0-9A-Fa-f:.]{2,45} (?: %[A-Za-z0-9._-]{1,15} )? ) \]"
    r"  | (?P<host> [A-Za-z0-9._-]{1,253} ) )"
    r": (?P<port> [0-9]{1,5} )",
    re.VERBOSE,
)


def is_node_name(text: str) -> bool:
    """1 to 63 ASCII letters, digits, dots, dashes and underscores; no reserved word."""
    return _NODE.fullmatch(text) is not None and text.lower() not in RESERVED


def check_node_name(text: str) -> str:
    """``text`` as it is.  Raises UsageError when no node can be called that."""
    if text.lower() in RESERVED:
        raise UsageError(
            f"{text!r} is a word of the shell, no name for a node",
            code="bad-name", exit_status=2, hint="choose another name",
        )
    if not is_node_name(text):
        raise UsageError(
            f"{text!r} is no name for a node", code="bad-name", exit_status=2,
            hint="a letter or digit, then at most 62 more of A-Z a-z 0-9 . _ -",
        )
    return text


def is_task_id(text: str) -> bool:
    """8 of a-z and 0-9, the first a letter."""
    return _TASK.fullmatch(text) is not None


def new_task_id(random_bytes: Callable[[int], bytes]) -> str:
    """A task id; every one is as likely as any other if ``random_bytes(n)`` gives random bytes."""
    chosen = _LETTERS[_below(len(_LETTERS), random_bytes)]
    while len(chosen) < ID_LENGTH:
        chosen += _ALPHABET[_below(len(_ALPHABET), random_bytes)]
    return chosen


def _below(count: int, random_bytes: Callable[[int], bytes]) -> int:
    """A number in 0..count-1; bytes that would favour the low ones are thrown away."""
    fair = 256 - 256 % count
    while (byte := random_bytes(1)[0]) >= fair:
        pass
    return byte % count


def split_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [IPV6]:PORT.  Raises UsageError for anything else."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > HIGHEST_PORT:
        raise UsageError(
            f"{text!r} is no address", code="bad-address", exit_status=2,
            hint=f"write HOST:PORT or [IPV6]:PORT, the port 0 to {HIGHEST_PORT}",
        )
    return found["six"] or found["host"], int(found["port"])


def join_address(host: str, port: int) -> str:
    """What split_address takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
