"""The smallest task: one step, and everything that it knows in ``self``.

    godwit run -f node1 examples/countdown.py:Countdown 10
"""

from godwit import Migratable


class Countdown(Migratable):
    """Prints N, N-1, ... 0, one a second."""

    def __init__(self, n: str):
        self.n = int(n)

    def step(self) -> bool:
        print(self.n)
        self.n -= 1
        if self.n < 0:
            return False
        self.sleep(1)
        return True
