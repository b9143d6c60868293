"""Following logs: which stream of which node goes to which operator, and how far it is.  Pure.

Each stream knows the next byte it wants.  When a node's stream link is new, every follow of
that node is asked for again from there; bytes that come twice are dropped by their offset.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.registry import Node, Registry


@dataclass(slots=True)
class Reading:
    """One operator's request, over one or several tasks."""

    operator: int
    id: int
    tasks: tuple[str, ...]
    live: bool
    #: Streams that have not ended.
    open: set[int] = field(default_factory=set)
    #: A launch is followed before it is known what came of it: what comes that early waits.
    launched: bool = True
    early: list[op.Reply] = field(default_factory=list)
    faults: list[op.Fault] = field(default_factory=list)
    #: Tasks whose stream was cut short: their end is not waited for.
    cut: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Stream:
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

    def with_launch(self, operator: int, request: op.Execute) -> Reading:
        """A reading of tasks that are about to be launched; ``stream`` adds them."""
        reading = Reading(operator, request.id, (), live=True, launched=False)
        self._readings[operator, request.id] = reading
        return reading

    def stream(self, reading: Reading, task: str, node: Node) -> int:
        """A new stream number for a task of this reading, whose log is read from its start."""
        self._last += 1
        follow = wire.Follow(self._last, task, live=True)
        self._streams[self._last] = Stream(reading, node, follow, next=0)
        reading.open.add(self._last)
        reading.tasks = (*reading.tasks, task)
        return self._last

    def launched(self, operator: int, reply: op.Launched) -> Iterator[do.Action]:
        """The launch was answered: what did not start has no output."""
        reading = self._readings.get((operator, reply.id))
        if reading is None:
            return
        reading.launched = True
        for early in reading.early:
            yield do.Answer(operator, early)
        reading.early.clear()
        started = {view.task.id for view in reply.tasks}
        for number in tuple(reading.open):
            if self._streams[number].request.task not in started:
                self._drop(number)
        reading.tasks = tuple(task for task in reading.tasks if task in started)
        yield from self._finish_if_complete(reading)

    def refused(self, operator: int, request: int) -> None:
        """The launch came to nothing at all."""
        reading = self._readings.pop((operator, request), None)
        if reading is not None:
            for number in tuple(reading.open):
                self._drop(number)

    def begin(
        self, operator: int, request: op.FollowLogs, tasks: list[str], faults: list[op.Fault]
    ) -> Iterator[do.Action]:
        """Starts following existing tasks."""
        reading = Reading(operator, request.id, tuple(tasks), request.live, faults=faults)
        self._readings[operator, request.id] = reading
        for task in tasks:
            node = self._registry.where[task]
            self._last += 1
            number = self._last
            follow = wire.Follow(
                number, task, lines=request.lines, since=request.since, live=request.live
            )
            self._streams[number] = Stream(reading, node, follow)
            reading.open.add(number)
            if node.control is not None:
                yield do.Send(node.control, follow)
            elif not request.live or not node.hearable:
                yield from self._end(
                    number, "unreachable", f"{node.name} cannot be reached: its logs are there"
                )
        yield from self._finish_if_complete(reading)

    # ---- what nodes send -------------------------------------------------------------------

    def chunk(self, node: Node, message: wire.Chunk) -> Iterator[do.Action]:
        """Passes bytes on; those that came before are dropped, and their credit given back."""
        stream = self._streams.get(message.stream)
        if stream is None or stream.node is not node:
            return
        if stream.next is not None and message.offset != stream.next:
            if message.offset > stream.next:
                yield from self._again(message.stream, stream)
            return
        stream.next = message.offset + len(message.data)
        reading = stream.reading
        task = stream.request.task
        output = op.Output(reading.id, task, message.offset, message.data, node.name)
        yield from self._answer(reading, output)

    def ended(self, node: Node, message: wire.Ended) -> Iterator[do.Action]:
        """The node has sent all there was."""
        stream = self._streams.get(message.stream)
        if stream is None or stream.node is not node:
            return
        if stream.next is not None and message.offset > stream.next:
            yield from self._again(message.stream, stream)
            return
        yield from self._end(message.stream, message.code, message.text)

    def took(self, operator: int, request: op.Took) -> Iterator[do.Action]:
        """The operator has written out bytes: as many more may come."""
        for number, stream in self._streams.items():
            reading = stream.reading
            mine = reading.operator == operator and reading.id == request.id
            if mine and stream.request.task == request.task and stream.node.stream is not None:
                yield do.Send(stream.node.stream, wire.Credit(number, request.count))

    def stream_up(self, node: Node) -> Iterator[do.Action]:
        """The node's stream link is new: what was under way on the old one is asked for again."""
        for number, stream in self._streams.items():
            if stream.node is node:
                yield from self._again(number, stream)

    def _again(self, number: int, stream: Stream) -> Iterator[do.Action]:
        """Asks for the rest, from the next byte on; only where the tail began is asked anew."""
        if stream.node.control is None:
            return
        request = stream.request
        if stream.next is not None:
            request = replace(request, offset=stream.next, lines=None, since=0.0)
        yield do.Send(stream.node.control, request)

    # ---- ending ----------------------------------------------------------------------------

    def _end(self, number: int, code: str, text: str) -> Iterator[do.Action]:
        stream = self._streams[number]
        reading = stream.reading
        task = stream.request.task
        self._drop(number)
        if code:
            reading.cut.add(task)
        end = op.OutputEnd(reading.id, task, code, text, stream.node.name)
        yield from self._answer(reading, end)
        yield from self._finish_if_complete(reading)

    @staticmethod
    def _answer(reading: Reading, reply: op.Reply) -> Iterator[do.Action]:
        if reading.launched:
            yield do.Answer(reading.operator, reply)
        else:
            reading.early.append(reply)

    def _drop(self, number: int) -> None:
        stream = self._streams.pop(number)
        stream.reading.open.discard(number)

    def changed(self, task: Task) -> Iterator[do.Action]:
        """A task may have been the last that a reading waited for."""
        if self._settled(task):
            for reading in [r for r in self._readings.values() if task.id in r.tasks]:
                yield from self._finish_if_complete(reading)

    def forgotten(self, task: str) -> Iterator[do.Action]:
        """A task and its log are gone."""
        for number in [n for n, s in self._streams.items() if s.request.task == task]:
            yield from self._end(number, "forgotten", "the task was removed")

    @staticmethod
    def _settled(task: Task) -> bool:
        return task.status.ended or task.status is Status.UNKNOWN

    def _finish_if_complete(self, reading: Reading) -> Iterator[do.Action]:
        if reading.open or not reading.launched:
            return
        where = self._registry.where
        known = [where[i].tasks[i] for i in reading.tasks if i in where]
        if reading.live and any(not self._settled(t) and t.id not in reading.cut for t in known):
            return
        del self._readings[reading.operator, reading.id]
        views = tuple(self._registry.view(task.id) for task in known)
        yield do.Answer(reading.operator, op.Tasks(reading.id, views, tuple(reading.faults)))

    def cancel(self, operator: int, request: int | None = None) -> Iterator[do.Action]:
        """The operator no longer reads this request, or is gone."""
        for key, reading in list(self._readings.items()):
            if reading.operator != operator or request not in (None, reading.id):
                continue
            del self._readings[key]
            for number in tuple(reading.open):
                stream = self._streams[number]
                self._drop(number)
                if stream.node.control is not None:
                    yield do.Send(stream.node.control, wire.Unfollow(number))
