"""Factorial: a number that grows with each step."""

import sys

from godwit.task.files import TransactionalFile
from godwit.task.migratable import Migratable

#: Largest N: its factorial has some 5.5 million digits.
MOST = 1_000_000


class Factorial(Migratable):
    """Writes N! to OUT."""

    def __init__(self, n: str, out: str):
        self.n = int(n)
        if not 0 <= self.n <= MOST:
            raise ValueError(f"N must be from 0 to {MOST}")
        self.target = TransactionalFile(out, "w")
        self.factor, self.product = 1, 1

    def step(self) -> bool:
        if self.factor <= self.n:
            self.product *= self.factor
            self.factor += 1
            return True
        # Python refuses to write out more digits than this, unless it is told to.
        sys.set_int_max_str_digits(0)
        self.target.write(f"{self.product}\n")
        return False
