"""GrepProcess: the lines of a file that match."""

import re

from godwit.task.files import TransactionalFile
from godwit.task.migratable import Migratable

#: Lines in one step.
BATCH = 100


class GrepProcess(Migratable):
    """Writes the lines of IN that match PATTERN, a regular expression, to OUT."""

    def __init__(self, pattern: str, in_: str, out: str):
        try:
            self.pattern = re.compile(pattern)
        except re.error as err:
            raise ValueError(f"PATTERN {pattern!r}: {err}") from None
        self.source = TransactionalFile(in_, "r", errors="surrogateescape")
        self.target = TransactionalFile(out, "w", errors="surrogateescape")

    def step(self) -> bool:
        for _ in range(BATCH):
            line = self.source.readline()
            if not line:
                return False
            if self.pattern.search(line.rstrip("\n")):
                self.target.write(line if line.endswith("\n") else line + "\n")
        return True
