"""Snapshots that pass between this node and another, as the agent sees them.  Pure.

The keeper has them and makes a file for each, a *parcel*; the master says where from and where to.
A parcel goes by a ship as a move's image does (clientd.shipping), with no log beside it:

    receiver: Lodge -> keeper: Lodge | Berth -> waits, Listening | landed -> keeper: Stow
    sender:   Give  -> keeper: Give  | Packed -> calls, sends    | shipped -> Done

A ship that fails ends it at this node; whoever wants the snapshot asks anew.
"""

from collections.abc import Iterator

from msgspec import Struct, field

from clientd import actions as do
from clientd import events as on
from clientd.keeper import orders
from godwit.wire import messages as wire

Asked = wire.Lodge | wire.Give
Happened = on.ShipAwaited | on.ShipProgressed | on.CaughtUp | on.Landed | on.Shipped | on.ShipFailed
#: What is to be done; a message answers the order of its number, if that is still asked for.
Step = do.Action | wire.Listening | wire.Done


class UnderWay(Struct, frozen=True):
    """A parcel with a ship."""

    order: int
    path: str
    size: int


class Parcels(Struct):
    """All at this node."""

    #: By order, till the keeper has a parcel for it.
    waiting: dict[int, Asked] = field(default_factory=dict)
    #: By name.
    under_way: dict[str, UnderWay] = field(default_factory=dict)

    def asked(self, message: Asked) -> Iterator[Step]:
        """The master wants one taken in, or sent."""
        self.waiting[message.order] = message
        if isinstance(message, wire.Lodge):
            yield do.Tell(orders.Lodge(message.order, message.snapshot, message.keep))
        else:
            yield do.Tell(orders.Give(message.order, message.task, message.snapshot))

    def told(self, word: orders.Berth | orders.Packed) -> Iterator[Step]:
        """The keeper has made a parcel."""
        message = self.waiting.pop(word.order, None)
        fits = isinstance(message, wire.Lodge if isinstance(word, orders.Berth) else wire.Give)
        if message is None or not fits or _snapshot_of(message) != word.snapshot:
            # It was asked for by a master whose connection is gone.
            yield do.Tell(orders.DropParcel(word.parcel))
            return
        self.under_way[word.parcel] = UnderWay(word.order, word.path, word.size)
        if isinstance(message, wire.Lodge):
            yield do.AwaitShip(
                word.parcel, message.ticket, message.leaves, "", word.path, size=word.size
            )
        else:
            yield do.StartShip(word.parcel, message.address, message.ticket, message.leaves, "")

    def answered(self, order: int) -> None:
        """The keeper has answered without a parcel."""
        self.waiting.pop(order, None)

    def happened(self, event: Happened) -> Iterator[Step]:
        """News of a parcel's ship."""
        parcel = event.move
        known = self.under_way[parcel]
        match event:
            case on.ShipAwaited(port=port):
                yield wire.Listening(known.order, port)
            case on.ShipProgressed():
                pass
            case on.CaughtUp():
                yield do.ShipImage(parcel, known.path, 0, known.size)
            case on.Landed():
                del self.under_way[parcel]
                yield do.Tell(orders.Stow(known.order, parcel))
            case on.Shipped():
                yield from self._end(parcel, wire.Done(known.order))
            case on.ShipFailed(code=code, text=text):
                yield from self._end(parcel, wire.Done(known.order, code, text))

    def _end(self, parcel: str, answer: wire.Done) -> Iterator[Step]:
        del self.under_way[parcel]
        yield do.Tell(orders.DropParcel(parcel))
        yield answer

    def abandoned(self, order: int) -> Iterator[Step]:
        """Nobody wants it any more."""
        self.waiting.pop(order, None)
        for parcel, known in list(self.under_way.items()):
            if known.order == order:
                yield do.DropShip(parcel)
                text = "no longer wanted"
                yield from self._end(parcel, wire.Done(order, "dropped", text))

    def apart(self) -> None:
        """The master's connection is gone: its numbers mean nothing any more."""
        self.waiting.clear()


def _snapshot_of(message: Asked) -> str:
    return message.snapshot.id if isinstance(message, wire.Lodge) else message.snapshot
