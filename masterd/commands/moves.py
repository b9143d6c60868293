"""Commands about moves that were made, or are held: moves, resolve."""

from typing import Literal

from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd import render
from masterd.client import MasterGone
from masterd.commands import asjson, asking, flights
from masterd.commands.asking import Given
from masterd.commands.context import Context
from masterd.commands.tables import View

FORMATS = ("table", "wide", "json", "jsonl", "name")


def moves(context: Context, given: Given) -> int:
    """Show moves of tasks: how each went and how long it took

    Usage: moves [options] [REFERENCE]

    REFERENCE is a task or a node; without it, everything.  The newest come last.  STILL is for how
    long the task stood still, as the task saw it; < marks a bound.  wide adds the phases.

    Options:
      -n, --number N        The newest N moves  [default: 20]
      -o, --output FORMAT   table, wide, json, jsonl (a move a line) or name (ids).
      --json                The same as -o json.
      --no-headers          Leave out the line of headings.
      --no-trunc            Cut nothing to the width of the screen.
      -h, --help            Show this.

    Examples:
      moves
      moves ab12cd34 -o wide
      moves --json | jq '.moves[].blackout_ms'
    """
    form = asking.output_format(given, FORMATS)
    limit = asking.whole(given["--number"], "--number", least=1)
    request = op.ListMoves(0, given["REFERENCE"] or "", limit)
    found = context.master.ask(request, op.Moves).moves
    match form:
        case "json":
            context.line(asjson.dumps({"moves": [asjson.move(view) for view in found]}))
        case "jsonl":
            for view in found:
                context.line(asjson.dumps(asjson.move(view)))
        case "name":
            for view in found:
                context.line(render.printable(view.id))
        case _:
            _tell(context, given, found, wide=form == "wide")
    return 0


def _tell(
    context: Context, given: Given, found: tuple[op.MoveView, ...], *, wide: bool
) -> None:
    """The table, and how what is held can be resolved."""
    if found:
        for line in flights.table(View.of(context, given, wide=wide), found):
            context.line(line)
    else:
        context.note("no moves")
    held = [view for view in found if view.result == "held"]
    asking.faults(context, flights.faults(held))


def resolve(context: Context, given: Given) -> int:
    """Say which side of a held move has the task

    Usage: resolve [options] MOVE

    MOVE is a move's id, or the task that is held.  A move is held when the new node was lost after
    the task was handed over: whether it ran there cannot be known here.  Your word stands, also
    when the lost node comes back: its copy is ended, or the frozen one at the old node is.  On a
    terminal it asks first.

    Options:
      --source       The task goes on at the old node, from where it was frozen.
      --destination  The new node has the task, or will have it once it is back.
      -y, --yes      Do not ask.
      --json         As JSON: {"move"}.
      -h, --help     Show this.

    Examples:
      resolve ab12cd34 --source
    """
    side = _side(given)
    move = _held(context, given["MOVE"])
    if not given["--yes"] and not context.confirm(f"Give {given['MOVE']} to its {side}, for good?"):
        context.note("nothing was done")
        return 1
    (view,) = context.master.ask(op.ResolveMove(0, move, side), op.Moves).moves
    if view.result == "held":
        return _still_held(context, given, view)
    if given["--json"]:
        context.line(asjson.dumps({"move": asjson.move(view)}))
    else:
        owner = view.source if side == "source" else view.target
        context.line(render.printable(f"{view.task} belongs to {owner}"))
    return 0


def _still_held(context: Context, given: Given, view: op.MoveView) -> int:
    faults = flights.faults([view])
    if given["--json"]:
        context.line(asjson.dumps({"move": asjson.move(view), **asjson.errors(faults)}))
    asking.faults(context, faults)
    return flights.EXITS[view.result]


def _side(given: Given) -> Literal["source", "destination"]:
    if given["--source"] == given["--destination"]:
        raise asking.misuse("one of --source and --destination is needed", "help resolve")
    return "source" if given["--source"] else "destination"


def _held(context: Context, word: str) -> str:
    """The move that ``word`` means: its id, or the one that holds the task.  Raises UsageError."""
    try:
        found = context.master.ask(op.ListMoves(0, word), op.Moves).moves
    except MasterGone:
        raise
    except UsageError:
        # No task and no node: then it is a move, or nothing, and the master says so.
        return word
    held = [view for view in found if view.result == "held"]
    if not held:
        raise UsageError(f"no move of {word} is held", code="not-held", hint=f"moves {word}")
    if len(held) > 1:
        names = ", ".join(f"{view.id} ({view.task})" for view in held)
        raise UsageError(f"{word} has several moves that are held: {names}", code="ambiguous")
    return held[0].id
