"""The event loop: descriptors by epoll(7), and alarms on the monotonic clock."""

import select
import time
from collections.abc import Callable

Ready = Callable[[int], None]


class Loop:
    """Calls back for descriptors that are ready and alarms that are due; one thread, no more."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._alarms: dict[str, tuple[float, Callable[[], None]]] = {}

    @staticmethod
    def now() -> float:
        """Seconds on the clock that alarms go by."""
        return time.monotonic()

    def watch(self, fd: int, ready: Ready, events: int = select.EPOLLIN) -> None:
        """``ready(events)`` is called whenever ``fd`` has something to say."""
        if fd in self._ready:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._ready[fd] = ready

    def forget(self, fd: int) -> None:
        """Before ``fd`` is closed."""
        if self._ready.pop(fd, None):
            self._epoll.unregister(fd)

    def alarm(self, name: str, after_s: float, ring: Callable[[], None]) -> None:
        """Calls ``ring()`` once, that many seconds from now; replaces the alarm of that name."""
        self._alarms[name] = (self.now() + after_s, ring)

    def silence(self, name: str) -> None:
        self._alarms.pop(name, None)

    def turn(self, wait: bool) -> None:
        """Sleeps, if it may, till something is there; then deals with all that is."""
        for fd, events in self._epoll.poll(self._patience() if wait else 0):
            # What came before in this round may have ended this one's watch.
            if ready := self._ready.get(fd):
                ready(events)
        now = self.now()
        for name, (at, ring) in list(self._alarms.items()):
            if at <= now and self._alarms.get(name) == (at, ring):
                del self._alarms[name]
                ring()

    def _patience(self) -> float | None:
        if not self._alarms:
            return None
        return max(0.0, min(at for at, _ in self._alarms.values()) - self.now())

    def close(self) -> None:
        self._epoll.close()
