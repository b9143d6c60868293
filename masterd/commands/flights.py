"""Moves as people read them: what became of one, in a line, and many as a table."""

from collections.abc import Callable, Sequence

from godwit.wire import operations as op
from masterd import render
from masterd.commands.tables import View, clock

#: What a move that ended so exits with; one without a result has no known outcome either.
EXITS = {"done": 0, "aborted": 1, "reverted": 1, "held": 125, "": 125}

Column = tuple[str, Callable[[op.MoveView], str]]


def outcome(view: op.MoveView) -> str:
    """What became of it, to be said of its task."""
    where = f"{view.source} -> {view.target}"
    because = f": {view.reason}" if view.reason else ""
    match view.result:
        case "done":
            return f"{where}{_figures(view)}"
        case "aborted":
            return f"stays on {view.source}{because}"
        case "reverted":
            return f"is back on {view.source}{because}"
        case "held":
            return f"is held between {view.source} and {view.target}{because}"
        case _:
            return f"{where} is under way" + (f" ({view.state})" if view.state else "")


def line(view: op.MoveView) -> str:
    """``outcome`` with the task before it."""
    colon = ":" if view.result in ("done", "") else ""
    return f"{view.task}{colon} {outcome(view)}"


def phases(view: op.MoveView) -> str:
    """reserve 4 ms, freeze 1 ms: what was measured, in the order of time."""
    names = [*op.PHASES, *(name for name in view.phases_ms if name not in op.PHASES)]
    return ", ".join(
        f"{name.replace('_', ' ')} {render.milliseconds(view.phases_ms[name])}"
        for name in names if name in view.phases_ms
    )


def fault(view: op.MoveView) -> op.Fault | None:
    """What was not done, and what a person can do about it; None when all is well."""
    if EXITS[view.result] == 0:
        return None
    code = view.code or view.result or "under-way"
    hint = view.hint or ("" if view.result else f"moves {view.task}")
    return op.Fault(view.task, code, line(view), hint)


def _figures(view: op.MoveView) -> str:
    """in 41 ms, 8 ms of it standing still (1.0M): as far as it is known."""
    taken = took(view)
    told = "" if taken is None else f" in {render.milliseconds(taken)}"
    if view.blackout_ms:
        of_it = " of it" if told else ""
        told += f", {_still(view)}{of_it} standing still"
    if view.predicted_ms:
        told += f" (predicted {render.milliseconds(view.predicted_ms)}"
        told += f" by {view.way}" if view.way else ""
        over = view.blackout_ms > view.budget_ms
        told += f"; {'over' if over else 'within'} {render.milliseconds(view.budget_ms)})"
    return told + (f" ({render.human_bytes(view.size)})" if view.size else "")


def took(view: op.MoveView) -> float | None:
    """Milliseconds from its beginning to its end; None while it has none."""
    if not view.ended_at:
        return None
    return max(0.0, view.ended_at - view.begun_at) * 1000


def _still(view: op.MoveView) -> str:
    bound = "at most " if view.blackout_is_bound else ""
    return bound + render.milliseconds(view.blackout_ms)


def table(view: View, found: Sequence[op.MoveView]) -> list[str]:
    """The newest last."""
    columns: list[Column] = [
        ("MOVE", lambda m: m.id),
        ("TASK", lambda m: m.task),
        ("FROM", lambda m: m.source),
        ("TO", lambda m: m.target),
        ("RESULT", lambda m: m.result or m.state or "under way"),
        ("TOOK", lambda m: _ms(took(m))),
        ("STILL", lambda m: ("<" if m.blackout_is_bound else "") + _ms(m.blackout_ms or None)),
        ("SIZE", lambda m: render.human_bytes(m.size) if m.size else "-"),
    ]
    if view.wide:
        columns += [("KIND", lambda m: m.kind), ("WAY", lambda m: m.way or "-")]
        columns += map(_phase, op.PHASES)
    columns += [("BEGUN", lambda m: clock(m.begun_at)), ("WHY", lambda m: m.reason)]
    rows = [[cell(each) for _, cell in columns] for each in found]
    right = ("TOOK", "STILL", "SIZE", *map(str.upper, op.PHASES))
    return view.lines([name for name, _ in columns], rows, right)


def _phase(name: str) -> Column:
    return name.upper(), lambda m: _ms(m.phases_ms.get(name))


def _ms(count: float | None) -> str:
    return "-" if count is None else render.milliseconds(count)


def faults(found: Sequence[op.MoveView]) -> list[op.Fault]:
    """Of those that were not done."""
    return [told for view in found if (told := fault(view))]
