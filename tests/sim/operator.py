"""A person or a script: asks, reads, waits, loses patience, leaves; and checks every answer."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from godwit.task.lifecycle import Status
from godwit.wire import operations as op
from tests.sim.net import Conn, End
from tests.sim.transfers import Side
from tests.sim.world import Broken, Process, World

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

NO_ANSWER = (op.Took, op.Cancel)


@dataclass
class Pending:
    """One request that is not answered yet."""

    request: op.Request
    #: task -> next byte.
    read: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    launched: bool = False


class Operator(Process):
    """One connection of one operator."""

    def __init__(self, world: World, cluster: "Cluster", name: str):
        super().__init__(world, name)
        self.cluster = cluster
        self.pending: dict[int, Pending] = {}
        self._cancelled: set[int] = set()
        self._last = 0
        self.end: End | None = None
        self._connect()

    def _connect(self) -> None:
        master = self.cluster.master
        if self.end is not None or master is None or not master.alive:
            self.later(0.7, self._connect)
            return
        conn = Conn(self.world, self, master, local=True)
        self.end, theirs = conn.ends
        self.end.on_data = lambda data: self._answered(op.decode_reply(data))
        self.end.on_closed = self._lost
        master.new_operator(theirs)
        self.ask(op.Attach(self._number(), op.VERSION, notices=self.world.likely(0.3)))

    def _lost(self, reason: str) -> None:
        """The master is gone, and with it the answers."""
        self.end = None
        self.pending.clear()
        self.later(self.world.between(0.1, 1.0), self._connect)

    def leave(self) -> None:
        """Closes the connection, in the middle of anything."""
        if self.end is not None:
            self.world.say(self.name, "leaves")
            self.end.close("the operator leaves")

    def _number(self) -> int:
        self._last += 1
        return self._last

    # ---- asking ----------------------------------------------------------------------------

    def ask(self, request: op.Request) -> None:
        if self.end is None:
            return
        self.world.say(self.name, "asks", request)
        if not isinstance(request, NO_ANSWER):
            self.pending[request.id] = Pending(request)
        self.end.send(op.encode(request))

    def cancel(self, number: int) -> None:
        pending = self.pending.get(number)
        cancellable = (op.AwaitTasks, op.FollowLogs, op.Copy, op.History)
        if pending is not None and isinstance(pending.request, cancellable):
            self.pending.pop(number)
            self._cancelled.add(number)
            self.ask(op.Cancel(number))

    def _reference(self) -> str:
        return self.world.dice.choice(self.cluster.known[-12:] or ["nosuch"])

    def do_something(self) -> None:
        """One request, by the dice."""
        if self.end is None or not self.alive:
            return
        dice, number = self.world.dice, self._number()
        nodes = dice.choice(["all", *self.cluster.nodes])
        one = dice.choice(list(self.cluster.nodes))
        if self.world.bad_luck(0.25):
            self.cluster.misfortunes_soon()
        what = dice.choices(_WISHES, _WEIGHTS)[0]
        match what:
            case "execute":
                self.ask(self._execute(number, nodes))
            case "list":
                self.ask(op.ListNodes(number))
            case "signal":
                self.ask(op.SignalTasks(
                    number, (self._reference(),), dice.choice([2, 9, 15]), dice.random() < 0.0
                ))
            case "kill":
                self.ask(op.SignalTasks(number, (self._reference(),), 9, True))
            case "pause":
                self.ask(op.PauseTasks(number, (self._reference(),), dice.random() < 0.6))
            case "forget":
                self.ask(op.ForgetTasks(number, (self._reference(),)))
            case "wait":
                timeout = dice.choice([None, None, 0.0, 3.0])
                self.ask(op.AwaitTasks(number, (self._reference(), self._reference()), timeout))
            case "logs":
                lines = dice.choice([None, None, 0, 1, 5])
                self.ask(op.FollowLogs(
                    number, (self._reference(),), lines, 0.0, dice.random() < 0.7
                ))
            case "usage":
                self.ask(op.MeasureUsage(number, dice.choice(["", one])))
            case "copy":
                place = op.Place(b"/x", one)
                other = op.Place(b"/y", dice.choice(["", *self.cluster.nodes]))
                self.ask(op.Copy(number, *dice.sample([place, other], 2)))
            case "erase":
                self.ask(op.EraseFile(number, op.Place(b"/x", one)))
            case "cancel":
                if self.pending:
                    self.cancel(dice.choice(list(self.pending)))
            case "leave":
                self.leave()
            case "upgrade":
                self.ask(op.Upgrade(number, nodes))
            case "deregister":
                self.ask(op.Deregister(number, one))

    def _execute(self, number: int, nodes: str) -> op.Execute:
        dice = self.world.dice
        seconds = dice.choice([0.0, 0.05, 1.0, 5.0, 15.0])
        argv = tuple(map(str.encode, (
            "run" if dice.random() < 0.9 else "missing", f"{seconds:g}", str(dice.randrange(3)),
            str(dice.choice([0, 1, 5, 30])), str(int(dice.random() < 0.2)),
        )))
        return op.Execute(
            number, nodes, argv, count=dice.choice([1, 1, 1, 2, 5]), follow=dice.random() < 0.4,
            oneoff=dice.random() < 0.3,
        )

    # ---- answers ---------------------------------------------------------------------------

    def _answered(self, reply: op.Reply) -> None:
        if isinstance(reply, op.Notice):
            return
        pending = self.pending.get(reply.id)
        final = not isinstance(reply, op.ON_THE_WAY)
        if pending is None:
            # What was under way when it was cancelled may still come.
            if reply.id not in self._cancelled:
                raise Broken(f"{self.name}: a second answer to {reply.id}: {reply}")
            if final:
                self._cancelled.discard(reply.id)
            return
        self._check(pending, reply)
        if final:
            self.world.say(self.name, "has its answer", reply.id, type(reply).__name__)
            del self.pending[reply.id]
            self._check_end(pending, reply)

    def _check(self, pending: Pending, reply: op.Reply) -> None:
        views = getattr(reply, "tasks", ())
        for node in getattr(reply, "nodes", ()):
            views += getattr(node, "tasks", ())
        for view in views:
            self.cluster.truth.check(view.node, view.task)
        match reply:
            case op.Launched():
                pending.launched = True
                self._check_launch(reply)
            case op.Output():
                self._read(pending, reply)
            case op.OutputEnd():
                self._read_all(pending, reply)
            case op.Ticket():
                self.cluster.bulk_to_master(Side(None, 0, reply.role), reply)

    def _check_launch(self, reply: op.Tasks | op.Launched) -> None:
        silent = {fault.about for fault in reply.faults}
        for view in reply.tasks:
            self.cluster.known.append(view.task.id)
            self.cluster.acknowledged.add(view.task.id)
            started = view.task.status in (Status.RUNNING, Status.PAUSED, Status.EXITED)
            if not started and view.task.status is not Status.UNKNOWN and view.node not in silent:
                raise Broken(f"{view.task.id} is answered as {view.task.status.value}")

    def _read(self, pending: Pending, reply: op.Output) -> None:
        if reply.task in pending.ended:
            raise Broken(f"output of {reply.task} after its end")
        at = pending.read.get(reply.task)
        if at is None and isinstance(pending.request, op.Execute):
            at = 0
        if at is not None and reply.offset != at:
            raise Broken(f"{self.name}: {reply.task} at byte {reply.offset}, wanted is {at}")
        log = self.cluster.log_of(reply.task)
        end = reply.offset + len(reply.data)
        if log is not None and log[reply.offset:end] != reply.data:
            raise Broken(f"{self.name}: bytes of {reply.task} at {reply.offset} are not its own")
        pending.read[reply.task] = end
        took = op.Took(pending.request.id, reply.task, len(reply.data))
        slow = self.world.between(0.5, 4.0) if self.world.bad_luck(0.05) else 0.001
        self.later(slow, self._take, took)

    def _take(self, took: op.Took) -> None:
        if self.end is not None and took.id in self.pending:
            self.end.send(op.encode(took))

    def _read_all(self, pending: Pending, reply: op.OutputEnd) -> None:
        if reply.task in pending.ended:
            raise Broken(f"two ends of the output of {reply.task}")
        pending.ended.add(reply.task)
        log = self.cluster.log_of(reply.task)
        request = pending.request
        whole = isinstance(request, op.Execute) or (
            isinstance(request, op.FollowLogs) and request.lines is None and request.live
        )
        if reply.code or log is None or not whole:
            return
        if pending.read.get(reply.task, 0) != len(log):
            read = pending.read.get(reply.task, 0)
            raise Broken(f"{self.name} has {read} bytes of {reply.task}, written were {len(log)}")

    def _check_end(self, pending: Pending, reply: op.Reply) -> None:
        if isinstance(reply, op.Tasks) and isinstance(pending.request, op.Execute):
            if not pending.launched:
                self._check_launch(reply)
            open_ones = pending.read.keys() - pending.ended
            if open_ones:
                raise Broken(f"{self.name}: the output of {open_ones} was never ended")


_TABLE = {
    "execute": 30, "list": 8, "signal": 8, "kill": 3, "pause": 5, "forget": 5, "wait": 12,
    "logs": 25, "usage": 2, "copy": 4, "erase": 1, "cancel": 8, "leave": 2, "deregister": 1,
    "upgrade": 2,
}
_WISHES, _WEIGHTS = list(_TABLE), list(_TABLE.values())
