"""The simulator of moves catches every fault that is put into the cores or their shells."""

from itertools import count

import pytest

from tests.sim.flights import LUCKS, World
from tests.sim.flying_faults import KEEPERS, MASTERS, SHELLS, master_of, node_of
from tests.sim.flying_master import MasterSide
from tests.sim.flying_node import Node
from tests.sim.flying_operator import fly

#: Seeds in which each fault must have shown.
WITHIN = 300

FAULTS: dict[str, tuple[str, dict[str, type]]] = {
    **{core.__name__: (luck, {"node": node_of(core)}) for core, luck in KEEPERS.items()},
    **{core.__name__: (luck, {"master": master_of(core)}) for core, luck in MASTERS.items()},
    **{
        shell.__name__: (luck, {"node" if issubclass(shell, Node) else "master": shell})
        for shell, luck in SHELLS.items()
    },
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_caught(name: str) -> None:
    luck, parts = FAULTS[name]
    for seed in count():
        assert seed < WITHIN, f"{name} was not caught"
        try:
            fly(seed, LUCKS[luck], **parts)
        except AssertionError:
            return


def test_what_the_faults_are_put_into_is_sound() -> None:
    """With the same luck and seeds, nothing is caught where there is no fault."""
    for luck in {luck for luck, _ in FAULTS.values()}:
        for seed in range(5):
            assert isinstance(fly(seed, LUCKS[luck], node=Node, master=MasterSide), World)
