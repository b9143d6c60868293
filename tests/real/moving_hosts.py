"""Nodes on hosts of their own, between which programs move as they are.

Each has its folders under the same path as the others, as machines have, and what lies there is
its own: so a file that a task finds after a move has come with it.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.real.hosts import HostCluster, Hosts
from tests.real.moving import MovingProcesses

#: Of every node, on its own host; it is bound to a folder of this machine's.
STATE = "/run/godwit"


class MovingHosts(HostCluster, MovingProcesses):
    """See the module."""

    def __init__(
        self, top: Path, hosts: Hosts, nodes: Sequence[str] = ("node1", "node2"),
        options: Sequence[str] = (), master: str = "master",
    ):
        super().__init__(top, hosts, nodes, options, master)
        for name in nodes:
            (top / name).mkdir()
            hosts[name].run("mkdir", STATE)
            hosts[name].run("mount", "--bind", str(top / name), STATE)

    def _folder(self, name: str) -> str:
        return STATE
