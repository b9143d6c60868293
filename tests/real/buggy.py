"""Runs a module as ``python -m`` does, after it has put bugs into the master's core.

A request for a usage meets one, so does a node that tells of a transfer that nobody asked for.
"""

import runpy
import sys
from collections.abc import Iterator

from godwit.wire import operations as op
from masterd import actions as do
from masterd.copies import Copies
from masterd.measuring import Measuring


def buggy(self: object, *given: object) -> Iterator[do.Action]:
    """Says something first, as a real one would."""
    if isinstance(given[0], int):
        yield do.Answer(given[0], op.Progress(1, "on the way"))
    raise ZeroDivisionError("as a test wants it")


if __name__ == "__main__":
    Measuring.begin = buggy  # type: ignore[method-assign,assignment]
    Copies.moved = buggy  # type: ignore[method-assign,assignment]
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
