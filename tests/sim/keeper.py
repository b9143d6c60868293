"""A keeper on a fake machine: the real journal's bytes, ledger, adoption and words; modelled turns.

What clientd/keeper/keeper.py and tasks.py do in a turn happens here in the same order (record,
write, tell), with a chance to die between any two steps.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from clientd.keeper import orders
from clientd.keeper.adoption import UNTOLD, Sight, decide
from clientd.keeper.news import News, batches
from clientd.keeper.records import (
    Accepted,
    Exited,
    Forgotten,
    Ledger,
    Records,
    Refused,
    Started,
    Stepped,
    decode,
    encode,
)
from clientd.keeper.replay import pack, read
from godwit.errors import TaskError
from godwit.task.lifecycle import Cause, Status, advance
from godwit.task.record import Spec, Task, Usage
from godwit.wire import frames
from tests.sim.kernel import SIGKILL, SIGTERM, Program
from tests.sim.net import Conn, End
from tests.sim.world import Process, World

if TYPE_CHECKING:
    from tests.sim.node import Node


class Died(Exception):
    """Killed in the middle of a turn."""


class Keeper(Process):
    """One life of one keeper."""

    def __init__(self, world: World, node: "Node"):
        super().__init__(world, f"{node.name}.keeper")
        self.node = node
        self.kernel = node.kernel
        self.ledger = Ledger()
        self.news = News()
        self.end: End | None = None
        self._cutter = frames.Frames(frames.LOCAL_LIMIT)
        self._pending: deque[Spec] = deque()
        self._waiting = bytearray()
        self._inbox: deque[Callable[[], None]] = deque()
        self._turning = False
        self._watched: dict[str, bool] = {}
        self._stopping = False
        self.kernel.on_end = lambda program: self._later_turn(lambda: self._ended(program))
        self._begin()

    # ---- life ------------------------------------------------------------------------------

    def _begin(self) -> None:
        disk = self.kernel.journal
        reading = read(bytes(disk.data))
        del disk.data[reading.good:]
        self.ledger.replay(decode(payload) for payload in reading.payloads)
        self._adopt()
        disk.data[:] = b"".join(pack(encode(record)) for record in self.ledger.snapshot())
        disk.synced = len(disk.data)
        self._waiting.clear()
        self.world.say(self.name, "begins with", len(self.ledger.tasks), "tasks")
        self._start_agent()

    def _adopt(self) -> None:
        now, kernel = self.world.wall, self.kernel
        for task in list(self.ledger.tasks.values()):
            if task.status.ended:
                continue
            run = kernel.runs.get(task.id)
            seen = kernel.look(run) if run else None
            there = seen if seen and seen.pid == task.pid else None
            sight = Sight(there, [seen] if seen else [], f"{task.id}.log")
            record = decide(task, sight, kernel.boot, now)
            if record is not None:
                self._note(record)
            if self.ledger.tasks[task.id].status.alive:
                self._watched[task.id] = False

    def die(self) -> None:
        """kill -9."""
        if not self.alive:
            return
        self.world.say(self.name, "dies")
        self.alive = False
        self.kernel.on_end = None
        if self.end is not None:
            self.end.close("the keeper died")

    def _start_agent(self) -> None:
        if self._stopping:
            return
        agent = self.node.start_agent()
        conn = Conn(self.world, self, agent, local=True)
        self.end, theirs = conn.ends
        self._cutter = frames.Frames(frames.LOCAL_LIMIT)
        self.end.on_data = self._read
        self.end.on_closed = self._agent_ended
        agent.meet(theirs)
        self._say(self.node.facts())
        for batch in batches(self.ledger.tasks.values()):
            self._say(orders.Known(batch, last=False))
        self._say(orders.Known(()))

    def _agent_ended(self, reason: str) -> None:
        self.end = None
        if self._stopping:
            self.world.say(self.name, "has stopped")
            self.alive = False
            self.kernel.on_end = None
            return
        self.later(self.world.between(0.05, 1.0), self._start_agent)

    def _say(self, word: orders.Word) -> None:
        if self.end is not None:
            self.end.send(frames.encode(orders.encode(word), frames.LOCAL_LIMIT))

    def _read(self, data: bytes) -> None:
        for payload in self._cutter.feed(data):
            order = orders.decode_order(payload)
            self._later_turn(lambda order=order: self._obey(order))

    # ---- turns -----------------------------------------------------------------------------

    def _later_turn(self, step: Callable[[], None]) -> None:
        self._inbox.append(step)
        if not self._turning:
            self._turning = True
            self.later(0.0002, self._turn)

    def _turn(self) -> None:
        self._turning = False
        try:
            while self._inbox:
                self._inbox.popleft()()
            while self._pending:
                self._launch(self._pending.popleft())
            self._perhaps_die("before the journal is written")
            self._flush()
            self._perhaps_die("before the news are told")
            for word in self.news.take(self.ledger.tasks):
                self._say(word)
            self._perhaps_die("after the news were told")
        except Died:
            self.die()
            self.node.keeper_died()

    def _perhaps_die(self, where: str) -> None:
        if self.world.bad_luck(0.006):
            self.world.say(self.name, "dies", where)
            raise Died

    def _flush(self) -> None:
        disk = self.kernel.journal
        if self._waiting and not disk.full:
            disk.data += self._waiting
            self._waiting.clear()

    def _note(self, record: Records, *changed: str) -> None:
        self.ledger.apply(record)
        self._waiting += pack(encode(record))
        for task in changed:
            self.news.changed(task)

    # ---- starting --------------------------------------------------------------------------

    def _accept(self, specs: tuple[Spec, ...]) -> None:
        fresh = {spec.task: spec for spec in specs if not self._seen(spec.task)}
        if not fresh:
            return
        accepted = Accepted(tuple(fresh.values()))
        disk = self.kernel.journal
        if disk.full:
            for task in fresh:
                self.news.word(orders.Rejected(task, "ENOSPC", "the journal: no space left"))
            return
        self._flush()
        self._perhaps_die("before a launch is accepted")
        disk.data += pack(encode(accepted))
        self._perhaps_die("before what was accepted is durable")
        disk.synced = len(disk.data)
        self._perhaps_die("after a launch was accepted")
        self.ledger.apply(accepted)
        self._pending.extend(accepted.specs)

    def _seen(self, task: str) -> bool:
        if task in self.ledger.tasks:
            self.news.changed(task)
        elif refused := self.ledger.refused.get(task):
            self.news.word(orders.Rejected(task, refused.code, refused.text))
        elif task in self.ledger.forgotten:
            self.news.word(orders.Forgotten((task,)))
        else:
            return False
        return True

    def _launch(self, spec: Spec) -> None:
        if self._stopping:
            self._refuse(spec.task, "stopping", "this node is stopping")
        elif spec.argv[0] != b"run":
            self._refuse(spec.task, "ENOENT", "missing: no such program")
        elif spec.task in self.kernel.logs:
            self._refuse(spec.task, "EEXIST", f"a task {spec.task} was started here before")
        else:
            self.kernel.logs[spec.task] = bytearray()
            self._perhaps_die("before a program starts")
            program = self.kernel.spawn(spec.task, spec.argv)
            self._perhaps_die("after a program started")
            self._note(Started(
                spec.task, program.pid, program.ticks, self.kernel.boot, f"{spec.task}.log",
                self.world.wall,
            ), spec.task)
            self._watched[spec.task] = True

    def _refuse(self, task: str, code: str, text: str) -> None:
        self._note(Refused(task, code, text))
        self.news.word(orders.Rejected(task, code, text))

    # ---- ends ------------------------------------------------------------------------------

    def _ended(self, program: Program) -> None:
        task = program.task
        if task not in self._watched:
            return
        child = self._watched.pop(task)
        # Who is not its parent is told its status by some kernels only.
        if child or self.world.likely(0.5):
            assert program.status is not None
            self._note(Exited(task, program.status, self.world.wall, Usage()), task)
        else:
            self._note(Stepped(task, Cause.LOST, UNTOLD, self.world.wall), task)

    # ---- orders ----------------------------------------------------------------------------

    def _obey(self, order: orders.Order) -> None:
        match order:
            case orders.Start(specs) if self._stopping:
                for spec in specs:
                    self.news.word(orders.Rejected(spec.task, "stopping", "it is stopping"))
            case orders.Start(specs):
                self._accept(specs)
            case orders.Signal(number, tasks, sent, whole):
                self._each(number, tasks, lambda task: self._signal(task, sent), wait=whole)
            case orders.Pause(number, tasks, resume):
                self._each(number, tasks, lambda task: self._pause(task, resume))
            case orders.Forget(number, tasks):
                self._each(number, tasks, self._end, wait=True, then=self._drop)
            case orders.Measure():
                self.news.word(orders.Measured(Usage(utime_s=1.0)))
            case orders.Restart():
                self.node.kill_agent()
            case orders.Stop(_, reason):
                self._stop(reason)

    def _each(
        self, number: int, tasks: tuple[str, ...], act: Callable[[str], None],
        *, wait: bool = False, then: Callable[[str], None] = lambda task: None,
    ) -> None:
        code, text, well = "", "", []
        for task in tasks:
            try:
                act(task)
                well.append(task)
            except TaskError as err:
                code, text = err.code, str(err)

        def answer() -> None:
            for task in well:
                then(task)
            self.news.word(orders.Acted(number, code, text))

        if wait and well:
            pause = self.world.between(0.002, 0.3) if self.world.likely(0.9) else 9.0
            self.later(pause, self._later_turn, answer)
        else:
            answer()

    def _known(self, task: str) -> Task:
        try:
            return self.ledger.tasks[task]
        except KeyError:
            raise TaskError("no-task", f"{task}: no such task on this node") from None

    def _running(self, task: str) -> Program:
        known = self._known(task)
        if known.status is Status.STARTING:
            raise TaskError("starting", f"{task} has not started yet")
        if task not in self._watched:
            raise TaskError("ended", f"{task} has ended")
        return self.kernel.runs[task]

    def _signal(self, task: str, number: int) -> None:
        self.kernel.signal(self._running(task), number)

    def _pause(self, task: str, resume: bool) -> None:
        program = self._running(task)
        cause = Cause.RESUMED if resume else Cause.PAUSED
        advance(self.ledger.tasks[task].status, cause)
        program.paused = not resume
        self._note(Stepped(task, cause), task)

    def _end(self, task: str) -> None:
        known = self._known(task)
        if known.status is Status.STARTING:
            self._pending = deque(spec for spec in self._pending if spec.task != task)
        if task in self._watched:
            self.kernel.signal(self.kernel.runs[task], SIGKILL)

    def _drop(self, task: str) -> None:
        if task in self.ledger.tasks:
            self._note(Forgotten((task,)))
            self._watched.pop(task, None)
            self.kernel.logs.pop(task, None)
        self.news.word(orders.Forgotten((task,)))

    def _stop(self, reason: str) -> None:
        if self._stopping:
            return
        self._stopping = True
        for task in list(self._watched):
            self.kernel.signal(self.kernel.runs[task], SIGTERM)
        self.later(2.0, self._later_turn, lambda: self._leave(reason))

    def _leave(self, reason: str) -> None:
        for task in list(self._watched):
            self.kernel.signal(self.kernel.runs[task], SIGKILL)
        self.later(0.1, self._later_turn, lambda: self._goodbye(reason))

    def _goodbye(self, reason: str) -> None:
        self.news.word(orders.Stopping(reason, len(self._watched)))
        if self.end is None:
            self._later_turn(lambda: self._agent_ended("no agent"))
