"""What the master keeps on disk: SQLite in WAL mode, one writer thread that groups commits.

Everything queued while one commit is under way goes into the next, so a thousand records cost a
few fsyncs.  FULL: after ``commit``'s callback, a power cut loses nothing of what came before.
What cannot be written (a full disk) waits in a backlog and is tried again, till it is written.
"""

import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, assert_never

import msgspec

from godwit import failpoint
from godwit.errors import StartError
from godwit.task.record import Task
from godwit.wire.operations import Event
from masterd import actions as do
from masterd.backlog import Backlog, Record
from masterd.issued import Issue, Issued
from masterd.moves.here import KEPT as MOVES_KEPT
from masterd.moves.table import Move

#: Of PRAGMA user_version; each step of the schema has its statements, in order.
SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE nodes (
        name TEXT PRIMARY KEY, node TEXT NOT NULL, host TEXT NOT NULL, port INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE tasks (
        task TEXT PRIMARY KEY, node TEXT NOT NULL, record BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE leaves (name TEXT PRIMARY KEY, leaves TEXT NOT NULL) STRICT;
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY, digest TEXT NOT NULL, uses INTEGER NOT NULL, until REAL NOT NULL,
        node TEXT NOT NULL
    ) STRICT;
    CREATE TABLE events (seq INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
    """,
    """
    CREATE TABLE moves (
        id TEXT PRIMARY KEY, settled INTEGER NOT NULL, begun REAL NOT NULL, record BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX moves_by_age ON moves (settled, begun);
    """,
    """
    CREATE TABLE sources (digest TEXT PRIMARY KEY, text BLOB NOT NULL) STRICT;
    """,
    """
    CREATE TABLE relays (
        task TEXT PRIMARY KEY, id INTEGER NOT NULL, number INTEGER NOT NULL, sent TEXT NOT NULL,
        done INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE lodgers (
        task TEXT NOT NULL, node TEXT NOT NULL, role TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (task, node)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE schedules (
        task TEXT PRIMARY KEY, every_s REAL NOT NULL, keep INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE heirs (task TEXT PRIMARY KEY, heir TEXT NOT NULL) STRICT;
    """,
)
#: Rows of history kept; older ones go, a tenth at a time.
EVENTS_KEPT = 100_000
#: Seconds after which what could not be written is tried again, without anything new.
RETRY_S = 1.0

#: Moves that have settled and are no longer shown.
_DROP_MOVES = (
    "DELETE FROM moves WHERE settled AND begun < (SELECT begun FROM moves WHERE settled "
    f"ORDER BY begun DESC LIMIT 1 OFFSET {MOVES_KEPT})"
)

#: Called with why the records are not on the disk; empty: they are.
Callback = Callable[[str], None]
T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode


class Kept(msgspec.Struct):
    """What was on the disk at the start."""

    facts: dict[str, str]
    nodes: list[do.KeepNode]
    leaves: list[do.KeepLeaves]
    tokens: list[do.KeepToken]
    tasks: list[do.KeepTask]
    #: All that are not settled, and the newest of the others; the oldest first.
    moves: list[Move]
    events: list[Event]
    #: Texts of Python programs by their sha256.
    sources: dict[str, bytes] = {}
    #: Signals that were sent to shadows, the last of each task.
    relays: list[do.KeepRelay] = []
    lodgers: list[do.KeepLodger] = []
    schedules: list[do.KeepSchedule] = []
    #: The oldest first.
    heirs: list[do.KeepHeir] = []


def _readable(rows: Iterable[tuple[Any, bytes]], kind: type[T]) -> Iterator[tuple[Any, T]]:
    """(key, record) of the rows that make sense; what a node still has, it reports anew."""
    decode = msgspec.msgpack.Decoder(kind).decode
    for key, record in rows:
        with contextlib.suppress(msgspec.MsgspecError):
            yield key, decode(record)


class Store:
    """Open on one file.  ``put`` and ``commit`` never block."""

    def __init__(self, path: str, patience_s: float = 5.0):
        """Raises StartError for a database that cannot be opened, or of a newer version."""
        self.path = path
        #: Seconds to wait for whoever else has the file locked: a backup, say.
        self._patience_s = patience_s
        self._queue: queue.SimpleQueue[Record | Callback | None] = queue.SimpleQueue()
        #: Why the database could not be read and was set aside, if so.
        self.damage = ""
        #: Why the last commit failed; records are then only in memory, and written with the next.
        self.trouble = ""
        #: Called in the writer's thread whenever that changes.
        self.on_trouble: Callback = lambda trouble: None
        self._backlog = Backlog()
        self._issued = Issued(os.path.join(os.path.dirname(path), "issued.jsonl"))
        #: Of the backlog, what the file of issues has already.
        self._noted: set[Issue] = set()
        self._db = self._open()
        self._thread = threading.Thread(target=self._write, name="store", daemon=True)

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError as err:  # the disk is full, the folder cannot be written
            raise StartError(f"cannot use {self.path}: {err}") from err
        except sqlite3.DatabaseError as err:
            # Nodes report their tasks anew: nothing that runs depends on this file.
            self.damage = str(err)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self.path + suffix, f"{self.path}.damaged{suffix}")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path, self._patience_s, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        os.chmod(self.path, 0o600)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        (problem,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(SCHEMA):
            raise StartError(
                f"{self.path} was written by a newer godwit (schema {version}, ours {len(SCHEMA)})"
            )
        for step in range(version, len(SCHEMA)):
            db.executescript(f"BEGIN; {SCHEMA[step]} PRAGMA user_version = {step + 1}; COMMIT;")

    def load(self) -> Kept:
        """All that is kept, and starts the writer."""
        db = self._db
        moves = (
            "SELECT id, record FROM moves WHERE NOT settled OR id IN "
            f"(SELECT id FROM moves WHERE settled ORDER BY begun DESC LIMIT {MOVES_KEPT}) "
            "ORDER BY begun"
        )
        newest = "SELECT seq, record FROM events ORDER BY seq DESC LIMIT 10000"
        kept = Kept(
            facts=dict(db.execute("SELECT name, value FROM facts")),
            nodes=[do.KeepNode(*row) for row in db.execute("SELECT * FROM nodes")],
            leaves=[
                do.KeepLeaves(name, tuple(leaves.split()))
                for name, leaves in db.execute("SELECT name, leaves FROM leaves")
            ],
            tokens=[do.KeepToken(*row) for row in db.execute("SELECT * FROM tokens")],
            tasks=[
                do.KeepTask(node, task)
                for node, task in _readable(db.execute("SELECT node, record FROM tasks"), Task)
            ],
            moves=[move for _, move in _readable(db.execute(moves), Move)],
            events=[event for _, event in _readable(db.execute(newest), Event)][::-1],
            sources=dict(db.execute("SELECT digest, text FROM sources")),
            relays=[
                do.KeepRelay(task, number, signal, sent, bool(done)) for task, number, signal, sent,
                done in db.execute("SELECT task, id, number, sent, done FROM relays")
            ],
            lodgers=[
                do.KeepLodger(*row)
                for row in db.execute("SELECT task, node, role, digest FROM lodgers")
            ],
            schedules=[
                do.KeepSchedule(*row)
                for row in db.execute("SELECT task, every_s, keep FROM schedules")
            ],
            heirs=[
                do.KeepHeir(*row)
                for row in db.execute("SELECT task, heir FROM heirs ORDER BY rowid")
            ],
        )
        self._settle(kept)
        self._thread.start()
        return kept

    def _settle(self, kept: Kept) -> None:
        """What was issued counts as its own file says; with none, as the database does."""
        try:
            issued = self._issued.load()
            if issued is not None:
                self._take(kept, issued)
            self._issued.rewrite([
                *(do.KeepFact(name, value) for name, value in kept.facts.items()), *kept.leaves
            ])
        except OSError as err:
            self.trouble = str(err)

    def _take(self, kept: Kept, issued: list[Issue]) -> None:
        facts = {issue.name: issue.value for issue in issued if isinstance(issue, do.KeepFact)}
        leaves = {issue.name: issue for issue in issued if isinstance(issue, do.KeepLeaves)}
        ended = [do.KeepLeaves(k.name, ()) for k in kept.leaves if k.name not in leaves]
        kept.facts.update(facts)
        kept.leaves[:] = leaves.values()
        for issue in (*issued, *ended):
            self.put(issue)

    # ---- writing ---------------------------------------------------------------------------

    def put(self, record: Record) -> None:
        """Will be on the disk after the next commit."""
        self._queue.put(record)

    def commit(self, then: Callback) -> None:
        """Calls ``then``, in the writer's thread, when all that was put is on the disk.

        Or when it could not be written: then with the reason; it is tried again.
        """
        self._queue.put(then)

    def close(self) -> None:
        """Writes what is queued and ends."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._db.close()

    def _write(self) -> None:
        going = True
        while going:
            batch = self._next_batch()
            going = None not in batch
            for item in batch:
                if isinstance(item, Record):
                    self._backlog.add(item)
            trouble = self._commit()
            if trouble != self.trouble:
                self.trouble = trouble
                self.on_trouble(trouble)
            for item in batch:
                if callable(item):
                    item(trouble)

    def _next_batch(self) -> list[Record | Callback | None]:
        """Waits for something; while records wait to be written, not for long."""
        batch = []
        with contextlib.suppress(queue.Empty):
            batch.append(self._queue.get(timeout=RETRY_S if self._backlog else None))
            while len(batch) < 10_000:
                batch.append(self._queue.get_nowait())
        return batch

    def _commit(self) -> str:
        """Writes all that waits; why it could not be, if so."""
        if not self._backlog:
            return ""
        try:
            failpoint.hit("store.issue.before")
            self._note_issued()
            self._db.execute("BEGIN IMMEDIATE")
            for record in self._backlog:
                self._apply(record)
            failpoint.hit("store.commit.before")
            self._db.execute("COMMIT")
        except (sqlite3.Error, OSError) as err:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            return str(err)
        self._backlog.clear()
        self._noted.clear()
        failpoint.hit("store.commit.after")
        return ""

    def _note_issued(self) -> None:
        """Once, however often the commit is tried.  Raises OSError."""
        issues = [r for r in self._backlog if isinstance(r, Issue) and r not in self._noted]
        self._issued.append(issues)
        self._noted.update(issues)

    def _apply(self, record: Record) -> None:
        run = self._db.execute
        match record:
            case do.KeepFact(name, value):
                run("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
            case do.KeepNode(name, node, host, port):
                run("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?)", (name, node, host, port))
            case do.KeepLeaves(name, leaves) if leaves:
                run("INSERT OR REPLACE INTO leaves VALUES (?, ?)", (name, " ".join(leaves)))
            case do.KeepLeaves(name):
                run("DELETE FROM leaves WHERE name = ?", (name,))
            case do.KeepToken(token, digest, uses, until, node):
                values = (token, digest, uses, until, node)
                run("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?)", values)
            case do.DropToken(token):
                run("DELETE FROM tokens WHERE id = ?", (token,))
            case do.DropNode(name):
                run("DELETE FROM nodes WHERE name = ?", (name,))
            case do.KeepTask(node, task):
                row = (task.id, node, _encode(task))
                run("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)", row)
            case do.DropTask(task):
                run("DELETE FROM tasks WHERE task = ?", (task,))
            case do.KeepMove(move, node, task):
                state = (move.id, int(move.settled), move.begun_at, _encode(move))
                run("INSERT OR REPLACE INTO moves VALUES (?, ?, ?, ?)", state)
                if move.settled:
                    run(_DROP_MOVES)
                if task is not None:
                    self._apply(do.KeepTask(node, task))
            case do.KeepSource(digest, text):
                run("INSERT OR REPLACE INTO sources VALUES (?, ?)", (digest, text))
            case do.DropSource(digest):
                run("DELETE FROM sources WHERE digest = ?", (digest,))
            case do.KeepRelay(task, number, signal, sent, done):
                relay = (task, number, signal, sent, int(done))
                run("INSERT OR REPLACE INTO relays VALUES (?, ?, ?, ?, ?)", relay)
            case do.DropRelay(task):
                run("DELETE FROM relays WHERE task = ?", (task,))
            case do.KeepLodger(task, node, role, digest):
                lodger = (task, node, role, digest)
                run("INSERT OR REPLACE INTO lodgers VALUES (?, ?, ?, ?)", lodger)
            case do.DropLodger(task, node):
                run("DELETE FROM lodgers WHERE task = ? AND node = ?", (task, node))
            case do.KeepSchedule(task, every_s, keep):
                run("INSERT OR REPLACE INTO schedules VALUES (?, ?, ?)", (task, every_s, keep))
            case do.DropSchedule(task):
                run("DELETE FROM schedules WHERE task = ?", (task,))
            case do.KeepHeir(task, heir):
                run("INSERT OR REPLACE INTO heirs VALUES (?, ?)", (task, heir))
            case do.DropHeir(task):
                run("DELETE FROM heirs WHERE task = ?", (task,))
            case do.KeepEvent(event):
                seq = run("INSERT INTO events (record) VALUES (?)", (_encode(event),)).lastrowid
                if seq and seq % (EVENTS_KEPT // 10) == 0:
                    run("DELETE FROM events WHERE seq <= ?", (seq - EVENTS_KEPT,))
            case _:
                assert_never(record)
