"""The agent's end of file transfers and deletions: blocking work in threads, news as events."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec import Struct, field

from clientd import events as on
from clientd.callers import Callers, expect_peer
from clientd.roots import Roots, erase
from godwit import bulk
from godwit.errors import GodwitError, PeerError, TransferError
from godwit.names import split_address
from godwit.wire.link import dial_bulk
from godwit.wire.messages import Transfer
from godwit.wire.preface import Show
from godwit.wire.trust import Trust

#: Transfers at work at once; more wait for a free thread.
THREADS = 16
#: Seconds a transfer waits for the other side's call.
WAIT_S = 30.0
#: Seconds between two progress events of one transfer.
PROGRESS_S = 0.25

Report = Callable[[on.Event], None]


class _Work(Struct):
    """One transfer: its order, and the socket once there is one."""

    order: Transfer
    link: socket.socket | None = None
    dropped: bool = False
    timer: asyncio.TimerHandle | None = None
    said_at: float = field(default=0.0)


class Transfers:
    """Runs transfers; ``report`` is called in the event loop."""

    def __init__(self, roots: Roots, trust: Trust, callers: Callers, report: Report):
        self._roots = roots
        self._callers = callers
        self._trust = trust
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, "transfer")
        self._works: dict[int, _Work] = {}

    def start(self, order: Transfer, master: str, local_host: str) -> None:
        """Begins a transfer; WorkEnded says how it went."""
        work = self._works[order.order] = _Work(order)
        if order.address:
            address = master if order.address == "master" else order.address
            self._submit(work, lambda: self._dial(work, address))
            return
        def called(sock: socket.socket) -> None:
            if work.timer:
                work.timer.cancel()
            work.link = sock
            self._submit(work, lambda: self._transfer(work))

        try:
            port = self._callers.expect(_expected(order), order.leaves, local_host, called)
        except OSError as err:
            self._ended(work, "listen", f"cannot listen for the transfer: {err.strerror}")
            return
        work.timer = self._loop.call_later(WAIT_S, self._give_up, work)
        self._report(on.PortOpened(order.order, port))

    def _give_up(self, work: _Work) -> None:
        self._callers.forget(_expected(work.order))
        self._ended(work, "timeout", f"the other side did not call within {WAIT_S:g} s")

    def drop(self, order: int) -> None:
        """Nobody wants this transfer any more; its WorkEnded still comes."""
        work = self._works.get(order)
        if work is None:
            return
        work.dropped = True
        if work.link is not None:
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown would make the thread's running read raise ValueError.
                socket.socket.shutdown(work.link, socket.SHUT_RDWR)
        elif work.timer:
            work.timer.cancel()
            self._callers.forget(_expected(work.order))
            self._ended(work, "dropped", "no longer wanted")

    def erase(self, order: int, path: bytes, recursive: bool) -> None:
        """Deletes a file or folder in a thread; WorkEnded says how it went."""

        def run() -> None:
            code = text = ""
            try:
                erase(self._roots, path, recursive)
            except GodwitError as err:
                code, text = getattr(err, "code", "failed"), str(err)
            self._later(on.WorkEnded(order, code, text))

        self._threads.submit(run)

    # ---- in threads ------------------------------------------------------------------------

    def _submit(self, work: _Work, run: Callable[[], bulk.Summary]) -> None:
        self._threads.submit(self._guard, work, run)

    def _guard(self, work: _Work, run: Callable[[], bulk.Summary]) -> None:
        order = work.order.order
        event: on.Event
        try:
            done = run()
            event = on.Copied(order, done.size, done.files, done.path, done.warnings)
        except TransferError as err:
            event = on.WorkEnded(order, err.code, str(err))
        except GodwitError as err:
            event = on.WorkEnded(order, getattr(err, "code", "failed"), str(err))
        except OSError as err:
            event = on.WorkEnded(order, "cut", f"the connection broke: {err.strerror or err}")
        finally:
            if work.link is not None:
                work.link.close()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._end, work, event)

    def _dial(self, work: _Work, address: str) -> bulk.Summary:
        host, port = split_address(address)
        show = Show(work.order.ticket, work.order.role)
        try:
            work.link = dial_bulk(
                (host, port), show, self._trust.client(), partial(expect_peer, work.order.leaves)
            )
        except (OSError, PeerError) as err:
            reason = getattr(err, "strerror", None) or err
            raise TransferError("unreachable", f"{address}: {reason}") from err
        return self._transfer(work)

    def _transfer(self, work: _Work) -> bulk.Summary:
        assert work.link is not None
        work.link.settimeout(None)

        def progress(done: int, total: int) -> None:
            now = time.monotonic()
            if now - work.said_at >= PROGRESS_S:
                work.said_at = now
                self._later(on.WorkProgressed(work.order.order, done, total))

        if work.order.role == "send":
            return bulk.send(work.link, self._roots.source(work.order.path), progress)
        return bulk.receive(work.link, self._roots.target(work.order.path), progress)

    def _later(self, event: on.Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._report, event)

    def _ended(self, work: _Work, code: str, text: str) -> None:
        self._end(work, on.WorkEnded(work.order.order, code, text))

    def _end(self, work: _Work, event: on.Event) -> None:
        if self._works.pop(work.order.order, None) is not None:
            self._report(event)

    async def close(self) -> None:
        """Cuts what is under way and waits for the threads."""
        for order in tuple(self._works):
            self.drop(order)
        self._threads.shutdown(wait=False, cancel_futures=True)


def _expected(order: Transfer) -> Show:
    """What the other side shows when it calls."""
    return Show(order.ticket, "send" if order.role == "receive" else "receive")
