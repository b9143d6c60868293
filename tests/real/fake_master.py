"""A master for tests of its operators: the real socket and protocol, answers made up by a test.

    with FakeMaster(tmp_path) as master:
        master.nodes = (node("node1", task("k3f9a2xq")),)
        master.notice("node2 is unreachable", node="node2")

A remote line is not run: its text comes back as one line of output from each node.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from godwit.places import master_socket
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import frames, preface
from godwit.wire import operations as op

ADDRESS = "127.0.0.1:15440"
#: The pid of no process: more than the kernel's PID_MAX_LIMIT.
NOBODY = 1 << 23


def task(name: str, node: str = "node1", status: Status = Status.RUNNING) -> op.TaskView:
    return op.TaskView(node, Task(Spec(name, (b"sleep", b"60")), status, pid=7))


def node(name: str, *tasks: op.TaskView, state: str = "up") -> op.NodeView:
    return msgspec.convert(
        {"name": name, "address": "127.0.0.1:9", "state": state, "tasks": tasks}, op.NodeView
    )


class FakeMaster:
    """Answers in threads, one for each connection; ``stop`` and ``start`` are its accidents."""

    def __init__(self, state: Path):
        self.state = str(state)
        self.nodes: tuple[op.NodeView, ...] = (node("node1"), node("node2"))
        #: Notices that come in one piece with the answer to who asks for notices.
        self.early: tuple[str, ...] = ()
        #: Every request that came, in order.
        self.asked: list[op.Request] = []
        #: While it is not set, nothing is answered.
        self.answering = threading.Event()
        self.answering.set()
        self._lock = threading.Lock()
        self._links: dict[socket.socket, int | None] = {}
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def __enter__(self) -> "FakeMaster":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answering.set()
        self.stop()

    def start(self) -> None:
        path = master_socket(self.state)
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        """As kill -9 of a master does: every connection ends, the socket's file stays."""
        if self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for link in self._links:
                with suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        if self._listener:
            self._listener.close()
        self._listener, self._threads = None, []

    def notice(self, *texts: str, node: str = "", task: str = "") -> None:
        """Tells everyone who listens."""
        events = [op.Event(0.0, "info", text, node, task) for text in texts]
        with self._lock:
            for link, number in self._links.items():
                if number is not None:
                    notices = [op.Notice(number, event) for event in events]
                    link.sendall(b"".join(frames.encode(op.encode(n)) for n in notices))

    @property
    def listeners(self) -> int:
        """Connections that asked for notices."""
        with self._lock:
            return sum(number is not None for number in self._links.values())

    def _spawn(self, run: object, link: socket.socket) -> None:
        assert callable(run)
        thread = threading.Thread(target=run, args=(link,))
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                link, _ = listener.accept()
                with self._lock:
                    self._links[link] = None
                self._spawn(self._serve, link)

    def _serve(self, link: socket.socket) -> None:
        cutter = frames.Frames(frames.LOCAL_LIMIT)
        with suppress(OSError), link:
            assert link.recv(preface.SIZE) == preface.OPERATOR
            while data := link.recv(65536):
                for payload in cutter.feed(data):
                    self._take(link, op.decode_request(payload))
        with self._lock:
            del self._links[link]

    def _take(self, link: socket.socket, request: op.Request) -> None:
        self.answering.wait()
        with self._lock:
            self.asked.append(request)
            replies = list(self._answers(request))
            if isinstance(request, op.Attach) and request.notices:
                self._links[link] = request.id
                replies += [op.Notice(request.id, op.Event(0.0, "info", t)) for t in self.early]
            link.sendall(b"".join(
                frames.encode(op.encode(reply), frames.LOCAL_LIMIT) for reply in replies
            ))

    def _answers(self, request: op.Request) -> Iterator[op.Reply]:
        number = request.id
        match request:
            case op.Attach():
                yield op.Attached(number, "m1", ADDRESS, "1.2.3", NOBODY, self.state)
            case op.ListNodes():
                chosen = request.nodes.removeprefix("@").split(",")
                yield op.Nodes(number, tuple(
                    n for n in self.nodes if request.nodes == "all" or n.name in chosen
                ))
            case op.Execute():
                yield from self._execute(request)
            case op.Took() | op.Cancel():
                pass
            case op.StopMaster() | op.Deregister():
                yield op.Ok(number)
            case _:
                yield op.Problem(number, "no", "not known to a fake")

    def _execute(self, request: op.Execute) -> Iterator[op.Reply]:
        spec = Spec("", request.argv, shell=request.shell, oneoff=request.oneoff)
        names = {n.name: f"oneoff{i:02}" for i, n in enumerate(self.nodes)}
        views = [
            op.TaskView(name, Task(msgspec.structs.replace(spec, task=id), Status.RUNNING, pid=8))
            for name, id in names.items()
        ]
        if not request.follow:
            yield op.Tasks(request.id, tuple(views))
            return
        yield op.Launched(request.id, tuple(views))
        for view in views:
            yield op.Output(request.id, view.task.id, 0, request.argv[-1] + b"\n", view.node)
            yield op.OutputEnd(request.id, view.task.id)
        yield op.Tasks(request.id, tuple(
            msgspec.structs.replace(
                v, task=msgspec.structs.replace(v.task, status=Status.EXITED, exit_code=0)
            ) for v in views
        ))
