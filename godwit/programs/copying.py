"""CopyProcess: a file's lines, numbered and signed."""

from godwit.task.files import TransactionalFile
from godwit.task.migratable import Migratable


class CopyProcess(Migratable):
    """Copies the lines of IN to OUT, each with its number and SIGNATURE."""

    def __init__(self, signature: str, in_: str, out: str):
        self.signature = signature
        self.source = TransactionalFile(in_, "r", errors="surrogateescape")
        self.target = TransactionalFile(out, "w", errors="surrogateescape")
        self.number = 0

    def step(self) -> bool:
        line = self.source.readline()
        if not line:
            return False
        self.number += 1
        text = line.removesuffix("\n")
        self.target.write(f"{self.number} {self.signature} {text}\n")
        return True
