"""What the master keeps on disk, and what it does when the disk fails."""

import os
import queue
import sqlite3
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from godwit.errors import StartError
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from godwit.wire.operations import Event
from masterd import actions as do
from masterd import store as stores
from masterd.backlog import EVENTS, Backlog
from masterd.store import Kept, Record, Store

TASK = Task(Spec("abcd1234", (b"\xff",)), Status.RUNNING, pid=5)
EVENT = Event(1.5, "info", "x")


def keep(path: Path, *records: Record) -> None:
    store = Store(str(path))
    store.load()
    for record in records:
        store.put(record)
    store.close()


def kept(path: Path) -> Kept:
    store = Store(str(path))
    try:
        return store.load()
    finally:
        store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def test_everything_put_is_there_at_the_next_start(path: Path) -> None:
    keep(
        path, do.KeepFact("master", "m"), do.KeepNode("n1", "id", "h", 5),
        do.KeepLeaves("n1", ("ab", "cd")), do.KeepToken("id", "digest", 3, 1e9, "n1"),
        do.KeepTask("n1", TASK), do.KeepEvent(EVENT), do.KeepSource("ab", b"text"),
        do.KeepSource("cd", b"gone"), do.DropSource("cd"),
        do.KeepLodger("a", "n1", "peer"), do.KeepLodger("a", "n1", "gone"),
        do.KeepLodger("a", "n2", "peer", "ab"), do.KeepLodger("b", "n2", "more"),
        do.DropLodger("b", "n2"), do.KeepSchedule("a", 60.0, 3), do.KeepSchedule("a", 1.5, 4),
        do.KeepSchedule("b", 60.0, 3), do.DropSchedule("b"), do.KeepHeir("b", "c"),
        do.KeepHeir("a", "d"), do.KeepHeir("x", "y"), do.DropHeir("x"),
    )
    assert kept(path) == Kept(
        {"master": "m"}, [do.KeepNode("n1", "id", "h", 5)], [do.KeepLeaves("n1", ("ab", "cd"))],
        [do.KeepToken("id", "digest", 3, 1e9, "n1")], [do.KeepTask("n1", TASK)], [], [EVENT],
        {"ab": b"text"}, [],
        [do.KeepLodger("a", "n1", "gone"), do.KeepLodger("a", "n2", "peer", "ab")],
        [do.KeepSchedule("a", 1.5, 4)], [do.KeepHeir("b", "c"), do.KeepHeir("a", "d")],
    )
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_last_record_of_a_thing_counts(path: Path) -> None:
    other = do.KeepTask("n2", TASK)
    keep(
        path, do.KeepFact("a", "1"), do.KeepFact("a", "2"), do.KeepNode("n1", "x", "", 0),
        do.KeepNode("n1", "y", "", 0), do.KeepTask("n1", TASK), other,
        do.KeepNode("n2", "z", "", 0), do.DropNode("n2"), do.DropTask("nothing"),
    )
    found = kept(path)
    assert found.facts == {"a": "2"} and found.nodes == [do.KeepNode("n1", "y", "", 0)]
    assert found.tasks == [other]
    keep(path, do.DropTask(TASK.id))
    assert kept(path).tasks == []


def test_what_is_committed_is_on_the_disk_when_that_is_said(path: Path) -> None:
    store = Store(str(path))
    store.load()
    said = threading.Event()
    store.put(do.KeepFact("a", "1"))
    store.commit(lambda trouble: said.set())
    assert said.wait(5)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT value FROM facts").fetchone() == ("1",)
    other.close()
    store.close()


def test_old_history_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "EVENTS_KEPT", 20)
    keep(path, *(do.KeepEvent(Event(i, "info", str(i))) for i in range(45)))
    assert [event.text for event in kept(path).events] == [str(i) for i in range(24, 45)]


def test_a_damaged_database_is_set_aside(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    store = Store(str(path))
    assert "not a database" in store.damage and store.load().facts == {}
    store.close()
    assert path.with_name("state.db.damaged").read_bytes().startswith(b"not a database")


def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    keep(path, do.KeepFact("a", "1"))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StartError, match="newer godwit"):
        Store(str(path))
    assert path.exists() and not path.with_name("state.db.damaged").exists()


def test_a_database_that_cannot_be_opened_now_is_not_set_aside(path: Path) -> None:
    keep(path, do.KeepFact("a", "1"))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StartError, match="locked"):
            Store(str(path), patience_s=0.05)
    finally:
        db.close()
    assert kept(path).facts == {"a": "1"}


def test_a_record_that_cannot_be_read_does_not_stop_the_master(path: Path) -> None:
    keep(path, do.KeepTask("n1", TASK), do.KeepEvent(EVENT))
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO tasks VALUES ('junk', 'n1', x'c1')")
        db.execute("INSERT INTO events (record) VALUES (x'93')")
    db.close()
    found = kept(path)
    assert found.tasks == [do.KeepTask("n1", TASK)] and found.events == [EVENT]


def test_a_failed_commit_is_told_of_and_the_next_makes_up_for_it(path: Path) -> None:
    store = Store(str(path))
    store.load()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE facts RENAME TO away")
    db.close()
    told: list[str] = []
    for name, want in (("waits", "away"), ("comes", "facts")):
        said = threading.Event()
        store.put(do.KeepFact(name, "1"))
        store.commit(lambda trouble, said=said: (told.append(trouble), said.set()))
        assert said.wait(5)
        if want == "away":
            with sqlite3.connect(path) as db:
                db.execute("ALTER TABLE away RENAME TO facts")
            db.close()
    store.close()
    assert "no such table" in told[0] and told[1] == ""
    # What was issued had been noted beside the database, too.
    assert kept(path).facts == {"waits": "1", "comes": "1"}


def test_a_full_disk_keeps_what_is_on_it_and_gets_the_rest_when_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "RETRY_S", 0.01)
    store = Store(str(path))
    changes: queue.SimpleQueue[str] = queue.SimpleQueue()
    store.on_trouble = changes.put
    store.load()
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    store.put(do.KeepTask("n1", TASK))
    store.commit(told.put)
    assert told.get(timeout=30) == ""
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    store.put(do.KeepFact("large", "x" * 100_000))
    store.put(do.DropTask(TASK.id))
    store.commit(told.put)
    assert "full" in told.get(timeout=30) and "full" in changes.get(timeout=30)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM tasks").fetchone() == (1,)
    other.close()
    # Nobody asks, and still it is written once there is room.
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert changes.get(timeout=30) == ""
    store.close()
    found = kept(path)
    assert len(found.facts["large"]) == 100_000 and found.tasks == []


def test_what_waits_for_the_disk_takes_no_more_room_than_what_it_is_about() -> None:
    backlog = Backlog()
    for count in range(3 * EVENTS):
        backlog.add(do.KeepTask("n1", replace(TASK, pid=count)))
        backlog.add(do.KeepFact("a", str(count)))
        backlog.add(do.KeepEvent(Event(float(count), "info", "x")))
    backlog.add(do.KeepNode("n1", "id", "h", 5))
    backlog.add(do.DropNode("n1"))
    backlog.add(do.KeepLeaves("n1", ("ab",)))
    backlog.add(do.KeepToken("id", "digest", 3, 1e9, "n1"))
    backlog.add(do.DropToken("id"))
    backlog.add(do.DropTask("other"))
    *rows, = (record for record in backlog if not isinstance(record, do.KeepEvent))
    assert rows == [
        do.KeepTask("n1", replace(TASK, pid=3 * EVENTS - 1)), do.KeepFact("a", str(3 * EVENTS - 1)),
        do.DropNode("n1"), do.KeepLeaves("n1", ("ab",)), do.DropToken("id"), do.DropTask("other"),
    ]
    events = [record for record in backlog if isinstance(record, do.KeepEvent)]
    assert len(events) == EVENTS and events[-1].event.at == 3 * EVENTS - 1
    assert len(backlog) == len(rows) + EVENTS
    backlog.clear()
    assert not backlog and list(backlog) == []


def test_a_store_that_was_never_loaded_closes(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    Store(str(path)).close()
    assert len(os.listdir("/proc/self/fd")) == before
