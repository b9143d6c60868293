"""A move under way, and what there is to say of it: its flight report.  Pure."""

from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from godwit.task.record import Task
from godwit.wire.messages import Standing
from godwit.wire.operations import PHASES, MoveView
from masterd.moves.table import Move, State


class Flight(Struct):
    """A move that is not settled, and what dies with this master."""

    move: Move
    #: Operators who wait: (operator, request).
    waiting: list[tuple[int, int]] = field(default_factory=list)
    #: The standing of each vote.
    frozen: Standing | None = None
    prepared: Standing | None = None
    #: The source has been told to freeze.
    freezing: bool = False
    #: Monotonic seconds: when something happened, and when the next thing is to.
    marks: dict[str, float] = field(default_factory=dict)
    due: float = float("inf")
    #: No word has come since the verdict, or the destination says it may have run.
    held: str = ""
    ticket: str = ""
    #: node -> the task as that node has it, which is not believed while another owns it.
    claims: dict[str, Task] = field(default_factory=dict)
    #: From this move on what the task writes elsewhere is in a log at its home, too.
    log_at_home: bool = False
    #: Nodes whose whole report did not name the task.
    missing: set[str] = field(default_factory=set)

    def mark(self, name: str, now: float) -> None:
        self.marks.setdefault(name, now)

    def ms(self, since: str, until: str) -> float:
        """Between two marks; 0 when either is missing."""
        if since not in self.marks or until not in self.marks:
            return 0.0
        return round((self.marks[until] - self.marks[since]) * 1e3, 3)

    def landed(self, running: Standing) -> Move:
        """The record, completed by the destination's word that the task runs there."""
        blackout, is_bound = self._blackout(running)
        phases = {
            **(self.frozen.phases if self.frozen else {}), **running.phases,
            "reserve": self.ms("begun", "reserved"),
            # What the votes and the verdict took, beside what the task's own state took.
            "commit": self.ms("voted", "ran"),
        }
        return replace(
            self.move, blackout_ms=blackout, blackout_is_bound=is_bound,
            size=self.frozen.size if self.frozen else self.move.size,
            phases_ms={name: round(phases[name], 3) for name in PHASES if name in phases},
        )

    def _blackout(self, running: Standing) -> tuple[float, bool]:
        """ms between the task's last step there and the end of its first step here.

        On one machine both were taken from one clock.  Between two, theirs may differ: it is no
        more than what passed here between the order to freeze and the word that it runs.
        """
        bound = self.ms("freeze", "ran")
        frozen = self.frozen
        if frozen is None or not frozen.at or not running.at:
            return bound, True
        if frozen.boot and frozen.boot == running.boot:
            return round((running.at - frozen.at) * 1e3, 3), False
        by_wall = (running.wall - frozen.wall) * 1e3
        return (round(by_wall, 3), False) if 0 < by_wall <= bound else (bound, True)


def view(move: Move, held: str = "") -> MoveView:
    """As operators see it."""
    return MoveView(
        id=move.id, task=move.task, source=move.source, target=move.target, kind=move.kind,
        result=_result(move, held), state=move.state.value, code=move.code,
        reason=held or move.reason, hint=_hint(move) + _again(move) if held else "",
        snapshot=move.snapshot,
        blackout_ms=move.blackout_ms, blackout_is_bound=move.blackout_is_bound, size=move.size,
        way=move.way, budget_ms=move.budget_ms, predicted_ms=move.predicted_ms,
        phases_ms=move.phases_ms, begun_at=move.begun_at, ended_at=move.ended_at,
    )


def _result(move: Move, held: str) -> Literal["", "done", "aborted", "reverted", "held"]:
    if held:
        return "held"
    match move.state:
        case State.RAN | State.DONE:
            return "done"
        case State.ABORTED:
            return "aborted"
        case State.REVERTED:
            return "reverted"
    return ""


def _again(move: Move) -> str:
    """What can be done when no copy is left."""
    if not move.snapshot:
        return ""
    return (
        f"; if nothing is left of it, `restart {move.task} --from {move.snapshot}` starts it again "
        "from before the move, once that is resolved"
    )


def _hint(move: Move) -> str:
    if move.state is State.DRAINING:
        return (
            f"when {move.target} is heard again, and has all of its memory, it is over by itself; "
            f"`resolve {move.id} --source` lets it go on at {move.source} from where it stood "
            "still, so that what it did since is done again: only if it does not run at "
            f"{move.target}; `resolve {move.id} --destination` gives up what {move.source} has"
        )
    if move.state is State.UNSURE:
        return (
            f"when both nodes have been heard it goes on by itself; `resolve {move.id} --source` "
            f"lets it go on at {move.source}: only if {move.target or 'no other node'} never ran "
            f"it, or never comes back; `resolve {move.id} --destination` gives up what "
            f"{move.source or 'its source'} has of it"
        )
    return (
        f"when {move.target} is back it goes on there by itself; "
        f"`resolve {move.id} --source` lets it go on at {move.source}: only if {move.target} "
        f"never ran it, or never comes back; `resolve {move.id} --destination` gives up what "
        f"{move.source} has of it"
    )
