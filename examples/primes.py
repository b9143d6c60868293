"""A loop of its own, in ``run``, and something that cannot travel: a connection.

    godwit run -f node1 examples/primes.py:Primes 100000

Local variables of ``run`` are gone after a move, for it is called anew; so the loop is over
``self.n``.  The socket is given up before a move and made anew after it.
"""

import socket

from godwit import Migratable


class Primes(Migratable):
    """Prints the primes up to N."""

    def __init__(self, n: str):
        self.n, self.last = 2, int(n)
        self.resume()

    def suspend(self) -> None:
        self.log.close()
        del self.log

    def resume(self) -> None:
        self.log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def run(self) -> None:
        while self.n <= self.last:
            if all(self.n % d for d in range(2, int(self.n**0.5) + 1)):
                print(self.n)
            self.n += 1
            self.checkpoint()
