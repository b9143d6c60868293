"""Why a task cannot come here, or stand still for a move, as a code and a text.  Pure."""

from collections.abc import Callable

from clientd.keeper import orders
from clientd.keeper.moves.here import Here
from godwit.task.lifecycle import Status
from godwit.task.record import Task

#: Kinds of task that can be frozen, shipped and thawed here.
KINDS = ("python", "shell")
PLAIN = (
    "it was started without a pid namespace of its own; start it with `execute`, without --plain"
)

Refusal = tuple[str, str] | None
#: What else this node has against a task that may come.
Objects = Callable[[Task], Refusal]


def of_coming(here: Here, order: orders.Reserve, objects: Objects) -> Refusal:
    task, ledger = order.task, here.ledger
    if task.spec.kind not in KINDS:
        return "kind", f"a {task.spec.kind} task cannot come here"
    if here.of_task(task.id) is not None:
        return "moving", f"another move of {task.id} is not settled here yet"
    if task.id in ledger.tasks:
        return "exists", f"a task {task.id} is here already"
    if order.epoch <= ledger.epochs.get(task.id, 0):
        return "epoch", f"{task.id} was here under a later epoch than {order.epoch}"
    return objects(task)


def of_freezing(here: Here, order: orders.Freeze) -> Refusal:
    task = here.ledger.tasks.get(order.task)
    if task is None:
        return "no-task", f"{order.task}: no such task on this node"
    if task.spec.kind not in KINDS:
        return "kind", f"a {task.spec.kind} task cannot move"
    if task.spec.kind == "shell" and not task.spec.contained:
        return "plain", PLAIN
    if task.spec.epoch != order.epoch:
        return "epoch", f"{order.task} is here under epoch {task.spec.epoch}"
    if here.of_task(order.task) is not None:
        return "moving", f"another move of {order.task} is not settled here yet"
    if task.status is Status.PAUSED:
        return "paused", f"{order.task} is paused: resume it first"
    if task.status is not Status.RUNNING:
        return "ended", f"{order.task} has ended ({task.status.value})"
    return None
