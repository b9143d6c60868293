"""masterd: the master daemon of a godwit cluster.

Usage:
  masterd [--listen HOST:PORT] [--state DIR] [--logs DIR] [--headless] [--verbose | --quiet]
  masterd (-h | --help)
  masterd --version

Options:
  --listen HOST:PORT  Where nodes call [default: 127.0.0.1:15440].  Port 0 takes a free one.
  --state DIR         What the master keeps, and its socket for the shell.
                      Default: $GODWIT_STATE, else /var/lib/godwit/master for root,
                      else ~/.local/state/godwit/master.
  --logs DIR          Where masterd.log goes.  Default: logs/ of a checkout, else in the state.
  --headless          No shell, also on a terminal.
  -v, --verbose       Every line of the log on stderr too (without it: warnings and worse).
  -q, --quiet         Nothing on stderr but what ends it.
  -h, --help          This text.
  --version           The version.

On a terminal masterd opens its shell: `exit` there deregisters every node and stops the
master, `detach` leaves it running.  Without a terminal, or with --headless, it just runs.
"""

import asyncio
import gc
import os
import signal
import sys

from docopt import DocoptExit, docopt

import godwit
from godwit import lock, places
from godwit.errors import StartError, UsageError
from godwit.log import Level, Log
from godwit.names import split_address
from godwit.notify import Notify
from masterd.server import Server
from masterd.store import Store


def main() -> None:
    """The entry point.  Exits 0 when told to stop, 1 when it cannot start, 2 for wrong usage."""
    try:
        given = docopt(__doc__, sys.argv[1:], True, f"masterd (godwit) {godwit.__version__}")
        host, port = split_address(given["--listen"])
    except DocoptExit:
        _die(f"masterd: wrong usage: {' '.join(sys.argv[1:])}\n(masterd --help)", 2)
    except UsageError as err:
        _die(f"masterd: --listen: {err}; {err.hint}", 2)
    state = places.master_state(given["--state"])
    logs = places.logs(given["--logs"])
    level: Level = "config" if given["--verbose"] else "severe" if given["--quiet"] else "warning"
    try:
        held = lock.hold(state, "masterd")
        log = Log("masterd", os.path.join(logs, "masterd.log"), "config")
        if given["--headless"] or not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
            serve(state, log, host, port, level)
        else:
            _with_shell(state, log, (host, port))
    except (StartError, OSError) as err:
        _die(f"masterd: {err}", 1)
    os.close(held)


def _die(text: str, status: int) -> None:
    if sys.stderr:
        print(text, file=sys.stderr)
    raise SystemExit(status)


def serve(state: str, log: Log, host: str, port: int, level: Level | None) -> None:
    """Runs the daemon in this process until it is told to stop.

    After the start-up lines, stderr gets lines of ``level`` and worse.  Raises StartError.
    """
    notify = Notify()
    store = Store(os.path.join(state, "master.db"))
    if store.damage:
        log("severe", f"the database was damaged ({store.damage}) and is set aside; "
                      "nodes will tell of their tasks anew")
    # What is imported stays for good: the collector need not look at it again.
    gc.freeze()
    try:
        asyncio.run(_serve(state, log, store, (host, port), level, notify))
    finally:
        store.close()
    log("info", "stopped")


async def _serve(
    state: str, log: Log, store: Store, listen: tuple[str, int], level: Level | None,
    notify: Notify,
) -> None:
    audit = Log("audit", os.path.join(os.path.dirname(log.path), "audit.log"), None, 0o600)
    server = Server(state, log, store, audit)
    address = server.start(*listen)
    log("config", f"godwit {godwit.__version__}: listening on {address}")
    log("config", f"state in {state}, log in {log.path}")
    log.stderr_level = level
    notify("READY=1", f"STATUS=listening on {address}")
    _say_ready()
    reason = await server.done
    notify("STOPPING=1")
    log("info", f"stopping: {reason}")
    await server.close()


#: Where a waiting parent hears that we listen; set in the child of _with_shell.
_ready_fd = -1


def _say_ready() -> None:
    global _ready_fd
    if _ready_fd >= 0:
        os.write(_ready_fd, b"1")
        os.close(_ready_fd)
        _ready_fd = -1
        # From here on the terminal belongs to the shell.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)


def _with_shell(state: str, log: Log, listen: tuple[str, int]) -> None:
    """The daemon in a session of its own, the shell in the foreground.

    So the shell can detach and leave the daemon running, and Ctrl-C is the shell's alone.
    """
    global _ready_fd
    ready, _ready_fd = os.pipe()
    daemon = os.fork()
    if daemon == 0:
        os.close(ready)
        os.setsid()
        try:
            serve(state, log, *listen, level=None)
        except (StartError, OSError) as err:
            _die(f"masterd: {err}", 1)
        os._exit(0)
    os.close(_ready_fd)
    with os.fdopen(ready, "rb") as pipe:
        started = pipe.read(1) == b"1"
    if not started:
        _, status = os.waitpid(daemon, 0)
        raise SystemExit(os.waitstatus_to_exitcode(status) or 1)
    # Whoever ends this process means the daemon.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(daemon, signal.SIGTERM))
    from masterd import shell

    status = shell.main(state, owns_master=True)
    os.waitpid(daemon, os.WNOHANG)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
