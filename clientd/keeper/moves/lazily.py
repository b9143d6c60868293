"""Memory that goes from a task's source while it runs at its destination already: post-copy.

CRIU at the source saves all but the memory, which it keeps in pipes, and serves it page by page;
CRIU at the destination asks for pages, first those that the task waits for, until it has all.
Each speaks to the agent's pager (clientd.paging) at its own node, over the Unix socket that this
opens for it: no port is opened, and what goes between the nodes is as any ship's.

Both outlive this keeper (clientd.keeper.standby): a task that drains does not notice its restart.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from clientd.keeper import criu, standby, userfault
from clientd.keeper.complaints import Complaint
from clientd.keeper.criu import FEED_LOG, LIMIT_S, Criu, Dumped
from clientd.keeper.moves import actions as do
from clientd.keeper.moves.places import Places
from clientd.keeper.moves.ways import Hear, Images
from clientd.keeper.standby import READY_FD, Standby
from clientd.keeper.tools import Tools
from godwit.ship.pagesocket import hang_up, joined

#: CRIU gets its end of the pages under this number.
_PAGES_FD = 100
_OPTIONS = ("--ps-socket", str(_PAGES_FD), "--status-fd", str(READY_FD))
#: In a move's folder: what serves its pages, and what asks for them.
_SERVER, _FEEDER = "server", "feeder"
CUT = "its memory on the node that it left can no longer be reached"


class Lazily:
    """The memory of all moves of that kind, at either end."""

    def __init__(self, tools: Tools, images: Images, places: Places, hear: Hear):
        self._loop = tools.loop
        self._standby = Standby(tools.loop, tools.errands)
        self._images = images
        self._places = places
        self._hear = hear
        #: move -> descriptors that its task waits for: see clientd.keeper.userfault.
        self._held: dict[str, list[int]] = {}

    # ---- the source ------------------------------------------------------------------------

    def dump(
        self, found: Criu, move: str, init: int, folder: str, done: Callable[[Dumped], None]
    ) -> None:
        """As ``Criu.dump``, but for the memory; the task is fenced before its server can end.

        Raises OSError, TaskError.
        """
        stopped, began, base = criu.stopped_in(init), self._loop.now(), self._base(move, _SERVER)
        alarm = f"lazy dump {move}"
        told = False

        def tell(failed: Complaint | None) -> None:
            nonlocal told
            if not told:
                told = True
                self._loop.silence(alarm)
                done(Dumped(failed, self._loop.now() - began, stopped))

        def ended(_: bool) -> None:
            if not told:
                criu.thaw(init, stopped)
                tell(criu.complained(folder) or Complaint("criu", "CRIU did not say why it failed"))

        words = found.dumping(init, folder, LIMIT_S, ("--lazy-pages", *_OPTIONS))
        with joined(self._images.path(move)) as pages:
            self._standby.start(
                base, words, {_PAGES_FD: pages.fileno()}, lambda: tell(None), ended
            )
        self._loop.alarm(alarm, LIMIT_S, lambda: standby.end(base))

    def serves(self, move: str) -> bool:
        """CRIU has the task still; it lets go of it once its pages are hung up on."""
        return standby.running(self._base(move, _SERVER)) != 0

    # ---- the destination -------------------------------------------------------------------

    def feed(
        self, found: Criu, move: str, folder: str, ready: Callable[[], None]
    ) -> None:
        """Begins to ask for pages of what is to be restored from ``folder``.

        Raises OSError, TaskError.
        """
        base = self._base(move, _FEEDER)
        words = found.feeding(folder, _OPTIONS)
        with joined(self._images.path(move)) as pages:
            self._standby.start(
                base, words, {_PAGES_FD: pages.fileno()}, ready, partial(self._fed, move, folder)
            )

    def hold(self, move: str) -> None:
        """The copy is there, and stopped.  Raises OSError."""
        self._held[move] = userfault.hold(standby.running(self._base(move, _FEEDER)))

    def _fed(self, move: str, folder: str, fine: bool) -> None:
        if fine:
            self._let_go(move)
            self._hear(do.Drained(move))
        else:
            known = criu.complained(folder, FEED_LOG)
            self._hear(do.Drying(move, f"{CUT} ({known.text})" if known else CUT))

    def watch(self, move: str) -> None:
        """Takes up what an earlier keeper began."""
        base = self._base(move, _FEEDER)
        if pid := standby.running(base):
            with suppress(OSError):  # it ends just now: that is told
                self._held[move] = userfault.hold(pid)
        self._standby.find(base, partial(self._fed, move, ""))

    # ---- both ------------------------------------------------------------------------------

    def hang_up(self, move: str, by_force: bool = False) -> None:
        """The pages are not wanted any more: whoever serves them, or asks for them, ends.

        ``by_force``: the pager did not hear it.  CRIU itself is not killed: it may run code of its
        own inside of the task still.
        """
        hang_up(self._images.path(move), by_force)

    def drop(self, move: str) -> None:
        """What there is of the move has ended, or is not needed."""
        self.hang_up(move)
        feeder = self._base(move, _FEEDER)
        self._standby.leave(feeder)
        standby.end(feeder)
        self._let_go(move)

    def _let_go(self, move: str) -> None:
        for fd in self._held.pop(move, []):
            os.close(fd)

    def _base(self, move: str, name: str) -> str:
        return os.path.join(self._places.folder(move), name)


def stood_still(folder: str) -> float:
    """When the processes of a dump had been stopped, by the wall clock.

    CRIU writes what it measured only once all pages are gone.  The first image is written when
    the last process has been stopped; its time is of the clock's last tick, some ms early.
    """
    with os.scandir(folder) as entries:
        times = [e.stat().st_mtime for e in entries if e.name.endswith(".img")]
    return min(times, default=time.time())
