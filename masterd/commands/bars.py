"""Progress bars, for a person whose stderr is a terminal."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Never

from masterd import render
from masterd.commands.context import Context

if TYPE_CHECKING:
    from tqdm import tqdm

#: Columns of a name before a bar.
NAME_SHOWN = 30


class Bar:
    """Called with how many bytes are done and how many there are.  This one shows nothing."""

    def __call__(self, done: int, total: int) -> None:
        """So far is it now."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """While the block lasts, lines may be written where the bar is."""
        return contextlib.nullcontext()


class _Drawn(Bar):
    """Drawn from the first call on that is not before ``after``, monotonic seconds."""

    def __init__(self, context: Context, name: str, after: float):
        self._context = context
        self._name = render.cut(render.printable(name), NAME_SHOWN)
        self._after = after
        self._drawn: tqdm[Never] | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._drawn is None:
            if time.monotonic() < self._after:
                return
            self._drawn = self._begun()
        self._drawn.total = total
        self._drawn.update(done - self._drawn.n)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        if self._drawn is None:
            return super().aside()
        return self._drawn.external_write_mode(file=self._context.err)

    def close(self) -> None:
        if self._drawn is not None:
            self._drawn.close()

    def _begun(self) -> "tqdm[Never]":
        from tqdm import tqdm

        # tqdm's monitor is a thread that outlives the bar.
        tqdm.monitor_interval = 0
        return tqdm(
            desc=self._name, unit="B", unit_scale=True, unit_divisor=1024, leave=False,
            file=self._context.err, dynamic_ncols=True,
        )


@contextlib.contextmanager
def bar(context: Context, name: str, *, wanted: bool, delay_s: float = 0.0) -> Iterator[Bar]:
    """A bar while the block lasts, drawn if there is something to show after ``delay_s``."""
    if not wanted or not context.err.isatty():
        yield Bar()
        return
    with contextlib.closing(_Drawn(context, name, time.monotonic() + delay_s)) as drawn:
        yield drawn
