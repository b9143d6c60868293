"""The zygote as the keeper sees it: started at the first birth, and anew when it died."""

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from select import EPOLLIN, EPOLLOUT

import msgspec

from clientd.keeper.environment import DEFAULT_PATH, INHERITED
from clientd.keeper.kinship import KEEPER_MARK, MARK
from clientd.keeper.loop import Loop
from clientd.keeper.zygote_words import NO_TASK, ROOM, Birth, Born
from godwit.errors import MessageError
from godwit.log import Log
from godwit.task import packets

#: Runs the zygote; its end of the socket pair and the room for names are its last words.
COMMAND = (sys.executable, "-P", "-m", "clientd.keeper.zygote")

_born: msgspec.msgpack.Decoder[Born] = msgspec.msgpack.Decoder(Born)


class Nursery:
    """At most one zygote at a time; ``born`` is told each answer.

    A birth whose zygote died is answered like one whose fork failed.
    """

    def __init__(
        self, loop: Loop, log: Log, mark: str, waiters: dict[int, Callable[[], None]],
        born: Callable[[Born], None],
    ):
        """``mark``: this clientd's own; ``waiters``: who waits for which child of ours."""
        self._loop = loop
        self._log = log
        self._mark = mark
        self._waiters = waiters
        self._tell = born
        self._pid = 0
        self._socket: socket.socket | None = None
        #: Asked for and not answered; of these, the last that were not sent yet.
        self._asked: dict[str, None] = {}
        self._unsent: deque[tuple[bytes, list[int]]] = deque()

    def ask(self, birth: Birth, fds: list[int]) -> None:
        """Asks for a runner; the descriptors are duplicated.  Raises OSError.

        We must be in no task's cgroup: a zygote begins where we are.
        """
        if self._socket is None:
            self._start()
        self._asked[birth.task] = None
        self._unsent.append((msgspec.msgpack.encode(birth), [os.dup(fd) for fd in fds]))
        self._send()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                theirs.set_inheritable(True)
                self._pid = _execute(theirs.fileno(), self._mark)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._socket = ours
        self._waiters[self._pid] = partial(self._reap, self._pid)
        self._loop.watch(ours.fileno(), self._on_ready)
        self._log("config", f"zygote started as pid {self._pid}")

    def _on_ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self._send()
        if events & ~EPOLLOUT:
            self._receive()

    def _send(self) -> None:
        if self._socket is None:
            return
        try:
            while self._unsent:
                payload, fds = self._unsent[0]
                packets.send(self._socket, payload, fds)
                packets.close(fds)
                self._unsent.popleft()
        except BlockingIOError:
            self._loop.watch(self._socket.fileno(), self._on_ready, EPOLLIN | EPOLLOUT)
            return
        except OSError:  # it is gone; reading says so, too
            pass
        self._loop.watch(self._socket.fileno(), self._on_ready, EPOLLIN)

    def _receive(self) -> None:
        """All that is there."""
        try:
            while self._socket and (got := packets.receive(self._socket)):
                packets.close(got[1])
                born = _born.decode(got[0])
                self._asked.pop(born.task, None)
                self._tell(born)
        except BlockingIOError:
            return
        except (OSError, MessageError, msgspec.MsgspecError) as err:
            self._log("severe", f"zygote {self._pid}: {err}")
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # not waited for, so the pid is its own
        self._hang_up()

    def _hang_up(self) -> None:
        """It is gone, or will be: nothing that it was asked for comes any more."""
        if self._socket is None:
            return
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._socket = None
        for _, fds in self._unsent:
            packets.close(fds)
        self._unsent.clear()
        asked, self._asked = self._asked, {}
        for task in asked:
            self._tell(Born(task, 0, "zygote", 0))

    def _reap(self, pid: int) -> None:
        """After SIGCHLD."""
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return
        del self._waiters[pid]
        code = os.waitstatus_to_exitcode(status)
        how = f"ended with code {code}" if code >= 0 else f"was ended by signal {-code}"
        self._log("config" if code == 0 else "warning", f"zygote {pid} {how}")
        if self._socket is not None and pid == self._pid:
            self._receive()
            self._hang_up()

    def close(self) -> None:
        """It ends by itself when we hang up."""
        self._hang_up()


def _execute(fd: int, mark: str) -> int:
    """The pid of a zygote that has the descriptor.  Raises OSError."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, (top, os.environ.get("PYTHONPATH"))))
    # Its memory is that of all runners: nothing of ours is in it that is no task's business.
    environment = {
        name: value for name, value in os.environb.items()
        if name in INHERITED or name.startswith(b"LC_")
    } | {
        b"PATH": DEFAULT_PATH, b"PYTHONPATH": os.fsencode(path),
        MARK: NO_TASK, KEEPER_MARK: mark.encode(),
    }
    return os.posix_spawn(
        COMMAND[0], [*COMMAND, str(fd), ROOM], environment, setsid=True,
        file_actions=((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),),
    )
