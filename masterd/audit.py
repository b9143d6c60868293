"""One line for each change made through this master: who, what, which request, how it went.  Pure.

A change is any request of an operator's that is not in ``LOOKS``: a new one is audited before
anybody thinks of it, with its name alone until ``DETAILS`` says which of its fields may be
shown.  So no secret can get into a line by being forgotten.

The line is made when the answer is, and is written before the answer is sent: what an operator
was told of has its line.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Any

from msgspec import Struct

from godwit.wire import operations as op

#: Requests that change nothing.
LOOKS = (
    op.Attach, op.ListNodes, op.ListTasks, op.FollowLogs, op.Took, op.Cancel, op.AwaitTasks,
    op.MeasureUsage, op.History, op.ListMoves, op.ListPrograms, op.JudgeMove,
    op.ListSnapshots,
)
#: What may be shown of the others: names of fields.
DETAILS: dict[type[op.Request], tuple[str, ...]] = {
    op.Execute: ("nodes", "argv", "shell", "cwd", "name", "user", "count", "oneoff", "kind"),
    op.SignalTasks: ("tasks", "number", "whole"),
    op.PauseTasks: ("tasks", "resume"),
    op.ForgetTasks: ("tasks",),
    op.EraseFile: ("place", "recursive"),
    op.Copy: ("source", "target"),
    op.Register: ("host", "port", "name"),
    op.Deregister: ("nodes",),
    op.StopMaster: ("deregister",),
    op.MakeToken: ("uses", "ttl_s", "node"),
    op.Revoke: ("node",),
    op.MoveTask: ("task", "target", "source", "on_unknown", "budget_ms", "anyway"),
    op.ResolveMove: ("move", "side"),
    op.Upgrade: ("nodes",),
    op.CheckpointTask: ("task", "keep", "every_s", "stop"),
    op.RestartTask: ("task", "snapshot", "fork", "count", "nodes", "lost"),
}
#: Characters of one text, and entries of one list, that a line holds.
LONGEST = 1000
MOST = 100
#: Machines that were let in and have not got their certificate yet.
MOST_GUESTS = 1000


class Who(Struct, frozen=True):
    """An operator, by SO_PEERCRED."""

    uid: int
    user: str
    pid: int
    #: Who logged in before becoming that user (su, sudo), as far as the kernel knows.
    login: str = ""

    def shown(self) -> dict[str, object]:
        found: dict[str, object] = {"uid": self.uid, "user": self.user, "pid": self.pid}
        return found | ({"login": self.login} if self.login else {})


class Line(Struct, frozen=True):
    """One change; ``about`` are the fields of the JSON."""

    text: str
    about: dict[str, object]


class _Asked(Struct, frozen=True):
    operator: int
    who: Who
    request: op.Request


class Audit:
    """Remembers what was asked until it is answered."""

    def __init__(self) -> None:
        self._who: dict[int, Who] = {}
        #: By operator and request id; a client may use an id twice.
        self._asked: dict[tuple[int, int], list[_Asked]] = {}
        #: Number of a question -> what a machine joined with.
        self._guests: OrderedDict[int, tuple[str, str]] = OrderedDict()

    # ---- operators -------------------------------------------------------------------------

    def came(self, operator: int, who: Who) -> None:
        self._who[operator] = who

    def asked(self, operator: int, request: op.Request) -> Iterator[Line]:
        """An operator asks for something."""
        if isinstance(request, op.Cancel):
            yield from self._close(operator, request.id, {"result": "cancelled"})
        elif not isinstance(request, LOOKS):
            who = self._who.get(operator, Who(-1, "unknown", 0))
            entry = _Asked(operator, who, request)
            self._asked.setdefault((operator, request.id), []).append(entry)

    def answered(self, operator: int, reply: op.Reply) -> Iterator[Line]:
        """What an operator is about to be told."""
        # What is launched has been done; that its output follows does not matter here.
        if isinstance(reply, op.Launched) or not isinstance(reply, op.ON_THE_WAY):
            yield from self._close(operator, reply.id, outcome(reply))

    def gone(self, operator: int) -> Iterator[Line]:
        """An operator left; it was not told how the rest went."""
        for key in [key for key in self._asked if key[0] == operator]:
            while key in self._asked:
                yield from self._close(*key, {"result": "unknown", "why": "the operator left"})
        self._who.pop(operator, None)

    def _close(self, operator: int, number: int, how: dict[str, object]) -> Iterator[Line]:
        entries = self._asked.get((operator, number))
        if not entries:
            return
        entry = entries.pop(0)
        if not entries:
            del self._asked[operator, number]
        what = type(entry.request).__name__
        yield Line(f"{what} by {entry.who.user}: {how['result']}", {
            "who": entry.who.shown(), "what": what, "request": number, "connection": operator,
            "details": details(entry.request), **how,
        })

    # ---- machines --------------------------------------------------------------------------

    def knocked(self, question: int, token: str, peer: str) -> None:
        """A machine wants to join with the token of that id."""
        self._guests[question] = (token, peer)
        if len(self._guests) > MOST_GUESTS:
            self._guests.popitem(last=False)

    def certified(self, question: int, name: str, leaf: str) -> Iterator[Line]:
        """A certificate was made for a node: one that joins, is adopted, or renews its own."""
        token, peer = self._guests.pop(question, ("", ""))
        who = {"node": name, **({"address": peer} if peer else {})}
        made = {"certificate": leaf[:16], **({"token": token} if token else {})}
        yield Line(f"Certificate for {name}: ok", {
            "who": who, "what": "Certificate", "request": question, "details": made, "result": "ok",
        })


# ---- what a line says ----------------------------------------------------------------------


def details(request: op.Request) -> dict[str, object]:
    """What was asked for, without anything secret."""
    names = DETAILS.get(type(request), ())
    shown = {name: _plain(getattr(request, name)) for name in names}
    if isinstance(request, op.Execute) and request.env:
        # Values may be passwords.
        shown["env"] = _plain(tuple(request.env))
    return {name: value for name, value in shown.items() if value not in ("", False, None, [])}


def outcome(reply: op.Reply) -> dict[str, object]:
    """How it went."""
    match reply:
        case op.Problem(code=code, message=message):
            return {"result": code, "why": _plain(message)}
        case op.Tasks(tasks=tasks, faults=faults) | op.Launched(tasks=tasks, faults=faults):
            result = "ok" if not faults else "partly" if tasks else faults[0].code
            return {
                "result": result, "count": len(tasks),
                "tasks": [f"{view.node}:{view.task.id}" for view in tasks[:MOST]],
                **({"faults": _faults(faults)} if faults else {}),
            }
        case op.Upgraded(nodes=nodes, faults=faults):
            result = "ok" if not faults else "partly" if nodes else faults[0].code
            return {"result": result, **({"faults": _faults(faults)} if faults else {})}
        case op.CopyDone(size=size, files=files):
            return {"result": "ok", "size": size, "files": files}
        case _:
            return {"result": "ok"}


def _faults(faults: Collection[op.Fault]) -> list[str]:
    return [f"{fault.about[:LONGEST]}: {fault.code}" for fault in list(faults)[:MOST]]


def _plain(value: Any) -> object:
    """For JSON, and not too long."""
    if isinstance(value, op.Place):
        path = value.path.decode("utf-8", "backslashreplace")
        return _plain(f"{value.node}:{path}" if value.node else path)
    if isinstance(value, bytes):
        return _plain(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, tuple):
        return [_plain(each) for each in value[:MOST]]
    return value[:LONGEST] if isinstance(value, str) else value
