"""Which tests run side by side when pytest has several workers (bin/check: -n N --dist loadfile).

A file's tests stay together on one worker, for what its fixtures share, but for the files named
in SPREAD: their tests share nothing, and each is work of its own.  What takes long begins first,
so that no worker is left with it at the end.
"""

from collections.abc import Sequence

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

#: By how long they take; the rest comes as pytest collects it.
FIRST = (
    "tests/real/test_failpoints.py",
    "tests/real/test_moving.py",
    "tests/real/test_tls.py",
    "tests/real/test_keeper.py",
    "tests/real/test_soak.py",
    "tests/real/test_crashes.py",
    "tests/real/test_promises.py",
)
#: Files without a fixture that is made once for several tests.
SPREAD = frozenset({
    "tests/real/test_crashes.py",
    "tests/real/test_failpoints.py",
    "tests/real/test_moving.py",
    "tests/real/test_promises.py",
    "tests/sim/test_sim.py",
    "tests/sim/test_flights.py",
    "tests/sim/test_flight_faults.py",
})


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The same tests, those of the FIRST files first."""
    ranks = {file: rank for rank, file in enumerate(FIRST)}
    return sorted(items, key=lambda item: ranks.get(file_of(item.nodeid), len(ranks)))


def file_of(test: str) -> str:
    return test.partition("::")[0]


def unit_of(test: str) -> str:
    """What runs on one worker together with this test."""
    file = file_of(test)
    return test if file in SPREAD else file


class Scheduling(LoadScopeScheduling):
    """A worker that has next to nothing left is given the next unit."""

    def __init__(self, config: pytest.Config, log: Producer | None = None):
        config.option.loadscopereorder = False  # most tests is not longest
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
