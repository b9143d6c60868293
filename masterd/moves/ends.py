"""What the two ends say of a move under way: their votes, and what they did of the verdict.  Pure.

A node repeats what it has on record, so a word may come late or twice.
"""

from collections.abc import Iterator, Mapping

from godwit.names import join_address
from godwit.wire import messages as wire
from godwit.wire import operations as op
from masterd import actions as do
from masterd.moves.budget import LATER
from masterd.moves.decisions import Decisions
from masterd.moves.ending import Ending
from masterd.moves.flight import Flight
from masterd.moves.here import Here
from masterd.moves.table import State
from masterd.moves.verdicts import Verdicts
from masterd.orders import unreachable
from masterd.registry import Node


class Ends:
    def __init__(
        self, here: Here, decisions: Decisions, verdicts: Verdicts, ending: Ending,
        leaves: Mapping[str, tuple[str, ...]],
    ):
        self._here = here
        self._decisions = decisions
        self._verdicts = verdicts
        self._ending = ending
        self._leaves = leaves

    def target_said(
        self, flight: Flight, node: Node, standing: wire.Standing
    ) -> Iterator[do.Action]:
        move = flight.move
        match standing.state, move.state:
            case "reserved", State.INTENT:
                if not flight.freezing:
                    yield from self._freeze(flight, node, standing.port)
            case "refused", State.INTENT:
                yield from self._decisions.abort(
                    flight, standing.code, f"{node.name}: {standing.text}", owing=(move.source,)
                )
            case "prepared", State.INTENT:
                flight.prepared = standing
                yield from self._decisions.commit_if_voted(flight)
            case ("reserved" | "prepared"), _:
                yield from self._verdicts.repeat(flight, node.name)
            case ("refused" | "discarded" | "unfrozen"), (State.ABORTED | State.REVERTED):
                yield from self._ending.settle(flight, node.name)
            case "draining", State.COMMITTED:
                yield from self._decisions.drains(flight, standing)
            case "draining", State.DRAINING:
                self._ending.release(flight)
            case "running", (State.COMMITTED | State.DRAINING):
                yield from self._decisions.ran(flight, standing)
            case ("renounced" | "discarded"), State.COMMITTED:
                yield from self._decisions.revert(
                    flight, standing.code, f"{node.name}: {standing.text}", owing=(move.source,)
                )
            case "lost", (State.COMMITTED | State.DRAINING) if move.on_unknown == "resume":
                yield from self._decisions.revert(
                    flight, "lost", f"{node.name}: {standing.text}",
                    owing=(move.source, move.target),
                )
            case "lost", State.COMMITTED:
                why = f"{node.name} may have run it: {standing.text}"
                yield from self._ending.hold(flight, why)
            case "lost", State.DRAINING:
                yield from self._ending.hold(flight, f"it ran on {node.name}: {standing.text}")
            case ("lost" | "running" | "draining"), State.REVERTED:
                yield from self._verdicts.repeat(flight, node.name)

    def source_said(self, flight: Flight, standing: wire.Standing) -> Iterator[do.Action]:
        move = flight.move
        match standing.state, move.state:
            case "streaming", State.INTENT:
                progress = f"{move.task}: {move.source} -> {move.target}"
                for operator, request in flight.waiting:
                    yield do.Answer(
                        operator, op.Progress(request, progress, standing.size, standing.total)
                    )
            case "frozen", State.INTENT if standing.code:
                yield from self._decisions.abort(
                    flight, standing.code, f"{move.source}: {standing.text}"
                )
            case "frozen", State.INTENT:
                flight.frozen = standing
                yield from self._decisions.commit_if_voted(flight)
            case "frozen", _:
                yield from self._verdicts.repeat(flight, move.source)
            case "unfrozen", State.INTENT:
                yield from self._decisions.abort(
                    flight, standing.code or "refused", standing.text, owing=(move.target,)
                )
            case ("unfrozen" | "resumed"), (State.ABORTED | State.REVERTED):
                if standing.code:
                    yield from self._here.note("severe", f"{move.task} could not be resumed at "
                                          f"{move.source}: {standing.text}", move)
                yield from self._ending.settle(flight, move.source)
            case "finished", State.REVERTED:  # by a master whose record was an older one
                yield from self._here.note("severe", f"{move.task} could not be resumed at "
                                      f"{move.source}: it had given up its copy", move)
                yield from self._ending.settle(flight, move.source)
            case ("unfrozen" | "resumed"), State.RAN if move.code == "resolved":
                yield from self._decisions.revert(
                    flight, "resolved", f"it runs on {move.source}, whatever was said by hand",
                    (move.target,),
                )
            case "finished", State.RAN:
                yield from self._decisions.finish(flight)

    def _freeze(self, flight: Flight, target: Node, port: int) -> Iterator[do.Action]:
        move = flight.move
        source = self._here.registry.nodes[move.source]
        if source.control is None:
            yield from self._decisions.abort(flight, "unreachable", unreachable(source))
            return
        flight.freezing = True
        flight.mark("reserved", self._here.now)
        flight.mark("freeze", self._here.now)
        yield do.Send(source.control, wire.Freeze(
            move.id, move.task, move.epoch, join_address(target.peer_host, port), flight.ticket,
            self._leaves.get(move.target, ()), move.target, move.way == LATER,
        ))
