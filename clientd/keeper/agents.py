"""The agent's process as the keeper sees it: started, talked to, restarted when it dies."""

import os
import pwd
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from select import EPOLLIN, EPOLLOUT

from clientd.keeper import forked, orders
from clientd.keeper.backoff import Backoff
from clientd.keeper.demotion import environment_of
from clientd.keeper.loop import Loop
from godwit.errors import PeerError
from godwit.log import Log
from godwit.wire import frames

#: Bytes of words that an agent may leave unread before it is taken for stuck.
MOST_UNREAD = 8 * 1024 * 1024
#: Below this many bytes unread, the next of a new agent's first words are made.
LOW_WATER = 256 * 1024
#: Seconds that an agent has to end once it hung up.
FAREWELL_S = 1.0
#: Bytes taken at once.
CHUNK = 256 * 1024

#: Runs the agent; its end of the socket pair is the last word.
COMMAND = (sys.executable, "-m", "clientd.agent")


class Agent:
    """At most one agent process at a time.

    ``greeting`` makes a new agent's first words, the next one when the last was mostly read;
    ``take`` gets each order, ``lost`` is told that one has died.  ``waiters``: who waits for which
    of our children that are no task's.  ``user``: whom it runs as, if not as we.
    """

    def __init__(
        self, loop: Loop, log: Log, waiters: dict[int, Callable[[], None]],
        greeting: Callable[[], Iterator[orders.Word]], take: Callable[[orders.Order], None],
        lost: Callable[[], None] = lambda: None, user: pwd.struct_passwd | None = None,
    ):
        self.pid = 0
        self._user = user
        self._loop = loop
        self._log = log
        self._waiters = waiters
        self._greeting = greeting
        self._take = take
        self._lost = lost
        self._backoff = Backoff()
        self._pidfd = -1
        self._socket: socket.socket | None = None
        self._unread = bytearray()
        self._first_words: Iterator[orders.Word] = iter(())
        self._cutter = frames.Frames(frames.LOCAL_LIMIT)
        self._wanted = True
        #: It is ending because another is to take its place.
        self._renewing = False

    def start(self) -> None:
        """Starts one; a failure to do so counts as its death."""
        self._backoff.born(self._loop.now())
        try:
            self._socket = self._spawn()
        except OSError as err:
            self._died(f"cannot be started: {err.strerror}")
            return
        self._unread.clear()
        self._cutter = frames.Frames(frames.LOCAL_LIMIT)
        self._first_words = self._greeting()
        self._next_words()  # before anything else is told
        self._waiters[self.pid] = self.reap
        self._loop.watch(self._pidfd, lambda _: self.reap())
        self._loop.watch(self._socket.fileno(), self._on_ready, EPOLLIN | EPOLLOUT)
        self._log("config", f"agent started as pid {self.pid}")

    def _spawn(self) -> socket.socket:
        """Our end of the pair.  Raises OSError; an agent that runs already then sees the end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                ours.setblocking(False)
                theirs.set_inheritable(True)
                pid = _execute(theirs.fileno(), self._user)
                self._pidfd = os.pidfd_open(pid)
            except OSError:
                ours.close()
                raise
        self.pid = pid
        return ours

    # ---- talking ---------------------------------------------------------------------------

    def tell(self, word: orders.Word) -> None:
        """Queues a word; without an agent nothing happens, for the next one is told all."""
        if self._socket is None:
            return
        self._queue(word)
        if len(self._unread) > MOST_UNREAD:
            self.kill(f"it left {len(self._unread)} bytes unread")

    def _queue(self, word: orders.Word) -> None:
        self._unread += frames.encode(orders.encode(word), frames.LOCAL_LIMIT)

    def flush(self) -> None:
        """Writes what the agent will take now."""
        if self._socket is None:
            return
        try:
            while self._next_words():
                del self._unread[:self._socket.send(self._unread)]
        except BlockingIOError:
            self._loop.watch(self._socket.fileno(), self._on_ready, EPOLLIN | EPOLLOUT)
            return
        except OSError:  # it is gone; its pidfd says so, too
            self._unread.clear()
        self._loop.watch(self._socket.fileno(), self._on_ready, EPOLLIN)

    def _next_words(self) -> bool:
        """There is something to write."""
        while len(self._unread) < LOW_WATER and (word := next(self._first_words, None)):
            self._queue(word)
        return bool(self._unread)

    def _on_ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self.flush()
        if events & ~EPOLLOUT:
            self._read()

    def _read(self) -> bool:
        """There was something to read."""
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            if self._wanted:  # as a rule it is just ending
                self._loop.alarm("agent", FAREWELL_S, lambda: self.kill("it hung up"))
            return False
        try:
            for payload in self._cutter.feed(data):
                self._take(orders.decode_order(payload))
        except PeerError as err:
            self.kill(str(err))
        return True

    # ---- ending ----------------------------------------------------------------------------

    @property
    def is_there(self) -> bool:
        return self.pid != 0

    def kill(self, why: str) -> None:
        """Ends it at once; another is started unless ``dismiss`` was called."""
        self._hang_up()
        if self.pid:
            self._log("warning", f"agent {self.pid} is killed: {why}")
            self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def renew(self) -> None:
        """It ends in order, and another starts at once: that is no death to be wary of."""
        if self._wanted and self.pid:
            self._renewing = True
            self.signal(signal.SIGTERM)
            self._loop.alarm("agent", FAREWELL_S, lambda: self.kill("it did not end in time"))

    def dismiss(self) -> None:
        """It is expected to end; no other is started."""
        self._wanted = False
        self._loop.silence("agent")

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def reap(self) -> None:
        """Takes its exit status, if it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return
        # What it sent before it died was sent.
        while self._read():
            pass
        self._hang_up()
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        del self._waiters[pid]
        self.pid, self._pidfd = 0, -1
        self._lost()
        code = os.waitstatus_to_exitcode(status)
        self._died(f"ended with code {code}" if code >= 0 else f"was ended by signal {-code}")

    def _died(self, how: str) -> None:
        if not self._wanted:
            return
        if self._renewing:
            self._renewing = False
            self._log("info", "the agent ended for another to take its place")
            self._loop.alarm("agent", 0.0, self.start)
            return
        now = self._loop.now()
        pause = self._backoff.died(now) - now
        self._log("warning", f"the agent {how}; another starts in {pause:g} s")
        self._loop.alarm("agent", pause, self.start)


def environment(user: pwd.struct_passwd | None) -> dict[str, str]:
    """An agent's, in which its Python finds us."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, (top, os.environ.get("PYTHONPATH"))))
    own = environment_of(user, os.environ) if user else os.environ
    return {**own, "PYTHONPATH": path}


def _execute(fd: int, user: pwd.struct_passwd | None) -> int:
    """The pid of an agent that has the descriptor.  Raises OSError.

    A session of its own: Ctrl-C at our terminal reaches the keeper alone.
    """
    words = [*COMMAND, str(fd)]
    if user is not None:
        return _execute_as(user, words)
    return os.posix_spawn(
        words[0], words, environment(None), setsid=True,
        file_actions=((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),),
    )


def _execute_as(user: pwd.struct_passwd, words: list[str]) -> int:
    """Like a task of that user's, but with our stderr, and what else it inherits."""
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    own = {os.fsencode(name): os.fsencode(v) for name, v in environment(user).items()}
    try:
        return forked.spawn(forked.Program(
            user, -1, (os.fsencode(words[0]),), tuple(map(os.fsencode, words)), own, b"/",
            null, 2, resource.getrlimit(resource.RLIMIT_NOFILE),
        ))
    except forked.StepFailed as failed:
        raise OSError(failed.number, str(failed)) from failed
    finally:
        os.close(null)
