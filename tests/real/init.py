"""init(1) for one daemon under test: init.py FD PROGRAM ARGS...

Starts the program, writes its pid to the socket FD, and waits there until the other end has taken
hold of it.  Then it reaps whatever is orphaned below it, and ends when nothing is left, with the
program's status (128+n for a signal).  So a killed daemon's tasks
are reaped at once, as they are in production, and not by pytest.  On SIGTERM, which also comes
when pytest dies, it kills everything below it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    fd, argv = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(fd, False)
    daemon = os.posix_spawn(argv[0], argv, os.environ, setsid=True)
    # Before anybody knows of us, and may want us to end.
    signal.signal(signal.SIGTERM, kill_all)
    os.write(fd, b"%d" % daemon)
    # Reaped before it has a pidfd, the number would mean nothing any more.
    os.read(fd, 1)
    os.close(fd)
    return reap(daemon)


def reap(daemon: int) -> int:
    """Waits for all children there are and come to be; the daemon's exit status."""
    status = 0
    while True:
        try:
            pid, ended = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if pid == daemon:
            code = os.waitstatus_to_exitcode(ended)
            status = code if code >= 0 else 128 - code


def kill_all(*_: object) -> None:
    """Kills the children; theirs then become ours, until none is left."""
    while pids := children():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(-1, 0)


def children() -> list[int]:
    """Children that have not been reaped; a signal to one that has ended does nothing."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


if __name__ == "__main__":
    sys.exit(main())
