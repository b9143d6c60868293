"""Copies of snapshots on other nodes: where they go, who has them, when they are dropped.  Pure.

    master: Lodge -> receiver: Listening -> master: Give -> sender: ship -> receiver: Snapshots

The bytes go straight from node to node.  What nodes say that they lodge is the truth; the record
says which of them is a task's *peer*, so that its snapshots stay on one node while that is up, and
which are to drop what they have of a task that is no more, should they be away just then.

The rule: snapshots are dropped with their task when it was removed, or forgotten once it had ended
for certain.  Of a task that only went out of sight they stay: they may be all that is left of it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from godwit.names import join_address
from godwit.task.record import Snapshot, Task
from godwit.wire import messages as wire
from masterd import actions as do
from masterd.moves import places
from masterd.orders import Orders
from masterd.registry import Node, Registry, State
from masterd.sources import Sources

#: Nodes that are asked, one after the other, to take a copy in.
TRIES = 4
#: Seconds that a node has to make room for one.
ROOM_S = 30.0
FOREVER = float("inf")

#: Told a code, empty when all is there, and a text.
Then = Callable[[str, str], Iterator[do.Action]]
#: Told the node that has it, or none, and why.
Copied = Callable[[Node | None, str], Iterator[do.Action]]


class Carriage(Struct):
    """One snapshot on its way from one node to another."""

    snapshot: Snapshot
    source: Node
    target: Node
    ticket: str
    #: All who wait for it.
    then: list[Then]
    lodge: int = 0
    give: int = 0
    over: bool = False


class Lodging:
    """All of them."""

    def __init__(
        self, registry: Registry, orders: Orders, sources: Sources,
        leaves: Mapping[str, tuple[str, ...]], new_ticket: Callable[[], str],
        now: Callable[[], float],
    ):
        """``now`` is monotonic seconds."""
        self._now = now
        self._registry = registry
        self._orders = orders
        self._sources = sources
        #: By node, the certificates that are its own.
        self._leaves = leaves
        self._new_ticket = new_ticket
        #: task -> node -> what it is to the task.
        self.records: dict[str, dict[str, do.Lodger]] = {}
        #: By the order that the receiver answers.
        self._carriages: dict[int, Carriage] = {}
        #: (task, node): starts from what is there are under way.
        self._in_use: Counter[tuple[str, str]] = Counter()

    # ---- who has some ----------------------------------------------------------------------

    def told(self, node: Node, tasks: tuple[str, ...]) -> Iterator[do.Action]:
        """A node tells of whom it has some."""
        node.lodging, node.lodges = frozenset(tasks), True
        for task, records in list(self.records.items()):
            if node.name in records and task not in node.lodging and not self._comes(task, node):
                yield from self._forget(task, node.name)
        drop = []
        for task in tasks:
            role = self.records.get(task, {}).get(node.name)
            if role == "gone":
                drop.append(task)
            elif role is None and task in self._registry.where:
                yield from self._record(task, node.name, "more")
        if drop:
            yield from self._unlodge(node, wire.Unlodge(self._orders.number(), tuple(drop)))

    def nodes(self, task: str) -> list[Node]:
        """Those that are there and have some, its peer first."""
        records = self.records.get(task, {})
        found = [
            node for node in self._registry.nodes.values()
            if node.connected and task in node.lodging and records.get(node.name) != "gone"
        ]
        return sorted(found, key=lambda node: (records.get(node.name) != "peer", node.name))

    def away(self, task: str) -> list[str]:
        """Names of nodes that had some and are not there."""
        known = self._registry.nodes
        return sorted(
            name for name, role in self.records.get(task, {}).items()
            if role != "gone" and (name not in known or not known[name].connected)
        )

    def tasks(self) -> set[str]:
        """Tasks of which a node that is there has some."""
        found = {
            task for node in self._registry.nodes.values() if node.connected
            for task in node.lodging
        }
        return {task for task in found if self.nodes(task)}

    # ---- they go ---------------------------------------------------------------------------

    def forgotten(self, task: str, surely: bool) -> Iterator[do.Action]:
        """The master forgets a task; ``surely``: it was removed, or had ended for certain."""
        if not surely:
            return
        nodes = self._registry.nodes
        having = [name for name, node in nodes.items() if task in node.lodging]
        for name in sorted({*having, *self.records.get(task, {})}):
            yield from self._drop(task, name)

    def _drop(self, task: str, name: str) -> Iterator[do.Action]:
        """A node is to drop all it has of a task: now, or when it is back."""
        if self.records.get(task, {}).get(name) != "gone":
            yield from self._record(task, name, "gone")
        node = self._registry.nodes.get(name)
        if node is not None and node.connected:
            yield from self._unlodge(node, wire.Unlodge(self._orders.number(), (task,)))

    def use(self, task: str, node: Node) -> None:
        """A start from what is there is under way: it is not dropped till ``release``."""
        self._in_use[task, node.name] += 1

    def release(self, one: Snapshot, node: Node, fetched: bool) -> Iterator[do.Action]:
        """``fetched``: it was brought there to be started from, and is not needed any more."""
        task = one.spec.task
        self._in_use -= Counter({(task, node.name): 1})
        is_peer = self.records.get(task, {}).get(node.name) == "peer"
        if fetched and not is_peer and (task, node.name) not in self._in_use:
            yield from self._unlodge(node, wire.Unlodge(self._orders.number(), (), (one.id,)))

    @staticmethod
    def _unlodge(node: Node, order: wire.Unlodge) -> Iterator[do.Action]:
        """What comes of it, the node tells by what it lodges then."""
        if node.control is not None:
            yield do.Send(node.control, order)

    # ---- records ---------------------------------------------------------------------------

    def load(self, records: list[do.KeepLodger]) -> None:
        for one in records:
            self.records.setdefault(one.task, {})[one.node] = one.role
            self._sources.hold(one.task, one.digest)

    def _record(self, task: str, node: str, role: do.Lodger) -> Iterator[do.Action]:
        known = self.records.setdefault(task, {})
        if known.get(node) != role:
            known[node] = role
            if (here := self._registry.where.get(task)) is not None:
                self._sources.hold(task, here.tasks[task].spec.digest)
            yield do.KeepLodger(task, node, role, self._sources.held(task))

    def _forget(self, task: str, node: str) -> Iterator[do.Action]:
        records = self.records[task]
        del records[node]
        if not records:
            del self.records[task]
        yield do.DropLodger(task, node)
        if not records:
            yield from self._sources.release(task)

    def left(self, node: Node) -> Iterator[do.Action]:
        """It is no node of ours any more: it will not come back for what it was to drop."""
        for task, records in list(self.records.items()):
            if node.name in records:
                yield from self._forget(task, node.name)
        node.lodging = frozenset()

    # ---- they come -------------------------------------------------------------------------

    def copy(
        self, snapshot: Snapshot, task: Task, source: Node, keep: int, then: Copied
    ) -> Iterator[do.Action]:
        """Has a snapshot copied to the task's peer, or to another that becomes it."""
        candidates = self._candidates(task, source)
        if not candidates:
            yield from then(None, self._why_none(task, source))
            return
        yield from self._try(snapshot, source, candidates[:TRIES], keep, then, [])

    def _why_none(self, task: Task, source: Node) -> str:
        if task.id not in self._registry.where:
            return "the task was removed"
        others = [
            node for node in self._registry.nodes.values()
            if node is not source and node.connected
        ]
        return "no other node that is up can run it" if others else "no other node is up"

    def _try(
        self, snapshot: Snapshot, source: Node, targets: list[Node], keep: int, then: Copied,
        why: list[str],
    ) -> Iterator[do.Action]:
        target, *others = targets

        def tried(code: str, text: str) -> Iterator[do.Action]:
            if not code:
                yield from self._settled(snapshot.spec.task, target)
                yield from then(target, "")
                return
            said = [*why, text]
            left = [node for node in others if node.connected]
            if left and source.connected:
                yield from self._try(snapshot, source, left, keep, then, said)
            else:
                yield from then(None, "; ".join(said))

        yield from self.carry(snapshot, source, target, keep, tried)

    def _candidates(self, task: Task, source: Node) -> list[Node]:
        """Its peer first, then who has some; then the least used, by what runs there and what is
        lodged there."""
        records = self.records.get(task.id, {})
        found = [
            node for node in self._registry.nodes.values()
            if node is not source and node.connected and node.state is State.UP
            and node.lodges and not node.dismissing and has_kind(task, node)
            and not _forbids(task, source, node) and task.id in self._registry.where
        ]

        def weight(node: Node) -> tuple[int, int, str]:
            runs = sum(not known.status.ended for known in node.tasks.values())
            role = 0 if records.get(node.name) == "peer" else 1 if task.id in node.lodging else 2
            return role, runs + len(node.lodging), node.name

        return sorted(found, key=weight)

    def _settled(self, task: str, peer: Node) -> Iterator[do.Action]:
        """It has the newest: all others are to drop what they have, when they are back."""
        if task not in self._registry.where:  # it was removed meanwhile
            yield from self._drop(task, peer.name)
            return
        for name, role in list(self.records.get(task, {}).items()):
            if role != "gone" and name != peer.name and (task, name) not in self._in_use:
                yield from self._drop(task, name)
        yield from self._record(task, peer.name, "peer")

    def carry(
        self, snapshot: Snapshot, source: Node, target: Node, keep: int, then: Then
    ) -> Iterator[do.Action]:
        """Has one node send a snapshot to another, which keeps ``keep`` of the task's.

        That it may have some is on record before it is told.
        """
        task = snapshot.spec.task
        for known in self._carriages.values():
            if known.target is target and known.snapshot.id == snapshot.id:
                known.then.append(then)
                return
        for node in (source, target):
            if node.connected and not node.lodges:
                yield from then("old", f"the clientd of {node.name} is too old to pass snapshots")
                return
        carriage = Carriage(snapshot, source, target, self._new_ticket(), [then])
        carriage.lodge = number = self._orders.number()
        self._carriages[number] = carriage
        if self.records.get(task, {}).get(target.name) in (None, "gone"):
            # A peer is one once it has some; till then it may have to drop them.
            yield from self._record(task, target.name, "more")
            yield do.Commit()
        order = wire.Lodge(
            number, snapshot, keep, carriage.ticket, self._leaves.get(source.name, ())
        )
        yield from self._orders.send(
            target, order, number, self._now(), lambda answer: self._lodged(carriage, answer),
            within_s=ROOM_S, wanted=wire.Snapshots,
        )

    def listening(self, node: Node, message: wire.Listening) -> Iterator[do.Action]:
        """The receiver waits for the sender's call."""
        carriage = self._carriages.get(message.order)
        if carriage is None or carriage.target is not node or carriage.give:
            return
        self._orders.extend(node, carriage.lodge, self._now(), FOREVER)
        carriage.give = number = self._orders.number()
        order = wire.Give(
            number, carriage.snapshot.spec.task, carriage.snapshot.id,
            join_address(node.peer_host, message.port), carriage.ticket,
            self._leaves.get(node.name, ()),
        )
        yield from self._orders.send(
            carriage.source, order, number, self._now(),
            lambda answer: self._given(carriage, answer), within_s=FOREVER,
        )

    def waits(self, order: int) -> bool:
        """It is the receiver's order of a carriage."""
        return order in self._carriages

    def _given(self, carriage: Carriage, answer: wire.Message) -> Iterator[do.Action]:
        """What the sender says: whether all is there, only the receiver knows."""
        assert isinstance(answer, wire.Done)
        if carriage.over or not answer.code:
            return
        self._orders.forget(carriage.lodge)
        if carriage.target.control is not None:
            yield do.Send(carriage.target.control, wire.Abandon(carriage.lodge))
        yield from self._end(carriage, answer.code, f"{carriage.source.name}: {answer.text}")

    def _lodged(self, carriage: Carriage, answer: wire.Message) -> Iterator[do.Action]:
        self._orders.forget(carriage.give)
        if not isinstance(answer, wire.Snapshots):
            assert isinstance(answer, wire.Done)
            # The other end tells more than that the connection was cut.
            text = answer.text if answer.code in ("unreachable", "lost") else (
                f"{carriage.target.name}: {answer.text}"
            )
            yield from self._end(carriage, answer.code, text)
        elif [one.id for one in answer.found] != [carriage.snapshot.id]:
            yield from self._end(carriage, "bad-answer", f"{carriage.target.name} has another")
        else:
            target = carriage.target
            target.lodging |= {carriage.snapshot.spec.task}
            yield from self._end(carriage, "", "")

    def _end(self, carriage: Carriage, code: str, text: str) -> Iterator[do.Action]:
        carriage.over = True
        del self._carriages[carriage.lodge]
        task, target = carriage.snapshot.spec.task, carriage.target
        has_none = task not in target.lodging and not self._comes(task, target)
        if code and target.connected and has_none and target.name in self.records.get(task, {}):
            yield from self._forget(task, target.name)
        for then in carriage.then:
            yield from then(code, text)

    def _comes(self, task: str, node: Node) -> bool:
        return any(
            carriage.target is node and carriage.snapshot.spec.task == task
            for carriage in self._carriages.values()
        )


def has_kind(task: Task, node: Node) -> bool:
    """A node can start such a task from a snapshot, as far as it says."""
    if task.spec.kind == "python":
        return "python" in node.can
    return any(word.startswith("criu=") for word in node.can)


def _forbids(task: Task, source: Node, node: Node) -> bool:
    """What is known by heart is against it: it could not be started there."""
    if task.spec.kind != "python":
        return places.place(source).machine != places.place(node).machine
    verdict = places.judged_by_heart(task, source, node)
    return verdict.verdict == "no"
