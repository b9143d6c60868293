"""What the parts of a keeper share."""

from collections.abc import Callable

from msgspec import Struct

from clientd.keeper.containment import Containment
from clientd.keeper.errands import Errands
from clientd.keeper.gate import Gate
from clientd.keeper.loop import Loop
from clientd.keeper.register import Register
from clientd.keeper.spawn import Spawner


class Tools(Struct, frozen=True):
    """What tasks are kept with; one of each."""

    loop: Loop
    register: Register
    spawner: Spawner
    containment: Containment
    gate: Gate
    #: This boot of the machine.
    boot: str
    #: Who waits for which of our children that are no task's.
    others: dict[int, Callable[[], None]]
    #: Runs programs for the keeper itself.
    errands: Errands
