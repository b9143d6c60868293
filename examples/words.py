"""A task with files: they are open where it was, at the byte where it was.

    godwit copy book.txt node1:book.txt
    godwit run node1 examples/words.py:Words book.txt words.txt

IN and OUT are in the node's folder for files, or where --cwd says; they travel with the task.
"""

from collections import Counter

from godwit import Migratable, TransactionalFile


class Words(Migratable):
    """Counts the words of IN, and writes them to OUT, the most frequent first."""

    def __init__(self, in_: str, out: str):
        self.source = TransactionalFile(in_, errors="replace")
        self.target = TransactionalFile(out, "w")
        self.words: Counter[str] = Counter()

    def step(self) -> bool:
        """A hundred lines, so that a step is short and its overhead small."""
        for _ in range(100):
            line = self.source.readline()
            if not line:
                self.write()
                return False
            self.words.update(line.lower().split())
        return True

    def write(self) -> None:
        for word, count in self.words.most_common():
            self.target.write(f"{count} {word}\n")
        print(f"{len(self.words)} words")
