"""Commands that move tasks between nodes while they run: move, transfer."""

import re
import signal
from collections.abc import Sequence
from typing import Literal

from godwit.errors import PeerError, UsageError
from godwit.wire import operations as op
from masterd import render
from masterd.client import Interrupted, refusal
from masterd.commands import asjson, asking, bars, flights, interrupts
from masterd.commands.asking import Given
from masterd.commands.context import Context
from masterd.commands.dispatching import INTERRUPTED
from masterd.together import Together

#: What may be asked for when it cannot be known whether the new node ran the task.
ON_UNKNOWN: tuple[Literal["hold", "resume"], ...] = ("hold", "resume")
_BUDGET = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)(ms|s)", re.ASCII)
#: Seconds after which a move that is not over shows how far it is.
SHOWN_AFTER_S = 0.3


def move(context: Context, given: Given) -> int:
    """Move tasks to another node while they run

    Usage: move [options] TASK... NODE

    Each goes on there where it stopped, under the same id and with all of its log.  NODE may be
    home: where the task was started, unless a node is called so.  If anything fails before the new
    node has it, it goes on where it is, and the reason is told: status 1.  Status 125 means held:
    no copy is known to run until a node is heard again or resolve says which has it.  Several
    tasks move at the same time.  Ctrl-C leaves; the moves go on.

    With a budget the time that it will stand still is predicted first, from its memory and from
    past moves.  When freezing it till all of it is there would take longer, it goes on at the new
    node at once and its memory follows (post-copy): until that is there, a few seconds for each
    GiB, it needs both nodes.  If either is lost meanwhile it is held, and resolve --source lets it
    go on from where it stood still.  When no way is likely to keep to the budget the move is
    refused, status 1, and nothing is frozen.

    Options:
      --budget TIME      It may stand still for so long: 100ms, 1.5s.
      --anyway           If no way is likely to keep to the budget, move it by the quickest.
      --safe             Keep a snapshot of it first, on the node that it leaves, as checkpoint
                         does; when a node is lost on the way, restart starts it again from there.
      --on-unknown WHAT  When the new node is lost and may have run it: hold (stop and wait), or
                         resume (go on at the old node; what it did outside may be done twice)
                         [default: hold]
      --log-at-home      From now on what it writes on other nodes is in its log at home, too.
      -q, --quiet        Only ids of the tasks that moved.
      --json             As JSON: {"move"}, or {"moves"} of several tasks.
      -h, --help         Show this.

    Examples:
      move ab12cd34 node2
      move ab12 ef56 node1:4711 node2 --json
      move ab12cd34 node2 --budget 300ms --safe
    """
    unknown, budget = _on_unknown(given), _budget(given)
    tasks = dict.fromkeys(given["TASK"])
    requests = [
        op.MoveTask(
            0, task, given["NODE"], on_unknown=unknown, budget_ms=budget, anyway=given["--anyway"],
            log_at_home=given["--log-at-home"], safe=given["--safe"],
        )
        for task in tasks
    ]
    return _moved(context, given, requests)


def transfer(context: Context, given: Given) -> int:
    """Move a task from one node to another, if it is where you think it is

    Usage: transfer [options] TASK FROM TO

    The same as move TASK TO, but refused when the task is not on FROM.  At the prompt
    `TASK -fromLocation FROM -toLocation TO` means the same.

    Options:
      --on-unknown WHAT  hold or resume, as for move  [default: hold]
      -q, --quiet        Only ids of the tasks that moved.
      --json             As JSON: {"move"}.
      -h, --help         Show this.

    Examples:
      transfer ab12cd34 node1 node2
    """
    request = op.MoveTask(0, given["TASK"], given["TO"], given["FROM"], _on_unknown(given))
    return _moved(context, given, [request])


def _budget(given: Given) -> float:
    """Milliseconds; 0 without one."""
    text = given["--budget"]
    if text is None:
        if given["--anyway"]:
            raise asking.misuse("--anyway is for a move with a --budget")
        return 0.0
    match = _BUDGET.fullmatch(text)
    found = float(match[1]) * (1 if match[2] == "ms" else 1000) if match else 0.0
    if not found:
        raise asking.misuse(f"--budget takes a time like 100ms or 1.5s, not {text!r}")
    return found


def _on_unknown(given: Given) -> Literal["hold", "resume"]:
    for each in ON_UNKNOWN:
        if given["--on-unknown"] == each:
            return each
    raise asking.misuse(
        f"--on-unknown takes {' or '.join(ON_UNKNOWN)}, not {given['--on-unknown']!r}"
    )


def _moved(context: Context, given: Given, requests: Sequence[op.MoveTask]) -> int:
    """Asks for all of them, tells of each as it ends; the exit status."""
    silent = given["--quiet"] or given["--json"]
    with (
        interrupts.caught(signal.SIGINT) as wake,
        Together(context.master, requests, wake) as answers,
        bars.bar(context, _name(requests), wanted=not silent, delay_s=SHOWN_AFTER_S) as bar,
    ):
        flown = Flown(context, given, requests, bar)
        for position, reply in answers:
            flown.take(position, reply)
    if given["--json"]:
        flown.tell_json()
    return flown.status()


def _name(requests: Sequence[op.MoveTask]) -> str:
    what = requests[0].task if len(requests) == 1 else f"{len(requests)} tasks"
    return f"{what} -> {requests[0].target}"


class Flown:
    """Moves under way, by the position of their request, and what came of each."""

    def __init__(
        self, context: Context, given: Given, requests: Sequence[op.MoveTask], bar: bars.Bar
    ):
        self._context = context
        self._given = given
        self._requests = requests
        self._bar = bar
        self._landed: dict[int, op.MoveView] = {}
        self._refused: dict[int, op.Problem] = {}
        #: Bytes done and in all.
        self._bytes: dict[int, tuple[int, int]] = {}

    def take(self, position: int, reply: op.Reply | Interrupted) -> None:
        """Raises UsageError: the person left, or the only move could not begin."""
        match reply:
            case Interrupted():
                raise self._left()
            case op.Progress(text=text, done=done, total=total):
                self._progress(position, text, done, total)
            case op.Moves(moves=(view,)):
                self._landed[position] = view
                self._tell(view)
            case op.Problem() if len(self._requests) == 1:
                raise refusal(reply)
            case op.Problem():
                self._refused[position] = reply
                self._tell_faults([self._problem(position)])
            case _:
                raise PeerError("the master answered MoveTask with something else")

    def status(self) -> int:
        """The gravest: an outcome that is not known, then wrong usage, then a refusal."""
        ended = [flights.EXITS[view.result] for view in self._landed.values()]
        return max([*ended, *(problem.exit_status for problem in self._refused.values())])

    def tell_json(self) -> None:
        """One document, in the order asked for."""
        views = [self._landed[position] for position in sorted(self._landed)]
        faults = [self._problem(position) for position in sorted(self._refused)]
        documents = [asjson.move(view) for view in views]
        told = {"move": documents[0]} if len(self._requests) == 1 else {"moves": documents}
        errors = asjson.errors([*flights.faults(views), *faults])
        self._context.line(asjson.dumps({**told, **errors}))

    def _progress(self, position: int, text: str, done: int, total: int) -> None:
        if total:
            self._bytes[position] = done, total
            done_all, totals = zip(*self._bytes.values(), strict=True)
            self._bar(sum(done_all), sum(totals))
        elif text and not self._given["--quiet"] and not self._given["--json"]:
            with self._bar.aside():
                self._context.note(text)

    def _tell(self, view: op.MoveView) -> None:
        told = flights.fault(view)
        if told:
            self._tell_faults([told])
        elif not self._given["--json"]:
            line = view.task if self._given["--quiet"] else flights.line(view)
            with self._bar.aside():
                self._context.line(render.printable(line))
                self._context.out.flush()

    def _tell_faults(self, faults: Sequence[op.Fault]) -> None:
        with self._bar.aside():
            asking.faults(self._context, faults)

    def _problem(self, position: int) -> op.Fault:
        problem = self._refused[position]
        return op.Fault(
            self._requests[position].task, problem.code, problem.message, problem.hint
        )

    def _left(self) -> UsageError:
        count = len(self._requests) - len(self._landed) - len(self._refused)
        return UsageError(
            "left: the move goes on" if count == 1 else f"left: {count} moves go on",
            code="interrupted", hint="`moves` tells", exit_status=INTERRUPTED,
        )
