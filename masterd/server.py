"""The I/O of the master: one port for nodes, one Unix socket for operators, one core."""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import assert_never

import godwit
from godwit import bulk, failpoint
from godwit.errors import PeerError, StartError
from godwit.log import Log
from godwit.names import join_address, new_task_id
from godwit.places import master_socket
from godwit.seldom import Seldom
from godwit.wire import frames, messages, operations
from godwit.wire.link import (
    Accept,
    Link,
    Listener,
    dial,
    dial_bulk,
    listen_tcp,
    listen_unix,
    reason_of,
)
from godwit.wire.preface import CONTROL, JOIN, OPERATOR, Show
from godwit.wire.session import Session
from godwit.wire.trust import Peer, expect_leaf, peer_of
from masterd import actions as do
from masterd import events as on
from masterd.audit import Audit, Line
from masterd.authority import Admissions, Question
from masterd.copies import OTHER
from masterd.core import Chance, Identity, Master, Mishap
from masterd.operators import identify
from masterd.registry import Node
from masterd.store import Store

#: Seconds after a mishap before the core is woken by its own deadline again.
AFTER_MISHAP_S = 1.0
#: File in the state folder that says where the master listens.
ADDRESS = "address"
#: Seconds after which it is tried again to write it.
ADDRESS_AGAIN_S = 5.0


class Server:
    """Does what the core wants, and tells it what happens."""

    def __init__(self, state: str, log: Log, store: Store, audit_log: Log):
        self._state = state
        self._log = log
        self._audit = Audit()
        self._audit_log = audit_log
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._core: Master
        self._numbers = 0
        self._lock = threading.Lock()
        self._links: dict[int, tuple[Link, Session]] = {}
        self._operators: dict[int, Link] = {}
        self._bulks: dict[int, socket.socket] = {}
        #: Of threads that wait for the core's answers.
        self._questions: dict[int, Question] = {}
        self._admissions: Admissions
        self._relays: set[tuple[socket.socket, socket.socket]] = set()
        self._listeners: list[Listener] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        #: Mishaps that were logged.
        self._seldom = Seldom()
        self.done: asyncio.Future[str] = self._loop.create_future()

    # ---- life ------------------------------------------------------------------------------

    def start(self, host: str, port: int) -> str:
        """Listens and takes up what was kept; gives the address.  Raises StartError."""
        try:
            tcp = listen_tcp(host, port)
        except OSError as err:
            raise StartError(
                f"cannot listen on {join_address(host, port)}: {err.strerror or err}"
            ) from err
        address = join_address(host, tcp.getsockname()[1])
        self._begin_core(address)
        self._listeners = [
            Listener(tcp, Accept(
                {CONTROL: self._new_link}, self._on_link, self._on_bulk,
                tls=self._admissions.trust.server, raw={JOIN: self._admissions.on_join},
                on_refused=self._on_refused,
            )),
            Listener(listen_unix(master_socket(self._state)), Accept(
                {OPERATOR: self._new_operator}, self._on_operator, self._on_bulk,
                on_refused=self._on_refused,
            )),
        ]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        self._write_address(address)
        self._handle(on.Tick())
        return address

    def _begin_core(self, address: str) -> None:
        master = secrets.token_hex(16)
        kept = self._store.load()
        self._store.on_trouble = partial(self._later, self._say_trouble)
        if "master" in kept.facts:
            master = kept.facts["master"]
        else:
            self._store.put(do.KeepFact("master", master))
        self._admissions = Admissions(
            self._state, master, partial(self._later, self._handle), self._question
        )
        identity = Identity(
            master, address, godwit.__version__, os.getpid(), self._state, self._admissions.ca
        )
        self._core = Master(identity, Chance(
            random.random, lambda: new_task_id(secrets.token_bytes),
            lambda: secrets.token_hex(32), secrets.token_hex,
        ))
        self._core.admission.tokens.update((token.id, token) for token in kept.tokens)
        self._core.admission.leaves.update((entry.name, entry.leaves) for entry in kept.leaves)
        self._core.history.load(kept.events)
        for known in kept.nodes:
            node = Node(known.name, known.node, host=known.host, port=known.port)
            if known.host:
                node.address = join_address(known.host, known.port)
            self._core.registry.nodes[known.name] = node
        for kept_task in kept.tasks:
            where = self._core.registry.nodes.get(kept_task.node)
            if where is not None:
                self._core.registry.put(where, kept_task.task)
            else:  # its node was deregistered
                self._store.put(do.DropTask(kept_task.task.id))
        self._core.sources.texts.update(kept.sources)
        self._core.shadows.relays.update((relay.task, relay) for relay in kept.relays)
        self._core.moves.load(kept.moves, self._loop.time())
        self._core.lodging.load(kept.lodgers)
        for schedule in self._core.schedules.load(kept.schedules, time.monotonic()):
            self._store.put(schedule)
        self._core.heirs.load(kept.heirs)

    def _write_address(self, address: str) -> None:
        path = os.path.join(self._state, ADDRESS)
        try:
            with open(path + ".new", "w") as file:
                file.write(address + "\n")
            failpoint.hit("address.written")
            os.replace(path + ".new", path)
        except OSError as err:  # a full disk: later, for what runs must be looked after now
            self._log("severe", f"cannot write {path}: {err.strerror}")
            self._loop.call_later(ADDRESS_AGAIN_S, self._write_address, address)

    def _stop(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_result(reason)

    async def close(self) -> None:
        """Ends every connection after what is queued; nodes and their tasks go on."""
        for listener in self._listeners:
            await listener.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link, _ in tuple(self._links.values()):
            link.close("the master stops")
        for link in tuple(self._operators.values()):
            link.close("the master stops")
        for sock in (*self._bulks.values(), *(s for pair in self._relays for s in pair)):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for sock in self._bulks.values():
            sock.close()
        await asyncio.sleep(0.02)  # what was queued leaves
        for path in (os.path.join(self._state, ADDRESS), master_socket(self._state)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    # ---- events in -------------------------------------------------------------------------

    def _handle(self, event: on.Event) -> None:
        if self.done.done():
            return
        self._note(event)
        try:
            self._perform(self._core.handle(event, time.monotonic(), time.time()))
        except Mishap as mishap:
            self._contain(event, mishap)
        else:
            self._sleep_till(self._core.deadline())

    def _contain(self, event: on.Event, mishap: Mishap) -> None:
        """A bug of ours ends what met it, and nothing else: all others go on as before."""
        self._perform(mishap.done)
        err = mishap.__cause__
        assert err is not None
        said = f"a bug in godwit, met by {type(event).__name__}: {type(err).__name__}: {err}"
        lines = traceback.format_exception(err)
        if self._seldom.may(f"{type(event).__name__} {lines[-2]}", self._loop.time()):
            self._log("severe", said, traceback="".join(lines))
        match event:
            case on.Asked(operator, request) if operator in self._operators:
                self._do(do.Answer(operator, operations.Problem(
                    request.id, "internal", said, f"the traceback is in {self._log.path}",
                    exit_status=125,
                )))
            case on.Received(link) if link in self._links:
                # When it comes back, it reports all it has.
                self._links[link][0].close("a bug in godwit")
            case _:
                pass
        # What is overdue may be what went wrong: not again at once.
        self._sleep_till(max(self._core.deadline(), time.monotonic() + AFTER_MISHAP_S))

    def _note(self, event: on.Event) -> None:
        """For the audit log: what is wanted, and by whom."""
        match event:
            case on.Asked(operator, request):
                self._write(self._audit.asked(operator, request))
            case on.OperatorGone(operator):
                self._write(self._audit.gone(operator))
            case on.JoinAsked(asked, token, _, _, peer):
                self._audit.knocked(asked, token, peer)
            case on.Certified(asked, name, leaf):
                self._write(self._audit.certified(asked, name, leaf))
            case _:
                pass

    def _write(self, lines: Iterator[Line]) -> None:
        for line in lines:
            before = self._audit_log.trouble
            self._audit_log("info", line.text, **line.about)
            trouble = self._audit_log.trouble
            if trouble and trouble != before:
                self._log("severe", f"cannot write {self._audit_log.path}: {trouble}")

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

    def _number(self) -> int:
        with self._lock:
            self._numbers += 1
            return self._numbers

    def _new_link(self) -> Link:
        session = Session()
        link = Link(session.receive)
        number = self._number()
        link.number = number
        link.on_open = lambda: self._links.update({number: (link, session)})
        link.on_message = lambda message: self._handle(on.Received(number, message))

        def closed(reason: str) -> None:
            del self._links[number]
            self._handle(on.LinkClosed(number, reason))

        link.on_closed = closed
        return link

    def _on_link(self, link: Link, preface: bytes, peer: str) -> None:
        self._handle(on.LinkAccepted(link.number, peer, link.peer().leaf))

    def _new_operator(self) -> Link:
        link = Link(_requests(), frames.LOCAL_LIMIT)
        number = self._number()
        link.number = number
        self._operators[number] = link
        link.on_message = lambda request: self._handle(on.Asked(number, request))

        def closed(reason: str) -> None:
            del self._operators[number]
            self._handle(on.OperatorGone(number))

        link.on_closed = closed
        return link

    def _on_operator(self, link: Link, preface: bytes, peer: str) -> None:
        if link.peer_uid() not in (0, os.geteuid()):
            self._log("warning", f"refused an operator of uid {link.peer_uid()}")
            link.close("not yours")
        else:
            self._audit.came(link.number, identify(link.peer_pid(), link.peer_uid()))

    def _on_refused(self, peer: str, reason: str) -> None:
        self._log("warning", f"refused a connection from {peer or 'this machine'}: {reason}")

    def _on_bulk(self, sock: socket.socket, show: Show, peer: Peer) -> None:
        number = self._number()
        self._bulks[number] = sock
        self._handle(on.BulkOpened(number, show, peer.leaf))

    @contextlib.contextmanager
    def _question(self) -> Iterator[Question]:
        """In a thread."""
        question = Question(self._number())
        self._questions[question.number] = question
        try:
            yield question
        finally:
            del self._questions[question.number]

    # ---- actions out -----------------------------------------------------------------------

    def _perform(self, actions: list[do.Action]) -> None:
        for index, action in enumerate(actions):
            if isinstance(action, do.Commit):
                rest = actions[index + 1 :]
                self._store.commit(partial(self._later, self._go_on, rest))
                return
            self._do(action)

    def _go_on(self, rest: list[do.Action], trouble: str) -> None:
        """Whether it was written or not: what cannot be is told by ``_say_trouble``.

        But a verdict is not told before it is on the disk: it comes again.
        """
        if trouble:
            rest = [a for a in rest if not (isinstance(a, do.Send) and a.recorded)]
        self._perform(rest)

    def _confirmed(self, number: int, trouble: str) -> None:
        self._handle(on.Unrecorded(number, trouble) if trouble else on.Recorded(number))

    def _say_trouble(self, trouble: str) -> None:
        path = self._store.path
        if trouble:
            self._log("severe", f"cannot write {path}: {trouble}; new work is refused till it can")
        else:
            self._log("info", f"{path} can be written again, and nothing is missing in it")

    def _later(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _do(self, action: do.Action) -> None:
        match action:
            case do.Send(link, message):
                if link in self._links:
                    self._links[link][0].send(messages.encode(message))
            case do.Answer(operator, reply):
                self._write(self._audit.answered(operator, reply))
                if operator in self._operators:
                    self._operators[operator].send(operations.encode(reply))
            case do.Open(link, channel):
                decoder = {
                    "control": messages.decode_from_node,
                    "stream": messages.decode_stream_from_node,
                }[channel]
                self._links[link][1].opened(decoder)
            case do.Close(link, reason):
                if link in self._links:
                    self._links[link][0].close(reason)
            case do.Dial():
                self._spawn(self._dial(action))
            case do.KeepEvent(event):
                self._store.put(action)
                about = {"node": event.node, "task": event.task}
                self._log(event.level, event.text, **{k: v for k, v in about.items() if v})
            case do.KeepNode() | do.DropNode() | do.KeepTask() | do.DropTask() | do.KeepFact():
                self._store.put(action)
            case do.KeepLeaves() | do.KeepToken() | do.DropToken() | do.KeepMove():
                self._store.put(action)
            case do.KeepSource() | do.DropSource() | do.KeepRelay() | do.DropRelay():
                self._store.put(action)
            case do.KeepLodger() | do.DropLodger() | do.KeepSchedule() | do.DropSchedule():
                self._store.put(action)
            case do.KeepHeir() | do.DropHeir():
                self._store.put(action)
            case do.Admit(asked) | do.Deny(asked):
                if question := self._questions.get(asked):
                    question.verdict.set_result(action)
            case do.Hand(asked):
                if question := self._questions.get(asked):
                    question.recorded.set_result(None)
            case do.Adopt():
                self._in_thread(self._admissions.adopt, action)
            case do.Renew(link):
                self._in_thread(self._admissions.renew, action, partial(self._renewed, link))
            case do.DialBulk():
                self._in_thread(self._dial_bulk, action)
            case do.Splice(one, other):
                self._splice(self._bulks.pop(one), self._bulks.pop(other))
            case do.DropBulk(number):
                self._bulks.pop(number).close()
            case do.Stop():
                self._loop.call_later(0.02, self._stop, "told to")
            case do.Confirm(number):
                self._store.commit(partial(self._later, self._confirmed, number))
            case do.Commit():
                raise AssertionError("a Commit is performed by _perform")
            case _:
                assert_never(action)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, action: do.Dial) -> None:
        try:
            tls = self._admissions.trust.client()
            await dial((action.host, action.port), CONTROL, partial(self._calling, action), tls)
        except OSError as err:  # TimeoutError and SSLError are some
            self._handle(on.DialFailed(action.node, action.channel, reason_of(err)))

    def _calling(self, action: do.Dial) -> Link:
        link = self._new_link()
        known = link.on_open

        def opened() -> None:
            known()
            leaf = link.peer().leaf
            self._handle(on.LinkOpened(link.number, action.node, action.channel, leaf))

        link.on_open = opened
        return link

    def _renewed(self, link: int, certificate: bytes) -> None:
        """In a thread."""
        self._later(self._do, do.Send(link, messages.Renewed(certificate)))

    def _in_thread(self, run: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=run, args=arguments, daemon=True).start()

    def _dial_bulk(self, action: do.DialBulk) -> None:
        """In a thread.  We call a node in the name of the other side."""
        ticket, role = action.show.ticket, action.show.role
        try:
            sock = dial_bulk(
                (action.host, action.port), Show(ticket, OTHER[role]),
                self._admissions.trust.client(), partial(expect_leaf, action.leaves),
            )
        except (OSError, PeerError) as err:
            self._later(self._handle, on.BulkFailed(ticket, reason_of(err)))
            return
        self._later(self._on_bulk, sock, action.show, peer_of(sock))

    def _splice(self, one: socket.socket, other: socket.socket) -> None:
        pair = (one, other)
        self._relays.add(pair)

        def relay() -> None:
            with one, other, contextlib.suppress(OSError):
                bulk.splice(one, other)
            self._later(self._relays.discard, pair)

        threading.Thread(target=relay, name="relay", daemon=True).start()


def _requests() -> Callable[[bytes], Iterator[operations.Request]]:
    """Cuts what an operator sends into requests."""
    cutter = frames.Frames(frames.LOCAL_LIMIT)

    def receive(data: bytes) -> Iterator[operations.Request]:
        cutter.push(data)
        while (payload := cutter.pop()) is not None:
            yield operations.decode_request(payload)

    return receive
