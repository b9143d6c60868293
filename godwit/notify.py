"""Telling the supervisor how we are: sd_notify(3), without its library.

Whoever was started by systemd with Type=notify has the name of a datagram socket in
NOTIFY_SOCKET; a name that begins with @ is an abstract one, unix(7).
"""

import os
import socket
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"


class Notify:
    """Takes the socket's name out of the environment, so that no child speaks for us."""

    def __init__(self) -> None:
        name = os.environ.pop(VARIABLE, "")
        self._address = "\0" + name[1:] if name.startswith("@") else name

    def __bool__(self) -> bool:
        """There is a supervisor."""
        return bool(self._address)

    def __call__(self, *lines: str) -> None:
        """READY=1, STOPPING=1, STATUS=...; nothing without a supervisor, and never any waiting."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            data = "\n".join(lines).encode("utf-8", "backslashreplace")
            link.sendto(data, socket.MSG_DONTWAIT, self._address)
