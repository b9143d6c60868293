"""A runner's ear and mouth: a thread that listens to the keeper while the task runs.

It takes one connection at a time, and a new one in place of the old: keepers come and go.  What
the main thread must do waits in ``inbox``; what needs no doing is answered here.
"""

import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from godwit.errors import MessageError
from godwit.task import control, packets

#: How the names of the runner's own threads begin.
OWN = "godwit"
#: A word and the descriptors that came with it, which are the taker's.
Heard = tuple[control.Orders, list[int]]


class Hearing:
    """``answer(word)``, called in the thread, says what there is to say at once, or None: then the
    word goes to the main thread.  ``call`` wakes that."""

    def __init__(
        self, listener: socket.socket,
        answer: Callable[[control.Orders], list[control.Word] | None],
        greet: Callable[[], control.Word], call: Callable[[], None],
    ):
        self._listener = listener
        self._answer = answer
        self._greet = greet
        self._call = call
        self._connection: socket.socket | None = None
        self._inbox: deque[Heard] = deque()
        self._lock = threading.Lock()

    def start(self) -> None:
        start_thread("hearing", self._serve)

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def take(self) -> Heard | None:
        """The next word for the main thread."""
        with suppress(IndexError):
            return self._inbox.popleft()
        return None

    def take_back(self, move: str) -> bool:
        """A Freeze for this move has not been taken yet, and will not be."""
        for heard in list(self._inbox):
            if heard[0] == control.Freeze(move):
                with suppress(ValueError):  # it has been taken just now
                    self._inbox.remove(heard)
                    packets.close(heard[1])
                    return True
        return False

    def say(self, *words: control.Word) -> None:
        """To whoever is there; a keeper that was not asks again."""
        with self._lock:
            for word in words:
                if self._connection is not None:
                    with suppress(OSError):
                        packets.send(self._connection, control.encode(word))

    # ---- the thread --------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            poll = select.poll()
            poll.register(self._listener, select.POLLIN)
            if self._connection is not None:
                poll.register(self._connection, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self._connection is not None and self._connection.fileno() in ready:
                self._hear(self._connection)
            if self._listener.fileno() in ready:
                self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with self._lock:
            old, self._connection = self._connection, connection
            with suppress(OSError):
                packets.send(connection, control.encode(self._greet()))
        if old is not None:
            old.close()

    def _hear(self, connection: socket.socket) -> None:
        try:
            got = packets.receive(connection)
            word = control.decode_order(got[0]) if got else None
        except (OSError, MessageError):
            got = word = None
        if got is None or word is None:
            with self._lock:
                self._connection = None
            connection.close()
            self._call()
            return
        answers = self._answer(word)
        if answers is None:
            self._inbox.append((word, got[1]))
            self._call()
            return
        packets.close(got[1])
        self.say(*answers)


def start_thread(name: str, target: Callable[..., None], *args: object) -> threading.Thread:
    """A thread of the runner's own, which no signal disturbs and nobody waits for."""
    thread = threading.Thread(target=target, args=args, name=f"{OWN} {name}", daemon=True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return thread


class Waker:
    """Ends a wait of the main thread: ``fd`` becomes readable.

    A signal does so too.  Its handler alone would not: when a signal comes right before a wait
    begins, Python runs the handler when the wait is over (signal(3), set_wakeup_fd).
    """

    def __init__(self) -> None:
        self.fd, self._end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def catch_signals(self) -> None:
        """From now on, in the main thread."""
        signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)

    def wake(self) -> None:
        """From any thread, and from a handler."""
        with suppress(BlockingIOError):
            os.write(self._end, b"\0")

    def wait(self, patience: float | None) -> bool:
        """False when nobody woke us within so many seconds."""
        if not select.select([self.fd], [], [], patience)[0]:
            return False
        self.clear()
        return True

    def clear(self) -> None:
        with suppress(BlockingIOError):
            while len(os.read(self.fd, 4096)) == 4096:
                pass
