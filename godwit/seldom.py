"""Lines that a stranger can cause are written seldom, so that no log can be filled.  Pure."""

#: Seconds between two lines of one kind.
PAUSE_S = 60.0
#: Kinds that are remembered; while all of them are fresh, nothing new is said.
KINDS = 64


class Seldom:
    """At most one line of a kind in PAUSE_S, at most KINDS lines in all."""

    def __init__(self) -> None:
        #: Kind -> when it was last said, monotonic seconds.
        self._said: dict[str, float] = {}

    def may(self, kind: str, now: float) -> bool:
        """Whether such a line is to be written now; if so, it counts as written."""
        self._said = {k: at for k, at in self._said.items() if now - at < PAUSE_S}
        if kind in self._said or len(self._said) >= KINDS:
            return False
        self._said[kind] = now
        return True
