"""CountProcess: prints 0, 1, 2 and so on.

Over any number of moves its log has each number once: a number twice means that two copies ran,
one that is missing means that state or output was lost.
"""

from godwit.task.migratable import Migratable


class CountProcess(Migratable):
    """Prints 0 to N, one a line, each PAUSE seconds."""

    def __init__(self, n: str, pause: str = "1"):
        self.last = int(n)
        self.pause = float(pause)
        if self.last < 0 or not 0 <= self.pause < float("inf"):
            raise ValueError("N and PAUSE must not be negative")
        self.next = 0

    def step(self) -> bool:
        print(self.next)
        self.next += 1
        if self.next > self.last:
            return False
        if self.pause:
            self.sleep(self.pause)
        return True
