"""The keeper's turns: orders in, steps of tasks, words out; and how it stops.

Order within one turn of the loop: what happened is noted, then written to the journal, then told.
What came before a record that must be on the disk is told before the disk is waited for.
"""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial

from msgspec.structs import replace

from clientd.keeper import orders
from clientd.keeper.agents import Agent
from clientd.keeper.birth import Born
from clientd.keeper.criu import Criu
from clientd.keeper.lodged import choose
from clientd.keeper.moves.actions import AgentLost, Ordered
from clientd.keeper.news import batches
from clientd.keeper.probing import Found, without_lazy
from clientd.keeper.scouts import Scouts
from clientd.keeper.spokesman import Spokesman
from clientd.keeper.tasks import Tasks
from clientd.keeper.tools import Tools
from clientd.keeper.watch import usage
from godwit import failpoint
from godwit.errors import TaskError
from godwit.task.record import signal_name

#: Seconds that tasks have to end after SIGTERM, before SIGKILL.
GRACE_S = 2.0
#: Seconds that the agent has to say goodbye, and again after SIGTERM.
FAREWELL_S = 1.0
#: Seconds that an order waits at most for a task that stands still for a snapshot, and between two
#: looks.
STILL_S = 5.0
LOOK_S = 0.01
#: Orders about tasks that are there.
_Act = orders.Signal | orders.Pause | orders.Forget
#: Faults of one order that are told in full.
MOST_TOLD = 5


class Phase(Enum):
    """Only forward."""

    RUNNING = 0
    #: Tasks have been told to end.
    ENDING = 1
    #: They have been killed.
    KILLING = 2
    #: The agent has been told.
    LEAVING = 3


class Keeper:
    """One clientd's keeper, from its start to its stop."""

    def __init__(self, tools: Tools, tasks: Tasks, facts: orders.Facts, born: Born):
        self._loop = tools.loop
        self._register = tools.register
        self._log = tools.register.log
        self._errands = tools.errands
        self._tasks = tasks
        self._facts = facts
        self._born = born
        self._phase = Phase.RUNNING
        self._reason = ""
        #: What waits for a task that stands still, and until when.
        self._held: list[tuple[_Act, float]] = []
        self._spokesman = Spokesman(facts, tools.gate.agent)
        self._scouts = Scouts(tools, lambda: len(tasks.occupied()))
        #: Freezes tasks and restores them; None while it is looked for, and where there is none.
        self.criu: Criu | None = None
        #: What the agent does, once it does it.
        self._at_work = ""
        #: Running tasks, as the supervisor was told.
        self._told_running = -1
        self.agent = Agent(
            self._loop, self._log, tools.others, self._first_words, self._obey,
            self._agent_lost, tools.gate.agent,
        )
        self._register.tell_now = self._tell_news
        self._loop.watch(born.wakeup, self._on_signals)

    def run(self) -> None:
        """Till it was told to stop, and has."""
        self.agent.start()
        while self._phase is not Phase.LEAVING or self.agent.is_there:
            self._loop.turn(wait=not self._tasks.launches)
            if self._tasks.launches:
                self._tasks.launches.start_some()
            self._stop_sooner()
            self._tasks.settle()
            self._tell_supervisor()
            self._tell_news()

    def _tell_news(self) -> None:
        """What is in the journal."""
        words = self._register.take_news()
        if words:
            failpoint.hit("news.before")
        for word in words:
            self.agent.tell(word)
        self.agent.flush()
        if words:
            failpoint.hit("news.after")

    def _agent_lost(self) -> None:
        self._tasks.mover.handle(AgentLost())
        self._tasks.births.lodged.agent_lost()

    def _tell_supervisor(self) -> None:
        if not self._born.notify or not self._at_work:
            return
        count = len(self._tasks.running())
        if count != self._told_running:
            self._told_running = count
            tasks = f"{count} task{'' if count == 1 else 's'} running"
            self._born.notify(f"STATUS={self._facts.name} {self._at_work}; {tasks}")

    def _first_words(self) -> Iterator[orders.Word]:
        """What a new agent is told: all, as it is when the agent gets that far."""
        yield self._spokesman.facts()
        known = self._register.tasks
        names = list(known)
        for batch in batches(known[name] for name in names if name in known):
            yield orders.Known(batch, last=False)
        yield orders.Known(())
        yield from list(self._tasks.mover.standings())
        yield from list(self._tasks.shadows.first_words())
        yield orders.Lodging(self._tasks.births.lodged.tasks)

    def looked_for_criu(self, found: Found) -> None:
        """What came of it; the agent hears of it, now or with the rest."""
        can, lacks = self._facts.can, dict(self._facts.lacks)
        if found.path:
            self.criu = Criu(found.path, self._errands, found.version)
            self._tasks.use_criu(self.criu)
            can = (*can, f"criu={found.version}")
            if reason := without_lazy(found):
                lacks["lazy"] = reason
            else:
                can = (*can, "lazy")
        else:
            lacks["criu"] = f"{found.reason}; tasks cannot be moved as they are"
            self._tasks.use_criu(None, found.reason)
        self._facts = replace(self._facts, can=can, lacks=lacks)
        self._spokesman.learn(can, lacks)
        self._tell(orders.Able(can, lacks))
        self._log("info", f"criu: {found.version or 'none'} {found.path or found.reason}")

    # ---- orders ----------------------------------------------------------------------------

    def _obey(self, order: orders.Order) -> None:
        if isinstance(order, _Act) and order.tasks:
            self._held.append((order, self._loop.now() + STILL_S))
            self._act()
        else:
            self._do(order)

    def _act(self) -> None:
        """What stands still for a snapshot is waited for: nobody has to ask again.

        Orders about one task are done as they came.
        """
        held, self._held = self._held, []
        waited_for: set[str] = set()
        for order, until in held:
            tasks = set(order.tasks)
            stands = any(map(self._tasks.is_photographed, tasks)) or tasks & waited_for
            if stands and self._loop.now() < until:
                waited_for |= tasks
                self._held.append((order, until))
            else:
                self._do(order)
        if self._held:
            self._loop.alarm("held orders", LOOK_S, self._act)

    def _do(self, order: orders.Order) -> None:
        match order:
            case orders.Start(specs, source) if self._phase is Phase.RUNNING:
                self._tasks.launches.accept(specs, source)
            case orders.Start(specs):
                for spec in specs:
                    self._tell(orders.Rejected(spec.task, "stopping", "this node is stopping"))
            case orders.Signal(number, tasks, signal.SIGKILL, True):
                self._end_all(number, tasks, self._unless_moving(self._tasks.end))
            case orders.Signal(number, _, _, True):
                self._tell(orders.Acted(number, "bad-signal", "only SIGKILL reaches all of a task"))
            case orders.Signal(number, tasks, sent, relay=relay):
                self._each(number, tasks, lambda task: self._tasks.signal(task, sent, relay))
            case orders.Guests() | orders.Took():
                self._tasks.shadows.obey(order)
            case orders.Pause(number, tasks, resume):
                self._each(number, tasks, lambda task: self._tasks.pause(task, resume))
            case orders.Forget(number, tasks):
                self._end_all(number, tasks, self._unless_moving(self._tasks.forget))
            case orders.Say():
                self._spokesman.say(order, self.agent.pid)
            case orders.Describe() | orders.Survey():
                self._scout(order)
            case orders.Checkpoint() | orders.ListSnapshots():
                self._snapshot(order)
            case orders.Lodge() | orders.Stow() | orders.Give() | orders.Unlodge():
                self._lodge(order)
            case orders.DropParcel(parcel):
                self._tasks.births.lodged.drop_parcel(parcel)
            case orders.Measure():
                self._tell(orders.Measured(usage(resource.getrusage(resource.RUSAGE_CHILDREN))))
            case (
                orders.Reserve() | orders.Freeze() | orders.Landed() | orders.Cut()
                | orders.Verdict()
            ):
                self._tasks.mover.handle(Ordered(order))
            case orders.Settled(text):
                self._at_work = text
                self._born.notify("READY=1")
                self._told_running = -1
            case orders.Restart():
                self.agent.renew()
            case orders.Stop(end_tasks, reason):
                self.stop(reason or "told to stop", end_tasks)

    def _snapshot(self, order: orders.Checkpoint | orders.ListSnapshots) -> None:
        kept = self._tasks.births.kept
        try:
            if isinstance(order, orders.Checkpoint):
                kept.sweep()
                self._tasks.mover.checkpoint(order)
            else:
                all_ = [*self._tasks.births.lodged.listed(), *kept.listed()]
                self._tell(orders.Snapshots(order.order, choose(all_, order.task)))
        except (TaskError, OSError) as err:
            self._refuse(order.order, err)

    def _lodge(self, order: orders.Lodge | orders.Stow | orders.Give | orders.Unlodge) -> None:
        lodged = self._tasks.births.lodged
        try:
            match order:
                case orders.Lodge():
                    lodged.admit(order)
                case orders.Stow():
                    lodged.stow(order)
                case orders.Give():
                    lodged.hand_out(order, self._tasks.births.keeping(order.snapshot))
                case orders.Unlodge():
                    lodged.unlodge(order)
        except (TaskError, OSError) as err:
            self._refuse(order.order, err)

    def _refuse(self, order: int, err: TaskError | OSError) -> None:
        if isinstance(err, TaskError):
            self._tell(orders.Acted(order, err.code, str(err)))
        else:
            self._tell(orders.Acted(order, "files", f"{err.filename}: {err.strerror}"))

    def _scout(self, order: orders.Describe | orders.Survey) -> None:
        try:
            if isinstance(order, orders.Describe):
                self._scouts.describe(order)
            else:
                self._scouts.survey(order, self._facts)
        except TaskError as err:
            self._tell(orders.Acted(order.order, err.code, str(err)))

    def _tell(self, word: orders.Word) -> None:
        self._register.tell(word)

    def _each(self, order: int, tasks: tuple[str, ...], act: Callable[[str], str | None]) -> None:
        """Does something to each task; the answer has the first fault's code."""
        answer = _Answer(order, self._tell)
        for task in tasks:
            try:
                answer.said(act(task) or "")
            except TaskError as err:
                answer.failed(err)
        answer.close()

    def _end_all(
        self, order: int, tasks: tuple[str, ...], end: Callable[[str, Callable[[bool], None]], None]
    ) -> None:
        """Ends all of each task; the answer comes when nothing is left of them."""
        answer = _Answer(order, self._tell)
        waiting = set(tasks)

        def done(task: str, gone: bool) -> None:
            waiting.discard(task)
            if not gone:
                answer.failed(TaskError("stuck", f"{task}: some of its processes do not die"))
            if not waiting:
                answer.close()

        for task in dict.fromkeys(tasks):
            try:
                end(task, partial(done, task))
            except TaskError as err:
                answer.failed(err)
                done(task, True)
        if not tasks:
            answer.close()

    def _unless_moving(
        self, end: Callable[[str, Callable[[bool], None]], None]
    ) -> Callable[[str, Callable[[bool], None]], None]:
        """For what somebody asks for; a node that stops ends frozen copies, too."""

        def checked(task: str, done: Callable[[bool], None]) -> None:
            self._tasks.stay(task)
            end(task, done)

        return checked

    # ---- stopping --------------------------------------------------------------------------

    def _on_signals(self, _events: int) -> None:
        caught = set(os.read(self._born.wakeup, 4096))
        if signal.SIGCHLD in caught:
            self._tasks.reap()
        if signal.SIGHUP in caught and self._born.ignores_hangup:
            caught.discard(signal.SIGHUP)
        for number in sorted(caught & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}):
            ends = self._facts.orphans_kill_s > 0
            self.stop(signal_name(number), ends)

    def stop(self, reason: str, end_tasks: bool) -> None:
        """Once; told again while tasks are ending, they are killed at once."""
        if self._phase is Phase.ENDING:
            self._kill_all()
        if self._phase is not Phase.RUNNING:
            return
        self._reason = reason
        self._born.notify("STOPPING=1")
        self._tasks.launches.withdraw_all("this node is stopping")
        occupied = self._tasks.occupied()
        verb = "ending" if end_tasks else "leaving"
        self._log("info", f"stopping: {reason}; {verb} {len(occupied)} tasks", tasks=occupied)
        if not end_tasks:
            self._leave()
            return
        self._tasks.shadows.leave()
        self._phase = Phase.ENDING
        self._tasks.terminate()
        self._loop.alarm("stop", GRACE_S, self._kill_all)

    def _stop_sooner(self) -> None:
        """Nothing is waited for that has ended already."""
        if self._phase is Phase.ENDING and not self._tasks.running():
            self._kill_all()

    def _kill_all(self) -> None:
        """What did not end by itself, and what ended tasks left behind."""
        self._phase = Phase.KILLING
        self._loop.silence("stop")
        occupied = self._tasks.occupied()
        waiting = set(occupied)

        def done(task: str, gone: bool) -> None:
            waiting.discard(task)
            if not gone:
                self._log("severe", f"some processes of {task} do not die", task=task)
            if not waiting:
                self._leave()

        for task in occupied:
            self._log("info", f"{task} did not end by itself: killing it", task=task)
            self._tasks.end(task, partial(done, task))
        if not occupied:
            self._leave()

    def _leave(self) -> None:
        """Says goodbye through the agent, and waits for its end."""
        self._phase = Phase.LEAVING
        self.agent.dismiss()
        self._tell(orders.Stopping(self._reason, len(self._tasks.occupied())))
        self._loop.alarm("stop", FAREWELL_S, lambda: self._hurry(signal.SIGTERM))

    def _hurry(self, number: int) -> None:
        self.agent.signal(number)
        self._loop.alarm("stop", FAREWELL_S, lambda: self._hurry(signal.SIGKILL))


class _Answer:
    """The answer to one order about several tasks: the first fault's code, and what was said."""

    def __init__(self, order: int, tell: Callable[[orders.Word], None]):
        self._order = order
        self._tell = tell
        self._code = ""
        self._texts: list[str] = []

    def said(self, text: str) -> None:
        if text:
            self._texts.append(text)

    def failed(self, err: TaskError) -> None:
        self._code = self._code or err.code
        self.said(str(err))

    def close(self) -> None:
        more = len(self._texts) - MOST_TOLD
        texts = [*self._texts[:MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
        self._tell(orders.Acted(self._order, self._code, "; ".join(texts)))
