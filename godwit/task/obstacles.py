"""Why a task cannot travel: the attribute that cannot, found when pickling has failed.

``self.pool[3].lock: a lock cannot travel``
"""

import io
import socket
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

from godwit.task.finding import Program
from godwit.task.migratable import Migratable
from godwit.task.snapshot import Barred, Border, can_travel

#: The task stands still while it is looked through: no longer than this, seconds, and no deeper.
_PATIENCE_S = 1.0
_DEEPEST = 12

#: What people call it, and what they may do instead.
_KINDS: tuple[tuple[type | tuple[type, ...], str, str], ...] = (
    (socket.socket, "a socket", ""),
    (
        (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event,
         threading.Semaphore, threading.Barrier), "a lock", "",
    ),
    (threading.Thread, "a thread", ""),
    (io.IOBase, "an open file", "open it with godwit.TransactionalFile"),
    ((types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType), "a generator", ""),
    (types.ModuleType, "a module", ""),
    (types.MethodType, "a bound method", ""),
    ((types.FrameType, types.TracebackType), "a frame", ""),
    (memoryview, "a memoryview", ""),
)


class _Void:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


def describe(task: Migratable, program: Program, err: BaseException) -> str:
    """One line: which attribute, and why it cannot travel."""
    border = Border(program)
    path, value, why = _deepest(task, "self", err, border, time.monotonic() + _PATIENCE_S)
    return f"{path}: {_reason(value, why)}"


def _deepest(
    value: object, path: str, err: BaseException, border: Border, till: float
) -> tuple[str, object, BaseException]:
    """Goes from what cannot be pickled to what in it cannot, as long as there is such a thing."""
    seen = {id(value)}
    for _ in range(_DEEPEST):
        for step, part in _parts(value):
            if time.monotonic() > till:
                return path, value, err
            if id(part) in seen:
                continue
            why = can_travel(part, border, _Void())
            if why is not None:
                seen.add(id(part))
                value, path, err = part, path + step, why
                break
        else:
            break
    return path, value, err


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What a value is made of, each with the step that leads there."""
    if isinstance(value, dict):
        for key, part in list(value.items()):
            yield f"[{_short(key)}]", part
            yield f" (key {_short(key)})", key
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif isinstance(value, set | frozenset):
        for part in value:
            yield f" (member {_short(part)})", part
    elif not isinstance(value, type):
        for name, part in _state_of(value):
            yield f".{name}", part


def _state_of(value: object) -> list[tuple[str, object]]:
    """Its attributes; what it gives to pickle instead, if that is its own."""
    if _is_known(value):
        return []
    try:
        state = value.__getstate__()
    except Exception:  # noqa: BLE001 (may be anybody's)
        return []
    if isinstance(state, tuple) and len(state) == 2:
        state = {**(state[0] or {}), **(state[1] or {})}
    return list(state.items()) if isinstance(state, dict) else []


def _is_known(value: object) -> bool:
    return any(isinstance(value, kind) for kind, _, _ in _KINDS)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _reason(value: object, err: BaseException) -> str:
    if isinstance(err, RecursionError):
        return "nested too deeply to travel"
    for kind, name, instead in _KINDS:
        if isinstance(value, kind):
            return f"{name} cannot travel" + (f" ({instead})" if instead else "")
    if isinstance(value, types.FunctionType):
        if "<" in value.__qualname__:
            return "a lambda or a function inside another cannot travel"
        return f"the function {value.__module__}.{value.__qualname__} cannot travel"
    if isinstance(err, Barred):
        return _barred(err)
    kind_of = type(value)
    return f"a {kind_of.__qualname__} cannot travel ({err})"


def _barred(err: Barred) -> str:
    name = f"{err.module}.{err.name}"
    if "<locals>" in err.name or "." in err.name:
        return f"{name} cannot travel: it is not defined at the top of its module"
    if err.module in ("builtins", "__main__", ""):
        return f"{name} cannot travel"
    package = err.module.partition(".")[0]
    return f"{name} may travel only if the task says travels_with = ({package!r},)"
