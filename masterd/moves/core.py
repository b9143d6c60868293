"""Moves under way: who is asked what, and when the owner changes.  Pure.

    Reserve -> target | reserved       Freeze -> source | frozen, and prepared at the target
    both votes: the owner's record changes, durably; then Verdict commit -> target | running;
    then Verdict finish -> source | finished.  Whatever fails before: Verdict abort -> both.

A verdict is repeated until it is answered: on a clock, and on each new connection of a node.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.names import join_address
from godwit.task.lifecycle import Status
from godwit.task.record import Task
from godwit.task.verdict import Reason
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.history import History
from masterd.moves import found, places
from masterd.moves.flight import Flight, view
from masterd.moves.table import Cause, Move, State, advance
from masterd.orders import unreachable
from masterd.registry import Node, Registry

#: Seconds without any word of a move before its verdict, after which it is aborted.
QUIET_S = 10.0
#: Seconds between two times that a verdict is told which nobody has answered.
REPEAT_S = 2.0
#: Seconds after its commit when a move of which no word came is shown as held.
HELD_S = 8.0
#: Seconds after which whoever waits for a move hears that it is done, though the source has not
#: said yet that its frozen copy is gone.
PATIENCE_S = 3.0
#: Moves that one node takes part in at once; more wait.
MOST_EACH = 64
#: Moves that have settled and are still shown.
KEPT = 1000

#: Kind of task -> how it is moved, if it can be.
WAYS = {"python": "python", "shell": "criu"}
#: What a node that waits for a verdict says.
WAITING = ("frozen", "reserved", "prepared")

CANNOT = "`list` shows what each node can do"

Verdict = Literal["commit", "abort", "resume", "finish", "end", "ask"]


class Moves:
    """All moves."""

    def __init__(
        self, registry: Registry, history: History, leaves: Mapping[str, tuple[str, ...]],
        secret: Callable[[int], str], sources: Mapping[str, bytes],
        moved: Callable[[Task, Node], Iterator[do.Action]],
    ):
        """``leaves``: by node, the certificates that are its own.  ``sources``: programs' texts by
        their digest.  ``moved`` tells the rest of the core that a task runs on another node."""
        self._registry = registry
        self._history = history
        self._leaves = leaves
        self._secret = secret
        self._sources = sources
        self._moved = moved
        self._flights: dict[str, Flight] = {}
        #: task -> its flight.
        self._of: dict[str, Flight] = {}
        #: task -> moves of it that are not on record, and wait for the one that is.
        self._strays: dict[str, dict[tuple[str, str], wire.Standing]] = {}
        #: Flights that wait for a node to have fewer.
        self._queue: list[Flight] = []
        #: Settled, the newest last.
        self.past: dict[str, Move] = {}
        #: task -> what is to be done once it has its place.
        self._after: dict[str, list[Callable[[], Iterator[do.Action]]]] = {}
        self._now = 0.0
        self._wall = 0.0

    def load(self, moves: list[Move], now: float) -> None:
        """What was on record when the master started: what had no verdict will be aborted, if it
        turns out that it had none."""
        for move in moves:
            if move.settled:
                self._shelve(move)
                continue
            if move.state is State.INTENT:
                move = replace(
                    move, state=advance(move.state, Cause.RESTARTED), code=found.RESTARTED,
                    reason="the master was started again before it was decided",
                )
            flight = Flight(move, due=now, freezing=True)
            self._flights[move.id] = self._of[move.task] = flight

    def at(self, now: float, wall: float) -> None:
        """Before anything else in a turn."""
        self._now, self._wall = now, wall

    # ---- asked -----------------------------------------------------------------------------

    def begin(
        self, operator: int, request: op.MoveTask, task: Task, source: Node, target: Node
    ) -> Iterator[do.Action]:
        """Records the intent and asks the destination.  Raises UsageError."""
        self.check(request, task, source, target)
        move = Move(
            id=self._fresh_id(), task=task.id, source=source.name, target=target.name,
            kind=task.spec.kind, epoch=task.spec.epoch, on_unknown=request.on_unknown,
            begun_at=self._wall,
        )
        flight = Flight(move, [(operator, request.id)], ticket=self._secret(32))
        flight.mark("begun", self._now)
        self._flights[move.id] = self._of[task.id] = flight
        self._queue.append(flight)
        yield from self._start_waiting()

    def _fresh_id(self) -> str:
        while (name := "m" + self._secret(4)) in self._flights or name in self.past:
            pass
        return name

    def check(self, request: op.MoveTask, task: Task, source: Node, target: Node) -> None:
        """Raises UsageError for what is known already to be in the way."""
        if request.source and request.source != source.name:
            raise UsageError(
                f"{task.id} is on {source.name}, not on {request.source}", code="elsewhere",
                hint=f"move {task.id} {target.name}",
            )
        if source is target:
            raise UsageError(f"{task.id} is on {target.name} already", code="there")
        for reason in self.objections(task, source, target):
            raise UsageError(reason.text, code=reason.code, hint=reason.fix)

    def objections(self, task: Task, source: Node, target: Node) -> Iterator[Reason]:
        """What is known, without asking anybody, to be in the way of a move."""
        if task.id in self._of:
            yield Reason("moving", f"{task.id} is moving already: {self._of[task.id].move.id}")
        if task.status.ended or task.status is Status.UNKNOWN:
            yield Reason("ended", f"{task.id} has ended ({task.status.value})")
        elif task.status is Status.FROZEN:
            yield Reason(
                "moving",
                f"{task.id} stands still for a move that this master is finding out about",
            )
        elif task.status is Status.PAUSED:
            yield Reason("paused", f"{task.id} is paused", f"`resume {task.id}` first")
        for node in (source, target):
            if not node.connected:
                yield Reason("unreachable", unreachable(node))
        if task.spec.kind not in WAYS:
            yield Reason(
                "kind", f"a {task.spec.kind} task cannot move from {source.name} to {target.name}",
                CANNOT,
            )
        elif WAYS[task.spec.kind] == "criu" and not task.spec.contained:
            how = "by a one-off command" if task.spec.oneoff else "with --plain"
            yield Reason(
                "plain",
                f"{task.id} was started {how}: it has no pid namespace of its own, and cannot move",
                "a task that `execute` starts without --plain can",
            )
        elif target.connected and WAYS[task.spec.kind] == "python":
            yield from places.judged_by_heart(task, source, target).reasons

    def _start_waiting(self) -> Iterator[do.Action]:
        """Begins the moves for which both nodes have room."""
        busy: dict[str, int] = {}
        for flight in self._flights.values():
            if flight not in self._queue:
                for name in (flight.move.source, flight.move.target):
                    busy[name] = busy.get(name, 0) + 1
        ready = []
        for flight in self._queue:
            names = (flight.move.source, flight.move.target)
            if all(busy.get(name, 0) < MOST_EACH for name in names):
                ready.append(flight)
                for name in names:
                    busy[name] = busy.get(name, 0) + 1
        # All are off the queue before any is begun: one that ends at once comes here again.
        self._queue = [flight for flight in self._queue if flight not in ready]
        for flight in ready:
            yield from self._reserve(flight)

    def _reserve(self, flight: Flight) -> Iterator[do.Action]:
        move = flight.move
        flight.due = self._now + QUIET_S
        yield do.KeepMove(move)
        yield do.Commit()
        target, task = self._registry.nodes[move.target], self._task(move)
        if target.control is None or task is None or not task.status.alive:
            yield from self._abort(flight, "gone", "it ended, or its destination went away")
            return
        yield do.Send(target.control, wire.Reserve(
            move.id, task, move.epoch + 1, flight.ticket, self._leaves.get(move.source, ()),
            self._sources.get(task.spec.digest, b""), move.source,
        ), recorded=True)

    def _task(self, move: Move) -> Task | None:
        node = self._registry.where.get(move.task)
        return node.tasks[move.task] if node is not None else None

    # ---- what nodes say --------------------------------------------------------------------

    def said(self, node: Node, standing: wire.Standing) -> Iterator[do.Action]:
        """A node repeats what it has on record of a move.  It speaks only for itself."""
        flight = self._flights.get(standing.move)
        if flight is None:
            yield from self._said_of_past(node, standing)
            return
        move = flight.move
        if standing.task != move.task or node.name not in (move.source, move.target):
            return
        if move.state is State.INTENT:
            flight.due = self._now + QUIET_S
        if move.state is State.UNSURE:
            yield from self._said_of_found(flight, node, standing)
        elif node.name == move.target:
            yield from self._target_said(flight, node, standing)
        else:
            yield from self._source_said(flight, standing)

    def _target_said(
        self, flight: Flight, node: Node, standing: wire.Standing
    ) -> Iterator[do.Action]:
        move = flight.move
        match standing.state, move.state:
            case "reserved", State.INTENT:
                if not flight.freezing:
                    yield from self._freeze(flight, node, standing.port)
            case "refused", State.INTENT:
                yield from self._abort(
                    flight, standing.code, f"{node.name}: {standing.text}", owing=(move.source,)
                )
            case "prepared", State.INTENT:
                flight.prepared = standing
                yield from self._commit_if_voted(flight)
            case ("reserved" | "prepared"), _:
                yield from self._repeat(flight, node.name)
            case ("refused" | "discarded" | "unfrozen"), (State.ABORTED | State.REVERTED):
                yield from self._settle(flight, node.name)
            case "running", State.COMMITTED:
                yield from self._ran(flight, standing)
            case ("renounced" | "discarded"), State.COMMITTED:
                yield from self._revert(
                    flight, standing.code, f"{node.name}: {standing.text}", owing=(move.source,)
                )
            case "lost", State.COMMITTED if move.on_unknown == "resume":
                yield from self._revert(
                    flight, "lost", f"{node.name}: {standing.text}",
                    owing=(move.source, move.target),
                )
            case "lost", State.COMMITTED:
                yield from self._hold(flight, f"{node.name} may have run it: {standing.text}")
            case ("lost" | "running"), State.REVERTED:
                yield from self._repeat(flight, node.name)

    def _source_said(self, flight: Flight, standing: wire.Standing) -> Iterator[do.Action]:
        move = flight.move
        match standing.state, move.state:
            case "streaming", State.INTENT:
                progress = f"{move.task}: {move.source} -> {move.target}"
                for operator, request in flight.waiting:
                    yield do.Answer(
                        operator, op.Progress(request, progress, standing.size, standing.total)
                    )
            case "frozen", State.INTENT if standing.code:
                yield from self._abort(flight, standing.code, f"{move.source}: {standing.text}")
            case "frozen", State.INTENT:
                flight.frozen = standing
                yield from self._commit_if_voted(flight)
            case "frozen", _:
                yield from self._repeat(flight, move.source)
            case "unfrozen", State.INTENT:
                yield from self._abort(
                    flight, standing.code or "refused", standing.text, owing=(move.target,)
                )
            case ("unfrozen" | "resumed"), (State.ABORTED | State.REVERTED):
                if standing.code:
                    yield from self._note("severe", f"{move.task} could not be resumed at "
                                          f"{move.source}: {standing.text}", move)
                yield from self._settle(flight, move.source)
            case "finished", State.REVERTED:  # by a master whose record was an older one
                yield from self._note("severe", f"{move.task} could not be resumed at "
                                      f"{move.source}: it had given up its copy", move)
                yield from self._settle(flight, move.source)
            case ("unfrozen" | "resumed"), State.RAN if move.code == "resolved":
                yield from self._revert(
                    flight, "resolved", f"it runs on {move.source}, whatever was said by hand",
                    (move.target,),
                )
            case "finished", State.RAN:
                done = replace(move, state=advance(move.state, Cause.FINISHED), owing=())
                yield from self._record(flight, done)
                yield from self._close(flight)

    def _said_of_past(self, node: Node, standing: wire.Standing) -> Iterator[do.Action]:
        """A move that is settled here, or that this master has no record of."""
        past = self.past.get(standing.move)
        if node.control is None:
            return
        if past is not None and node.name in (past.source, past.target):
            verdict = _verdict(past, node.name)
            if verdict and standing.state in WAITING:
                yield do.Send(node.control, wire.Verdict(
                    past.id, past.task, past.owner_epoch, verdict
                ))
        elif past is None and standing.state == "reserved":  # it has not voted
            yield do.Send(
                node.control, wire.Verdict(standing.move, standing.task, standing.epoch, "abort")
            )
        elif past is None and standing.state in found.TELLING:
            yield from self._find(node, standing)

    # ---- moves of which the record is lost -------------------------------------------------

    def _find(self, node: Node, standing: wire.Standing) -> Iterator[do.Action]:
        if standing.task in self._of:  # one at a time: it is looked at when that one is over
            self._stray(node, standing)
            return
        owner = self._registry.where.get(standing.task)
        task = owner.tasks[standing.task] if owner is not None else None
        name = owner.name if owner is not None else ""
        move = found.found(node.name, standing, task, name, self._wall)
        yield from self._history.add(
            self._wall, "severe",
            f"{node.name} has {standing.task} {standing.state} for move {standing.move}, of which "
            "this master has no record" + ("" if move else f"; {standing.task} is on {name}"),
            node=node.name, task=standing.task, notice=True,
        )
        if move is None:
            self._stray(node, standing)
        else:
            flight = Flight(move, freezing=True)
            flight.mark("found", self._now)
            self._flights[move.id] = self._of[move.task] = flight
            yield from self._record(flight, move)
            yield from self._said_of_found(flight, node, standing)

    def _stray(self, node: Node, standing: wire.Standing) -> None:
        self._strays.setdefault(standing.task, {})[standing.move, node.name] = standing
        if len(self._strays) > KEPT:
            del self._strays[next(iter(self._strays))]

    def look_again(self, task: str) -> Iterator[do.Action]:
        """The task has another owner, or no move any more: what was said of it may be believed."""
        for (_, name), standing in self._strays.pop(task, {}).items():
            if (node := self._registry.nodes.get(name)) is not None:
                yield from self.said(node, standing)

    def _said_of_found(
        self, flight: Flight, node: Node, standing: wire.Standing
    ) -> Iterator[do.Action]:
        move = flight.move
        if node.name == move.source and standing.state == "frozen":
            is_news, flight.frozen = flight.frozen is None, standing
            if is_news:
                yield from self._tell_verdict(flight, move.target)
            return
        if standing.state == "prepared":
            yield from self._tell_verdict(flight, move.target if flight.frozen else move.source)
            return
        match found.follows(move, node.name, standing, flight.frozen is not None):
            case found.Next("held") if self._is_elsewhere(move):
                yield from self._abort(flight, move.code, move.reason, (move.target,))
            case found.Next("held", reason=reason):
                yield from self._hold(flight, reason)
            case found.Next("aborted", owing):
                yield from self._abort(flight, move.code, move.reason, owing)
            case found.Next("reverted", owing):
                yield from self._revert(flight, move.code, move.reason, owing)
            case found.Next() as then:
                yield from self._found_at_target(flight, then)

    def _found_at_target(self, flight: Flight, then: found.Next) -> Iterator[do.Action]:
        """The destination has it: running, or whatever became of it since."""
        move, task = flight.move, self._task(flight.move)
        cause = Cause.RAN if then.what == "ran" else Cause.FINISHED
        taken = replace(
            move, state=advance(move.state, cause), owing=then.owing, ended_at=self._wall
        )
        self._release(flight)
        flight.mark("ran", self._now)
        yield from self._record(
            flight, taken, self._give(flight, task, taken.target, taken.owner_epoch)
        )
        yield from self._note("warning", f"{move.task} is on {move.target}: {move.reason}", taken)
        for name in (move.source, move.target):
            yield from self._tell_verdict(flight, name)
        yield from self._placed(flight)
        if taken.settled:
            yield from self._close(flight)

    def _is_elsewhere(self, move: Move) -> bool:
        """A third node has the task by a move that came later: this record is an older one."""
        node, task = self._registry.doubted.get(move.task, (None, None))
        return node is not None and task is not None and task.spec.epoch > move.epoch and (
            node.name not in (move.source, move.target)
        )

    def _believe(self, move: Move) -> Iterator[do.Action]:
        node, task = self._registry.doubted.get(move.task, (None, None))
        known = self._task(move)
        if node is None or task is None or not node.connected:
            return
        if known is None or known.spec.epoch < task.spec.epoch:
            self._registry.give(node, task)
            yield do.KeepTask(node.name, task)

    def claimed(self, node: Node, task: Task) -> None:
        """A node of a move has told of the task, which another owns as long as nothing else is
        decided."""
        flight = self._of.get(task.id)
        if flight is not None:
            flight.claims[node.name] = task

    def _freeze(self, flight: Flight, target: Node, port: int) -> Iterator[do.Action]:
        move = flight.move
        source = self._registry.nodes[move.source]
        if source.control is None:
            yield from self._abort(flight, "unreachable", unreachable(source))
            return
        flight.freezing = True
        flight.mark("reserved", self._now)
        flight.mark("freeze", self._now)
        yield do.Send(source.control, wire.Freeze(
            move.id, move.task, move.epoch, join_address(target.peer_host, port), flight.ticket,
            self._leaves.get(move.target, ()), move.target,
        ))

    # ---- verdicts --------------------------------------------------------------------------

    def _commit_if_voted(self, flight: Flight) -> Iterator[do.Action]:
        """The commit point: the move and the task's owner, in one durable write."""
        if flight.frozen is None or flight.prepared is None:
            return
        move, task = flight.move, self._task(flight.move)
        if task is None or self._registry.where[move.task].name != move.source:
            yield from self._abort(flight, "gone", f"{move.task} is not on {move.source} any more")
            return
        flight.mark("voted", self._now)
        committed = replace(move, state=advance(move.state, Cause.VOTED), owing=(move.target,))
        given = self._give(flight, task, move.target, committed.owner_epoch)
        yield from self._record(flight, committed, given)
        flight.mark("committed", self._now)
        yield from self._tell_verdict(flight, move.target)

    def _give(self, flight: Flight, task: Task | None, name: str, epoch: int) -> Task | None:
        """The owner's record: compared by who asks, set here, recorded with the move."""
        node = self._registry.nodes.get(name)
        if task is None or node is None:
            return None
        given = flight.claims.get(name)
        if given is None or given.spec.epoch != epoch:
            given = replace(task, spec=replace(task.spec, epoch=epoch), status=Status.FROZEN)
        self._registry.give(node, given)
        return given

    def _record(
        self, flight: Flight, move: Move, given: Task | None = None
    ) -> Iterator[do.Action]:
        """Durable before anything that follows; the task's owner, if it changes, in one write
        with the move: either alone would end the only copy as one that is out of date."""
        flight.move = move
        flight.due = self._now + REPEAT_S
        owner = self._registry.where[move.task].name if given is not None else ""
        yield do.KeepMove(move, owner, given)
        yield do.Commit()

    def _abort(
        self, flight: Flight, code: str, reason: str, owing: tuple[str, ...] | None = None
    ) -> Iterator[do.Action]:
        move = flight.move
        if flight in self._queue:
            self._queue.remove(flight)
        owing = (move.source, move.target) if owing is None else owing
        if not flight.freezing:
            owing = tuple(name for name in owing if name != move.source)  # it never heard of it
        flight.mark("decided", self._now)
        aborted = replace(
            move, state=advance(move.state, Cause.ABORTED), code=code, reason=reason,
            owing=owing, ended_at=self._wall,
        )
        given = None
        if move.state is State.UNSURE:
            self._release(flight)
            if not self._is_elsewhere(move):
                given = self._give(flight, self._task(move), move.source, move.epoch)
        yield from self._record(flight, aborted, given)
        yield from self._note("info", f"{move.task} stays on {move.source}: {reason}", move)
        for name in owing:
            yield from self._tell_verdict(flight, name)
        if move.source not in owing:
            yield from self._placed(flight)
        if not owing:
            yield from self._close(flight)

    def _revert(
        self, flight: Flight, code: str, reason: str, owing: tuple[str, ...]
    ) -> Iterator[do.Action]:
        """The destination never runs it, or it is given up: the source has it again."""
        move, task = flight.move, self._task(flight.move)
        reverted = replace(
            move, state=advance(move.state, Cause.RENOUNCED), code=code, reason=reason,
            owing=owing, ended_at=self._wall,
        )
        given = self._give(flight, task, move.source, reverted.owner_epoch)
        self._release(flight)
        flight.mark("decided", self._now)
        yield from self._record(flight, reverted, given)
        yield from self._note("warning", f"{move.task} goes back to {move.source}: {reason}", move)
        for name in owing:
            yield from self._tell_verdict(flight, name)

    def _ran(self, flight: Flight, standing: wire.Standing) -> Iterator[do.Action]:
        flight.mark("ran", self._now)
        self._release(flight)
        move = replace(
            flight.landed(standing), state=advance(flight.move.state, Cause.RAN),
            owing=(flight.move.source,), ended_at=self._wall,
        )
        yield from self._record(flight, move)
        yield from self._tell_verdict(flight, move.source)
        still = f", {move.blackout_ms:.0f} ms of it standing still" if move.blackout_ms else ""
        yield from self._note(
            "info", f"{move.task} moved from {move.source} to {move.target} in "
            f"{flight.ms('begun', 'ran'):.0f} ms{still}", move,
        )
        yield from self._placed(flight)

    def _tell_verdict(self, flight: Flight, name: str) -> Iterator[do.Action]:
        """Tells a node what is on record, if it concerns it.

        An abort is also true without a record: what has no verdict on record can only be aborted.
        """
        node = self._registry.nodes.get(name)
        verdict = _verdict(flight.move, name, flight.frozen is not None)
        if node is not None and node.control is not None and verdict:
            move = flight.move
            yield do.Send(
                node.control, wire.Verdict(move.id, move.task, move.owner_epoch, verdict),
                recorded=verdict not in ("abort", "ask"),
            )

    def _repeat(self, flight: Flight, name: str) -> Iterator[do.Action]:
        """The record may still be on its way to the disk: this must not overtake it."""
        yield do.Commit()
        yield from self._tell_verdict(flight, name)

    # ---- held ------------------------------------------------------------------------------

    def _hold(self, flight: Flight, why: str) -> Iterator[do.Action]:
        """No verdict can be reached now; the task shows so, and those who wait are told."""
        if flight.held:
            return
        flight.held = why
        self._registry.held[flight.move.task] = why
        yield from self._note("severe", f"{flight.move.task} is held: {why}", flight.move)
        yield from self._answer(flight)
        for waiting in self._after.pop(flight.move.task, []):
            yield from waiting()

    def _release(self, flight: Flight) -> None:
        flight.held = ""
        self._registry.held.pop(flight.move.task, None)

    def resolve(self, operator: int, request: op.ResolveMove) -> Iterator[do.Action]:
        """A person's word for what no machine can know.  Raises UsageError."""
        flight = self._flights.get(request.move)
        if flight is None:
            known = request.move in self.past
            raise UsageError(
                f"{request.move} is settled" if known else f"no move {request.move!r}",
                code="settled" if known else "no-such-move", hint="`moves` lists them",
            )
        move = flight.move
        if move.state not in (State.COMMITTED, State.UNSURE) or not flight.held:
            raise UsageError(
                f"{move.id} is {move.state.value}, not held: nothing is to be resolved",
                code="not-held",
            )
        if request.side == "source":
            flight.waiting.append((operator, request.id))
            yield from self._revert(
                flight, "resolved", f"resolved by hand: {move.source} has it",
                (move.source, move.target),
            )
            return
        self._release(flight)
        given_up = replace(
            move, state=advance(move.state, Cause.RAN), owing=(move.source,), code="resolved",
            reason=f"resolved by hand: {move.target} has it", ended_at=self._wall,
        )
        given = None
        if move.state is State.UNSURE:
            given = self._give(flight, self._task(move), move.target, given_up.owner_epoch)
        yield from self._record(flight, given_up, given)
        for name in (move.source, move.target):
            yield from self._tell_verdict(flight, name)
        yield do.Answer(operator, op.Moves(request.id, (view(flight.move),)))

    # ---- ending ----------------------------------------------------------------------------

    def _settle(self, flight: Flight, name: str) -> Iterator[do.Action]:
        """A node has done what the verdict wants of it."""
        move = flight.move
        if name not in move.owing:
            return
        left = tuple(owing for owing in move.owing if owing != name)
        flight.move = replace(move, owing=left)
        yield do.KeepMove(flight.move)
        if name == move.source:
            yield from self._placed(flight)
        if not left:
            yield from self._close(flight)

    def _placed(self, flight: Flight) -> Iterator[do.Action]:
        """It is known where the task runs: who waited for that goes on."""
        task = self._task(flight.move)
        node = self._registry.where.get(flight.move.task)
        if task is not None and node is not None and flight.move.state is not State.ABORTED:
            yield from self._moved(task, node)
        if flight.move.state is not State.RAN:
            yield from self._answer(flight)
        for waiting in self._after.pop(flight.move.task, []):
            yield from waiting()

    def _answer(self, flight: Flight) -> Iterator[do.Action]:
        shown = view(flight.move, flight.held)
        for operator, request in flight.waiting:
            yield do.Answer(operator, op.Moves(request, (shown,)))
        flight.waiting.clear()

    def _close(self, flight: Flight) -> Iterator[do.Action]:
        yield from self._answer(flight)
        self._flights.pop(flight.move.id, None)
        self._of.pop(flight.move.task, None)
        self._release(flight)
        self._shelve(flight.move)
        if flight.move.code in (found.CODE, found.RESTARTED):
            yield from self._believe(flight.move)
        yield from self._start_waiting()
        yield from self.look_again(flight.move.task)

    def _shelve(self, move: Move) -> None:
        self.past[move.id] = move
        if len(self.past) > KEPT:
            del self.past[next(iter(self.past))]

    # ---- what others need to know ----------------------------------------------------------

    def is_moving(self, task: str) -> bool:
        return task in self._of

    def is_part(self, node: Node, task: str) -> bool:
        """The node has, or may have, a copy of the task by a move that is not settled."""
        flight = self._of.get(task)
        return flight is not None and node.name in (flight.move.source, flight.move.target)

    def after(
        self, task: str, then: Callable[[], Iterator[do.Action]]
    ) -> Iterator[do.Action]:
        """Does something once the task has its place, or is held."""
        flight = self._of.get(task)
        if flight is None or flight.held or flight.move.state is State.RAN:
            yield from then()
        else:
            self._after.setdefault(task, []).append(then)

    def ended(self, task: str) -> Iterator[do.Action]:
        """A task has ended, or is not known any more; before it froze, that ends its move."""
        flight = self._of.get(task)
        if flight is not None and flight.move.state is State.INTENT:
            yield from self._abort(flight, "ended", "the task ended meanwhile")

    def reported(self, node: Node) -> Iterator[do.Action]:
        """A node is back, and its pid map whole: it hears again what it may have missed."""
        for flight in list(self._flights.values()):
            if node.name in (flight.move.source, flight.move.target):
                yield from self._repeat(flight, node.name)

    def left(self, node: Node) -> Iterator[do.Action]:
        """A node is no node of ours any more: nothing is waited for from it."""
        for flight in list(self._flights.values()):
            move = flight.move
            if node.name not in (move.source, move.target):
                continue
            if move.state is State.INTENT:
                other = move.source if node.name == move.target else move.target
                yield from self._abort(
                    flight, "left", f"{node.name} was deregistered", owing=(other,)
                )
            elif move.state is State.UNSURE or (
                move.state is State.COMMITTED and node.name == move.target
            ):
                yield from self._hold(flight, f"{node.name} was deregistered")
            elif move.state is State.RAN and node.name == move.source:
                done = replace(move, state=advance(move.state, Cause.FINISHED), owing=())
                yield from self._record(flight, done)
                yield from self._close(flight)
            else:
                yield from self._settle(flight, node.name)

    def listed(self, about: str, limit: int) -> tuple[op.MoveView, ...]:
        """The newest moves of a node or task, or all; the newest last."""
        every = [
            *(view(move) for move in self.past.values()),
            *(view(flight.move, flight.held) for flight in self._flights.values()),
        ]
        wanted = [v for v in every if not about or about in (v.task, v.source, v.target)]
        wanted.sort(key=lambda shown: shown.begun_at)
        return tuple(wanted[max(0, len(wanted) - limit):])

    def cancel(self, operator: int, request: int | None = None) -> Iterator[do.Action]:
        """Nobody waits for it any more; who takes a request back ends what has no verdict yet."""
        for flight in list(self._flights.values()):
            if request is not None and (operator, request) in flight.waiting:
                flight.waiting.remove((operator, request))
                if flight.move.state is State.INTENT:
                    yield from self._abort(flight, "cancelled", "cancelled")
            elif request is None:
                flight.waiting = [w for w in flight.waiting if w[0] != operator]

    # ---- time ------------------------------------------------------------------------------

    def late(self) -> Iterator[do.Action]:
        """What silence means: before the verdict the end of the move, after it nothing."""
        for flight in list(self._flights.values()):
            if flight.due > self._now:
                continue
            flight.due = self._now + REPEAT_S
            match flight.move.state:
                case State.INTENT:
                    yield from self._abort(flight, "timeout", self._silence(flight))
                case State.COMMITTED:
                    yield from self._repeat(flight, flight.move.target)
                    flight.mark("committed", self._now)  # by an earlier master
                    if self._now >= flight.marks["committed"] + HELD_S:
                        yield from self._hold(flight, self._silent_target(flight.move))
                case State.UNSURE:
                    for name in (flight.move.source, flight.move.target):
                        yield from self._repeat(flight, name)
                    flight.mark("found", self._now)  # by an earlier master
                    if self._now >= flight.marks["found"] + HELD_S:
                        yield from self._hold(flight, self._silent_found(flight))
                case State.RAN:
                    yield from self._repeat(flight, flight.move.source)
                    if self._now >= flight.marks.get("ran", 0.0) + PATIENCE_S:
                        yield from self._answer(flight)
                case _:
                    for name in flight.move.owing:
                        yield from self._repeat(flight, name)
                    if self._now >= flight.marks.get("decided", 0.0) + PATIENCE_S:
                        yield from self._answer(flight)

    def _silence(self, flight: Flight) -> str:
        move = flight.move
        waits_for = move.target if not flight.freezing or flight.frozen else move.source
        return f"{waits_for} said nothing for {QUIET_S:g} s"

    def _silent_target(self, move: Move) -> str:
        target = self._registry.nodes.get(move.target)
        if target is None or target.control is None:
            return f"{move.target} was given the task and cannot be reached"
        return f"{move.target} was given the task and has not said that it runs"

    def _silent_found(self, flight: Flight) -> str:
        name = flight.move.target if flight.frozen else flight.move.source
        return f"{flight.move.reason}, and {name or 'the other end'} does not say what became of it"

    def deadline(self) -> float:
        """Monotonic second at which ``late`` is wanted; infinity: never."""
        return min((flight.due for flight in self._flights.values()), default=float("inf"))

    def _note(
        self, level: Literal["info", "warning", "severe"], text: str, move: Move
    ) -> Iterator[do.Action]:
        node = move.target if move.state.at_target else move.source
        yield from self._history.add(
            self._wall, level, text, node=node, task=move.task, notice=level != "info"
        )


def _verdict(move: Move, name: str, is_frozen: bool = True) -> Verdict | None:
    """What the record wants of this node; ``is_frozen``: the source has said that it is."""
    at_source = name == move.source
    match move.state:
        case State.ABORTED:
            return "abort"
        case State.COMMITTED:
            return None if at_source else "commit"
        case State.RAN | State.DONE:
            # One that was resolved by hand may have a destination that has not heard of it.
            return "finish" if at_source else "commit"
        case State.REVERTED:
            return "resume" if at_source else "end"
        case State.UNSURE:
            return "ask" if at_source or not is_frozen else "abort"
        case State.INTENT:
            return None
