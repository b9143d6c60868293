"""Launches: from an operator's Execute to tasks that run, each started once.  Pure.

A task's id is made here and recorded before the node hears of it; the node starts an id once,
whatever it hears.  So a launch that may be lost is sent again with the same ids, on the node's
next connection; never before it is on record.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, field
from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.admission import UNRECORDED
from masterd.confirms import Confirms
from masterd.orders import unreachable
from masterd.registry import Node, Registry

#: Kinds of tasks that can be launched.
KINDS = ("shell", "python", "adopted")
#: Seconds within which a launch is answered, whatever the nodes do, and the more for each further
#: copy: a node that has much else to do starts a contained task in 0.03 s.
ANSWER_S = 15.0
EACH_S = 0.05
#: Most copies of one command on one node.
MOST = 10_000
#: Most bytes of a command and its environment: more no kernel takes by default (execve(2)), and
#: the message must fit into a frame, with an id and a stream for each copy.
MOST_BYTES = 3 * 1024 * 1024


#: Drops a task that came to nothing: node, id, code, text.
Forget = Callable[[Node, str, str, str], Iterator[do.Action]]
#: Stream numbers for tasks of a node; none when nobody follows them.
Streams = Callable[[tuple[str, ...], Node], tuple[int, ...]]
#: Told the tasks that there may be.
Then = Callable[[tuple[op.TaskView, ...]], Iterator[do.Action]]


class Launch(Struct):
    """One Execute and what came of it so far."""

    number: int
    operator: int
    request: op.Execute
    due: float
    #: Ids of all that may have been started, in order.
    tasks: dict[str, None] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    #: It is on the disk: nodes may hear of it.
    recorded: bool = False
    #: What each node is to start, by its name.
    shares: dict[str, tuple[Spec, tuple[str, ...]]] = field(default_factory=dict)
    #: node name -> the connection it was sent on.
    sent: dict[str, int] = field(default_factory=dict)
    faults: list[op.Fault] = field(default_factory=list)
    #: Hears of it once it is answered.
    then: Then | None = None


class Launches:
    """All launches that are not answered yet."""

    def __init__(
        self, registry: Registry, new_id: Callable[[], str], confirms: Confirms, forget: Forget,
        sources: dict[str, bytes],
    ):
        """``sources``: texts of Python programs by their digest, for as long as a task has it."""
        self._registry = registry
        self._new_id = new_id
        self._confirms = confirms
        self._forget = forget
        self._sources = sources
        #: task id -> the launch that waits for it.
        self._waiting: dict[str, Launch] = {}
        #: Those that wait for a task, by number.
        self._open: dict[int, Launch] = {}
        self._begun = 0

    def begin(
        self, operator: int, request: op.Execute, nodes: list[Node], now: float, wall: float,
        streams: Streams, faults: Iterable[op.Fault] = (), then: Then | None = None,
    ) -> Iterator[do.Action]:
        """Records, then sends; ``streams`` gives stream numbers for tasks that are followed.

        ``faults`` are known already, and told with the rest.
        """
        if request.digest and not request.source:  # of one that was launched before
            request = replace(request, source=self._sources.get(request.digest, b""))
        self._begun += 1
        launch = Launch(
            self._begun, operator, request, now + ANSWER_S + EACH_S * (request.count - 1),
            faults=list(faults), then=then,
        )
        digest = hashlib.sha256(request.source).hexdigest() if request.source else request.digest
        for node in nodes:
            if node.control is None:
                launch.faults.append(op.Fault(node.name, "unreachable", unreachable(node)))
                continue
            if request.kind != "shell" and request.kind not in node.can:
                why = node.lacks.get(request.kind, "")
                text = f"{node.name} has no {request.kind} tasks" + (f": {why}" if why else "")
                launch.faults.append(op.Fault(node.name, "cannot", text))
                continue
            template = self._template(request, node, wall, digest)
            ids = tuple(self._fresh_id() for _ in range(request.count))
            for index, task in enumerate(ids):
                record = Task(replace(template, task=task, index=index))
                self._registry.put(node, record)
                self._waiting[task] = launch
                yield do.KeepTask(node.name, record)
            launch.tasks.update(dict.fromkeys(ids))
            launch.waiting.update(ids)
            launch.shares[node.name] = template, ids
        if not launch.tasks:
            yield from self._answer_if_complete(launch)
            return
        self._open[launch.number] = launch
        if request.source and digest not in self._sources:
            self._sources[digest] = request.source
            yield do.KeepSource(digest, request.source)
        yield from self._confirms.ask(
            lambda: self._send(launch, streams), lambda why: self._never(launch, why)
        )

    def _send(self, launch: Launch, streams: Streams) -> Iterator[do.Action]:
        """It is on the disk.  Who is away now hears of it after the next Report."""
        launch.recorded = True
        for name, (template, ids) in launch.shares.items():
            node = self._registry.nodes.get(name)
            known = tuple(task for task in ids if self._registry.where.get(task) is node)
            if node is None or node.control is None or not known:
                continue
            launch.sent[name] = node.control
            for share in (ids,) if known == ids else ((task,) for task in known):
                spec = template if known == ids else node.tasks[share[0]].spec
                yield do.Send(node.control, wire.Launch(
                    spec, share, streams(share, node), launch.request.source
                ))

    def _never(self, launch: Launch, why: str) -> Iterator[do.Action]:
        """It cannot be recorded: there never were such tasks."""
        for task in tuple(launch.tasks):
            if node := self._registry.where.get(task):
                yield from self._forget(node, task, UNRECORDED, f"{why}: nothing was started")

    @staticmethod
    def _template(request: op.Execute, node: Node, wall: float, digest: str) -> Spec:
        return Spec(
            task="", argv=request.argv, shell=request.shell, kind=request.kind, home=node.name,
            name=request.name, cwd=request.cwd, env=request.env, user=request.user,
            digest=digest, oneoff=request.oneoff, asked_at=wall, contained=request.contained,
            log_at_home=request.log_at_home,
            snapshot=request.snapshot,
        )

    def _fresh_id(self) -> str:
        while (task := self._new_id()) in self._registry.where:
            pass
        return task

    # ---- what nodes answer -----------------------------------------------------------------

    def changed(self, task: Task) -> Iterator[do.Action]:
        """A node told of a task: if somebody waits for it to start, it has."""
        if task.status is not Status.STARTING and task.id in self._waiting:
            yield from self._settle(task.id)

    def gone(self, node: Node, task: str, code: str, text: str) -> Iterator[do.Action]:
        """There is no such task any more: if somebody waits for it to start, it never will."""
        launch = self._waiting.get(task)
        if launch is not None:
            fault = op.Fault(node.name, code, f"{node.name}: {text}")
            if fault not in launch.faults:
                launch.faults.append(fault)
            del launch.tasks[task]
            yield from self._settle(task)

    def is_waiting(self, task: str) -> bool:
        """Somebody waits for this task to start."""
        return task in self._waiting

    def reported(self, node: Node) -> Iterator[do.Action]:
        """The node's whole pid map is in: what it does not name did not reach it until now."""
        for task in tuple(node.tasks.values()):
            launch = self._waiting.get(task.id)
            if launch is None or task.id in node.reporting or node.control is None:
                continue
            if launch.recorded and launch.sent.get(node.name) != node.control:
                source = self._sources.get(task.spec.digest, b"")
                yield do.Send(node.control, wire.Launch(task.spec, (task.id,), source=source))

    def _settle(self, task: str) -> Iterator[do.Action]:
        launch = self._waiting.pop(task)
        launch.waiting.discard(task)
        yield from self._answer_if_complete(launch)

    def _answer_if_complete(self, launch: Launch) -> Iterator[do.Action]:
        if launch.waiting:
            return
        self._open.pop(launch.number, None)
        tasks = tuple(self._registry.view(i) for i in launch.tasks if i in self._registry.where)
        faults = tuple(launch.faults)
        number = launch.request.id
        if launch.request.follow and tasks:
            yield do.Answer(launch.operator, op.Launched(number, tasks, faults))
        else:
            yield do.Answer(launch.operator, op.Tasks(number, tasks, faults))
        if launch.then is not None:
            yield from launch.then(tasks)

    # ---- time ------------------------------------------------------------------------------

    def late(self, now: float) -> Iterator[do.Action]:
        """Answers what nodes were silent about, with what is known."""
        for launch in [launch for launch in self._open.values() if launch.due <= now]:
            silent = {self._registry.where[i].name for i in launch.waiting}
            for name in sorted(silent):
                launch.faults.append(op.Fault(
                    name, "no-answer", f"{name} did not answer: the task may have been started",
                    "`list` tells, once it is back",
                ))
            for task in tuple(launch.waiting):
                del self._waiting[task]
            launch.waiting.clear()
            yield from self._answer_if_complete(launch)

    def deadline(self) -> float:
        return min((launch.due for launch in self._open.values()), default=float("inf"))


def check(request: op.Execute, is_one: bool) -> None:
    """``is_one``: one task on one node.  Raises UsageError for what no node is to be asked."""
    if not 1 <= request.count <= MOST:
        raise UsageError(
            f"a count of {request.count} is not between 1 and {MOST}", code="bad-count",
            exit_status=2,
        )
    if request.kind == "adopted" and not is_one:
        raise UsageError("a process is adopted once, on one node", code="bad-count", exit_status=2)
    if not request.argv:
        raise UsageError("there is no command to run", code="usage", exit_status=2)
    if request.kind not in KINDS or (request.source and request.kind != "python"):
        raise UsageError(f"no kind of task {request.kind!r}", code="usage", exit_status=2)
    size = len(request.source)
    size += sum(map(len, (*request.argv, *request.env.keys(), *request.env.values())))
    if size > MOST_BYTES:
        raise UsageError(
            f"{size} bytes of command and environment are over the bound of {MOST_BYTES}",
            code="E2BIG", hint="put them into a file, `copy` it and name it",
        )
