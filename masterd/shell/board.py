"""Events on their way from the thread that hears of them to the prompt, and when to say so.

The main thread alone writes to the terminal.  While its prompt is open it is woken by SIGURG:
nothing else uses that signal, and a process that does not handle it ignores it.  A signal
that comes between readline's last look at its flags and its select(2) wakes nobody, so the bell
is rung again until the board is empty.  It rings for other signals too: Ctrl-C typed at that
moment would be acted on at the next key, and no key need come.
"""

import signal
import threading
from collections import deque
from collections.abc import Sequence

from godwit.wire.operations import Event

BELL = signal.SIGURG
#: Seconds that an event waits for company, so that a burst is one line.
SETTLE = 0.05
#: Seconds between two interruptions of a person who types.
PACE = 1.0
#: Seconds until the bell is rung again when nobody came.
AGAIN = 0.25
#: Events kept while nobody looks; of more, the newest.
KEPT = 10_000
NEVER = float("inf")


class Board:
    """Events that wait to be shown.  Thread-safe; ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        #: Re-entrant: the bell's handler may run in the middle of ``open`` or ``shut``.
        self._lock = threading.RLock()
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._reader: int | None = None
        self._next_ring = 0.0
        #: When to ring for a signal that may have woken nobody.
        self._signal_ring = NEVER

    def put(self, events: Sequence[Event], now: float) -> None:
        """They wait from now on."""
        with self._lock:
            if events and not self._events:
                self._next_ring = max(self._next_ring, now + SETTLE)
            self._events.extend(events)

    def signalled(self, now: float) -> None:
        """A signal has come; that the main thread was woken by it shows when it takes or shuts."""
        with self._lock:
            if self._reader is not None:
                self._signal_ring = now + SETTLE

    def take(self, now: float) -> list[Event]:
        """All that wait, which then wait no more; the bell is quiet for a while."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
            self._signal_ring = NEVER
            if events:
                self._next_ring = now + PACE
            return events

    def open(self, thread: int) -> None:
        """The prompt is open, and ``thread`` (threading.get_ident) sits at it.

        Take after this and not before, or an event that comes between the two rings no bell.
        """
        with self._lock:
            self._reader = thread

    def shut(self) -> None:
        """The prompt is closed: the bell does not ring."""
        with self._lock:
            self._reader = None
            self._signal_ring = NEVER

    def due(self) -> float | None:
        """When to call ``ring`` next; None when there is nothing to ring for."""
        with self._lock:
            due = min(self._next_ring if self._events else NEVER, self._signal_ring)
            return due if self._reader is not None and due < NEVER else None

    def ring(self, now: float) -> None:
        """Wakes whoever sits at the prompt, if it is time.

        Under the lock, so that no bell rings once ``shut`` has returned: a command that watches
        signals must not see one.
        """
        with self._lock:
            due = self.due()
            if due is None or self._reader is None or now < due:
                return
            signal.pthread_kill(self._reader, BELL)
            if now >= self._next_ring:
                self._next_ring = now + AGAIN
            if now >= self._signal_ring:
                self._signal_ring = now + AGAIN
