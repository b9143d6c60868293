"""Commands that leave: exit, detach, stop."""

import contextlib
import os
import select
from collections.abc import Callable, Iterator

from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd.client import MasterGone
from masterd.commands import asjson, nodes
from masterd.commands.asking import Given
from masterd.commands.context import Context, Leave

#: Seconds that a master which said that it stops has to end.
END_S = 5.0


def exit_(context: Context, given: Given) -> int:
    """Leave the shell; the master's own shell deregisters every node and stops the master

    Usage: exit [options]

    In a shell that was attached (godwit shell), nothing but the shell ends.  In the master's own,
    it asks first when tasks are running, on a terminal; detach leaves everything running.

    Options:
      -y, --yes   Do not ask.
      -h, --help  Show this.
    """
    _only_in_a_shell(context)
    if not context.owns_master:
        raise Leave()
    count = nodes.running(context.master.ask(op.ListNodes(0), op.Nodes).nodes)
    if count and not given["--yes"] and not context.confirm(
        f"End {nodes.tasks_text(count)}, every node and the master?"
    ):
        context.note("nothing was done; detach leaves everything running")
        return 1
    _stop(context, deregister=True)
    raise Leave()


def detach(context: Context, given: Given) -> int:
    """Leave the shell, and leave master, nodes and tasks running

    Usage: detach [options]

    Options:
      -h, --help  Show this.
    """
    _only_in_a_shell(context)
    raise Leave(detach=True)


def stop(context: Context, given: Given) -> int:
    """Stop the master; nodes and tasks go on

    Usage: stop [options]

    The nodes look for their master until one is started again on the same state folder.  On a
    terminal it asks first.

    Options:
      --dereg     Deregister every node first: their tasks and their clientd end.
      -y, --yes   Do not ask.
      --json      As JSON: {"stopped"}.
      -h, --help  Show this.
    """
    question = "End every task, every node and the master?" if given["--dereg"] else (
        "Stop the master?"
    )
    if not given["--yes"] and not context.confirm(question):
        context.note("nothing was done")
        return 1
    _stop(context, deregister=given["--dereg"])
    if given["--json"]:
        context.line(asjson.dumps({"stopped": context.state}))
    if context.in_shell:
        raise Leave()
    return 0


def _only_in_a_shell(context: Context) -> None:
    if not context.in_shell:
        raise UsageError(
            "there is nothing to leave: this is no shell", code="no-shell",
            hint="`godwit stop` stops the master",
        )


def _stop(context: Context, *, deregister: bool) -> None:
    """A master that is gone without a last word has stopped.

    Its state folder is free when this returns: another may be started on it at once.
    """
    who = context.master.attached
    with _watched(who.pid if who else 0) as ended:
        try:
            nodes.progress(context, op.StopMaster(0, deregister=deregister))
        except MasterGone:
            context.note("the master has stopped")
        ended()


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[Callable[[], object]]:
    """What waits until this process, on the same machine, has ended; END_S at most."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:  # no such process here: another pid namespace
        yield lambda: None
        return
    try:
        yield lambda: select.select([fd], [], [], END_S)
    finally:
        os.close(fd)
