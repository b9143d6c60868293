"""Copies as far as the cores see them: who waits, who calls, how it ends; no bytes."""

from typing import TYPE_CHECKING

from clientd import events as on
from godwit.wire import messages
from godwit.wire.preface import Show

if TYPE_CHECKING:
    from tests.sim.agent import Agent


class Side:
    """One end of a copy, on a node or at an operator."""

    def __init__(self, transfers: "Transfers | None", order: int, role: str):
        self.transfers = transfers
        self.order = order
        self.role = role
        self.ended = False

    def end(self, code: str) -> None:
        if self.ended or self.transfers is None:
            return
        self.ended = True
        self.transfers.ended(self, code)


def join(one: Side, other: Side) -> None:
    """Bytes flow, and end well or not."""
    for side in (one, other):
        transfers = side.transfers
        if transfers is not None:
            world = transfers.agent.world
            code = "cut" if world.bad_luck(0.1) else ""
            transfers.agent.later(world.between(0.01, 3.0), side.end, code)


class Transfers:
    """An agent's transfers."""

    def __init__(self, agent: "Agent"):
        self.agent = agent
        self._sides: dict[int, Side] = {}

    def start(self, transfer: messages.Transfer) -> None:
        side = self._sides[transfer.order] = Side(self, transfer.order, transfer.role)
        self.agent.later(self.agent.world.between(0.001, 0.1), self._meet, transfer, side)

    def _meet(self, transfer: messages.Transfer, side: Side) -> None:
        if side.ended:
            return
        cluster, world = self.agent.node.cluster, self.agent.world
        if not transfer.address:
            port = world.dice.randrange(20000, 60000)
            cluster.ports[port] = side
            self.agent.handle(on.PortOpened(transfer.order, port))
            self.agent.later(8.0, self._nobody, side, port)
        elif transfer.address == "master":
            cluster.bulk_to_master(side, Show(transfer.ticket, transfer.role))
        else:
            other = cluster.ports.pop(int(transfer.address.rpartition(":")[2]), None)
            if other is None or world.bad_luck(0.3):
                side.end("unreachable")
            else:
                join(side, other)

    def _nobody(self, side: Side, port: int) -> None:
        if self.agent.node.cluster.ports.pop(port, None) is not None:
            side.end("cut")

    def drop(self, order: int) -> None:
        side = self._sides.get(order)
        if side is not None:
            side.end("dropped")

    def ended(self, side: Side, code: str) -> None:
        del self._sides[side.order]
        if code:
            self.agent.handle(on.WorkEnded(side.order, code, code))
        else:
            self.agent.handle(on.Copied(side.order, 10, 1, b"/there", ()))
