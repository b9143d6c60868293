"""Says when a file grew: inotify(7) by ctypes, else a look every 0.2 s."""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

_EVENT = struct.Struct("iIII")
_IN_MODIFY = 0x2
_IN_Q_OVERFLOW = 0x4000
#: Seconds between two looks at a file that inotify does not watch.
POLL_S = 0.2


class Growth:
    """Calls back when a watched file was written to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watched: dict[int, set[Callable[[], None]]] = {}
        self._polled: dict[Callable[[], None], asyncio.TimerHandle] = {}
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def watch(self, path: str, grew: Callable[[], None]) -> Callable[[], None]:
        """Calls ``grew`` after writes to ``path``, until the returned function is called."""
        # inotify_add_watch gives the same number for the same file, so one watch serves all.
        wd = -1
        if self._fd >= 0:
            wd = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY)
        if wd < 0:
            self._poll(grew)
            return lambda: self._unpoll(grew)
        self._watched.setdefault(wd, set()).add(grew)
        return lambda: self._unwatch(wd, grew)

    def _unwatch(self, wd: int, grew: Callable[[], None]) -> None:
        callbacks = self._watched.get(wd, set())
        callbacks.discard(grew)
        if not callbacks and self._watched.pop(wd, None) is not None:
            self._libc.inotify_rm_watch(self._fd, wd)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 64 * 1024)
        except BlockingIOError:
            return
        grown: set[int] = set()
        at = 0
        while at + _EVENT.size <= len(data):
            wd, mask, _, name_length = _EVENT.unpack_from(data, at)
            # Events that found no room are lost: then any file may have grown.
            grown.update(self._watched if mask & _IN_Q_OVERFLOW else [wd])
            at += _EVENT.size + name_length
        for wd in grown:
            for grew in tuple(self._watched.get(wd, ())):
                grew()

    def _poll(self, grew: Callable[[], None]) -> None:
        def look() -> None:
            self._poll(grew)
            grew()

        self._polled[grew] = self._loop.call_later(POLL_S, look)

    def _unpoll(self, grew: Callable[[], None]) -> None:
        timer = self._polled.pop(grew, None)
        if timer:
            timer.cancel()

    def close(self) -> None:
        """Ends all watches."""
        for grew in tuple(self._polled):
            self._unpoll(grew)
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
