"""A master that answers as a test says, on a real Unix socket, and a desk to sit at.

    with Scripted(tmp_path) as master:
        master.answers[op.ListNodes] = lambda asked: [op.Nodes(asked.id, ())]
        desk = Desk(master)
        assert desk.run("list") == 0
"""

import io
import os
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from godwit.places import master_socket
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import frames, preface
from godwit.wire import operations as op
from godwit.wire.messages import Load
from masterd import commands
from masterd.commands.context import Context

Answer = Callable[[Any], Iterable[op.Reply]]


class Gone(op.Reply, frozen=True):
    """In place of a reply: the master dies."""


GONE = Gone(0)


def view(
    id: str, node: str = "node1", /, *, status: Status = Status.RUNNING, **about: Any
) -> op.TaskView:
    """A task; fields of Spec and Task by name."""
    ours = {f: about.pop(f) for f in list(about) if f in Spec.__struct_fields__}
    spec = Spec(id, ours.pop("argv", (b"sleep", b"60")), **ours)
    return op.TaskView(node, Task(spec, status, **{"pid": 7, **about}))


def exited(id: str, node: str = "node1", /, code: int | None = 0, **about: Any) -> op.TaskView:
    return view(id, node, status=Status.EXITED, exit_code=code, **about)


def node(name: str, *tasks: op.TaskView, **about: Any) -> op.NodeView:
    known: dict[str, Any] = {
        "address": "127.0.0.1:9", "state": "up", "can": ("shell",),
        "load": Load(cpus=4, cpu_percent=12.0, memory_bytes=8 << 30, memory_free_bytes=6 << 30),
    }
    return op.NodeView(name, **{**known, "tasks": tasks, **about})


def _unscripted(asked: op.Request) -> list[op.Reply]:
    return [op.Problem(asked.id, "unscripted", str(asked))]


class Scripted:
    """``answers`` is what each kind of request gets; ``asked`` is what came, in order."""

    def __init__(self, state: Path):
        self.state = str(state)
        self.asked: list[op.Request] = []
        self.answers: dict[type[op.Request], Answer] = {
            op.Attach: lambda asked: [
                op.Attached(asked.id, "m1", "127.0.0.1:15440", "1.2.3", 1 << 23, self.state)
            ],
            op.Took: lambda asked: [],
            op.Cancel: lambda asked: [],
        }
        #: What is done with a bulk connection, after its ticket was read.
        self.bulk: Callable[[socket.socket, preface.Show], None] | None = None
        self._links: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> "Scripted":
        here = os.open(self.state, os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{here}/{os.path.basename(master_socket(''))}")
        os.close(here)
        self._listener.listen()
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for link in list(self._links):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def says(self, kind: type[op.Request], *replies: op.Reply) -> None:
        """Each request of this kind gets these, with its own id in place of theirs."""
        self.answers[kind] = lambda asked: [
            msgspec.structs.replace(reply, id=asked.id) for reply in replies
        ]

    def got(self, kind: type[op.Request]) -> list[Any]:
        return [request for request in self.asked if isinstance(request, kind)]

    def _spawn(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                self._links.add(link)
                self._spawn(self._serve, link)

    def _serve(self, link: socket.socket) -> None:
        cutter = frames.Frames(frames.LOCAL_LIMIT)
        with suppress(OSError), link:
            opening = link.recv(preface.SIZE, socket.MSG_WAITALL)
            if opening == preface.BULK and self.bulk:
                size = int.from_bytes(link.recv(frames.HEADER, socket.MSG_WAITALL), "big")
                self.bulk(link, preface.decode_show(link.recv(size, socket.MSG_WAITALL)))
                return
            while data := link.recv(65536):
                for payload in cutter.feed(data):
                    self._take(link, op.decode_request(payload))

    def _take(self, link: socket.socket, request: op.Request) -> None:
        self.asked.append(request)
        for reply in self.answers.get(type(request), _unscripted)(request):
            if isinstance(reply, Gone):
                link.shutdown(socket.SHUT_RDWR)
                return
            link.sendall(frames.encode(op.encode(reply), frames.LOCAL_LIMIT))


class Desk:
    """Somebody who types commands: what they see, and what they are asked."""

    def __init__(self, master: Scripted | str, *answers: str, **about: Any):
        self.out, self.err = io.StringIO(), io.StringIO()
        self.asked: list[str] = []
        self._answers = list(answers)
        state = master if isinstance(master, str) else master.state
        self.context = Context(state, self.out, self.err, ask=self._ask, **about)

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def run(self, *words: str) -> int:
        return commands.dispatch(self.context, list(words))

    def remote(self, line: str) -> int:
        return commands.remote(self.context, line)

    @property
    def said(self) -> list[str]:
        """Lines on stdout."""
        return self.out.getvalue().splitlines()

    @property
    def noted(self) -> list[str]:
        """Lines on stderr."""
        return self.err.getvalue().splitlines()

    def _ask(self, question: str) -> str:
        self.asked.append(question)
        if not self._answers:
            raise EOFError
        return self._answers.pop(0)
