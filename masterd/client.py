"""The operator's end of the master's Unix socket: ask and be answered.  Blocking, one thread.

A connection is only as good as its byte stream: whatever interrupts a read or a write half-way
(Ctrl-C included) closes it, and the next command opens another.  A caller that wants signals in
the middle of a stream passes ``wake`` instead: see masterd.commands.interrupts.
"""

import contextlib
import os
import select
import shlex
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, Protocol, TypeVar

import msgspec

from godwit.errors import PeerError, UsageError
from godwit.places import master_socket
from godwit.wire import frames, preface
from godwit.wire import operations as op

Answer = TypeVar("Answer", bound=op.Reply)

#: Longest path that fits sockaddr_un.sun_path with its closing NUL, bytes: unix(7).
SUN_PATH = 107
#: Bytes asked of one recv(2).
CHUNK = 256 * 1024

#: Requests that change nothing: when the master goes away, nothing is in doubt.
READING = (
    op.Attach, op.ListNodes, op.ListTasks, op.MeasureUsage, op.FollowLogs, op.History,
    op.ListMoves, op.ListPrograms,
)


class Wake(Protocol):
    """Something that interrupts a wait: a descriptor that becomes readable, and what came."""

    def fileno(self) -> int: ...
    def take(self) -> list[int]: ...


class Interrupted(msgspec.Struct, frozen=True):
    """A signal reached this process while it waited."""

    number: int


class MasterGone(UsageError):
    """The master went away before it answered; status 125 when the outcome is unknown."""

    def __init__(self, asked: op.Request | None = None):
        known = asked is None or isinstance(asked, READING)
        super().__init__(
            "the master went away" if known
            else "the master went away before it answered: the outcome is unknown",
            code="master-gone",
            hint="" if known else f"`{_teller(asked)}` tells, once it is back",
            exit_status=1 if known else 125,
        )


def _teller(asked: op.Request | None) -> str:
    """The command that tells what came of a request."""
    return "moves" if isinstance(asked, op.MoveTask | op.ResolveMove) else "list"


class TimedOut(UsageError):
    """What was waited for did not happen in time; status 124, as timeout(1) has it."""

    def __init__(self) -> None:
        super().__init__(
            "the time is over", code="timeout", hint="what was waited for goes on", exit_status=124
        )


def final(reply: op.Reply) -> bool:
    """``reply`` is the last to its request.  Events that say ``more`` are not (History, live)."""
    if isinstance(reply, op.Events):
        return not reply.more
    return not isinstance(reply, op.ON_THE_WAY)


def payload(request: op.Request) -> bytes:
    """``request`` as it is sent.  Raises UsageError when a name in it is no text."""
    try:
        return op.encode(request)
    except UnicodeEncodeError as err:
        raise UsageError(
            f"{err.object!r} is not UTF-8 text", code="not-text", exit_status=2
        ) from err


def refusal(problem: op.Problem) -> UsageError:
    """The error that a Problem stands for."""
    return UsageError(
        problem.message, code=problem.code, hint=problem.hint, exit_status=problem.exit_status
    )


class Client:
    """One connection to a master, attached."""

    def __init__(self, link: socket.socket, state: str):
        self.state = state
        self._link = link
        self._frames = frames.Frames(frames.LOCAL_LIMIT)
        #: Answers that came and were not read yet, by the request that waits for them.
        self._inbox: dict[int, deque[op.Reply]] = {}
        self._posted: dict[int, Callable[[op.Reply], None]] = {}
        self._notices: deque[op.Event] = deque()
        self._last_id = 0
        self.attached: op.Attached | None = None

    @classmethod
    def connect(cls, state: str, notices: bool = False) -> "Client":
        """Attached to the master of state folder ``state``.

        Raises UsageError when no master answers there.
        """
        client = cls(_dial(state), state)
        client._write(preface.OPERATOR)
        client.attached = client.ask(op.Attach(0, version=op.VERSION, notices=notices), op.Attached)
        return client

    @property
    def closed(self) -> bool:
        return self._link.fileno() < 0

    def lost(self) -> bool:
        """The connection has ended, be it that nobody has read so yet."""
        if not self.closed and readable(0, self._link.fileno()):
            with contextlib.suppress(BlockingIOError):
                try:
                    ended = not self._link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                except ConnectionError:
                    ended = True
                if ended:
                    self.close()
        return self.closed

    def fileno(self) -> int:
        """For select(2): readable when notices may have come, or the master has gone."""
        return self._link.fileno()

    def close(self) -> None:
        self._link.close()

    def ask(self, request: op.Request, answer: type[Answer]) -> Answer:
        """The final answer to ``request``, whose own id is replaced.

        Raises UsageError for a Problem, MasterGone, and PeerError for an answer of another kind.
        """
        with self.stream(request) as answers:
            for reply in answers:
                if isinstance(reply, answer) and final(reply):
                    return reply
        raise PeerError(f"the master answered {type(request).__name__} with something else")

    def stream(
        self,
        request: op.Request,
        wake: Wake | None = None,
        until: Callable[[op.Reply], bool] = final,
        deadline: float | None = None,
    ) -> "Answers":
        """Sends ``request`` now; gives every answer up to the one that ``until`` is true of.

        With ``wake``, also an Interrupted for each signal.  Past ``deadline``, on the monotonic
        clock in seconds, it raises TimedOut.
        """
        return Answers(self, request, wake, until, deadline)

    def post(self, request: op.Request, then: Callable[[op.Reply], None]) -> None:
        """Sends ``request``; ``then`` gets its final answer while something else is waited for."""
        self._posted[self.send(request)] = then

    def send(self, request: op.Request) -> int:
        """Sends ``request`` under a new id, which it returns."""
        self._last_id += 1
        self.tell(msgspec.structs.replace(request, id=self._last_id))
        return self._last_id

    def tell(self, message: op.Request) -> None:
        """Sends ``message`` (Took, Cancel) as it is; nothing is answered."""
        self._write(frames.encode(payload(message), frames.LOCAL_LIMIT), message)

    def pump(self) -> list[op.Event]:
        """What was noticed since the last call, without waiting.  Raises MasterGone."""
        while readable(0, self._link.fileno()):
            self.receive(None)
        events = list(self._notices)
        self._notices.clear()
        return events

    def open_bulk(self, ticket: str, role: Literal["send", "receive"]) -> socket.socket:
        """A new connection to the master's socket, carrying the transfer of ``ticket``."""
        link = _dial(self.state)
        show = preface.encode_show(preface.Show(ticket, role))
        try:
            link.sendall(preface.BULK + frames.encode(show))
        except OSError as err:
            link.close()
            raise MasterGone() from err
        return link

    def receive(self, asked: op.Request | None) -> None:
        """One read, each whole answer in it given to whoever waits for it."""
        try:
            data = self._link.recv(CHUNK)
            if not data:
                raise MasterGone(asked)
            for frame in self._frames.feed(data):
                self._deliver(op.decode_reply(frame))
        except OSError as err:
            self.close()
            raise MasterGone(asked) from err
        except BaseException:
            self.close()
            raise

    def expect(self, number: int) -> deque[op.Reply]:
        """Where answers to request ``number`` will be put, until ``forget``."""
        return self._inbox.setdefault(number, deque())

    def forget(self, number: int) -> None:
        """Answers to request ``number`` are dropped from now on."""
        self._inbox.pop(number, None)

    def _deliver(self, reply: op.Reply) -> None:
        if isinstance(reply, op.Notice):
            self._notices.append(reply.event)
        elif reply.id in self._inbox:
            self._inbox[reply.id].append(reply)
        elif reply.id in self._posted and final(reply):
            self._posted.pop(reply.id)(reply)

    def _write(self, data: bytes, asked: op.Request | None = None) -> None:
        try:
            self._link.sendall(data)
        except OSError as err:
            self.close()
            raise MasterGone(asked) from err
        except BaseException:
            self.close()
            raise


def readable(timeout_s: float | None, *fds: int) -> list[int]:
    """Which of ``fds`` can be read, by poll(2): select(2) ends at descriptor 1023."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)]


class Answers:
    """The answers to one request, as they come; leaving early cancels the request."""

    def __init__(
        self,
        client: Client,
        request: op.Request,
        wake: Wake | None,
        until: Callable[[op.Reply], bool],
        deadline: float | None,
    ):
        self.id = client.send(request)
        self._client = client
        self._request = request
        self._wake = wake
        self._until = until
        #: On the monotonic clock, seconds; may be set at any time.
        self.deadline = deadline
        self._inbox = client.expect(self.id)
        self._signals: deque[int] = deque()
        self._finished = False

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.forget(self.id)
        if not self._finished and not self._client.closed:
            self._finished = True
            with contextlib.suppress(UsageError):
                self._client.tell(op.Cancel(self.id))

    def __iter__(self) -> Iterator[op.Reply | Interrupted]:
        while not self._finished:
            while not self._inbox and not self._signals:
                self._wait()
            if self._signals:
                yield Interrupted(self._signals.popleft())
                continue
            reply = self._inbox.popleft()
            self._finished = isinstance(reply, op.Problem) or self._until(reply)
            if isinstance(reply, op.Problem):
                raise refusal(reply)
            yield reply

    def _wait(self) -> None:
        """Returns when something may have arrived."""
        if self._wake is not None or self.deadline is not None:
            wake = [] if self._wake is None else [self._wake.fileno()]
            ready = readable(self._left(), self._client.fileno(), *wake)
            if not ready and self._left() == 0:
                raise TimedOut()
            if self._wake is not None:
                self._signals.extend(self._wake.take())
            if self._client.fileno() not in ready:
                return
        self._client.receive(self._request)

    def _left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


def _dial(state: str) -> socket.socket:
    """Connected to the master's socket.  Raises UsageError when nobody listens."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _reachable(master_socket(state)) as path:
            link.connect(path)
    except OSError as err:
        link.close()
        raise _absent(state, err) from err
    return link


@contextlib.contextmanager
def _reachable(path: str) -> Iterator[str]:
    """``path``, or a short name for it while the block lasts when it is too long for connect(2)."""
    if len(os.fsencode(path)) <= SUN_PATH:
        yield path
        return
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def _absent(state: str, err: OSError) -> UsageError:
    if isinstance(err, PermissionError):
        return UsageError(
            f"the master in {state} belongs to another user", code="not-yours",
            hint="run as that user, or choose a master by --state",
        )
    return UsageError(
        f"no master runs in {state}", code="no-master",
        hint=f"start one: bin/masterd --state {shlex.quote(state)}",
    )
