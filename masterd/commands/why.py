"""The command that tells where a task can go, before anything is frozen: why."""

from collections.abc import Iterator, Sequence

from godwit.task.reasons import Reason
from godwit.task.verdict import Verdict
from godwit.wire import operations as op
from masterd import render
from masterd.commands import asjson, asking
from masterd.commands.asking import Given
from masterd.commands.context import Context
from masterd.commands.tables import View

FORMATS = ("table", "json", "name")


def why(context: Context, given: Given) -> int:
    """Tell whether a task can move, and if not, why not and what would help

    Usage: why [options] TASK [NODE]

    The task and the nodes are looked at, nothing is done to either; move refuses by the same
    verdict.  NODE may be several (@web1,web2), or home; without it all others are asked.  CAN is
    yes, no, or if: then what has to be so is told below.  KIND is how it would move: python
    (between two steps) or criu (as it is).  STILL is for how long it would stand still, by what
    moves took so far.  Status 1 when it can go to none of them.

    Options:
      -o, --output FORMAT   table, json or name (nodes that it can go to).
      --json                The same as -o json.
      --no-headers          Leave out the line of headings.
      --no-trunc            Cut nothing to the width of the screen.
      -h, --help            Show this.

    Examples:
      why ab12cd34
      why ab12 node2 && move ab12 node2
    """
    form = asking.output_format(given, FORMATS)
    request = op.JudgeMove(0, given["TASK"], given["NODE"] or "all")
    answer = context.master.ask(request, op.Verdicts)
    found = [verdict for verdict in answer.verdicts if verdict.verdict != "no"]
    match form:
        case "json":
            context.line(asjson.dumps(asjson.verdicts(answer)))
        case "name":
            for verdict in found:
                context.line(render.printable(verdict.node))
        case _ if not answer.verdicts:
            context.note(f"{answer.task} is on {answer.node}, and there is no other node")
        case _:
            for line in table(View.of(context, given), answer.verdicts):
                context.line(line)
    return 0 if found else 1


def table(view: View, verdicts: Sequence[Verdict]) -> list[str]:
    """A row for each node; below, each reason with the nodes that have it."""
    rows = [
        [each.node, each.verdict, each.kind,
         "-" if each.blackout_ms is None else render.milliseconds(each.blackout_ms)]
        for each in verdicts
    ]
    lines = view.lines(["NODE", "CAN", "KIND", "STILL"], rows, ("STILL",))
    return [*lines, *map(render.printable, _reasons(verdicts))]


def _reasons(verdicts: Sequence[Verdict]) -> Iterator[str]:
    having: dict[Reason, list[str]] = {}
    for each in verdicts:
        for reason in each.reasons:
            having.setdefault(reason, []).append(each.node)
    for reason, nodes in having.items():
        fix = f"; {reason.fix}" if reason.fix else ""
        yield f"{', '.join(nodes)}: {reason.verdict}: {reason.text}{fix}"
