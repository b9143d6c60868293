"""The command that shows what tasks wrote."""

import datetime
import signal
import time

from godwit.wire import operations as op
from masterd.client import Client, Interrupted
from masterd.commands import asking, interrupts, output
from masterd.commands.asking import Given
from masterd.commands.context import Context
from masterd.commands.dispatching import INTERRUPTED

DAY_S = 86400


def logs(context: Context, given: Given) -> int:
    """Show the output of tasks

    Usage: logs [options] TASK...

    Of several tasks, each line stands after the id of its task.  Following ends when the tasks
    have ended; Ctrl-C ends it earlier, and the tasks go on.  Where the oldest part of a log was
    dropped (clientd --log-max), stderr says how many bytes are missing at that place.

    Options:
      -f, --follow      Go on with what is written from now on.
      -n, --lines N     The last N lines only.
      --since WHEN      What came since then: 10m (ago), 14:30, 2024-05-01T14:30.
      --json            Each line as a JSON object {"task", "node", "line"}; where bytes were
                        dropped, one with "line": null and "dropped", their number.
      -h, --help        Show this.

    Examples:
      logs ab12cd34
      logs -f -n 20 ab12cd34 ef56ab78
      logs --since 10m ab12
    """
    lines = None if given["--lines"] is None else asking.whole(given["--lines"], "--lines")
    began = since(given["--since"], time.time()) if given["--since"] else 0.0
    client = context.master
    found = client.ask(op.ListTasks(0, tuple(given["TASK"])), op.Tasks)
    status = asking.faults(context, found.faults)
    if not found.tasks:
        return status
    ids = tuple(view.task.id for view in found.tasks)
    request = op.FollowLogs(0, ids, lines=lines, since=began, live=given["--follow"])
    return _relay(context, client, request, _sink(context, given, found)) or status


def _sink(context: Context, given: Given, found: op.Tasks) -> output.Sink:
    if given["--json"]:
        return output.objects(context, {view.task.id: view.node for view in found.tasks})
    if len(found.tasks) == 1:
        return output.Plain(context)
    return output.prefixed(context, {view.task.id: view.task.id for view in found.tasks})


def _relay(context: Context, client: Client, request: op.FollowLogs, sink: output.Sink) -> int:
    status = 0
    with (
        interrupts.caught(signal.SIGINT) as wake,
        client.stream(request, wake) as answers,
    ):
        flow = output.Flow(context, client, answers.id, sink)
        for reply in answers:
            match reply:
                case Interrupted():
                    return INTERRUPTED
                case op.Output():
                    flow.take(reply)
                case op.OutputEnd():
                    status |= flow.end(reply)
                case op.Tasks():
                    status |= asking.faults(context, reply.faults)
                case _:
                    pass
    return status


def since(text: str, now: float) -> float:
    """Seconds since 1970 for 10m (ago), HH:MM[:SS] (the last time it was) or an ISO 8601 time.

    Without a zone, the time is local.  Raises UsageError (status 2).
    """
    ago = asking.span(text)
    if ago is not None:
        return now - ago
    try:
        if "-" not in text and ":" in text:
            clock = datetime.time.fromisoformat(text)
            today = datetime.datetime.fromtimestamp(now).replace(
                hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0
            )
            at = today.timestamp()
            return at if at <= now else at - DAY_S
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as err:
        raise asking.misuse(
            f"{text!r} is no time", "write 10m (ago), 14:30 or 2024-05-01T14:30"
        ) from err
