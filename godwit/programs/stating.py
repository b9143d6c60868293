"""StatProcess: where it is and when."""

import socket
from datetime import UTC, datetime

from godwit.task.files import TransactionalFile
from godwit.task.migratable import Migratable

#: Seconds between two lines.
PAUSE_S = 0.3


class StatProcess(Migratable):
    """Writes so many LINES to OUT, one each 300 ms: host name and UTC time."""

    def __init__(self, lines: str, out: str):
        self.left = int(lines)
        if self.left < 0:
            raise ValueError("LINES must not be negative")
        self.target = TransactionalFile(out, "w")

    def step(self) -> bool:
        if self.left == 0:
            return False
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.target.write(f"{socket.gethostname()} {now}\n")
        self.left -= 1
        if self.left:
            self.sleep(PAUSE_S)
        return self.left > 0
