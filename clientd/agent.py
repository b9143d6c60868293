"""The agent: the process of clientd that talks to the master.  A thin shell around the core.

Started by the keeper as ``python -m clientd.agent FD``, FD being its end of the keeper's socket
pair.  It may be killed at any time: the keeper starts another, which learns everything anew.
"""

import asyncio
import contextlib
import gc
import json
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import assert_never

from clientd import actions as do
from clientd import events as on
from clientd import load
from clientd.callers import Callers
from clientd.core import Agent, Identity
from clientd.follow import Follower
from clientd.homelogs import HomeLogs
from clientd.inotify import Growth
from clientd.keeper import orders
from clientd.logtimes import LogTimes
from clientd.membership import Membership
from clientd.roots import Roots
from clientd.shipping import Shipping
from clientd.transfers import Transfers
from godwit import __version__, failpoint
from godwit.errors import GodwitError, PeerError
from godwit.log import Level, Log
from godwit.names import join_address, split_address
from godwit.wire import frames, messages
from godwit.wire.link import Accept, Link, Listener, Receive, dial, listen_tcp, reason_of
from godwit.wire.preface import ADOPT, CONTROL
from godwit.wire.session import Session
from godwit.wire.trust import expect_master

#: Seconds between two looks at the age of this node's certificate.
RENEWALS_S = 3600.0


class KeepersLog(Log):
    """The daemon's log, written by the keeper for an agent that has no right to."""

    def __init__(self, keeper: Link):
        super().__init__("agent", stderr_level=None)
        self._keeper = keeper

    def __call__(self, level: Level, text: str, **about: object) -> None:
        task = str(about.get("task", ""))
        self._keeper.send(orders.encode(orders.Say(level, text, task)))


class Shell:
    """Does what the core wants, and tells it what happens."""

    def __init__(self, keeper: socket.socket):
        self._loop = asyncio.get_running_loop()
        self._keeper_socket = keeper
        self._home_logs = HomeLogs(lambda event: self._loop.call_soon(self._handle, event))
        self._keeper = Link(_words(), frames.LOCAL_LIMIT)
        self._log = Log("agent", stderr_level=None)
        self._core: Agent | None = None
        self._links: dict[int, tuple[Link, Session]] = {}
        self._link_count = 0
        self._followers: dict[int, Follower] = {}
        self._growth = Growth()
        self._times: LogTimes | None = None
        self._identity_path = ""
        self._listener: Listener | None = None
        self._callers: Callers
        self._transfers: Transfers | None = None
        self._shipping: Shipping | None = None
        self._membership: Membership
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        #: When this agent last asked for a certificate, monotonic seconds.
        self._renewed_at = float("-inf")
        self.done: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Runs until the keeper says so, or is gone."""
        self._keeper.on_message = self._on_word
        self._keeper.on_closed = lambda reason: self._exit()
        await self._loop.connect_accepted_socket(lambda: self._keeper, self._keeper_socket)
        self._loop.add_signal_handler(signal.SIGTERM, self._exit)
        await self.done
        await self._close()

    async def _close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for follower in self._followers.values():
            follower.close()
        self._home_logs.close_all()
        if self._listener is not None:
            await self._listener.close()
        if self._transfers is not None and self._shipping is not None:
            await self._transfers.close()
            await self._shipping.close()
            await self._callers.close()
        for link, _ in tuple(self._links.values()):
            link.close("this agent ends")
        self._keeper.close("this agent ends")
        self._growth.close()
        await asyncio.sleep(0)  # lets the transports write what is queued and close

    def _exit(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    # ---- events in -------------------------------------------------------------------------

    def _on_word(self, word: orders.Word) -> None:
        if isinstance(word, orders.Facts):
            self._begin(word)
        self._handle(on.KeeperTold(word))

    def _begin(self, facts: orders.Facts) -> None:
        """The keeper's first word says where everything is."""
        if facts.demoted:
            self._log = KeepersLog(self._keeper)
        else:
            path = os.path.join(facts.logs, facts.name, "clientd.log")
            self._log = Log(f"agent {facts.name}", path, facts.stderr)
        folder = os.path.join(facts.state, "agent")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._identity_path = os.path.join(folder, "identity.json")
        self._times = LogTimes(os.path.join(folder, "times"))
        self._membership = Membership(
            os.path.join(folder, "trust"), facts.name, facts.token_file, self._log, facts.token
        )
        trust = self._membership.trust
        self._callers = Callers(trust, self._on_refused)
        files = os.fsencode(os.path.join(facts.state, "files"))
        self._transfers = Transfers(
            Roots(facts.roots, files, facts.config), trust, self._callers, self._handle
        )
        self._shipping = Shipping(
            trust, self._callers, files, os.path.join(folder, "moves"), self._handle
        )
        try:
            identity = self._identity()
        except OSError as err:  # the keeper starts another, later
            self._log("severe", f"cannot keep this node's identity: {err.strerror}")
            self._exit()
            return
        self._core = Agent(identity, random.random)
        load.take(0)
        if facts.listen:
            if not self._listen(*split_address(facts.listen)):
                return
            self._spawn(self._membership.wait())
        work = f"joins {facts.master}" if facts.master else f"waits on {facts.listen}"
        self._keeper.send(orders.encode(orders.Settled(work)))
        self._spawn(self._keep_young())

    def _listen(self, host: str, port: int) -> bool:
        """Whether it does; else this agent ends, and the next one tries."""
        try:
            sock = listen_tcp(host, port)
        except OSError as err:
            self._log("severe", f"cannot listen on {host}:{port}: {err.strerror}")
            self._exit()
            return False
        self._listener = Listener(sock, Accept(
            {CONTROL: self._new_link}, self._on_accepted, self._callers.on_bulk,
            tls=self._membership.trust.server, raw={ADOPT: self._membership.on_adopt},
            on_refused=self._on_refused,
        ))
        port = sock.getsockname()[1]
        self._callers.listens_on(self._listener, port)
        self._log("info", f"listening on {join_address(host, port)}")
        return True

    def _identity(self) -> Identity:
        """Who we are: from the state folder, made at the first start.  Raises OSError."""
        kept: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError), open(self._identity_path) as file:
            kept = json.load(file)
        node, here = kept.get("node") or secrets.token_hex(16), os.uname()
        identity = Identity(
            node, secrets.token_hex(8), kept.get("master", ""),
            f"{here.sysname} {here.release} {here.machine}",
            f"godwit {__version__}",
        )
        if kept != {"node": node, "master": identity.master}:
            self._remember(node, identity.master)
        return identity

    def _remember(self, node: str, master: str) -> None:
        failpoint.hit("identity.before")
        temporary = self._identity_path + ".new"
        with open(temporary, "w", opener=_private) as file:
            json.dump({"node": node, "master": master}, file)
            file.flush()
            os.fsync(file.fileno())
        failpoint.hit("identity.written")
        os.replace(temporary, self._identity_path)

    def _new_link(self) -> Link:
        session = Session()
        link = Link(session.receive)
        self._link_count += 1
        number = self._link_count
        link.number = number
        link.on_open = lambda: self._links.update({number: (link, session)})
        link.on_message = lambda message: self._handle(on.Received(number, message))

        def closed(reason: str) -> None:
            del self._links[number]
            self._handle(on.LinkClosed(number, reason))

        link.on_closed = closed
        return link

    def _on_accepted(self, link: Link, preface: bytes, peer: str) -> None:
        try:
            expect_master(link.peer())
        except PeerError as err:
            link.close(str(err))
            self._on_refused(peer, str(err))
            return
        self._handle(on.LinkAccepted(link.number, peer))
        self._loop.call_later(5.0, self._drop_silent, link.number)

    def _drop_silent(self, number: int) -> None:
        if self._core is not None and number in self._core.strangers:
            self._links[number][0].close("said nothing")

    def _on_refused(self, peer: str, reason: str) -> None:
        self._log("warning", f"refused a connection from {peer}: {reason}")

    def _handle(self, event: on.Event) -> None:
        if self._core is None:
            return
        for action in self._core.handle(event, time.monotonic()):
            self._do(action)
        self._sleep_till(self._core.deadline())

    def _sleep_till(self, deadline: float) -> None:
        if deadline == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = None
        if deadline != float("inf"):
            pause = max(0.0, deadline - time.monotonic())
            self._timer = self._loop.call_later(pause, self._tick)

    def _tick(self) -> None:
        self._timer_at = float("inf")
        self._timer = None
        self._handle(on.Tick())

    # ---- actions out -----------------------------------------------------------------------

    def _do(self, action: do.Action) -> None:
        match action:
            case do.Dial():
                self._spawn(self._dial(action))
            case do.Send(link, message):
                if link in self._links:
                    self._links[link][0].send(messages.encode(message))
            case do.Open(link, channel):
                decoder = {
                    "control": messages.decode_from_master,
                    "stream": messages.decode_stream_from_master,
                }[channel]
                self._links[link][1].opened(decoder)
                if channel == "control":
                    self._spawn(self._renew())
            case do.Install(certificate):
                self._install(certificate)
            case do.Close(link, reason):
                if link in self._links:
                    self._links[link][0].close(reason)
            case do.Tell(order):
                self._keeper.send(orders.encode(order))
            case do.Remember(master):
                assert self._core is not None
                try:
                    self._remember(self._core.identity.node, master)
                except OSError as err:  # a full disk; it is told anew at the next welcome
                    self._log("severe", f"cannot write {self._identity_path}: {err.strerror}")
                if not master and self._listener is not None:
                    self._membership.give_up()
            case do.TakeLoad(running):
                self._note_logs(running)
                self._handle(on.LoadTaken(load.take(len(running))))
            case do.TakeUsage(order, pids):
                assert self._core is not None
                usage = load.usage(pids)
                self._handle(on.UsageTaken(order, self._core.children, usage))
            case do.StartFollow():
                self._follow(action)
            case do.FinishFollow(stream):
                if stream in self._followers:
                    self._followers[stream].finish()
            case do.GrantFollow(stream, count):
                if stream in self._followers:
                    self._followers[stream].grant(count)
            case do.DropFollow(stream):
                follower = self._followers.pop(stream, None)
                if follower is not None:
                    follower.close()
            case do.StartTransfer(transfer, master):
                assert self._transfers is not None
                self._transfers.start(transfer, master, self._local_host())
            case do.DropTransfer(order):
                assert self._transfers is not None
                self._transfers.drop(order)
            case do.EraseFile(order, path, recursive):
                assert self._transfers is not None
                self._transfers.erase(order, path, recursive)
            case do.StartShip():
                assert self._shipping is not None
                self._shipping.send(action)
            case do.ShipGrowing():
                assert self._shipping is not None
                self._shipping.grows(action)
            case do.ShipImage():
                assert self._shipping is not None
                self._shipping.image(action)
            case do.AwaitShip():
                assert self._shipping is not None
                self._shipping.receive(action, self._local_host())
            case do.SyncLog():
                assert self._shipping is not None
                self._shipping.sync(action)
            case do.DropShip(move):
                assert self._shipping is not None
                self._shipping.drop(move)
            case do.DropLogTimes(tasks):
                assert self._times is not None
                for task in tasks:
                    self._times.drop(task)
            case do.OpenHomeLog(task, path):
                self._home_logs.open(task, path)
            case do.WriteHomeLog(task, offset, data):
                self._home_logs.write(task, offset, data)
            case do.CloseHomeLog(task):
                self._home_logs.close(task)
            case do.Say(level, text, task):
                self._log(level, text, **({"task": task} if task else {}))
            case do.Exit():
                self._loop.call_later(0.05, self._exit)
            case _:
                assert_never(action)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, action: do.Dial) -> None:
        try:
            await self._membership.join(action.host, action.port)
            tls = self._membership.trust.client()
            await dial((action.host, action.port), CONTROL, partial(self._calling, action), tls)
        except (OSError, GodwitError) as err:  # TimeoutError and SSLError are OSErrors
            self._dial_failed(action, reason_of(err))

    def _dial_failed(self, action: do.Dial, reason: str) -> None:
        self._handle(on.DialFailed(action.channel, f"{action.host}:{action.port}: {reason}"))

    def _calling(self, action: do.Dial) -> Link:
        link = self._new_link()
        known = link.on_open

        def opened() -> None:
            known()
            try:
                expect_master(link.peer())
            except PeerError as err:
                link.close(str(err))
                self._dial_failed(action, str(err))
                return
            self._handle(on.LinkOpened(link.number, action.channel))

        link.on_open = opened
        return link

    async def _keep_young(self) -> None:
        """A connection may last longer than a certificate."""
        while True:
            await asyncio.sleep(RENEWALS_S)
            await self._renew()

    async def _renew(self) -> None:
        now = self._loop.time()
        if not self._membership.is_old or now < self._renewed_at + RENEWALS_S / 2:
            return
        self._renewed_at = now
        try:
            self._handle(on.RequestMade(await self._membership.request()))
        except PeerError as err:
            self._log("warning", f"this node's certificate could not be renewed: {err}")

    def _install(self, certificate: bytes) -> None:
        try:
            self._membership.install(certificate)
        except (PeerError, OSError) as err:
            self._log("warning", f"this node's certificate could not be renewed: {err}")
        else:
            self._log("info", "this node's certificate was renewed")

    def _local_host(self) -> str:
        """The address by which the master knows us, so that transfers listen there only."""
        assert self._core is not None
        entry = self._links.get(self._core.control.link or 0)
        return entry[0].local_host() if entry else "127.0.0.1"

    def _note_logs(self, running: tuple[str, ...]) -> None:
        assert self._core is not None and self._times is not None
        wall = time.time()
        for task in running:
            self._times.note(task, self._core.tasks[task].log, wall)

    def _follow(self, action: do.StartFollow) -> None:
        assert self._times is not None
        link = self._links[action.link][0]

        def ended(stream: int) -> None:
            self._followers.pop(stream, None)
            self._loop.call_soon(self._handle, on.FollowEnded(stream))

        follower = Follower(
            action.stream, action.path, lambda message: link.send(messages.encode(message)), ended
        )
        self._followers[action.stream] = follower
        offset = action.offset
        if action.since:
            offset = max(offset, self._times.offset_at(action.task, action.since))
        follower.start(self._growth, offset, action.lines, action.live)


def _words() -> Receive:
    """Cuts what the keeper sends into words."""
    cutter = frames.Frames(frames.LOCAL_LIMIT)

    def receive(data: bytes) -> Iterator[orders.Word]:
        cutter.push(data)
        while (payload := cutter.pop()) is not None:
            yield orders.decode_word(payload)

    return receive


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


async def _run(descriptor: int) -> None:
    keeper = socket.socket(fileno=descriptor)
    keeper.setblocking(False)
    await Shell(keeper).run()


def main() -> None:
    """Runs the agent on the descriptor that the keeper names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is for the keeper
    # What is imported stays for good: keep the collector's hands off it (and its pages shared).
    gc.freeze()
    asyncio.run(_run(int(sys.argv[1])))


if __name__ == "__main__":
    main()
