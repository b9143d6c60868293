"""The shell's second connection: hears notices, and lists nodes for completion.

One thread, which never writes to the terminal.  Whatever the master does (stops, hangs, comes
back) the prompt is not held up by more than the limit a caller gives.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

from godwit.errors import PeerError, UsageError
from godwit.wire import operations as op
from masterd.client import Client
from masterd.shell.board import BELL, Board

#: A listing younger than this, seconds, is good enough for completion.
FRESH = 1.0
#: Seconds between two attempts to find a master that went away.
RETRY = 0.5

GONE = "the master went away; tasks go on without it, and this shell waits for its return"
BACK = "the master is back"

#: A byte that wakes the thread and says nothing; no signal has this number.
POKE = 0


class Watch:
    """Listens while the block of ``running`` lasts."""

    def __init__(self, connect: Callable[[], Client], board: Board):
        self._connect = connect
        self._board = board
        self._nodes: tuple[op.NodeView, ...] = ()
        self._listed_at = float("-inf")
        self._wanted = False
        self._listed = threading.Event()
        self._stopping = False
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @contextlib.contextmanager
    def running(self, limit_s: float = 1.0) -> Iterator[None]:
        """While the block lasts; a thread that a hung master holds up ends with the process.

        From the main thread: the number of each signal that Python handles comes to ours.
        """
        before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            self._stopping = True
            self._poke()
            self._thread.join(limit_s)
            if not self._thread.is_alive():
                os.close(self._wake)
                os.close(self._waker)

    @property
    def has_heard(self) -> bool:
        """The master has told of its nodes, be it of none."""
        return self._listed_at > float("-inf")

    def nodes(self, limit_s: float) -> tuple[op.NodeView, ...]:
        """The nodes and their tasks, at most FRESH old if the master says so within ``limit_s``.

        Else as last heard.
        """
        if time.monotonic() - self._listed_at > FRESH:
            self._listed.clear()
            self._wanted = True
            self._poke()
            self._listed.wait(limit_s)
        return self._nodes

    def _poke(self) -> None:
        # A full pipe wakes as well as one more byte does.
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, bytes([POKE]))

    def _run(self) -> None:
        client: Client | None = None
        gone = False
        while not self._stopping:
            try:
                if client is None:
                    client = self._connect()
                    if gone:
                        self._say(BACK)
                    gone = False
                    # What came together with the answer to the call makes nothing readable.
                    self._hear(client)
                self._attend(client)
            except (UsageError, PeerError):
                if client is not None:
                    client.close()
                client = None
                if not gone:
                    self._say(GONE)
                gone = True
                self._rest(RETRY)
        if client is not None:
            client.close()

    def _attend(self, client: Client) -> None:
        """Waits for one thing to do and does it.  Raises UsageError when the master is gone."""
        if self._wanted:
            self._wanted = False
            self._nodes = client.ask(op.ListNodes(0), op.Nodes).nodes
            self._listed_at = time.monotonic()
            self._listed.set()
        else:
            self._rest(None, client)
        self._hear(client)

    def _hear(self, client: Client) -> None:
        self._board.put(client.pump(), time.monotonic())

    def _rest(self, limit_s: float | None, *sources: Client) -> None:
        """Until a source is readable, the bell is due, somebody pokes, or ``limit_s`` is over."""
        due = self._board.due()
        if due is not None:
            until_due = max(0.0, due - time.monotonic())
            limit_s = until_due if limit_s is None else min(limit_s, until_due)
        watched: list[int | Client] = [self._wake, *sources]
        ready = select.select(watched, [], [], limit_s)[0]
        if self._wake in ready and set(os.read(self._wake, 4096)) - {POKE, BELL}:
            self._board.signalled(time.monotonic())
        self._board.ring(time.monotonic())

    def _say(self, text: str) -> None:
        self._board.put([op.Event(time.time(), "warning", text)], time.monotonic())
