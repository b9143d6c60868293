"""Tasks that are started from snapshots: which one, where, and how it gets there.  Pure.

    who has which? -> to each node that has it not: masterd.lodging -> the launch, as any

A task that is started from one has an id and a log of its own: whatever becomes of the task that
it was taken of, no id ever has two copies.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.record import Snapshot
from godwit.wire import operations as op
from masterd import actions as do
from masterd.heirs import Heirs
from masterd.launches import MOST
from masterd.lodging import Lodging, has_kind
from masterd.orders import Gather, unreachable
from masterd.registry import Node, Registry
from masterd.snapshots import MOST_KEPT, Found, Snapshots, Subject


class Launch(Protocol):
    """Starts what is asked for on these nodes; ``then`` gets the tasks that there may be."""

    def __call__(
        self, operator: int, request: op.Execute, nodes: list[Node], faults: list[op.Fault],
        then: Callable[[tuple[op.TaskView, ...]], Iterator[do.Action]],
    ) -> Iterator[do.Action]: ...


class Restarts:
    """See the module."""

    def __init__(
        self, registry: Registry, snapshots: Snapshots, lodging: Lodging, heirs: Heirs,
        launch: Launch, find_nodes: Callable[[str], list[Node]], unsettled: Callable[[str], str],
    ):
        """``unsettled`` tells which move a task has that is not settled yet, if it has one."""
        self._registry = registry
        self._snapshots = snapshots
        self._lodging = lodging
        self._heirs = heirs
        self._launch = launch
        self._find_nodes = find_nodes
        self._unsettled = unsettled

    def begin(self, operator: int, request: op.RestartTask) -> Iterator[do.Action]:
        """Raises UsageError."""
        if not 1 <= request.count <= MOST:
            text = f"a count of {request.count} is not between 1 and {MOST}"
            raise UsageError(text, code="bad-count", exit_status=2)
        targets = self._targets(request)
        subject = self._snapshots.subject(request.task)
        if not request.fork:
            self._check_ended(subject, request)
        nodes = self._snapshots.having(subject)
        if not nodes:
            raise UsageError(
                self._snapshots.none_there(subject), code="unreachable",
                hint="`snapshots` lists what there is",
            )
        yield from self._snapshots.gather(subject.id, nodes, lambda found, faults: self._chosen(
            operator, request, subject, targets, found, faults
        ))

    def _targets(self, request: op.RestartTask) -> list[Node]:
        """Those that were named."""
        named = [node for reference in request.nodes for node in self._find_nodes(reference)]
        targets = list({node.name: node for node in named}.values())
        if not request.fork and len(targets) > 1:
            raise UsageError(
                f"a task goes on at one node, not at {len(targets)}", code="bad-nodes",
                hint="fork starts several", exit_status=2,
            )
        return targets

    def _check_ended(self, subject: Subject, request: op.RestartTask) -> None:
        """Of a task whose node is not heard a copy may be alive yet.  Raises UsageError."""
        task, node = subject.task, subject.node
        self._check_settled(subject.id)
        if task is None or node is None:
            why, alive = "nobody knows what became of it", False
        elif task.status.ended or (node.connected and task.status is Status.UNKNOWN):
            return  # its node says that it is gone, if not how
        elif node.connected:
            raise UsageError(
                f"{task.id} has not ended: it is {task.status.value}", code="not-ended",
                hint="kill it first; or fork it, for a second one beside it",
            )
        else:
            why, alive = unreachable(node), True
        if not request.lost:
            raise UsageError(
                f"{subject.id} may not have ended: {why}", code="not-ended",
                hint=f"if you know that it is gone, restart {subject.id} --lost"
                + (": should it come back, it is ended there" if alive else ""),
            )

    def _check_settled(self, task: str) -> None:
        """Of one that a move holds there may be two copies.  Raises UsageError."""
        if why := self._registry.held.get(task):
            raise UsageError(
                f"{task} is held: {why}", code="held",
                hint=f"`resolve {task} --source` or `--destination` comes first",
            )
        if move := self._unsettled(task):
            raise UsageError(
                f"{task} has a move that is not settled: {move}", code="moving",
                hint=f"`moves {task}` tells how it stands",
            )

    # ---- which one, and where --------------------------------------------------------------

    def _chosen(
        self, operator: int, request: op.RestartTask, subject: Subject, targets: list[Node],
        found: list[Found], faults: list[str],
    ) -> Iterator[do.Action]:
        matching = [one for one in found if request.snapshot in ("", one.snapshot.id)]
        if not matching:
            names = ", ".join(node.name for node in self._snapshots.having(subject)) or "no node"
            which = f"no snapshot {request.snapshot}" if request.snapshot else "no snapshot"
            text = "; ".join([f"{names} has {which} of {subject.id}", *faults])
            yield do.Answer(operator, op.Problem(
                request.id, "no-snapshot", text, "`snapshots TASK` lists them"
            ))
            return
        chosen = matching[-1]
        if chosen.snapshot.writes and (request.fork or request.count > 1):
            yield do.Answer(operator, _same_files(request.id, chosen.snapshot))
            return
        yield from self._fetch(operator, request, subject, chosen, targets or [
            self._nearest(subject, chosen)
        ])

    @staticmethod
    def _nearest(subject: Subject, chosen: Found) -> Node:
        """One that has it, and can start it if any can."""
        task = subject.task
        able = [node for node in chosen.nodes if task is None or has_kind(task, node)]
        return (able or chosen.nodes)[0]

    def _fetch(
        self, operator: int, request: op.RestartTask, subject: Subject, chosen: Found,
        targets: list[Node],
    ) -> Iterator[do.Action]:
        """Has it brought to those that have it not, and goes on when all have answered."""
        sources = [node for node in chosen.nodes if node.connected]
        missing = [n for n in targets if n not in chosen.nodes and n.connected and sources]
        faults: dict[str, op.Fault] = {}

        def finish() -> Iterator[do.Action]:
            ready = [node for node in targets if node.name not in faults]
            fetched = [node for node in missing if node.name not in faults]
            for node in targets:
                if node.name in faults:
                    yield from self._lodging.release(chosen.snapshot, node, False)
            yield from self._start(
                operator, request, subject, chosen, ready, list(faults.values()), fetched
            )

        for node in targets:
            self._lodging.use(subject.id, node)
        gather = Gather(len(missing), finish)
        if not missing:
            yield from finish()
        for place, node in enumerate(missing):

            def brought(code: str, text: str, node: Node = node) -> Iterator[do.Action]:
                if code:
                    faults[node.name] = op.Fault(
                        node.name, code, f"{node.name} did not get the snapshot: {text}"
                    )
                yield from gather.one()

            source = sources[place % len(sources)]
            yield from self._lodging.carry(chosen.snapshot, source, node, MOST_KEPT, brought)

    def _start(
        self, operator: int, request: op.RestartTask, subject: Subject, chosen: Found,
        nodes: list[Node], faults: list[op.Fault], fetched: list[Node],
    ) -> Iterator[do.Action]:
        spec, snapshot = chosen.snapshot.spec, chosen.snapshot.id

        def then(views: tuple[op.TaskView, ...]) -> Iterator[do.Action]:
            runs = [each for each in views if each.task.status is not Status.STARTING]
            if runs and not request.fork and request.lost:
                yield from self._heirs.add(subject.id, runs[0].task.id)
            waiting = {view.node for view in views if view.task.status is Status.STARTING}
            for node in nodes:
                is_done = node in fetched and node.name not in waiting  # else it may need it yet
                yield from self._lodging.release(chosen.snapshot, node, is_done)

        execute = op.Execute(
            request.id, "", spec.argv, shell=spec.shell, cwd=spec.cwd, env=spec.env,
            name=spec.name, user=spec.user, kind=spec.kind, count=request.count,
            contained=spec.contained, log_at_home=spec.log_at_home, digest=spec.digest,
            snapshot=snapshot,
        )
        yield from self._launch(operator, execute, nodes, faults, then)


def _same_files(number: int, found: Snapshot) -> op.Problem:
    task = found.spec.task
    names = ", ".join(name.decode("utf-8", "backslashreplace") for name in found.writes[:3])
    more = f" and {len(found.writes) - 3} more" if len(found.writes) > 3 else ""
    return op.Problem(
        number, "writes", f"{task} had {names}{more} open for writing when snapshot {found.id} "
        "was taken: copies of it would all write there",
        f"`restart {task} --from {found.id}` starts one, once it has ended",
    )
