"""What is known of tasks, on record: every change is written down, and then told."""

import errno
from collections.abc import Callable, Mapping

from clientd.keeper import orders
from clientd.keeper.journal import Journal
from clientd.keeper.news import News
from clientd.keeper.records import Accepted, Ledger, Records, Refused
from godwit.errors import TaskError
from godwit.log import Level, Log
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task


class Register:
    """The ledger, its journal, and the news that come of it."""

    def __init__(self, journal: Journal, ledger: Ledger, log: Log):
        self.ledger = ledger
        self.log = log
        self._journal = journal
        self._news = News()
        self._trouble = ""
        self._said: dict[str, list[str]] = {}
        #: Tells what there is to be told: nobody waits for the disk who need not.
        self.tell_now: Callable[[], None] = lambda: None

    @property
    def tasks(self) -> Mapping[str, Task]:
        return self.ledger.tasks

    def known(self, task: str) -> Task:
        """Raises TaskError."""
        try:
            return self.ledger.tasks[task]
        except KeyError:
            raise TaskError("no-task", f"{task}: no such task on this node") from None

    # ---- changes ---------------------------------------------------------------------------

    def note(self, record: Records, *changed: str) -> None:
        """The one way in which anything changes.  Raises TaskError, and then nothing has."""
        self.ledger.apply(record)
        self._journal.append(record)
        for task in changed:
            self._news.changed(task)

    def record(self, record: Records, durable: bool, task: str) -> None:
        """As ``note``; ``durable``: on the disk before it is in force.

        Raises OSError, and then nothing has changed.
        """
        before = self.ledger.tasks.get(task)
        if durable:
            if not self._journal.flush():
                self.tell_now()
            self._journal.commit(record)
            self.ledger.apply(record)
        else:
            self.ledger.apply(record)
            self._journal.append(record)
        if self.ledger.tasks.get(task) is not before:
            self._news.changed(task)

    def accept(self, specs: tuple[Spec, ...]) -> bool:
        """Durably, or not at all: false, and they are rejected."""
        accepted = Accepted(specs)
        try:
            self._journal.commit(accepted)
        except OSError as err:
            for spec in specs:
                self.reject(spec.task, code_of(err), f"the journal of this node: {err.strerror}")
            return False
        self.ledger.apply(accepted)
        return True

    def refuse(self, task: str, code: str, text: str) -> None:
        """Nothing comes of an accepted task."""
        self.note(Refused(task, code, text))
        self.reject(task, code, text)
        self.say("refused", f"{task} ({text})")

    # ---- what is told ----------------------------------------------------------------------

    def reject(self, task: str, code: str, text: str) -> None:
        self.tell(orders.Rejected(task, code, text))

    def tell(self, word: orders.Word) -> None:
        self._news.word(word)

    def tell_again(self, task: str) -> bool:
        """Whatever is known of an id; false when it was never seen."""
        if task in self.ledger.tasks:
            self._news.changed(task)
        elif refused := self.ledger.refused.get(task):
            self.reject(task, refused.code, refused.text)
        elif task in self.ledger.forgotten:
            self.tell(orders.Forgotten((task,)))
        else:
            return False
        return True

    def say(self, verb: str, *whom: str) -> None:
        """For the log: one line a turn for all to which the same happened."""
        self._said.setdefault(verb, []).extend(whom)

    def take_news(self) -> list[orders.Word]:
        """What the agent is to be told, since the last time; after ``settle``."""
        return self._news.take(self.ledger.tasks)

    # ---- each turn -------------------------------------------------------------------------

    def settle(self) -> None:
        """Writes down what this turn brought; before anybody is told."""
        for verb, whom in self._said.items():
            self.log("config", f"{verb}: {', '.join(whom)}")
        self._said.clear()
        failed = self._journal.flush()
        self._say_once(f"the journal cannot be written: {failed.strerror}" if failed else "")
        if self._journal.is_overgrown:
            self.compact()

    def _say_once(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            self.log("severe", trouble)
        else:
            self.log("info", "the journal can be written again")

    def compact(self) -> None:
        """The journal says the same in less; or goes on as it was."""
        try:
            self._journal.compact(self.ledger.snapshot())
        except OSError as err:
            self.log("warning", f"the journal cannot be compacted: {err.strerror}")

    def told_status(self, task: str) -> None:
        """A line in the log of how the task is, found so after a restart."""
        known = self.ledger.tasks[task]
        why = f": {known.reason}" if known.reason else ""
        level: Level = "warning" if known.status is Status.UNKNOWN else "info"
        self.log(level, f"{task} is {known.status.value}{why}", task=task)


def code_of(err: OSError) -> str:
    """ENOENT and the like."""
    return errno.errorcode.get(err.errno or 0, str(err.errno))
