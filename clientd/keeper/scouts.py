"""Tells what of a task decides where it can go, and what this node has for one that may come.

Each question is looked into by a process of its own: clientd.keeper.scout.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from clientd.keeper import orders, whose
from clientd.keeper.errands import Outcome
from clientd.keeper.scout import ANSWER, QUESTION, OfPlace, OfTask, Question, encode
from clientd.keeper.tools import Tools
from godwit.errors import TaskError
from godwit.task.packets import in_memory
from godwit.task.record import Spec
from godwit.task.verdict import Place, Traits

COMMAND = (sys.executable, "-P", "-m", "clientd.keeper.scout")
#: Seconds for one look: less than the master waits for the answer.
LIMIT_S = 8.0
#: Looks at the same time; who asks for more is told to ask again.
MOST = 16

Seen = TypeVar("Seen", Traits, Place)


class Scouts:
    """All looks under way."""

    def __init__(self, tools: Tools, occupied: Callable[[], int]):
        """``occupied``: how many tasks have a process."""
        self._tools = tools
        self._register = tools.register
        self._occupied = occupied
        self._under_way = 0

    def describe(self, order: orders.Describe) -> None:
        """Answers in a later turn of the loop.  Raises TaskError."""
        task = self._register.known(order.task)
        if task.pid is None or not task.status.alive:
            raise TaskError("ended", f"{order.task} does not run ({task.status.value})")
        question = OfTask(
            task.pid, os.fsencode(task.log), _program(task.spec),
            carries=not task.spec.cwd.startswith(b"/"),
        )

        def described(number: int, seen: Traits) -> orders.Word:
            # What ended meanwhile has no traits, which would be told as reasons.
            if not self._register.known(order.task).status.alive:
                return orders.Acted(number, "ended", f"{order.task} has ended")
            return orders.Described(number, seen)

        self._look(order.order, question, Traits, described)

    def survey(self, order: orders.Survey, facts: orders.Facts) -> None:
        """Answers in a later turn of the loop.  Raises TaskError."""
        spec = order.spec
        objection = self._tools.gate.objection_to_guest(spec, self._occupied())
        known = Place(
            facts.name, os.uname().machine, facts.can, facts.lacks, shared=facts.shared,
            objection=(objection.code, str(objection)) if objection else None,
            programs=frozenset(facts.programs), ids=whose.ids_here(spec.user),
        )
        # What may not come here has no business with our files.
        paths = () if objection else order.paths
        program = _program(spec)
        cwd = self._tools.spawner.cwd(spec) if program else b""
        question = OfPlace(known, paths, "" if spec.digest else program, cwd)
        self._look(order.order, question, Place, orders.Surveyed)

    def _look(
        self, order: int, question: Question, kind: type[Seen],
        word: Callable[[int, Seen], orders.Word],
    ) -> None:
        if self._under_way >= MOST:
            raise TaskError("busy", f"{MOST} others are being looked into here: ask again")
        asked, told = in_memory(encode(question)), in_memory(b"")
        os.lseek(asked, 0, os.SEEK_SET)
        try:
            self._under_way += 1
            self._tools.errands.run(
                COMMAND, partial(self._looked, order, told, kind, word), LIMIT_S,
                {QUESTION: asked, ANSWER: told}, environment(),
            )
        finally:
            os.close(asked)

    def _looked(
        self, order: int, told: int, kind: type[Seen],
        word: Callable[[int, Seen], orders.Word], outcome: Outcome,
    ) -> None:
        self._under_way -= 1
        try:
            data = os.pread(told, os.fstat(told).st_size, 0)
        finally:
            os.close(told)
        if outcome.late:
            self._failed(order, "timeout", f"looking took more than {LIMIT_S:g} s")
        elif not outcome.fine:
            self._failed(order, "look", outcome.said[-500:])
        else:
            self._register.tell(word(order, msgspec.msgpack.decode(data, type=kind)))

    def _failed(self, order: int, code: str, text: str) -> None:
        self._register.log("warning", f"looking where a task can go: {text}")
        self._register.tell(orders.Acted(order, code, text.splitlines()[-1] if text else code))


def _program(spec: Spec) -> str:
    return os.fsdecode(spec.argv[0]) if spec.kind == "python" and spec.argv else ""


def environment() -> dict[str, str]:
    """Ours, and this code is found: modules of programs where a runner would look for them."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, (top, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}
