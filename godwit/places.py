"""Where things are by default: state folders, log folders, the checkout if there is one."""

import os

#: The master's port; the number the seed system used.
PORT = 15440


def checkout() -> str | None:
    """The folder of the source checkout that this package runs from, or None when installed."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return top if os.path.isfile(os.path.join(top, "bin", "masterd")) else None


def state_home() -> str:
    """The default state folder: /var/lib/godwit for root, else below XDG_STATE_HOME."""
    if os.geteuid() == 0:
        return "/var/lib/godwit"
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "godwit")


def master_state(given: str | None = None) -> str:
    """The master's state folder: as given, else GODWIT_STATE, else the default."""
    return os.path.abspath(
        given or os.environ.get("GODWIT_STATE") or os.path.join(state_home(), "master")
    )


def node_state(name: str, given: str | None = None) -> str:
    """A node's state folder."""
    return os.path.abspath(given or os.path.join(state_home(), "nodes", name))


def logs(given: str | None = None) -> str:
    """The folder of task and daemon logs: as given, else logs/ of the checkout, else in state."""
    if given:
        return os.path.abspath(given)
    top = checkout()
    if top and os.access(os.path.join(top, "logs"), os.W_OK):
        return os.path.join(top, "logs")
    return os.path.join(state_home(), "logs")


def master_socket(state: str) -> str:
    """The Unix socket of the master with this state folder."""
    return os.path.join(state, "master.sock")
