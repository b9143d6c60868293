"""The ticks of a program that writes the time once a millisecond: how long it stood still."""

from itertools import pairwise
from pathlib import Path


def ticks(log: Path) -> list[int]:
    """ns since 1970, as far as whole lines go; whatever else is written there is left out."""
    lines = log.read_bytes().split(b"\n")[:-1]
    return [int(line) for line in lines if line.isdigit()]


def gap_ms(found: list[int], began: int, ended: int, around_ms: int = 500) -> float:
    """The largest gap between two of these from so long before ``began`` to as long after
    ``ended``, ns since 1970."""
    around = around_ms * 10**6
    near = [tick for tick in found if began - around < tick < ended + around]
    return max(b - a for a, b in pairwise(near)) / 1e6
