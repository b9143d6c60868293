"""The agent's ends of moves' ships: a thread for each, news as events.

The source dials the destination before the freeze, so that what is left to do while the task
stands still is to pass its bytes on (godwit.ship).
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from msgspec import Struct, field

from clientd import actions as do
from clientd import events as on
from clientd import paging
from clientd.callers import Callers, expect_peer
from clientd.luggage import Luggage
from godwit import ship
from godwit.bulk.faults import fault
from godwit.errors import PeerError, TransferError
from godwit.names import split_address
from godwit.ship.pagesocket import hang_up
from godwit.wire.link import dial_bulk, reason_of
from godwit.wire.preface import Show
from godwit.wire.trust import Trust

#: Ships at once at this node, of both directions.
SHIPS = 256
#: Seconds a destination waits for the source's call.
WAIT_S = 30.0
#: Seconds that bytes may be on their way before the connection counts as broken.
STALL_S = 60.0
#: Seconds between two progress events of one ship.
PROGRESS_S = 0.25
#: Calls at once: a node that is called hangs up on who calls too often before it is answered
#: (godwit.wire.link, OPENING_MOST_EACH), and may have other callers at our address.
CALLS = 4
#: A call that was hung up on is repeated after these pauses, seconds.
PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)

#: The rest of the ticket for a task's pages.
PAGES = ".pages"

#: What a thread has to say at its end, if anything.
End = on.ShipFailed | on.Shipped | None


class _Work(Struct):
    """One ship at one end."""

    move: str
    #: Set when nobody wants it any more.
    dropped: threading.Event = field(default_factory=threading.Event)
    link: socket.socket | None = None
    #: Source: told by ``wake``, an eventfd, which the thread closes under ``lock``.
    growing: do.ShipGrowing | None = None
    image: do.ShipImage | None = None
    wake: int = -1
    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Destination, until it is called: what takes it back.
    unexpect: Callable[[], None] | None = None
    thread: threading.Thread | None = None
    #: When progress was told last, monotonic seconds; that it begins is no progress.
    said_at: float = field(default_factory=time.monotonic)

    def call(self) -> None:
        """Has the thread look what is new."""
        with self.lock:
            if self.wake >= 0:
                os.eventfd_write(self.wake, 1)


class Shipping:
    """Runs ships; ``report`` is called in the event loop.

    ``files`` is the folder with tasks' working directories, of which files travel along;
    ``images`` that of the images, beside which the pagers of lazy moves are found.
    """

    def __init__(
        self, trust: Trust, callers: Callers, files: bytes, images: str,
        report: Callable[[on.Event], None],
    ):
        self._trust = trust
        self._images = images
        self._files = files
        self._callers = callers
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._works: dict[str, _Work] = {}
        self._calls = threading.Semaphore(CALLS)
        #: Moves of which a pager may be here, with the image that it listens beside.
        self._lazy: dict[str, str] = {}

    # ---- in the event loop -----------------------------------------------------------------

    def send(self, start: do.StartShip) -> None:
        """Calls the destination and streams the log."""
        if work := self._begin(start.move):
            if start.lazy:
                self._lazy[start.move] = self._image(start.move)
            work.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._run(work, partial(self._send, work, start))

    def grows(self, growing: do.ShipGrowing) -> None:
        """Sends the snapshot as it is written."""
        if work := self._works.get(growing.move):
            work.growing = growing
            work.call()

    def image(self, rest: do.ShipImage) -> None:
        """Sends what is left, now that the task stands still."""
        if work := self._works.get(rest.move):
            work.image = rest
            work.call()

    def receive(self, awaited: do.AwaitShip, host: str) -> None:
        """Waits for the source's call, on a port at our address ``host``."""
        work = self._begin(awaited.move)
        if work is None:
            return
        show, pages = _show(awaited.ticket), _show(awaited.ticket, PAGES)

        def paged(sock: socket.socket) -> None:
            threading.Thread(
                target=self._page, args=(work, awaited, sock), name=f"pages {work.move}",
                daemon=True,
            ).start()

        def called(sock: socket.socket) -> None:
            timer.cancel()
            work.unexpect = None
            work.link = sock
            self._run(work, partial(self._receive, work, awaited))

        def unexpect() -> None:
            timer.cancel()
            self._callers.forget(show)
            self._callers.forget(pages)

        try:
            port = self._callers.expect(show, awaited.leaves, host, called)
            if awaited.lazy:
                self._lazy[work.move] = awaited.image
                self._callers.expect(pages, awaited.leaves, host, paged)
        except OSError as err:
            self._fail(work, "listen", f"cannot listen for the task: {err.strerror}")
            return
        timer = self._loop.call_later(WAIT_S, self._give_up, work)
        work.unexpect = unexpect
        self._report(on.ShipAwaited(work.move, port))

    def sync(self, wanted: do.SyncLog) -> None:
        """Has a log on the disk; says LogSynced."""
        threading.Thread(
            target=self._sync, args=(wanted,), name=f"sync {wanted.move}", daemon=True
        ).start()

    def drop(self, move: str) -> None:
        """Nobody wants this ship any more; it says nothing more."""
        work = self._works.pop(move, None)
        if image := self._lazy.pop(move, ""):
            hang_up(image)
        if work is None:
            return
        work.dropped.set()
        if work.unexpect is not None:
            work.unexpect()
        if work.link is not None:
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown would make the thread's running read raise ValueError.
                socket.socket.shutdown(work.link, socket.SHUT_RDWR)

    async def close(self) -> None:
        """Ends all; the threads notice at once, but for one that is just calling."""
        works = tuple(self._works.values())
        for work in works:
            self.drop(work.move)
        for work in works:
            if work.thread is not None:
                await asyncio.to_thread(work.thread.join, 1.0)

    def _begin(self, move: str) -> _Work | None:
        if move in self._works:
            return None
        work = self._works[move] = _Work(move)
        if len(self._works) > SHIPS:
            self._fail(work, "busy", f"{SHIPS} tasks are moving from or to this node")
            return None
        return work

    def _give_up(self, work: _Work) -> None:
        assert work.unexpect is not None
        work.unexpect()
        self._fail(work, "timeout", f"the source did not call within {WAIT_S:g} s")

    def _fail(self, work: _Work, code: str, text: str) -> None:
        self._over(work, on.ShipFailed(work.move, code, text))

    def _over(self, work: _Work, end: End) -> None:
        if self._works.get(work.move) is work:
            del self._works[work.move]
            if end is not None:
                self._report(end)

    def _say(self, work: _Work, event: on.Event) -> None:
        if self._works.get(work.move) is work:
            self._report(event)

    # ---- in threads ------------------------------------------------------------------------

    def _run(self, work: _Work, run: Callable[[], End]) -> None:
        work.thread = threading.Thread(
            target=self._guard, args=(work, run), name=f"ship {work.move}", daemon=True
        )
        work.thread.start()

    def _guard(self, work: _Work, run: Callable[[], End]) -> None:
        end: End = None
        try:
            end = run()
        except TransferError as err:
            end = on.ShipFailed(work.move, err.code, str(err))
        finally:
            with work.lock:
                if work.wake >= 0:
                    os.close(work.wake)
                work.wake = -1
            if work.link is not None:
                work.link.close()
        self._later(partial(self._over, work, end))

    def _later(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call)

    def _send(self, work: _Work, start: do.StartShip) -> End:
        with _opened_log(start.log, os.O_RDONLY) as log:
            work.link = self._dial(work, start)
            if work.dropped.is_set():
                return None
            if start.lazy:
                self._begin_pages(work, start)
            luggage = Luggage(self._files, start.owner) if start.owner else None
            sending = ship.Sending(work.link, log, luggage.open if luggage else ship.no_file)
            with contextlib.closing(sending), _telling(sending.fail):
                names = {*start.files, *(luggage.opened_by(start.pid) if luggage else ())}
                sending.stream(partial(self._progress, work), names)
                self._later(partial(self._say, work, on.CaughtUp(work.move)))
                sending.wait(work.wake)
                if work.image is None and work.growing is not None:
                    with _opened(work.growing.image, os.O_RDONLY) as image:
                        sending.follow(image, work.wake)
                rest = work.image
                assert rest is not None
                with _opened(rest.image, os.O_RDONLY) as image:
                    gone = sending.finish(image, rest.log_size, rest.size, rest.files)
                if luggage:
                    luggage.leave(gone)
        return on.Shipped(work.move)

    def _receive(self, work: _Work, awaited: do.AwaitShip) -> End:
        assert work.link is not None
        _set_stall(work.link)
        luggage = Luggage(self._files, awaited.owner) if awaited.owner else None
        with (
            _opened_log(awaited.log, os.O_WRONLY) as log,
            _opened(awaited.image, os.O_WRONLY) as image,
            contextlib.closing(luggage) if luggage else contextlib.nullcontext(),
        ):
            receiving = ship.Receiving(work.link, log, image, luggage, awaited.size)
            with _telling(receiving.fail):
                done = receiving.run()
        landed = on.Landed(work.move, done.size, done.wire_ms)
        self._later(partial(self._say, work, landed))
        # What is here is here, whether or not the source hears of it.
        with contextlib.suppress(TransferError):
            receiving.finish()
        return None

    def _sync(self, wanted: do.SyncLog) -> None:
        trouble = ""
        try:
            with _opened(wanted.log, os.O_RDONLY) as log:
                os.fdatasync(log)
        except (OSError, TransferError) as err:
            trouble = reason_of(err)
        self._later(partial(self._report, on.LogSynced(wanted.move, trouble)))

    def _begin_pages(self, work: _Work, start: do.StartShip) -> None:
        """A second connection, by which pages go once the task stands still.

        Raises TransferError.
        """
        with contextlib.closing(self._dial(work, start, PAGES)) as link:
            paging.set_silence(link)
            link.settimeout(WAIT_S)
            try:
                paging.begin_here(link, self._image(work.move))
            except OSError as err:
                raise TransferError("pages", f"{start.address}: {reason_of(err)}") from err
        self._later(partial(self._paged, work.move, self._image(work.move)))

    def _page(self, work: _Work, awaited: do.AwaitShip, link: socket.socket) -> None:
        """In a thread: the source's pager has called."""
        with contextlib.closing(link):
            try:
                paging.set_silence(link)
                link.settimeout(WAIT_S)
                paging.begin_there(link, awaited.image)
            except OSError as err:
                failed = partial(self._fail, work, "pages", f"no pager: {err.strerror or err}")
                self._later(failed)
                return
        self._later(partial(self._paged, work.move, awaited.image))

    def _paged(self, move: str, image: str) -> None:
        """A pager is here.  The move may have been dropped while it began."""
        if move not in self._lazy:
            hang_up(image)

    def _image(self, move: str) -> str:
        return os.path.join(self._images, move)

    def _dial(self, work: _Work, start: do.StartShip, what: str = "") -> socket.socket:
        pauses = iter(PAUSES_S)
        while True:
            try:
                with self._calls:
                    return self._call(start, what)
            except (OSError, PeerError) as err:
                pause = next(pauses, None) if _hung_up(err) else None
                if pause is None or work.dropped.wait(pause):
                    text = f"{start.address}: {reason_of(err)}"
                    raise TransferError("unreachable", text) from err

    def _call(self, start: do.StartShip, what: str) -> socket.socket:
        link = dial_bulk(
            split_address(start.address), _show(start.ticket, what), self._trust.client(),
            partial(expect_peer, start.leaves),
        )
        _set_stall(link)
        return link

    def _progress(self, work: _Work, done: int, total: int) -> None:
        now = time.monotonic()
        if now - work.said_at >= PROGRESS_S:
            work.said_at = now
            self._later(partial(self._say, work, on.ShipProgressed(work.move, done, total)))


@contextlib.contextmanager
def _telling(fail: Callable[[TransferError], TransferError]) -> Iterator[None]:
    """An error inside is told to the other end, and the better reason of the two goes on."""
    try:
        yield
    except TransferError as err:
        raise fail(err) from err.__cause__
    except OSError as err:
        raise fail(fault(err, b"the task's files")) from err


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    """A regular file that is there, open.  Raises TransferError."""
    about = os.fsencode(path)
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise fault(err, about) from err
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise TransferError("not-a-file", f"{path}: is no regular file")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened_log(path: str, flags: int) -> Iterator[int]:
    """As ``_opened``; no path is a log that is empty, and stays so."""
    if path:
        with _opened(path, flags) as fd:
            yield fd
        return
    fd = os.memfd_create("no log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        yield fd
    finally:
        os.close(fd)


def _show(ticket: str, what: str = "") -> Show:
    """What the source shows for its ship, or for what else goes from it to the destination."""
    return Show(ticket + what, "send")


def _set_stall(link: socket.socket) -> None:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STALL_S * 1000))


def _hung_up(err: Exception) -> bool:
    """The connection came about, and ended before its opening did."""
    reset = isinstance(err, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError)
    # A connection that was reset before TLS began says that it is none.
    return reset or getattr(err, "errno", 0) == errno.ENOTCONN
