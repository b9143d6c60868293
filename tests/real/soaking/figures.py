"""What a soak counts, and which of it would be bad.

    figures = Figures(kills=100, frames=100_000)
    figures.add("launches doubled", 1, "job-7 ran as ab12cd34 and as ef56ab78")
    print(figures.table())
    figures.bad()
"""

import threading
from collections import Counter

#: Figures in the order of the table.  ``0``: anything else is bad; ``kills``, ``frames``: so many
#: at least, as asked for; ``some``: not none; empty: counted only.
RULES = {
    "masters killed": "kills",
    "agents killed": "kills",
    "keepers killed": "",
    "tasks that noticed": "0",
    "launches asked for": "some",
    "launches acknowledged": "some",
    "acknowledged launches lost": "0",
    "launches doubled": "0",
    "statuses right": "some",
    "statuses unknown, with a cause": "",
    "statuses wrong": "0",
    "bytes followed": "some",
    "follows begun again": "",
    "bytes lost to followers": "0",
    "bytes doubled to followers": "0",
    "logs compared on disk": "some",
    "bytes lost or doubled in logs": "0",
    "malformed frames tried": "frames",
    "  on the master's port, no TLS": "some",
    "  on the master's port, TLS of strangers": "some",
    "  on the master's port, before the welcome": "some",
    "  on the master's port, as a welcomed node": "some",
    "  on the master's Unix socket": "some",
    "  on a waiting clientd's port, no TLS": "some",
    "  on a waiting clientd's port, as its master": "some",
    "malformed frames not ended by a hang-up": "0",
    "unauthenticated messages tried": "some",
    "unauthenticated messages refused": "some",
    "unauthenticated messages not refused": "0",
    "sessions watched meanwhile": "some",
    "sessions of others disturbed": "0",
    "changes that hostile peers made": "0",
    "tracebacks in daemons' logs": "0",
    "faults of the soak itself": "0",
}
#: Examples kept of each figure that is to be 0.
EXAMPLES = 5


class Figures:
    """Counted by several threads at once."""

    def __init__(self, kills: int, frames: int):
        self._least = {"kills": kills, "frames": frames, "some": 1}
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1, example: str = "") -> None:
        """Counts; an example says what it was.  Raises KeyError for a name that is not in RULES."""
        RULES[name]
        with self._lock:
            self._counts[name] += count
            known = self._examples.setdefault(name, [])
            if count and example and len(known) < EXAMPLES:
                known.append(example)

    def __getitem__(self, name: str) -> int:
        RULES[name]
        return self._counts[name]

    def is_bad(self, name: str) -> bool:
        """This figure breaks its rule."""
        rule, count = RULES[name], self._counts[name]
        return count != 0 if rule == "0" else count < self._least.get(rule, 0)

    def bad(self) -> list[str]:
        """Every figure that breaks its rule, with examples."""
        return [
            f"{name}: {self._counts[name]}; {'; '.join(self._examples.get(name, ()))}"
            for name in RULES if self.is_bad(name)
        ]

    def table(self) -> str:
        """One line for each figure."""
        width = max(map(len, RULES))
        return "\n".join(
            f"{name:{width}}  {self._counts[name]:>13,}  {self._wanted(name)}".rstrip()
            for name in RULES
        )

    def _wanted(self, name: str) -> str:
        rule = RULES[name]
        wanted = {"0": "none", "": "", "some": ""}.get(rule)
        if wanted is None:
            wanted = f"at least {self._least[rule]:,}"
        return f"{wanted}  BAD" if self.is_bad(name) else wanted
