"""Ends all of a task: SIGKILL to everything it started, again until nothing of it is left."""

from collections.abc import Callable

from msgspec import Struct

from clientd.keeper.loop import Loop

#: Seconds between two looks, growing; and after which it is given up: a process that waits for a
#: device in uninterruptible sleep does not die.
FIRST_LOOK_S = 0.002
LONGEST_PAUSE_S = 0.1
GIVE_UP_S = 10.0

#: Told whether nothing is left.
Done = Callable[[bool], None]


class _Ending(Struct):
    give_up_at: float
    dones: list[Done]


class Endings:
    """Tasks that are being ended.

    ``kill(task)`` sends the signals once, ``is_gone(task)`` tells whether nothing is left.
    """

    def __init__(
        self, loop: Loop, kill: Callable[[str], None], is_gone: Callable[[str], bool]
    ):
        self._loop = loop
        self._kill = kill
        self._is_gone = is_gone
        self._endings: dict[str, _Ending] = {}
        self._pause = FIRST_LOOK_S

    def begin(self, task: str, done: Done) -> None:
        """Kills now; ``done`` is called later."""
        ending = self._endings.get(task)
        if ending is None:
            ending = self._endings[task] = _Ending(self._loop.now() + GIVE_UP_S, [])
            self._kill(task)
        ending.dones.append(done)
        self._pause = FIRST_LOOK_S
        self._loop.alarm("endings", self._pause, self._look)

    def _look(self) -> None:
        now = self._loop.now()
        for task, ending in list(self._endings.items()):
            gone = self._is_gone(task)
            if gone or now > ending.give_up_at:
                del self._endings[task]
                for done in ending.dones:
                    done(gone)
            else:
                self._kill(task)
        if self._endings:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            self._loop.alarm("endings", self._pause, self._look)
