"""clientd: the daemon of a node."""

import os
import re
import sys
from collections.abc import Sequence

import docopt

from clientd.keeper import birth, node, trim
from clientd.keeper.settings import Settings, orphans_kill_s
from godwit import __version__, names, places
from godwit.errors import StartError, UsageError
from godwit.log import Level

USAGE = """\
The daemon of a node: starts the tasks that its master asks for, and looks after them.

Usage:
  clientd --name NODE (--master HOST:PORT | --listen HOST:PORT)
          [--token-file FILE] [--state DIR] [--logs DIR] [--config FILE]
          [--orphans POLICY] [--agent-user USER] [--log-max SIZE] [-v | -q]
  clientd (-h | --help)
  clientd --version

Options:
  --name NODE         what this node is called; unique among its master's
  --master HOST:PORT  join this master, and again whenever it is away
  --listen HOST:PORT  wait here for a master that registers this node
  --token-file FILE   a join token (`godwit token` at the master makes one), for the first
                      start; or in the environment as GODWIT_TOKEN
  --state DIR         where it keeps what it knows of its tasks
  --logs DIR          where its own log is and, in DIR/NODE, those of its tasks
  --config FILE       what may be done with this node, whoever asks: users, commands, folders,
                      number of tasks (docs/security.md); default: DIR/clientd.toml of --state,
                      if there is one
  --orphans POLICY    what becomes of tasks when the master is silent: keep, or kill=SECONDS
                      to end them all and stop after that long; default: as clientd.toml says,
                      else keep
  --agent-user USER   run the process that talks to the network, and reads and writes what is
                      copied, as this user; needs root
  --log-max SIZE      a log of a task takes at most about SIZE of the disk (64M, 2G; 64K at least):
                      then its oldest part is dropped; none: never [default: none]
  -v                  say more on stderr: configuration, too
  -q                  say less: warnings only
  -h, --help          this text
  --version           the version
"""

#: Units of sizes: the power of two.
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"([0-9]{1,12})([kmgtKMGT]?)")


def main() -> int:
    """0 after an orderly stop, 1 when it cannot start, 2 for wrong usage."""
    born = birth.start()
    try:
        settings, level = asked(sys.argv[1:])
    except UsageError as err:
        print(f"clientd: {err}{f' ({err.hint})' if err.hint else ''}", file=sys.stderr)
        return err.exit_status
    try:
        node.run(settings, born, level)
    except StartError as err:
        print(f"clientd {settings.name}: {err}", file=sys.stderr)
        return 1
    return 0


def asked(argv: Sequence[str]) -> tuple[Settings, Level]:
    """What the command line says.  Raises UsageError; ends the process for --help, --version."""
    try:
        given = docopt.docopt(USAGE, list(argv), True, f"clientd (godwit) {__version__}")
    except docopt.DocoptExit as err:
        raise UsageError(
            "this is not how it is started", exit_status=2,
            hint="clientd --name NODE (--master HOST:PORT | --listen HOST:PORT); --help says more",
        ) from err
    name = names.check_node_name(given["--name"])
    for option in ("--master", "--listen"):
        if given[option] is not None and not names.split_address(given[option])[1]:
            raise UsageError(
                f"{option} {given[option]}: the other end has to know the port",
                code="bad-address", exit_status=2, hint="choose one from 1 to 65535",
            )
    for option in ("--state", "--logs", "--config"):
        check_folder(option, given[option] or "")
    settings = Settings(
        name, given["--master"] or "", given["--listen"] or "",
        places.node_state(name, given["--state"]), places.logs(given["--logs"]),
        orphans_kill_s(given["--orphans"]) if given["--orphans"] is not None else None,
        os.path.abspath(given["--token-file"]) if given["--token-file"] else "",
        os.path.abspath(given["--config"]) if given["--config"] else "",
        given["--agent-user"] or "",
        log_max=log_max(given["--log-max"]),
    )
    return settings, "config" if given["-v"] else "warning" if given["-q"] else "info"


def check_folder(option: str, path: str) -> None:
    """Raises UsageError for a name that is no text: it is told to others as text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{option} {path!r} is no UTF-8", code="bad-folder", exit_status=2
        ) from None


def log_max(size: str) -> int:
    """Bytes; 0 for no bound.  Raises UsageError."""
    if size == "none":
        return 0
    found = _SIZE.fullmatch(size)
    most = int(found[1]) << UNITS[found[2].upper()] if found else 0
    if most >= trim.LEAST:
        return most
    raise UsageError(
        f"--log-max {size!r} is no size", code="bad-size", exit_status=2,
        hint="write none, or 64K and more: 64M, 2G",
    )


if __name__ == "__main__":
    sys.exit(main())
