"""Launches: from an operator's Execute to tasks that run, each started once.  Pure.

A task's id is made here and recorded before the node hears of it; the node starts an id once,
whatever it hears.  So a launch whose answer was lost is sent again with the same ids.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.orders import unreachable
from masterd.registry import Node, Registry

#: Seconds within which a launch is answered, whatever the nodes do.
ANSWER_S = 15.0
#: Most copies of one command on one node.
MOST = 10_000


@dataclass(slots=True)
class Launch:
    """One Execute and what came of it so far."""

    operator: int
    request: op.Execute
    due: float
    tasks: list[str] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    faults: list[op.Fault] = field(default_factory=list)


class Launches:
    """All launches that are not answered yet."""

    def __init__(self, registry: Registry, new_id: Callable[[], str]):
        self._registry = registry
        self._new_id = new_id
        #: task id -> the launch that waits for it.
        self._waiting: dict[str, Launch] = {}

    def begin(
        self, operator: int, request: op.Execute, nodes: list[Node], now: float, wall: float,
        streams: Callable[[str, Node], int],
    ) -> Iterator[do.Action]:
        """Records and sends; ``streams`` gives a stream number for a task that is followed."""
        launch = Launch(operator, request, now + ANSWER_S)
        sends: list[do.Action] = []
        for node in nodes:
            if node.control is None:
                launch.faults.append(op.Fault(node.name, "unreachable", unreachable(node)))
                continue
            template = self._template(request, node, wall)
            ids = tuple(self._fresh_id() for _ in range(request.count))
            for index, task in enumerate(ids):
                record = Task(replace(template, task=task, index=index))
                self._registry.put(node, record)
                self._waiting[task] = launch
                yield do.KeepTask(node.name, record)
            launch.tasks += ids
            launch.waiting.update(ids)
            numbers = tuple(streams(task, node) for task in ids) if request.follow else ()
            sends.append(do.Send(node.control, wire.Launch(template, ids, numbers)))
        yield do.Commit()
        yield from sends
        yield from self._answer_if_complete(launch)

    @staticmethod
    def _template(request: op.Execute, node: Node, wall: float) -> Spec:
        return Spec(
            task="", argv=request.argv, shell=request.shell, home=node.name, name=request.name,
            cwd=request.cwd, env=request.env, user=request.user, oneoff=request.oneoff,
            asked_at=wall,
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

    def rejected(self, node: Node, message: wire.Rejected) -> Iterator[do.Action]:
        """Nothing came of these; they never were tasks."""
        for task in message.tasks:
            known = node.tasks.get(task)
            if known is None or known.status is not Status.STARTING:
                continue
            self._registry.drop(task)
            yield do.DropTask(task)
            launch = self._waiting.get(task)
            if launch is not None:
                fault = op.Fault(node.name, message.code, f"{node.name}: {message.text}")
                if fault not in launch.faults:
                    launch.faults.append(fault)
                launch.tasks.remove(task)
                yield from self._settle(task)

    def reported(self, node: Node) -> Iterator[do.Action]:
        """The node's whole pid map is in: what it does not know of, it never got."""
        for task in [t for t in node.tasks.values() if t.status is Status.STARTING]:
            if task.id in node.reporting:
                continue
            if task.id in self._waiting and node.control is not None:
                yield do.Send(node.control, wire.Launch(task.spec, (task.id,)))
            elif task.id not in self._waiting:
                lost = replace(task, status=Status.FAILED, reason="it never reached the node")
                self._registry.put(node, lost)
                yield do.KeepTask(node.name, lost)

    def _settle(self, task: str) -> Iterator[do.Action]:
        launch = self._waiting.pop(task)
        launch.waiting.discard(task)
        yield from self._answer_if_complete(launch)

    def _answer_if_complete(self, launch: Launch) -> Iterator[do.Action]:
        if launch.waiting:
            return
        tasks = tuple(self._registry.view(i) for i in launch.tasks if i in self._registry.where)
        faults = tuple(launch.faults)
        number = launch.request.id
        if launch.request.follow and tasks:
            yield do.Answer(launch.operator, op.Launched(number, tasks, faults))
        else:
            yield do.Answer(launch.operator, op.Tasks(number, tasks, faults))

    # ---- time ------------------------------------------------------------------------------

    def late(self, now: float) -> Iterator[do.Action]:
        """Answers what nodes were silent about, with what is known."""
        for launch in {id(x): x for x in self._waiting.values() if x.due <= now}.values():
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
        return min((launch.due for launch in self._waiting.values()), default=float("inf"))
