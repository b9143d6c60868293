"""Migratable: what a python task is made of.

    from godwit import Migratable

    class Countdown(Migratable):
        def __init__(self, n: str):
            self.n = int(n)

        def step(self) -> bool:
            print(self.n)
            self.n -= 1
            return self.n >= 0

A task moves between two of its steps: everything in ``self`` is pickled, travels, and the same
object goes on elsewhere.  See docs/tasks.md.
"""

import time
from typing import ClassVar, Protocol


class Surroundings(Protocol):
    """What runs a task, as the task meets it."""

    #: It is to halt at the next safe point.
    wanted: bool
    #: And not to sleep till then.
    urgent: bool

    def halt(self, task: "Migratable") -> None:
        """At a safe point while ``wanted``: returns when the task is to run on here."""

    def wait(self, seconds: float) -> None:
        """Sleeps, but no longer than until ``urgent``."""


class Nowhere:
    """Surroundings of a task that a script or a test runs by itself: nothing is ever wanted."""

    wanted = urgent = False

    def halt(self, task: "Migratable") -> None:
        """Never called."""

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


#: Of this process; the runner puts itself there.
here: Surroundings = Nowhere()


class Migratable:
    """A task that can move to another machine while it runs.

    Write ``step``, which does a small piece of work and says whether there is more to do; or
    ``run``, a loop that calls ``self.checkpoint()`` where it may be interrupted.  The words of
    the command line are given to the constructor, as str.  It may raise ValueError: that text is
    what the user reads, and there is no task.

    Everything in ``self`` travels.  What cannot (a socket, a lock, a thread, a child process) is
    given up in ``suspend`` and made anew in ``resume``; open files are godwit.TransactionalFile.
    """

    #: Modules and packages, other than the task's own, whose classes may be in ``self``:
    #: ("numpy",) say.  Those of Python that only hold values always may.
    travels_with: ClassVar[tuple[str, ...]] = ()

    #: Wall clock till which ``sleep`` was to last, while a move has cut it short.
    _asleep_till: float = 0.0

    def step(self) -> bool:
        """Does the next piece of work; true when there is more to do.

        The shorter, the sooner the task can be moved or ended: no step is ever cut short.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither step nor run")

    def run(self) -> None:
        """Does all the work.

        A ``run`` of your own is called again, from its beginning, after a move; local variables
        are gone then.  So it must go on from what is in ``self``, and each ``checkpoint`` must
        stand where all that has been done is in ``self``, and nothing that has not:

            def run(self):
                while self.n < self.end:
                    self.total += self.n
                    self.n += 1
                    self.checkpoint()
        """
        while self.step():
            self.checkpoint()

    def checkpoint(self) -> None:
        """Here the task may be frozen, moved or ended.

        Returns where the task was; at another node it does not return, for ``run`` begins there.
        """
        if here.wanted:
            here.halt(self)

    def sleep(self, seconds: float) -> None:
        """Sleeps, and lets the task be moved or ended meanwhile.

        Then it returns early, and what is left of the time, by the wall clock, passes before the
        next step or after the next ``checkpoint``, wherever that is.  So it stands best as the
        last thing of a step, or right before the ``checkpoint``.
        """
        till = time.monotonic() + seconds
        while (left := till - time.monotonic()) > 0:
            if here.urgent:
                self._asleep_till = time.time() + left
                return
            here.wait(left)

    def sleep_on(self) -> None:
        """What a move left of the last ``sleep``; called by what runs the task."""
        left, self._asleep_till = self._asleep_till - time.time(), 0.0
        if left > 0:
            self.sleep(left)

    def suspend(self) -> None:
        """Called before the task is frozen: give up what cannot travel."""

    def resume(self) -> None:
        """Called before the task goes on, at the other node or, if the move failed, where it was:
        make anew what ``suspend`` gave up."""
