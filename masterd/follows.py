"""Following logs: which stream of which node goes to which operator, and how far it is.  Pure.

Each stream knows the next byte it wants.  When a node's stream link is new, every follow of
that node is asked for again from there; bytes that come twice are dropped by their offset.
"""

from collections.abc import Iterator

from msgspec import Struct, field
from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.registry import Node, Registry


class Reading(Struct):
    """One operator's request, over one or several tasks."""

    operator: int
    id: int
    #: Task ids, in order.
    tasks: dict[str, None]
    live: bool
    faults: list[op.Fault] = field(default_factory=list)
    #: task id -> its stream, while that has not ended.
    open: dict[str, int] = field(default_factory=dict)
    #: Tasks whose own end is waited for too: a live reading's answer has their exit status.
    unsettled: set[str] = field(default_factory=set)
    #: A launch is followed before it is known what came of it: what comes that early waits.
    launched: bool = True
    early: list[op.Output | op.OutputEnd] = field(default_factory=list)

    @property
    def key(self) -> tuple[int, int]:
        return self.operator, self.id


class Stream(Struct):
    """One task's log on its way."""

    reading: Reading
    node: Node
    request: wire.Follow
    #: The next byte wanted; None until the first chunk tells where a tail begins.
    next: int | None = None


class Follows:
    """All follows."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._last = 0
        self._streams: dict[int, Stream] = {}
        self._readings: dict[tuple[int, int], Reading] = {}

    # ---- beginning -------------------------------------------------------------------------

    def _add(self, reading: Reading) -> None:
        if reading.key in self._readings:
            raise UsageError(
                f"request {reading.id} is still being answered", code="order", exit_status=2
            )
        self._readings[reading.key] = reading

    def _open(self, reading: Reading, node: Node, request: wire.Follow) -> Stream:
        """``request`` with a stream number of its own."""
        self._last += 1
        stream = Stream(reading, node, replace(request, stream=self._last))
        self._streams[self._last] = stream
        reading.open[request.task] = self._last
        return stream

    def with_launch(self, operator: int, request: op.Execute) -> Reading:
        """A reading of tasks that are about to be launched; ``stream`` adds them."""
        reading = Reading(operator, request.id, {}, live=True, launched=False)
        self._add(reading)
        return reading

    def is_open(self, reading: Reading) -> bool:
        """Somebody still waits for it to be launched."""
        return not reading.launched and self._readings.get(reading.key) is reading

    def stream(self, reading: Reading, task: str, node: Node) -> int:
        """A new stream number for a task of this reading, whose log is read from its start."""
        stream = self._open(reading, node, wire.Follow(0, task, live=True))
        stream.next = 0
        reading.tasks[task] = None
        reading.unsettled.add(task)
        return stream.request.stream

    def launched(self, operator: int, reply: op.Launched) -> Iterator[do.Action]:
        """The launch was answered: what did not start has no output."""
        reading = self._readings.get((operator, reply.id))
        if reading is None or reading.launched:
            return
        reading.launched = True
        started = {view.task.id for view in reply.tasks}
        for early in reading.early:
            if early.task in started:
                yield do.Answer(operator, early)
        reading.early.clear()
        for task in [task for task in reading.open if task not in started]:
            self._drop(reading.open[task])
        reading.tasks = {task: None for task in reading.tasks if task in started}
        reading.unsettled &= started
        yield from self._finish_if_complete(reading)

    def refused(self, operator: int, request: int) -> None:
        """If this was a launch, it came to nothing at all."""
        reading = self._readings.get((operator, request))
        if reading is not None and not reading.launched:
            del self._readings[reading.key]
            for number in tuple(reading.open.values()):
                self._drop(number)

    def begin(
        self, operator: int, request: op.FollowLogs, tasks: list[str], faults: list[op.Fault]
    ) -> Iterator[do.Action]:
        """Starts following existing tasks."""
        reading = Reading(operator, request.id, dict.fromkeys(tasks), request.live, faults)
        self._add(reading)
        where = self._registry.where
        if request.live:
            reading.unsettled = {t for t in tasks if not _settled(where[t].tasks[t])}
        follow = wire.Follow(
            0, "", lines=request.lines, since=request.since, live=request.live
        )
        streams = [self._open(reading, where[t], replace(follow, task=t)) for t in tasks]
        for stream in streams:
            node = stream.node
            if node.control is not None:
                yield do.Send(node.control, stream.request)
            elif not request.live or not node.hearable:
                yield from self._end(
                    stream.request.stream, "unreachable",
                    f"{node.name} cannot be reached: its logs are there",
                )
        if not tasks:
            yield from self._finish_if_complete(reading)

    def copy(self, reader: int, task: str, node: Node, offset: int) -> Iterator[do.Action]:
        """Follows a task's log from a byte on, for a reader that is no operator."""
        reading = Reading(reader, 0, {task: None}, live=True)
        self._add(reading)
        stream = self._open(reading, node, wire.Follow(0, task, offset=offset, live=True))
        stream.next = offset
        yield from self._again(stream)

    # ---- what nodes send -------------------------------------------------------------------

    def chunk(self, node: Node, message: wire.Chunk) -> Iterator[do.Action]:
        """Passes bytes on; those that came before are dropped, and their credit given back."""
        stream = self._of(node, message.stream)
        if stream is None:
            # Nobody reads this any more, whatever became of the Unfollow that said so.
            if node.control is not None:
                yield do.Send(node.control, wire.Unfollow(message.stream))
            return
        if stream.next is None:
            stream.next = message.offset - message.dropped
        if message.offset - message.dropped <= stream.next < message.offset:
            dropped = message.offset - stream.next
            stream.next = message.offset
            yield from self._pass_on(stream, b"", dropped)
        known = stream.next - message.offset
        if known < 0:
            yield from self._again(stream)
            return
        if known > 0:
            yield from self._credit(stream, min(known, len(message.data)))
        if data := message.data[known:]:
            yield from self._pass_on(stream, data)

    def _pass_on(self, stream: Stream, data: bytes, dropped: int = 0) -> Iterator[do.Action]:
        assert stream.next is not None
        reading = stream.reading
        output = op.Output(
            reading.id, stream.request.task, stream.next, data, stream.node.name, dropped
        )
        stream.next += len(data)
        yield from self._answer(reading, output)

    def ended(self, node: Node, message: wire.Ended) -> Iterator[do.Action]:
        """The node has sent all there was."""
        stream = self._of(node, message.stream)
        if stream is None:
            return
        if stream.next is not None and message.offset > stream.next:
            yield from self._again(stream)
            return
        yield from self._end(message.stream, message.code, message.text)

    def _of(self, node: Node, number: int) -> Stream | None:
        """A stream of this node's: it speaks only for itself."""
        stream = self._streams.get(number)
        return stream if stream is not None and stream.node is node else None

    def took(self, operator: int, request: op.Took) -> Iterator[do.Action]:
        """The operator has written out bytes: as many more may come."""
        reading = self._readings.get((operator, request.id))
        number = reading.open.get(request.task) if reading is not None else None
        if number is not None:
            yield from self._credit(self._streams[number], request.count)

    @staticmethod
    def _credit(stream: Stream, count: int) -> Iterator[do.Action]:
        if stream.node.stream is not None:
            yield do.Send(stream.node.stream, wire.Credit(stream.request.stream, count))

    def stream_up(self, node: Node) -> Iterator[do.Action]:
        """The node's stream link is new: what was under way on the old one is asked for again."""
        for stream in self._streams.values():
            if stream.node is node:
                yield from self._again(stream)

    @staticmethod
    def _again(stream: Stream) -> Iterator[do.Action]:
        """Asks for the rest, from the next byte on; only where the tail began is asked anew."""
        if stream.node.control is None:
            return
        request = stream.request
        if stream.next is not None:
            request = replace(request, offset=stream.next, lines=None, since=0.0)
        yield do.Send(stream.node.control, request)

    # ---- ending ----------------------------------------------------------------------------

    def _end(self, number: int, code: str, text: str) -> Iterator[do.Action]:
        stream = self._drop(number)
        reading = stream.reading
        task = stream.request.task
        if code:  # cut short: nothing more is waited for
            reading.unsettled.discard(task)
        end = op.OutputEnd(reading.id, task, code, text, stream.node.name)
        yield from self._answer(reading, end)
        yield from self._finish_if_complete(reading)

    @staticmethod
    def _answer(reading: Reading, reply: op.Output | op.OutputEnd) -> Iterator[do.Action]:
        if reading.launched:
            yield do.Answer(reading.operator, reply)
        else:
            reading.early.append(reply)

    def _drop(self, number: int) -> Stream:
        stream = self._streams.pop(number)
        del stream.reading.open[stream.request.task]
        return stream

    def changed(self, task: Task) -> Iterator[do.Action]:
        """A task may have been the last that a reading waited for."""
        if not _settled(task):
            return
        for reading in [r for r in self._readings.values() if task.id in r.unsettled]:
            reading.unsettled.discard(task.id)
            yield from self._finish_if_complete(reading)

    def moved(self, task: str, node: Node) -> Iterator[do.Action]:
        """The task runs on another node now, and its log is there: the rest comes from there."""
        for stream in self._streams.values():
            if stream.request.task == task and stream.node is not node:
                stream.node = node
                yield from self._again(stream)

    def forgotten(self, task: str, code: str, text: str) -> Iterator[do.Action]:
        """A task and its log are gone."""
        for reading in [r for r in self._readings.values() if task in r.tasks]:
            reading.unsettled.discard(task)
            if task in reading.open:
                yield from self._end(reading.open[task], code, text)
            else:
                yield from self._finish_if_complete(reading)

    def cut(self, node: Node, code: str, text: str, *, live: bool) -> Iterator[do.Action]:
        """No more is to be had from this node; ``live`` readings too are not to wait for it."""
        for number, stream in list(self._streams.items()):
            if stream.node is node and (live or not stream.reading.live):
                yield from self._end(number, code, text)
        for reading in list(self._readings.values()) if live else ():
            reading.unsettled -= node.tasks.keys()
            yield from self._finish_if_complete(reading)

    def _finish_if_complete(self, reading: Reading) -> Iterator[do.Action]:
        if reading.open or reading.unsettled or not reading.launched:
            return
        if self._readings.pop(reading.key, None) is None:
            return  # it was answered
        where = self._registry.where
        views = tuple(self._registry.view(task) for task in reading.tasks if task in where)
        yield do.Answer(reading.operator, op.Tasks(reading.id, views, tuple(reading.faults)))

    def cancel(self, operator: int, request: int | None = None) -> Iterator[do.Action]:
        """The operator no longer reads this request, or is gone."""
        for reading in list(self._readings.values()):
            if reading.operator != operator or request not in (None, reading.id):
                continue
            del self._readings[reading.key]
            for number in tuple(reading.open.values()):
                stream = self._drop(number)
                if stream.node.control is not None:
                    yield do.Send(stream.node.control, wire.Unfollow(number))


def _settled(task: Task) -> bool:
    """It has ended, as far as can be known."""
    return task.status.ended or task.status is Status.UNKNOWN
