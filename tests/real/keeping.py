"""A real clientd whose agent is the test, for as long as a test takes.

    with Keeping(tmp_path) as keeping:
        task = keeping.start("true")
        assert keeping.end_of(task).exit_code == 0

The keeper runs below an init of its own, as in production; leaving the block stops it and fails
when anything of it is left.
"""

import itertools
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from clientd.keeper import node, orders
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import frames
from tests.real import keeper_main
from tests.real.cluster import DEADLINE_S, Daemon

TOP = Path(__file__).parent.parent.parent
#: Nothing of its own comes after.
LAST = (Status.EXITED, Status.UNKNOWN)
W = TypeVar("W", bound=orders.Word)


def with_checkout() -> dict[str, str]:
    """Our environment, in which Python finds this checkout."""
    path = filter(None, (str(TOP), os.environ.get("PYTHONPATH")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


class FakeAgent:
    """One agent's end of the pair; the process itself only waits."""

    def __init__(self, listener: socket.socket):
        self._process, _ = listener.accept()
        self._process.settimeout(DEADLINE_S)
        text, fds, _, _ = socket.recv_fds(self._process, 16, 1)
        self.pid = int(text)
        self.link = socket.socket(fileno=fds[0])
        self.link.settimeout(DEADLINE_S)
        self._cutter = frames.Frames(frames.LOCAL_LIMIT)
        self._came: deque[orders.Word] = deque()
        #: All words that came, in order.
        self.words: list[orders.Word] = []
        self.tasks: dict[str, Task] = {}

    def send(self, *told: orders.Order) -> None:
        self.link.sendall(
            b"".join(frames.encode(orders.encode(o), frames.LOCAL_LIMIT) for o in told)
        )

    def next(self) -> orders.Word:
        """The next word.  Raises EOFError when the keeper hung up, TimeoutError when it is mute."""
        while not self._came:
            data = self.link.recv(1 << 20)
            if not data:
                raise EOFError("the keeper hung up")
            self._came += map(orders.decode_word, self._cutter.feed(data))
        word = self._came.popleft()
        self.words.append(word)
        if isinstance(word, orders.Known | orders.Changed):
            self.tasks.update((task.id, task) for task in word.tasks)
        if isinstance(word, orders.Forgotten):
            for task in word.tasks:
                self.tasks.pop(task, None)
        return word

    def till(self, true: Callable[[], bool]) -> None:
        """Takes words until ``true()``."""
        while not true():
            self.next()

    def word(self, kind: type[W]) -> W:
        """The next word of a kind."""
        while not isinstance(word := self.next(), kind):
            pass
        return word

    def greeted(self) -> orders.Facts:
        """The first words."""
        facts = self.next()
        assert isinstance(facts, orders.Facts)
        while not self.word(orders.Known).last:
            pass
        return facts

    def leave(self) -> None:
        """Ends the process, in order."""
        self.link.close()
        self._process.close()


class Keeping:
    """A clientd in folders below ``top``."""

    def __init__(
        self, top: Path, *options: str, environment: dict[str, str] | None = None,
        command: Sequence[str] = (),
    ):
        self.top = top
        self.state, self.logs = top / "state", top / "logs" / "node1"
        #: What all tasks of this clientd carry.
        self.mark = node.mark_of(str(self.state))
        self._options = options
        self.environment = environment or {}
        self._command = command
        self._numbers = itertools.count(1)
        self._agents: list[FakeAgent] = []
        self._daemons: list[Daemon] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.settimeout(DEADLINE_S)

    def __enter__(self) -> "Keeping":
        self._listener.bind(str(self.top / "s"))
        os.chmod(self.top / "s", 0o777)
        self._listener.listen()
        self.run()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        left: list[str] = []
        if kind is not None and self._daemons:
            print(self.daemon.text())  # pytest shows it with the failure
        with suppress(OSError, EOFError):
            self.agent.send(orders.Stop(end_tasks=True))
            self.agent.word(orders.Stopping)
        for agent in self._agents:
            agent.leave()
        self._listener.close()
        for daemon in reversed(self._daemons):
            left += daemon.close(expect_empty=kind is None)
        assert not left or kind, "left behind: " + "; ".join(left)

    @property
    def agent(self) -> FakeAgent:
        return self._agents[-1]

    @property
    def daemon(self) -> Daemon:
        return self._daemons[-1]

    def run(self, *options: str) -> orders.Facts:
        """Starts the keeper, after it was killed or stopped again."""
        self._daemons.append(Daemon(
            [
                *self._command, sys.executable, "-P", keeper_main.__file__, str(self.top / "s"),
                "--name", "node1", "--master", "127.0.0.1:1", "--state", str(self.state),
                "--logs", str(self.logs.parent), "-v", *(options or self._options),
            ],
            self.top / "told", {**with_checkout(), **self.environment},
        ))
        return self.next_agent()

    def next_agent(self) -> orders.Facts:
        """Waits for another agent."""
        self._agents.append(FakeAgent(self._listener))
        self.facts = self.agent.greeted()
        return self.facts

    def kill(self) -> None:
        """kill -9 of the keeper."""
        self.daemon.end(signal.SIGKILL)

    # ---- tasks -----------------------------------------------------------------------------

    def spec(self, *argv: str | bytes, **more: object) -> Spec:
        number = next(self._numbers)
        return Spec(f"t{number:07}", tuple(map(os.fsencode, argv)), **more)  # type: ignore[arg-type]

    def start(self, *argv: str | bytes, **more: object) -> str:
        """Starts a task; its id once it runs (or has ended)."""
        spec = self.spec(*argv, **more)
        self.agent.send(orders.Start((spec,)))
        self.agent.till(lambda: spec.task in self.agent.tasks)
        return spec.task

    def refused(self, *argv: str | bytes, **more: object) -> orders.Rejected:
        """Tries to start what cannot be."""
        spec = self.spec(*argv, **more)
        self.agent.send(orders.Start((spec,)))
        word = self.agent.word(orders.Rejected)
        assert word.task == spec.task
        return word

    def end_of(self, task: str) -> Task:
        """The task, ended or lost."""
        def ended() -> bool:
            known = self.agent.tasks.get(task)
            return known is not None and known.status in LAST

        self.agent.till(ended)
        return self.agent.tasks[task]

    def ask(self, order: type[orders.Order], *tasks: str, **more: object) -> orders.Acted:
        """Gives a numbered order; its answer."""
        number = next(self._numbers)
        self.agent.send(order(number, tasks, **more))
        while (acted := self.agent.word(orders.Acted)).order != number:
            pass
        return acted

    def signal(self, task: str, number: int, whole: bool = False) -> orders.Acted:
        return self.ask(orders.Signal, task, number=number, whole=whole)

    def log(self, task: str) -> bytes:
        return (self.logs / f"{task}.log").read_bytes()
