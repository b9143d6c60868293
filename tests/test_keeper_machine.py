"""The journal and its ledger against a simple model, over crashes, torn ends and compactions."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clientd.keeper import records
from clientd.keeper.journal import Journal
from clientd.keeper.records import Accepted, Exited, Forgotten, Ledger, Refused, Started, Stepped
from clientd.keeper.replay import pack
from godwit.task.lifecycle import Cause
from godwit.task.record import Spec

#: What the model knows of an id: a word, and how it ended.
Known = dict[str, tuple[str, int | None]]


class Keeping(RuleBasedStateMachine):
    """What a keeper does to its journal; what it must know after any crash."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "journal"
        self.count = 0
        #: What is known now; what was when the file had so many bytes; what came since.
        self.known: Known = {}
        self.written: list[tuple[int, Known]] = []
        self.waiting: list[tuple[int, Known]] = []
        #: Bytes that a crash cannot take: they were synced.
        self.synced = 0

    @initialize()
    def open(self) -> None:
        self.journal, self.ledger = Journal(str(self.path)), Ledger()
        read, wrong = self.journal.load()
        assert wrong == "" and self.ledger.replay(read) == 0
        self.written = [(0, {})]

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.folder)

    # ---- what happens to tasks -------------------------------------------------------------

    def note(self, record: records.Records, task: str, word: str, end: int | None = None) -> None:
        self.ledger.apply(record)
        self.journal.append(record)
        self.known[task] = (word, end)
        self.waiting.append((len(pack(records.encode(record))), dict(self.known)))

    def among(self, *words: str) -> list[str]:
        return sorted(task for task, (word, _) in self.known.items() if word in words)

    @rule()
    def accept(self) -> None:
        """Durable before anything is started."""
        self.flush()
        self.count += 1
        task = f"t{self.count:07}"
        record = Accepted((Spec(task, (b"true",)),))
        self.journal.commit(record)
        self.ledger.apply(record)
        self.known[task] = ("starting", None)
        self.synced = os.path.getsize(self.path)
        self.written.append((self.synced, dict(self.known)))

    @precondition(lambda self: self.among("starting"))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.among("starting")))
        self.note(Started(task, 7, 1234, "boot", "/log", 1.0), task, "running")

    @precondition(lambda self: self.among("starting"))
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.among("starting")))
        self.note(Refused(task, "ENOENT", "no such program"), task, "refused")

    @precondition(lambda self: self.among("running"))
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.among("running")))
        self.note(Stepped(task, Cause.PAUSED), task, "paused")

    @precondition(lambda self: self.among("paused"))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.among("paused")))
        self.note(Stepped(task, Cause.RESUMED), task, "running")

    @precondition(lambda self: self.among("running", "paused"))
    @rule(data=st.data(), code=st.integers(0, 255))
    def end(self, data: st.DataObject, code: int) -> None:
        task = data.draw(st.sampled_from(self.among("running", "paused")))
        self.note(Exited(task, code << 8, 2.0), task, "exited", code)

    @precondition(lambda self: self.among("exited"))
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.among("exited")))
        self.note(Forgotten((task,)), task, "forgotten")

    # ---- what happens to the file ----------------------------------------------------------

    @rule()
    def flush(self) -> None:
        assert self.journal.flush() is None
        for size, known in self.waiting:
            self.written.append((self.written[-1][0] + size, known))
        self.waiting.clear()
        assert os.path.getsize(self.path) == self.written[-1][0]

    @rule()
    def compact(self) -> None:
        self.journal.compact(self.ledger.snapshot())
        self.waiting.clear()
        self.synced = os.path.getsize(self.path)
        self.written = [(self.synced, dict(self.known))]

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """What was not written is lost; of what was not synced, any end may be."""
        os.close(self.journal._fd)
        self.journal._fd = -1
        left = data.draw(st.integers(self.synced, os.path.getsize(self.path)))
        os.truncate(self.path, left)
        self.journal, self.ledger = Journal(str(self.path)), Ledger()
        read, wrong = self.journal.load()
        assert self.ledger.replay(read) == 0
        self.written = [(size, known) for size, known in self.written if size <= left]
        whole, self.known = self.written[-1][0], dict(self.written[-1][1])
        assert ("torn" in wrong) == (whole < left) and "damaged" not in wrong
        assert os.path.getsize(self.path) == whole
        self.waiting.clear()

    @invariant()
    def what_is_known_is_what_happened(self) -> None:
        assert seen(self.ledger) == self.known

    @invariant()
    def an_id_that_was_accepted_durably_is_never_new_again(self) -> None:
        for task in [f"t{number:07}" for number in range(1, self.count + 1)]:
            known = task in self.ledger.tasks or task in self.ledger.refused
            assert known or task in self.ledger.forgotten


def seen(ledger: Ledger) -> Known:
    """What a ledger knows, in the model's words."""
    found: Known = dict.fromkeys(ledger.refused, ("refused", None))
    found |= dict.fromkeys(ledger.forgotten, ("forgotten", None))
    found |= {task: (known.status.value, known.exit_code) for task, known in ledger.tasks.items()}
    return found


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
