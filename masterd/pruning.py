"""What the master forgets by itself, so that months do not fill it.  Pure.

The rules:
* Of a node, the master has the tasks that the node has: what a node forgot, because too many others
  ended since (clientd.keeper.records.ENDED_KEPT), goes here as well, at once or at its next Report.
* Of nodes that left, the LEFT_KEPT that were heard last are remembered, with their tasks.
* Of launches that nobody has a record of, the LOST_KEPT newest of a node are remembered.
"""

from godwit.task.lifecycle import Status
from masterd.registry import Node, Registry, State

LEFT_KEPT = 100
LOST_KEPT = 200


def surplus_nodes(registry: Registry) -> list[Node]:
    """Nodes that left and are not remembered any longer."""
    left = [node for node in registry.nodes.values() if node.state is State.LEFT]
    left.sort(key=lambda node: node.heard_at)
    return left[: max(0, len(left) - LEFT_KEPT)]


def surplus_tasks(node: Node) -> list[str]:
    """Tasks that may never have been, the oldest first, over what is remembered."""
    lost = [
        task for task in node.tasks.values()
        if task.status is Status.UNKNOWN and task.pid is None
    ]
    lost.sort(key=lambda task: task.spec.asked_at)
    return [task.id for task in lost[: max(0, len(lost) - LOST_KEPT)]]
