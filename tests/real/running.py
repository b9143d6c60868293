"""Real runners out of a real zygote, talked to as the keeper does.

    with Running(tmp_path) as running:
        runner = running.begin("CountProcess", "10")
        runner.hears(control.Freeze("m1"), image)
        written = runner.word(control.Written)
"""

import hashlib
import itertools
import os
import resource
import signal
from collections import deque
from pathlib import Path
from typing import TypeVar

from clientd.keeper import runners
from clientd.keeper.loop import Loop
from clientd.keeper.zygote_words import NO_TASK
from godwit.log import Log
from godwit.task import control, packets
from tests.real.cluster import DEADLINE_S

MARK = "7e577e57"
W = TypeVar("W")


class Runner:
    """One of them."""

    def __init__(self, running: "Running", task: str):
        self.task = task
        self.pid = 0
        self.came: deque[runners.Told] = deque()
        self._running = running

    def hears(self, word: control.Orders, *fds: int) -> "Runner":
        self._running.runners.say(self.task, word, *fds)
        return self

    def word(self, kind: type[W]) -> W:
        """The next word, which is of this kind; State is none, unless it is asked for."""
        while True:
            self._running.till(lambda: bool(self.came), f"{kind.__name__} of {self.task}")
            word = self.came.popleft()
            if isinstance(word, kind):
                return word
            assert isinstance(word, control.State), word

    def ended(self) -> int:
        """Waits; its exit code, or minus the signal."""
        status = self.word(runners.Gone).status
        assert status is not None
        return os.waitstatus_to_exitcode(status)

    def log(self) -> str:
        return self._running.log(self.task).read_text()

    def lines(self, count: int) -> list[str]:
        """What it printed, once that is so many lines."""
        self._running.till(lambda: self.log().count("\n") >= count, f"{count} lines")
        return self.log().splitlines()


class Running:
    """Runners of one zygote, with folders below ``top``."""

    def __init__(self, top: Path):
        self.top = top
        self.loop = Loop()
        self.others: dict[int, object] = {}
        self._all: dict[str, Runner] = {}
        self._numbers = itertools.count(1)
        self.log_of_keeper = Log("keeper", str(top / "keeper.log"), None)
        self.runners = self.another()

    def another(self) -> runners.Runners:
        """As after a restart of the keeper."""
        return runners.Runners(
            self.loop, self.log_of_keeper, str(self.top / "run"), MARK,
            self.others, self._told,  # type: ignore[arg-type]
        )

    def __enter__(self) -> "Running":
        runner = self.born()
        self.runners.end(runner.task)
        self.settle()
        return self

    def __exit__(self, *_: object) -> None:
        self.runners.close()
        self.till(lambda: not self.others, "the end of all")
        self.loop.close()
        os.close(self.log_of_keeper._fd)

    def _told(self, task: str, word: runners.Told) -> None:
        runner = self._all[task]
        if isinstance(word, runners.Born):
            runner.pid = word.pid
        runner.came.append(word)

    def till(self, true: "object", what: str) -> None:
        """Turns until ``true()``.  Raises TimeoutError."""
        assert callable(true)
        deadline = self.loop.now() + DEADLINE_S
        while not true():
            if self.loop.now() > deadline:
                raise TimeoutError(what)
            self.loop.alarm("look", 0.01, lambda: None)  # children end without a word
            self.loop.turn(wait=True)
            for pid, reap in list(self.others.items()):
                if pid in self.others:
                    self._reap(pid, reap)

    def _reap(self, pid: int, reap: object) -> None:
        assert callable(reap)
        try:
            reap()
        except ChildProcessError:  # what checks that nothing is left has ended it
            self.others.pop(pid, None)

    def adopt(self, runner: Runner) -> None:
        """From now on we wait for it."""
        assert self.runners.hand_over(runner.task) is None

        def reap() -> None:
            if os.waitpid(runner.pid, os.WNOHANG)[0]:
                del self.others[runner.pid]

        self.others[runner.pid] = reap

    def settle(self) -> None:
        """Till nothing of ours is left but the zygote."""
        self.till(lambda: len(self.others) == 1, "the end of all but the zygote")

    def log(self, task: str) -> Path:
        return self.top / f"{task}.log"

    def ask(self, words: tuple[str, ...] = ("a-task",), **more: object) -> Runner:
        """Has a runner born."""
        task = f"r{next(self._numbers):07}"
        runner = self._all[task] = Runner(self, task)
        plan = runners.Plan(
            tuple(map(os.fsencode, words)),
            {b"PATH": b"/usr/bin:/bin", b"GODWIT_TASK": task.encode(), b"GODWIT_NODE": b"node1"},
            more.pop("cwd", os.fsencode(self.top)),  # type: ignore[arg-type]
            resource.getrlimit(resource.RLIMIT_NOFILE), **more,  # type: ignore[arg-type]
        )
        log = os.open(self.log(task), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self.runners.birth(task, plan, log)
        finally:
            os.close(log)
        return runner

    def born(self, *words: str, **more: object) -> Runner:
        """A warm one."""
        runner = self.ask(words or ("a-task",), **more)
        runner.word(runners.Born)
        return runner

    def begin(self, program: str, *args: str, source: str = "", **more: object) -> Runner:
        """One that has begun; ``source`` is the program's text, if it is not installed."""
        runner = self.born(program, *args, **more)
        self.give(runner, program, *args, source=source)
        runner.word(control.Begun)
        return runner

    def give(self, runner: Runner, program: str, *args: str, source: str = "") -> None:
        digest = hashlib.sha256(source.encode()).hexdigest() if source else ""
        words = tuple(map(os.fsencode, args))
        with Source(source) as fds:
            runner.hears(control.Begin(program, words, digest), *fds)

    def image(self) -> int:
        return os.open(self.top / "image", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)

    def forget(self, runner: Runner) -> None:
        """Ends it, and waits for that."""
        if runner.pid in self.others:
            os.kill(runner.pid, signal.SIGKILL)
        self.runners.end(runner.task)
        self.till(lambda: runner.pid not in self.others, f"end of {runner.task}")


class Source:
    """A program's text as descriptors beside a word; none when there is no text."""

    def __init__(self, text: str):
        self._text = text

    def __enter__(self) -> list[int]:
        self._fds = [packets.in_memory(self._text.encode())] if self._text else []
        return self._fds

    def __exit__(self, *_: object) -> None:
        packets.close(self._fds)


#: Nobody's mark, as the zygote carries it.
ZYGOTE = NO_TASK
