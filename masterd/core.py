"""The master's brain: events in, actions out.  No I/O, no clock, no randomness of its own.

It is made of parts, each with one idea (nodes, launches, follows, copies, waits, orders,
history), that share the registry; this module only says which part hears of what.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.names import HIGHEST_PORT, check_node_name
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.wire import messages as wire
from godwit.wire import operations as op
from godwit.wire.tokens import read_code
from masterd import actions as do
from masterd import events as on
from masterd.admission import UNRECORDED, Admission
from masterd.confirms import Confirms
from masterd.copies import Copies, Role
from masterd.follows import Follows
from masterd.history import History
from masterd.homelogs import HomeLogs
from masterd.judging import Judging
from masterd.launches import MOST, MOST_BYTES, Launches
from masterd.moves import budget, places
from masterd.moves.core import Moves
from masterd.moves.objections import WAYS
from masterd.nodes import Nodes, Upon, describe_end
from masterd.orders import Gather, Orders, unreachable
from masterd.pruning import surplus_nodes, surplus_tasks
from masterd.references import choose_nodes, choose_task, choose_tasks
from masterd.registry import Node, Registry, State
from masterd.shadows import Shadows
from masterd.snapshots import Snapshots
from masterd.upgrades import Upgrades
from masterd.waits import Waits

#: Seconds a node has to end its tasks and itself: the keeper's grace and some more.
DISMISS_S = 8.0
#: Kinds of tasks that can be launched.
KINDS = ("shell", "python", "adopted")
#: The code with which a node says that it knows no such task.
NO_TASK = "no-task"
#: The code with which a node says that a task is frozen for a move.
MOVING = "moving"
#: Tasks told of by a node that does not have them, of which the last words are kept.
DOUBTED_KEPT = 1000
#: What it means of a change that has been made.
IN_MEMORY = "it is done, is lost if the master ends now, and is recorded as soon as it can be"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this master is, and where it can be found."""

    master: str
    address: str
    version: str
    pid: int
    state: str
    #: sha256 of the cluster's CA certificate.
    ca: str


@dataclass(frozen=True, slots=True)
class Chance:
    """The randomness that the core is given."""

    jitter: Callable[[], float]
    task_id: Callable[[], str]
    ticket: Callable[[], str]
    #: So many random bytes, as hex.
    secret: Callable[[int], str]


class Mishap(Exception):
    """A bug of ours, raised from what went wrong; ``done`` is what was to be done till then.

    What the core knows has changed that far, so its records and messages are still to go out.
    """

    def __init__(self, done: list[do.Action]):
        super().__init__()
        self.done = done


class Master:
    """The core.  ``handle`` is its only way in, ``deadline`` says when it wants a Tick."""

    def __init__(self, identity: Identity, chance: Chance):
        self.identity = identity
        self.registry = Registry()
        self.history = History()
        self.orders = Orders()
        self.confirms = Confirms()
        self.admission = Admission(
            self.registry, self.history, self.confirms, identity.ca, chance.secret
        )
        self.nodes = Nodes(
            self.registry, self.history, self.admission, identity.master, chance.jitter,
            Upon(self.orders.lost, self._lost, self._left, self._replaced),
        )
        #: Texts of Python programs by their digest.
        self.sources: dict[str, bytes] = {}
        self.launches = Launches(
            self.registry, chance.task_id, self.confirms, self._forget, self.sources
        )
        self.follows = Follows(self.registry)
        self.homelogs = HomeLogs(self.registry, self.follows)
        self.waits = Waits(self.registry)
        self.upgrades = Upgrades(self.orders, lambda node, text: self._note(text, node=node))
        self.copies = Copies(self.orders, self.admission.leaves, chance.ticket)
        self.moves = Moves(
            self.registry, self.history, self.admission.leaves, chance.secret, self.sources,
            self._moved,
        )
        self.shadows = Shadows(self.registry, self.orders, self.moves, self.history)
        self.judging = Judging(self.registry, self.orders, self.moves)
        self.snapshots = Snapshots(
            self.orders, chance.task_id,
            lambda operator, request: self._refusing(
                operator, request, self._execute(operator, request)
            ),
        )
        #: Operators that have said Attach.
        self._attached: set[int] = set()
        self._now = 0.0
        self._wall = 0.0

    # ---- the way in ------------------------------------------------------------------------

    def handle(self, event: on.Event, now: float, wall: float) -> list[do.Action]:
        """What is to be done now that ``event`` happened.

        ``now`` is monotonic seconds; ``wall`` seconds since 1970, for display only.  Raises
        Mishap for any exception that nobody expected.
        """
        self._now, self._wall = now, wall
        self.moves.at(now, wall)
        self.shadows.at(now, wall)
        done: list[do.Action] = []
        try:
            self._collect(event, done)
        except Exception as err:
            raise Mishap(done) from err
        return done

    def _collect(self, event: on.Event, done: list[do.Action]) -> None:
        for action in self._handle(event):
            if isinstance(action, do.Answer) and action.operator < 0:
                done += self.homelogs.answered(action.operator, action.reply)
                continue
            done.append(action)
            # A launch may have been followed before it was known what came of it.
            if isinstance(action, do.Answer) and isinstance(action.reply, op.Launched):
                done += self.follows.launched(action.operator, action.reply)
            elif isinstance(action, do.Answer) and isinstance(action.reply, op.Tasks):
                self.follows.refused(action.operator, action.reply.id)

    def deadline(self) -> float:
        """Monotonic second at which a Tick is wanted; infinity: none."""
        return min(
            self.nodes.deadline(), self.launches.deadline(), self.waits.deadline(),
            self.orders.deadline(), self.upgrades.deadline(), self.moves.deadline(),
            self.shadows.deadline(),
        )

    def _handle(self, event: on.Event) -> Iterator[do.Action]:
        now, wall = self._now, self._wall
        match event:
            case on.Received(link, message):
                yield from self._received(link, message)
            case on.Asked(operator, request):
                yield from self._asked(operator, request)
            case on.LinkAccepted(link, peer, leaf):
                yield from self.nodes.accepted(link, peer, leaf, now, wall)
            case on.LinkOpened(link, node, channel, leaf):
                yield from self.nodes.opened(link, node, channel, leaf, now)
            case on.JoinAsked(asked, token, secret, name, peer):
                yield from self.admission.join(asked, token, secret, name, peer, wall)
            case on.Certified(asked, name, leaf):
                yield from self.admission.certified(asked, name, leaf, wall)
            case on.Adopted(name):
                yield from self.nodes.adopted(name, now)
            case on.DialFailed(node, channel, reason):
                yield from self.nodes.dial_failed(node, channel, reason, now, wall)
            case on.LinkClosed(link, reason):
                yield from self.nodes.closed(link, reason, now, wall)
            case on.OperatorGone(operator):
                yield from self._gone(operator)
            case on.BulkOpened(bulk, show, leaf):
                yield from self.copies.bulk_opened(bulk, show, leaf)
            case on.BulkFailed(ticket, reason):
                yield from self.copies.bulk_failed(ticket, reason)
            case on.Recorded(number):
                yield from self.confirms.recorded(number)
            case on.Unrecorded(number, reason):
                yield from self.confirms.unrecorded(number, reason)
            case on.Tick():
                yield from self.nodes.late(now, wall)
                yield from self.nodes.silent(now, wall)
                yield from self.nodes.call(now)
                yield from self.launches.late(now)
                yield from self.orders.late(now)
                yield from self.waits.late(now)
                yield from self.upgrades.late(now)
                yield from self.moves.late()
                yield from self.shadows.late()

    def _note(
        self, text: str, *, node: str = "", task: str = "", notice: bool = False
    ) -> Iterator[do.Action]:
        yield from self.history.add(
            self._wall, "info", text, node=node, task=task, notice=notice
        )

    def _confirm(self, operator: int, answer: op.Ok) -> Iterator[do.Action]:
        """Answers once what was done is on the disk; it is done in any case."""
        def then() -> Iterator[do.Action]:
            yield do.Answer(operator, answer)

        def failing(why: str) -> Iterator[do.Action]:
            text = f"{why}: {IN_MEMORY}"
            yield do.Answer(operator, op.Problem(answer.id, UNRECORDED, text))

        yield from self.confirms.ask(then, failing)

    # ---- what nodes say --------------------------------------------------------------------

    def _received(self, link: int, message: wire.Message) -> Iterator[do.Action]:
        if self.nodes.is_opening(link):
            yield from self.nodes.hello(link, message, self._now, self._wall)
            met = self.registry.by_link(link)
            if met is not None and met[1] == "stream":
                yield from self.follows.stream_up(met[0])
            elif met is not None:
                yield from self.upgrades.came(met[0])
            return
        found = self.registry.by_link(link)
        if found is None:
            return  # what was still in a connection that we closed
        node = found[0]
        yield from self.nodes.heard(node, self._now, self._wall)
        yield from self._said(node, message)

    def _said(self, node: Node, message: wire.Message) -> Iterator[do.Action]:
        match message:
            case wire.Beat(load, children):
                node.load, node.children = load, children
                if node.control is not None:
                    yield do.Send(node.control, wire.Heard())
            case wire.Chunk():
                yield from self.follows.chunk(node, message)
            case wire.Ended():
                yield from self.follows.ended(node, message)
            case wire.Changed(tasks):
                yield from self._changed(node, tasks)
            case wire.Report(tasks, last):
                node.reporting.update(task.id for task in tasks)
                yield from self._changed(node, tasks)
                if last:
                    yield from self._reported(node)
            case wire.Rejected(tasks, code, text):
                for task in tasks:
                    yield from self._rejected(node, task, code, text)
            case wire.Forgotten(tasks):
                for task in tasks:
                    yield from self._forget(node, task)
            case (
                wire.Done(order) | wire.Measured(order) | wire.Copied(order)
                | wire.Described(order) | wire.Surveyed(order) | wire.Snapshots(order)
            ):
                yield from self.orders.answered(node, order, message)
            case wire.Listening():
                yield from self.copies.listening(node, message, self._now)
            case wire.Moved():
                yield from self.copies.moved(node, message)
            case wire.Renew(request):
                yield from self.admission.renew(node, request, self._now)
            case wire.Standing():
                yield from self.moves.said(node, message)
            case wire.Kept():
                yield from self.homelogs.kept(node, message)
            case wire.Caught():
                yield from self.shadows.caught(node, message)
            case wire.Able(can, lacks):
                node.can, node.lacks = can, dict(lacks)
            case wire.Leaving():
                yield from self.nodes.leaving(node, message, self._now, self._wall)

    def _changed(self, node: Node, tasks: tuple[Task, ...]) -> Iterator[do.Action]:
        for task in tasks:
            other = self.registry.where.get(task.id)
            if other is not None and other is not node:
                if self.moves.is_part(node, task.id):
                    self.moves.claimed(node, task)  # it stands still, or is about to go
                    continue
                known = other.tasks[task.id]
                if not known.status.alive and known.spec.epoch < task.spec.epoch:
                    # It went on elsewhere after it was lost there, by a record that is lost too.
                    self.registry.drop(task.id)
                    yield from self._update(node, task)
                    yield from self.moves.look_again(task.id)
                    continue
                is_copy = task.status.alive and task.status is not Status.FROZEN
                if is_copy and task.spec.epoch < other.tasks[task.id].spec.epoch:
                    yield from self._supersede(node, task, other)
                    continue
                # A node speaks only for itself.
                self._doubt(node, task)
                yield from self.history.add(
                    self._wall, "warning",
                    f"{node.name} told of {task.id}, which is on {other.name}: not believed",
                    node=node.name, task=task.id,
                )
                continue
            yield from self._update(node, task)

    def _doubt(self, node: Node, task: Task) -> None:
        """It is believed once the other node has no such task: this record may be an older one."""
        self.registry.doubted.pop(task.id, None)
        self.registry.doubted[task.id] = node, task
        if len(self.registry.doubted) > DOUBTED_KEPT:
            del self.registry.doubted[next(iter(self.registry.doubted))]

    def _supersede(self, node: Node, task: Task, owner: Node) -> Iterator[do.Action]:
        """A copy of an epoch that has passed ends on contact."""
        yield from self.history.add(
            self._wall, "warning",
            f"{node.name} has a copy of {task.id} from before it moved to {owner.name}: ending it",
            node=node.name, task=task.id,
        )
        if node.control is not None:
            epoch = owner.tasks[task.id].spec.epoch
            yield do.Send(node.control, wire.Verdict("", task.id, epoch, "end"))

    def _update(self, node: Node, task: Task) -> Iterator[do.Action]:
        before = node.tasks.get(task.id)
        if before == task:
            return
        self.registry.put(node, task)
        yield do.KeepTask(node.name, task)
        yield from self._tell_of(node, before, task)
        yield from self.launches.changed(task)
        yield from self.waits.changed(task.id)
        yield from self.follows.changed(task)
        if task.status.ended or task.status is Status.UNKNOWN:
            yield from self.moves.ended(task.id)
        yield from self.shadows.look(task.id)

    def _moved(self, task: Task, node: Node) -> Iterator[do.Action]:
        """It runs there now."""
        if task.spec.home == node.name:
            yield from self.homelogs.stop(task.id)
        yield from self.follows.moved(task.id, node)
        yield from self.shadows.look(task.id)

    def _tell_of(self, node: Node, before: Task | None, task: Task) -> Iterator[do.Action]:
        if before is not None and before.status is task.status:
            return
        if task.status.ended or task.status is Status.UNKNOWN:
            known = before is not None and before.status is not Status.STARTING
            yield from self._note(
                describe_end(node.name, task), node=node.name, task=task.id,
                notice=not task.spec.oneoff and (known or before is not None),
            )
        elif before is None or before.status is Status.STARTING:
            yield from self._note(
                f"{task.id} runs on {node.name} as pid {task.pid}: {task.spec.command[:80]}",
                node=node.name, task=task.id,
            )
        else:
            yield from self._note(
                f"{task.id} on {node.name} is {task.status.value}", node=node.name, task=task.id
            )

    def _reported(self, node: Node) -> Iterator[do.Action]:
        """The pid map is whole: what it does not name is no longer there."""
        yield from self.launches.reported(node)
        for task in [t for t in node.tasks.values() if t.id not in node.reporting]:
            if self.moves.is_part(node, task.id):
                continue  # it has been given the task and may not have heard of it
            if task.status is Status.STARTING:
                if not self.launches.is_waiting(task.id):
                    # What was recorded last may have been lost with an earlier master.
                    reason = f"{node.name} has no record of it: never started, or removed since"
                    yield from self._update(
                        node, replace(task, status=Status.UNKNOWN, reason=reason)
                    )
            elif task.status is not Status.UNKNOWN or task.pid is not None:
                yield from self._forget(node, task.id)
        node.reporting.clear()
        for name in surplus_tasks(node):
            yield from self._forget(node, name)
        yield from self.moves.reported(node)
        yield from self.shadows.reported(node)

    def _rejected(self, node: Node, task: str, code: str, text: str) -> Iterator[do.Action]:
        """Nothing came of this launch; it never was a task."""
        known = node.tasks.get(task)
        if known is not None and known.status is Status.STARTING:
            yield from self._forget(node, task, code, text)

    def _forget(
        self, node: Node, task: str, code: str = "forgotten", text: str = "the task was removed"
    ) -> Iterator[do.Action]:
        if task not in node.tasks:
            return
        digest = node.tasks[task].spec.digest
        self.registry.drop(task)
        yield do.DropTask(task)
        if digest in self.sources and not any(
            known.spec.digest == digest for n in self.registry.nodes.values()
            for known in n.tasks.values()
        ):
            del self.sources[digest]
            yield do.DropSource(digest)
        yield from self.launches.gone(node, task, code, text)
        yield from self.follows.forgotten(task, code, text)
        yield from self.waits.changed(task)
        yield from self.moves.ended(task)
        yield from self.shadows.forgotten(task)
        yield from self.homelogs.stop(task)
        other, claim = self.registry.doubted.pop(task, (node, None))
        if claim is not None and other is not node and other.connected:
            yield from self._update(other, claim)
        yield from self.moves.look_again(task)

    # ---- what becomes of nodes -------------------------------------------------------------

    def _lost(self, node: Node) -> Iterator[do.Action]:
        """It is not heard any more: who wants what is there now does not wait for its return."""
        yield from self.homelogs.lost(node)
        yield from self.follows.cut(node, "unreachable", unreachable(node), live=False)

    def _left(self, node: Node) -> Iterator[do.Action]:
        """It is no node of ours any more: nobody is to wait for what it would have said."""
        yield from self.moves.left(node)
        for task in tuple(node.tasks.values()):
            if task.status is Status.STARTING:
                yield from self._forget(node, task.id, "left", f"{node.name} was deregistered")
            else:
                yield from self.waits.changed(task.id)
        yield from self.follows.cut(node, "left", f"{node.name} was deregistered", live=True)
        yield from self.upgrades.left(node)
        for old in surplus_nodes(self.registry):
            for name in tuple(old.tasks):
                yield from self._forget(old, name)
            self.registry.drop_node(old.name)

    def _replaced(self, node: Node) -> Iterator[do.Action]:
        """Another machine has its name: its tasks are not there."""
        yield from self.moves.left(node)
        for task in [task for task in node.tasks if not self.moves.is_part(node, task)]:
            yield from self._forget(node, task)

    # ---- what operators ask ----------------------------------------------------------------

    def _asked(self, operator: int, request: op.Request) -> Iterator[do.Action]:
        if operator not in self._attached and not isinstance(request, op.Attach):
            yield do.Answer(
                operator, op.Problem(request.id, "order", "Attach comes first", exit_status=2)
            )
            return
        yield from self._refusing(operator, request, self._do(operator, request))

    def _refusing(
        self, operator: int, request: op.Request, doing: Iterator[do.Action]
    ) -> Iterator[do.Action]:
        """What is refused on the way is the answer."""
        try:
            yield from doing
        except UsageError as err:
            yield do.Answer(operator, op.Problem(
                request.id, err.code, err.message, err.hint, err.exit_status
            ))

    def _do(self, operator: int, request: op.Request) -> Iterator[do.Action]:
        match request:
            case op.Attach():
                yield from self._attach(operator, request)
            case op.ListNodes(nodes=nodes):
                chosen = self._nodes(nodes)
                views = tuple(self.registry.node_view(node, self._now) for node in chosen)
                yield do.Answer(operator, op.Nodes(request.id, views))
            case op.ListTasks(tasks=tasks):
                found, faults = self._tasks(tasks)
                yield from self._answer_tasks(operator, request.id, found, faults)
            case op.Execute():
                yield from self._execute(operator, request)
            case op.FollowLogs(tasks=tasks):
                found, faults = self._tasks(tasks)
                yield from self.follows.begin(operator, request, found, faults)
            case op.Took():
                yield from self.follows.took(operator, request)
            case op.Cancel():
                yield from self._cancel(operator, request.id)
            case op.SignalTasks(tasks=tasks, number=number, whole=whole):
                yield from self._each_task(
                    operator, request.id, tasks,
                    lambda order, task: wire.Signal(order, (task,), number, whole),
                )
            case op.PauseTasks(tasks=tasks, resume=resume):
                yield from self._each_task(
                    operator, request.id, tasks,
                    lambda order, task: wire.Pause(order, (task,), resume),
                )
            case op.ForgetTasks(tasks=tasks):
                yield from self._each_task(
                    operator, request.id, tasks, lambda order, task: wire.Forget(order, (task,)),
                    forgets=True,
                )
            case op.MoveTask():
                yield from self._move(operator, request)
            case op.JudgeMove():
                yield from self._judge(operator, request)
            case op.ListMoves(about=about, limit=limit):
                known = "" if not about else self._about(about)
                yield do.Answer(operator, op.Moves(request.id, self.moves.listed(known, limit)))
            case op.ListPrograms(nodes=nodes):
                known_there = tuple(
                    op.NodePrograms(node.name, node.programs)
                    for node in self._nodes(nodes) if node.connected
                )
                yield do.Answer(operator, op.Programs(request.id, known_there))
            case op.ResolveMove():
                yield from self.moves.resolve(operator, request)
            case op.CheckpointTask() | op.ListSnapshots() | op.RestartTask():
                yield from self._snapshot(operator, request)
            case op.AwaitTasks(tasks=tasks):
                found, faults = self._tasks(tasks)
                if faults:
                    raise UsageError(faults[0].message, code=faults[0].code, hint=faults[0].hint)
                yield from self.waits.begin(operator, request, found, self._now)
            case op.MeasureUsage():
                yield from self._measure(operator, request)
            case op.EraseFile():
                yield from self._erase(operator, request)
            case op.Copy():
                yield from self._copy(operator, request)
            case op.Register():
                yield from self._register(operator, request)
            case op.Deregister(nodes=nodes):
                chosen = [n for n in self._nodes(nodes) if n.state is not State.LEFT]
                yield from self._dismiss(
                    operator, request.id, chosen,
                    lambda: self._confirm(operator, op.Ok(request.id)),
                )
            case op.Upgrade(nodes=nodes):
                chosen = [n for n in self._nodes(nodes) if n.state is not State.LEFT]
                yield from self.upgrades.begin(operator, request, chosen, self._now)
            case op.History():
                yield from self._history(operator, request)
            case op.StopMaster():
                yield from self._stop(operator, request)
            case op.MakeToken():
                yield from self.admission.make_token(operator, request, self._wall)
            case op.Revoke(node=name):
                yield from self._revoke(operator, request.id, name)

    def _attach(self, operator: int, request: op.Attach) -> Iterator[do.Action]:
        if request.version != op.VERSION:
            raise UsageError(
                f"this master speaks version {op.VERSION} to its shell, not {request.version}",
                code="version",
            )
        self._attached.add(operator)
        if request.notices:
            self.history.listen(operator, request.id)
        me = self.identity
        yield do.Answer(
            operator, op.Attached(request.id, me.master, me.address, me.version, me.pid, me.state)
        )

    def _gone(self, operator: int) -> Iterator[do.Action]:
        self._attached.discard(operator)
        self.history.gone(operator)
        self.waits.cancel(operator)
        self.upgrades.cancel(operator)
        yield from self.follows.cancel(operator)
        yield from self.copies.cancel(operator)
        self.judging.cancel(operator)
        yield from self.moves.cancel(operator)

    def _cancel(self, operator: int, request: int) -> Iterator[do.Action]:
        self.history.cancel(operator, request)
        self.waits.cancel(operator, request)
        self.upgrades.cancel(operator, request)
        yield from self.follows.cancel(operator, request)
        yield from self.copies.cancel(operator, request)
        self.judging.cancel(operator, request)
        yield from self.moves.cancel(operator, request)

    # ---- references ------------------------------------------------------------------------

    def _nodes(self, reference: str) -> list[Node]:
        """The nodes meant.  `all` leaves out those that left."""
        known = self.registry.nodes
        names = [n for n in known if reference != "all" or known[n].state is not State.LEFT]
        return [known[n] for n in choose_nodes(reference, names, self.registry.addresses())]

    def _node(self, name: str) -> Node:
        chosen = self._nodes(name)
        if len(chosen) != 1:
            raise UsageError(f"{name!r} is {len(chosen)} nodes, wanted is one", code="bad-nodes")
        return chosen[0]

    def _tasks(self, references: tuple[str, ...]) -> tuple[list[str], list[op.Fault]]:
        if all(reference in self.registry.where for reference in references):
            return list(dict.fromkeys(references)), []
        return choose_tasks(references, self.registry.all_tasks())

    def _answer_tasks(
        self, operator: int, number: int, tasks: list[str], faults: list[op.Fault]
    ) -> Iterator[do.Action]:
        views = tuple(self.registry.view(task) for task in tasks if task in self.registry.where)
        yield do.Answer(operator, op.Tasks(number, views, tuple(faults)))

    # ---- tasks -----------------------------------------------------------------------------

    def _snapshot(
        self, operator: int, request: op.CheckpointTask | op.ListSnapshots | op.RestartTask
    ) -> Iterator[do.Action]:
        name = choose_task(request.task, self.registry.all_tasks())
        node = self.registry.where[name]
        task = node.tasks[name]
        match request:
            case op.CheckpointTask():
                doing = self.snapshots.checkpoint(operator, request, task, node, self._now)
            case op.ListSnapshots():
                doing = self.snapshots.list(operator, request, task, node, self._now)
            case op.RestartTask():
                doing = self.snapshots.restart(operator, request, task, node, self._now)
        yield from doing

    def _execute(self, operator: int, request: op.Execute) -> Iterator[do.Action]:
        if not 1 <= request.count <= MOST:
            raise UsageError(
                f"a count of {request.count} is not between 1 and {MOST}", code="bad-count",
                exit_status=2,
            )
        is_one = request.count == 1 and len(self._nodes(request.nodes)) == 1
        if request.kind == "adopted" and not is_one:
            raise UsageError(
                "a process is adopted once, on one node", code="bad-count", exit_status=2
            )
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
        nodes = self._nodes(request.nodes)
        if not nodes:
            raise UsageError(
                "there are no nodes yet", code="no-such-node",
                hint="start one: clientd --name NODE --master HOST:PORT",
            )
        reading = self.follows.with_launch(operator, request) if request.follow else None

        def streams(tasks: tuple[str, ...], node: Node) -> tuple[int, ...]:
            if reading is None or not self.follows.is_open(reading):
                return ()
            return tuple(self.follows.stream(reading, task, node) for task in tasks)

        yield from self.launches.begin(operator, request, nodes, self._now, self._wall, streams)

    def _each_task(
        self, operator: int, number: int, references: tuple[str, ...],
        make: Callable[[int, str], wire.Message], *, forgets: bool = False,
    ) -> Iterator[do.Action]:
        """One order for each task; one answer when all are in, with the tasks as they then are."""
        tasks, faults = self._tasks(references)
        before = {task: self.registry.view(task) for task in tasks}

        def finish() -> Iterator[do.Action]:
            where = self.registry.where
            views = tuple(self.registry.view(t) if t in where else before[t] for t in tasks)
            bad = {fault.about for fault in faults}
            good = tuple(view for view in views if view.task.id not in bad)
            yield do.Answer(operator, op.Tasks(number, good, tuple(faults)))

        gather = Gather(len(tasks), finish)
        if not tasks:
            yield from finish()
        def send(task: str) -> Iterator[do.Action]:
            if task in self.registry.held:
                yield from held(task)
                return
            node = self.registry.where[task]

            def then(answer: wire.Message) -> Iterator[do.Action]:
                assert isinstance(answer, wire.Done)
                if answer.code == MOVING and self.moves.is_moving(task):
                    # It acts where the task goes on, once that is known.
                    yield from self.moves.after(task, lambda: again(task))
                    return
                if forgets and (answer.code == NO_TASK or node.state is State.LEFT):
                    yield from self._forget(node, task)
                elif answer.code:
                    where = f"{task} on {node.name}: {answer.text}"
                    faults.append(op.Fault(task, answer.code, where))
                yield from gather.one()

            order = self.orders.number()
            yield from self.orders.send(node, make(order, task), order, self._now, then)

        def again(task: str) -> Iterator[do.Action]:
            if task in self.registry.where:
                yield from send(task)
            else:
                faults.append(op.Fault(task, NO_TASK, f"{task} is not there any more"))
                yield from gather.one()

        def held(task: str) -> Iterator[do.Action]:
            why = f"{task} is held: {self.registry.held[task]}"
            hint = f"`resolve {task} --source` or `--destination`; `moves {task}` tells more"
            faults.append(op.Fault(task, "held", why, hint))
            yield from gather.one()

        for task in tasks:
            yield from send(task)

    def _move(
        self, operator: int, request: op.MoveTask, memory: int | None = None
    ) -> Iterator[do.Action]:
        """``memory``: of a task that is moved as it is, bytes, once the move has been judged."""
        task = choose_task(request.task, self.registry.all_tasks())
        source = self.registry.where[task]
        known = source.tasks[task]
        at_home = request.target == "home" and "home" not in self.registry.nodes
        target = self._node(known.spec.home if at_home else request.target)
        if request.source:
            request = replace(request, source=self._node(request.source).name)
        # Of a Python task all is known by heart or told by the destination as it makes room.
        if memory is not None or WAYS.get(known.spec.kind, "python") == "python":
            choice = self._choose(request, known, (source, target), memory)
            yield from self.moves.begin(operator, request, known, source, target, choice)
            return
        self.moves.check(request, known, source, target)
        yield from self.judging.before_move(
            operator, request, known, source, target, self._now,
            lambda size: self._refusing(operator, request, self._move(operator, request, size)),
        )

    def _choose(
        self, request: op.MoveTask, task: Task, nodes: tuple[Node, Node], memory: int | None
    ) -> budget.Choice:
        """How it is moved.  Raises UsageError when no way is likely to keep to the budget."""
        if not request.budget_ms:
            return budget.Choice("" if memory is None else budget.STOP, memory or 0)
        names, past = (nodes[0].name, nodes[1].name), self.moves.past.values()
        if memory is None:
            known = places.blackout_ms(task.id, *names, past)
            choice = budget.choose_pickled(request.budget_ms, known, request.anyway)
        else:
            choice = budget.choose(
                request.budget_ms, memory, names, past, places.without_later(*nodes),
                request.anyway,
            )
        if isinstance(choice, budget.Choice):
            return choice
        raise UsageError(f"{task.id}: {choice.text}", code=choice.code, hint=choice.fix)

    def _judge(self, operator: int, request: op.JudgeMove) -> Iterator[do.Action]:
        task = choose_task(request.task, self.registry.all_tasks())
        source = self.registry.where[task]
        known = source.tasks[task]
        at_home = request.nodes == "home" and "home" not in self.registry.nodes
        targets = self._nodes(known.spec.home if at_home else request.nodes)
        if targets == [source] and request.nodes != "all":
            raise UsageError(f"{task} is on {source.name} already", code="there")
        others = [node for node in targets if node is not source]
        yield from self.judging.why(operator, request, known, source, others, self._now)

    def _about(self, about: str) -> str:
        """The node or task meant."""
        if about in self.registry.nodes:
            return about
        return choose_task(about, self.registry.all_tasks())

    def _measure(self, operator: int, request: op.MeasureUsage) -> Iterator[do.Action]:
        nodes, wanted = self._to_measure(request.about)
        usages: dict[str, op.NodeUsage] = {}
        live: dict[str, wire.Measured] = {}
        faults: list[op.Fault] = []

        def finish() -> Iterator[do.Action]:
            views = []
            for node in nodes:
                fresh = live[node.name].tasks if node.name in live else {}
                for task in tuple(node.tasks.values()):
                    if wanted is None or task.id == wanted:
                        used = fresh.get(task.id) if not task.status.ended else task.usage
                        view = self.registry.view(task.id)
                        views.append(replace(view, task=replace(view.task, usage=used)))
            shown = tuple(usages[node.name] for node in nodes) if wanted is None else ()
            yield do.Answer(operator, op.Usages(request.id, shown, tuple(views), tuple(faults)))

        gather = Gather(len(nodes), finish)
        if not nodes:
            yield from finish()
        for node in nodes:

            def then(answer: wire.Message, node: Node = node) -> Iterator[do.Action]:
                if isinstance(answer, wire.Measured):
                    live[node.name] = answer
                    node.children = answer.children
                elif isinstance(answer, wire.Done):
                    faults.append(op.Fault(node.name, answer.code, answer.text))
                usages[node.name] = op.NodeUsage(node.name, node.children)
                yield from gather.one()

            order = self.orders.number()
            asked = (wanted,) if wanted else ()
            yield from self.orders.send(
                node, wire.Measure(order, asked), order, self._now, then, wanted=wire.Measured
            )

    def _to_measure(self, about: str) -> tuple[list[Node], str | None]:
        """The nodes to ask, and the one task that is wanted if it is one."""
        if not about:
            return self._nodes("all"), None
        try:
            return self._nodes(about), None
        except UsageError as no_node:
            try:
                task = choose_task(about, self.registry.all_tasks())
            except UsageError as no_task:
                if no_task.code == "ambiguous":
                    raise
                raise UsageError(
                    f"no node and no task {about!r}", code="no-such-task", hint=no_node.hint
                ) from no_task
            return [self.registry.where[task]], task

    # ---- files -----------------------------------------------------------------------------

    def _erase(self, operator: int, request: op.EraseFile) -> Iterator[do.Action]:
        node = self._node(request.place.node)

        def then(answer: wire.Message) -> Iterator[do.Action]:
            assert isinstance(answer, wire.Done)
            if answer.code:
                text = f"{node.name}: {answer.text}"
                yield do.Answer(operator, op.Problem(request.id, answer.code, text))
                return
            shown = request.place.path.decode("utf-8", "backslashreplace")
            yield from self._note(f"removed {node.name}:{shown}", node=node.name)
            yield do.Answer(operator, op.Ok(request.id))

        order = self.orders.number()
        erase = wire.Erase(order, request.place.path, request.recursive)
        yield from self.orders.send(node, erase, order, self._now, then, within_s=600.0)

    def _copy(self, operator: int, request: op.Copy) -> Iterator[do.Action]:
        nodes: dict[Role, Node] = {}
        if request.source.node:
            nodes["send"] = self._node(request.source.node)
        if request.target.node:
            nodes["receive"] = self._node(request.target.node)
        if not nodes:
            raise UsageError(
                "both sides are on this machine", code="usage", hint="write NODE:PATH for one",
                exit_status=2,
            )
        yield from self.copies.begin(operator, request, nodes, self._now)

    # ---- nodes -----------------------------------------------------------------------------

    def _register(self, operator: int, request: op.Register) -> Iterator[do.Action]:
        check_node_name(request.name)
        if not 0 < request.port <= HIGHEST_PORT:
            raise UsageError(
                f"{request.port} is no port to call", code="bad-address", exit_status=2
            )
        known = self.registry.nodes.get(request.name)
        if known is not None and known.state is not State.LEFT:
            at = f", at {known.address}" if known.address else ""
            raise UsageError(
                f"{request.name} is a node already{at}", code="exists",
                hint=f"`dereg {request.name}` frees the name",
            )

        if self.nodes.is_registering(request.name):
            raise UsageError(f"{request.name} is being registered already", code="exists")
        if request.code:
            read_code(request.code)
        elif request.name not in self.admission.leaves:
            raise UsageError(
                f"{request.name} is not a node of this cluster yet: its code is needed",
                code="code-needed",
                hint="clientd --listen prints it; --code-file FILE or GODWIT_CODE gives it",
            )

        def answer(code: str, text: str) -> Iterator[do.Action]:
            if code:
                yield do.Answer(operator, op.Problem(request.id, code, text))
            else:
                done = op.Ok(request.id, f"{request.name} is registered")
                yield from self._confirm(operator, done)

        yield from self.nodes.register(
            request.name, request.host, request.port, request.code, answer, self._now
        )

    def _revoke(self, operator: int, number: int, reference: str) -> Iterator[do.Action]:
        """Also of a name that only has a certificate: it joined and never came."""
        name = reference if reference in self.admission.leaves else self._node(reference).name
        yield from self.admission.revoke(name, self._wall)
        node = self.registry.nodes.get(name)
        text = f"{name} was taken off the list; what runs there runs on"
        if node is not None and node.state is not State.LEFT:
            yield from self.nodes.left(node, self._wall, text)
        yield from self._confirm(operator, op.Ok(number, text))

    def _dismiss(
        self, operator: int, number: int, nodes: list[Node],
        finish: Callable[[], Iterator[do.Action]],
    ) -> Iterator[do.Action]:
        """Ends the tasks of nodes and the nodes; a line of Progress for each."""
        gather = Gather(len(nodes), finish)
        if not nodes:
            yield from finish()
        for node in nodes:
            running = [task.id for task in node.tasks.values() if task.status.alive]

            def then(
                answer: wire.Message, node: Node = node, running: list[str] = running
            ) -> Iterator[do.Action]:
                yield from self._dismissed(operator, number, node, running, answer)
                yield from gather.one()

            node.dismissing = node.connected
            order = self.orders.number()
            yield from self.orders.send(
                node, wire.Dismiss(order), order, self._now, then, within_s=DISMISS_S
            )

    def _dismissed(
        self, operator: int, number: int, node: Node, running: list[str], answer: wire.Message
    ) -> Iterator[do.Action]:
        """The node has stopped, or cannot be told to."""
        where = self.registry.where
        left = sum(where[t].tasks[t].status.alive for t in running if t in where)
        count = len(running) - left
        ended = f", {count} task{'' if count == 1 else 's'} ended" if count else ""
        if node.state is State.LEFT:
            text = f"{node.name}: deregistered{ended}"
        else:
            why = unreachable(node) if not node.connected else "it did not stop in time"
            text = f"{node.name}: taken off the list ({why}); {left} of its tasks may run on"
            yield from self.nodes.left(node, self._wall, text)
        yield do.Answer(operator, op.Progress(number, text))

    def _history(self, operator: int, request: op.History) -> Iterator[do.Action]:
        about = self._about(request.about) if request.about else ""
        yield from self.history.answer(operator, request, about)

    def _stop(self, operator: int, request: op.StopMaster) -> Iterator[do.Action]:
        def finish() -> Iterator[do.Action]:
            yield from self._note("the master stops")
            yield do.Commit()
            yield do.Answer(operator, op.Ok(request.id))
            yield do.Stop()

        nodes = [n for n in self.registry.nodes.values() if n.state is not State.LEFT]
        if request.deregister:
            yield from self._dismiss(operator, request.id, nodes, finish)
        else:
            yield from finish()
