"""What tasks write, as it reaches the person.

Of several tasks, lines never mix: a line is shown when it is whole, when its task has ended, or
when it has grown to LINE_LIMIT bytes.  On a terminal control characters are escaped; in a pipe
the bytes of a line are what the task wrote.
"""

import codecs
from collections.abc import Callable, Mapping
from typing import Protocol

from godwit.wire import operations as op
from godwit.wire.messages import WINDOW
from masterd import render
from masterd.client import Client
from masterd.commands import asjson
from masterd.commands.context import Context

#: Bytes held of a line that does not end.
LINE_LIMIT = 64 * 1024
#: The master is told of what was taken when it is this much, bytes: well before the window ends.
TELL_AT = WINDOW // 8


class Sink(Protocol):
    """Where the output of tasks goes."""

    def take(self, task: str, data: bytes) -> None: ...
    def skip(self, task: str, dropped: int) -> None: ...
    def end(self, task: str) -> None: ...


class Lines:
    """Cuts each task's output into lines and shows them one by one."""

    def __init__(self, show: Callable[[str, bytes], None], tell: Callable[[str, int], None]):
        self._show = show
        self._tell = tell
        self._partial: dict[str, bytes] = {}

    def take(self, task: str, data: bytes) -> None:
        """Shows the lines that ``data`` completes."""
        *lines, rest = (self._partial.pop(task, b"") + data).split(b"\n")
        for line in lines:
            self._show(task, line)
        while len(rest) >= LINE_LIMIT:
            self._show(task, rest[:LINE_LIMIT])
            rest = rest[LINE_LIMIT:]
        if rest:
            self._partial[task] = rest

    def skip(self, task: str, dropped: int) -> None:
        """Tells of bytes that are no longer in the log."""
        self.end(task)
        self._tell(task, dropped)

    def end(self, task: str) -> None:
        """Shows what ``task`` wrote after its last newline."""
        rest = self._partial.pop(task, b"")
        if rest:
            self._show(task, rest)


def prefixed(context: Context, labels: Mapping[str, str]) -> Lines:
    """Lines after the label of their task: aligned, one colour for each label."""
    names = list(dict.fromkeys(map(render.printable, labels.values())))
    width = max(map(render.cells, names), default=0)
    prefixes = {}
    for place, name in enumerate(names):
        colour = render.WHEEL[place % len(render.WHEEL)]
        space = " " * (width - render.cells(name))
        prefixes[name] = render.paint(name + space, colour, context.colour) + " | "

    def show(task: str, line: bytes) -> None:
        prefix = prefixes.get(render.printable(labels.get(task, "")), f"{task} | ")
        if context.out_tty:
            text = asjson.text(line.removesuffix(b"\r"))
            context.line(prefix + render.screen_text(text))
        else:
            context.raw(prefix.encode() + line + b"\n")

    return Lines(show, lambda task, dropped: tell_dropped(context, dropped, labels.get(task, task)))


def objects(context: Context, nodes: Mapping[str, str]) -> Lines:
    """Each line as {"task", "node", "line"}; bytes that are gone as one with "dropped"."""

    def show(task: str, line: bytes) -> None:
        document = {"task": task, "node": nodes.get(task), "line": asjson.text(line)}
        context.line(asjson.dumps(document))

    def tell(task: str, dropped: int) -> None:
        document = {"task": task, "node": nodes.get(task), "line": None, "dropped": dropped}
        context.line(asjson.dumps(document))

    return Lines(show, tell)


def tell_dropped(context: Context, dropped: int, label: str = "") -> None:
    """On stderr, where it is no task's output, between what came before and what comes after."""
    context.out.flush()
    about = f" of {render.printable(label)}" if label else ""
    context.note(f"[godwit: {dropped} bytes{about} dropped here]")


class Plain:
    """One task's output as it comes, unfinished lines too."""

    def __init__(self, context: Context):
        self._context = context
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""

    def take(self, task: str, data: bytes) -> None:
        """Shows ``data`` at once."""
        if self._context.out_tty:
            self._show(self._decoder.decode(data))
        else:
            self._context.raw(data)

    def skip(self, task: str, dropped: int) -> None:
        """Tells of bytes that are no longer in the log."""
        self.end(task)
        self._held = ""
        self._decoder.reset()
        tell_dropped(self._context, dropped)

    def end(self, task: str) -> None:
        """Shows what is left of a character cut short."""
        if self._context.out_tty:
            self._show(self._decoder.decode(b"", True) + "\n" * bool(self._held))

    def _show(self, text: str) -> None:
        """A carriage return at the end is held back: with the next newline it is none."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r").replace("\r\n", "\n")
        self._context.out.write("\n".join(map(render.screen_text, text.split("\n"))))


class Flow:
    """Passes the answers of one request on to a sink, and tells the master what was taken."""

    def __init__(self, context: Context, client: Client, request: int, sink: Sink):
        self._context = context
        self._client = client
        self._request = request
        self._sink = sink
        self._owed: dict[str, int] = {}

    def take(self, reply: op.Output) -> None:
        """Writes it out; only then more may come."""
        if reply.dropped:
            self._sink.skip(reply.task, reply.dropped)
        self._sink.take(reply.task, reply.data)
        self._context.out.flush()
        owed = self._owed.get(reply.task, 0) + len(reply.data)
        if owed >= TELL_AT:
            self._client.tell(op.Took(self._request, reply.task, owed))
            owed = 0
        self._owed[reply.task] = owed

    def end(self, reply: op.OutputEnd) -> int:
        """The task's output is complete, or it is said why not; the exit status that makes."""
        self._sink.end(reply.task)
        self._context.out.flush()
        if reply.code:
            self._context.note(f"the output of {reply.task} was cut short: {reply.text}")
        return 1 if reply.code else 0
