"""init(1) of one host: host_main.py NAME FD, as pid 1 of namespaces of its own.

Starts what it is told to over the socket FD, one JSON object a datagram, and answers with the pid;
reaps whatever ends.  When the other end is closed it ends, and with it the kernel ends the rest.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys

#: Larger than any order: an environment and a command.
MOST = 1 << 20


def main() -> int:
    name, fd = sys.argv[1], int(sys.argv[2])
    os.set_inheritable(fd, False)
    socket.sethostname(name)
    mount(b"tmpfs", b"/run", b"tmpfs")
    wake, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=fd) as orders:
        orders.send(b"{}")
        while True:
            ready, _, _ = select.select([orders, wake], [], [])
            if wake in ready:
                os.read(wake, 4096)
                reap()
            if orders in ready:
                order = orders.recv(MOST)
                if not order:
                    return 0
                orders.send(json.dumps(start(**json.loads(order))).encode())


def mount(source: bytes, target: bytes, kind: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target!r}")


def start(argv: list[str], output: str, environment: dict[str, str]) -> dict[str, object]:
    """The pid here of what was started, or why it was not."""
    try:
        pid = os.posix_spawn(
            argv[0], argv, environment, setsid=True, setsigdef=(signal.SIGPIPE, signal.SIGCHLD),
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ),
        )
    except OSError as err:
        return {"error": str(err)}
    return {"pid": pid}


def reap() -> None:
    while True:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main())
