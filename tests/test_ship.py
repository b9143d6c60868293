"""The protocol of a ship, between two threads: rounds, holes, and ends that do not keep to it."""

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from godwit import ship
from godwit.bulk.link import Link
from godwit.bulk.words import Block, Failed, Hole
from godwit.errors import TransferError
from godwit.ship import sending, words
from godwit.ship.words import (
    IMAGE,
    LOG,
    At,
    Board,
    Carried,
    Carry,
    End,
    Mark,
    Marked,
    Rest,
    Whole,
)
from godwit.wire.messages import Message
from tests.real.cluster import eventually

HOLE = 1024 * 1024
BOARD = Board(words.VERSION)
IMAGE_BYTES = b"a snapshot"
DIGEST = hashlib.sha256(IMAGE_BYTES).digest()


@dataclass
class Files:
    """Log and snapshot at one end."""

    top: Path
    opened: list[int] = field(default_factory=list)

    def open(self, name: str) -> int:
        fd = os.open(self.top / name, os.O_RDWR | os.O_CREAT, 0o600)
        self.opened.append(fd)
        return fd

    def read(self, name: str) -> bytes:
        return (self.top / name).read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = Files(tmp_path)
    yield files
    for fd in files.opened:
        os.close(fd)


@dataclass
class Landing:
    """A destination in a thread of its own."""

    files: Files
    near: socket.socket
    thread: threading.Thread
    outcome: list[ship.Shipped | TransferError] = field(default_factory=list)

    def end(self) -> ship.Shipped | TransferError:
        self.thread.join(10)
        (outcome,) = self.outcome
        return outcome


@pytest.fixture
def landing(files: Files) -> Iterator[Landing]:
    near, far = socket.socketpair()

    def run() -> None:
        receiving = ship.Receiving(far, files.open("log"), files.open("image"))
        with far:
            try:
                landing.outcome.append(receiving.run())
                receiving.finish()
            except TransferError as err:
                landing.outcome.append(receiving.fail(err))

    landing = Landing(files, near, threading.Thread(target=run))
    landing.thread.start()
    with near:
        yield landing
        near.shutdown(socket.SHUT_RDWR)
        landing.thread.join(10)


def quiet(_done: int, _total: int) -> None:
    """Nobody watches."""


# ---- holes and rounds ----------------------------------------------------------------------


def sent(landing: Landing, log: Path, between: Callable[[], None] = lambda: None) -> ship.Sending:
    """Ships a log and a snapshot."""
    image = log.parent / "from.image"
    image.write_bytes(IMAGE_BYTES)
    sender = ship.Sending(landing.near, landing.files.open(log.name))
    sender.stream(quiet)
    between()
    sender.finish(landing.files.open(image.name), log.stat().st_size, len(IMAGE_BYTES))
    return sender


@pytest.mark.parametrize("extents", [
    [(0, b"begin"), (HOLE, b"end")], [(2 * HOLE, b"end")], [(5, b"x"), (3 * HOLE, b"")],
    [(HOLE, b"")],
])
def test_holes_stay_holes(
    landing: Landing, tmp_path: Path, extents: list[tuple[int, bytes]]
) -> None:
    log = tmp_path / "from.log"
    with log.open("wb") as file:
        for offset, data in extents:
            file.seek(offset)
            file.write(data)
        file.truncate(extents[-1][0] + len(extents[-1][1]))
    sent(landing, log)
    assert isinstance(landing.end(), ship.Shipped)
    assert landing.files.read("log") == log.read_bytes()
    assert os.stat(tmp_path / "log").st_blocks * 512 <= log.stat().st_blocks * 512 < HOLE


def test_a_log_that_ends_with_a_hole_goes_on_behind_it(landing: Landing, tmp_path: Path) -> None:
    log = tmp_path / "from.log"
    log.write_bytes(b"")
    os.truncate(log, HOLE)

    def grow() -> None:
        with log.open("ab") as file:
            file.write(b"more")

    sent(landing, log, grow)
    landing.end()
    assert landing.files.read("log") == log.read_bytes()


def test_a_task_that_writes_all_the_time_is_frozen_after_some_rounds(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CLOSE", 10)
    log = tmp_path / "from.log"
    log.write_bytes(b"start")
    told: list[int] = []

    def write_more(_done: int, total: int) -> None:
        told.append(total)
        with log.open("ab") as file:
            file.write(b"0123456789")

    sender = ship.Sending(landing.near, landing.files.open("from.log"))
    sender.stream(write_more)
    assert told == [5 + 10 * at for at in range(words.ROUNDS)]
    assert landing.files.read("log") == log.read_bytes()[:-10]


def test_a_log_that_became_shorter_is_not_shipped(landing: Landing, tmp_path: Path) -> None:
    log = tmp_path / "from.log"
    log.write_bytes(b"0123456789")
    with pytest.raises(TransferError, match="became shorter"):
        sent(landing, log, lambda: os.truncate(log, 3))


def test_a_snapshot_shorter_than_the_keeper_said_is_not_shipped(
    landing: Landing, tmp_path: Path
) -> None:
    log = tmp_path / "from.log"
    log.write_bytes(b"x")
    sender = ship.Sending(landing.near, landing.files.open("from.log"))
    sender.stream(quiet)
    with pytest.raises(TransferError, match="snapshot became shorter") as caught:
        sender.finish(landing.files.open("from.log"), 1, 2)
    sender.fail(caught.value)
    landing.end()


# ---- sources that break the protocol -------------------------------------------------------

Said = Message | bytes

HOSTILE: dict[str, list[Said]] = {
    "begins with no Board": [Mark(1)],
    "speaks another version": [Board(words.VERSION + 1)],
    "boards twice": [BOARD, BOARD],
    "sends bytes of no file": [BOARD, Block(1), b"x"],
    "makes a hole in no file": [BOARD, Hole(1)],
    "sent a longer snapshot ahead": [BOARD, At(IMAGE, 0), Block(2), b"xy", Rest(0, 1), End()],
    "sends more of a longer one": [
        BOARD, At(IMAGE, 0), Block(2), b"xy", Rest(0, 1), At(IMAGE, 2), Block(1), b"z",
    ],
    "sent a snapshot ahead with a gap": [BOARD, At(IMAGE, 1)],
    "sent a hole in it ahead": [BOARD, At(IMAGE, 0), Hole(1)],
    "leaves a gap": [BOARD, At(LOG, 1)],
    "goes back": [BOARD, At(LOG, 0), Block(2), b"xy", At(LOG, 0)],
    "marks after the freeze": [BOARD, Rest(0, 0), Mark(1)],
    "freezes twice": [BOARD, Rest(0, 0), Rest(0, 0)],
    "ends before the freeze": [BOARD, End()],
    "sends a longer log than it said": [BOARD, Rest(1, 0), At(LOG, 0), Block(2), b"xy"],
    "sends a longer snapshot than it said": [BOARD, Rest(0, 1), At(IMAGE, 0), Block(2), b"xy"],
    "makes a hole beyond the end": [BOARD, Rest(7, 0), At(LOG, 0), Hole(8)],
    "makes holes beyond all bounds": [BOARD, At(LOG, 0), Hole(2**63 - 1), Hole(1)],
    "ends too early": [BOARD, Rest(0, 5), At(IMAGE, 0), Block(2), b"xy", End()],
    "had a longer log before": [BOARD, At(LOG, 0), Block(2), b"xy", Rest(1, 0), End()],
    "answers": [BOARD, Marked(1)],
}


def say(near: socket.socket, script: list[Said]) -> Link:
    link = Link(near, words.decode_from_destination, words.LIMIT)
    for said in script:
        if isinstance(said, bytes):
            link.flush()
            near.sendall(said)
        else:
            link.put(said)
    link.flush()
    return link


@pytest.mark.parametrize("script", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_source_that_breaks_the_protocol_lands_nothing(
    landing: Landing, script: list[Said]
) -> None:
    link = say(landing.near, script)
    with pytest.raises(TransferError) as caught:
        link.get()
    assert caught.value.remote and caught.value.code == "protocol"
    landing.near.shutdown(socket.SHUT_RDWR)
    outcome = landing.end()
    assert isinstance(outcome, TransferError) and outcome.code == "protocol"


@pytest.mark.parametrize("said", [Board(words.VERSION, 2**62), Rest(0, 2**62)])
def test_what_there_is_no_room_for_is_refused_before_it_comes(
    landing: Landing, said: Message
) -> None:
    link = say(landing.near, [said] if isinstance(said, Board) else [BOARD, said])
    with pytest.raises(TransferError) as caught:
        link.get()
    assert caught.value.code == "no-space"


class Sheds:
    """A quay in a folder of the test's own."""

    def __init__(self, files: Files):
        self.files = files
        self.landed: dict[bytes, int] = {}

    def stage(self, name: bytes) -> int:
        return self.files.open("staged-" + name.decode())

    def land(self, name: bytes, said: Carried) -> None:
        self.landed[name] = said.size


XY = hashlib.sha256(b"xy").digest()
CARRY: list[Said] = [BOARD, Carry(b"in"), At(2, 0), Block(2), b"xy"]
DONE = Carried(2, 2, 0o644, 0, XY)

HOSTILE_FILES: dict[str, tuple[str, list[Said]]] = {
    "leads out": ("bad-name", [BOARD, Carry(b"../in")]),
    "is absolute": ("bad-name", [BOARD, Carry(b"/etc/passwd")]),
    "comes twice": ("protocol", [BOARD, Carry(b"in"), Carry(b"in")]),
    "was never named": ("protocol", [BOARD, At(2, 0)]),
    "leaves a gap": ("protocol", [BOARD, Carry(b"in"), At(2, 1)]),
    "goes back a little": ("protocol", [*CARRY, At(2, 1)]),
    "has a hole": ("protocol", [*CARRY, Hole(1)]),
    "is complete before the freeze": ("protocol", [*CARRY, DONE]),
    "is complete and was never named": ("protocol", [BOARD, Rest(0, 0), DONE]),
    "is complete twice": ("protocol", [*CARRY, Rest(0, 0), DONE, DONE]),
    "goes on when complete": ("protocol", [*CARRY, Rest(0, 0), DONE, At(2, 0)]),
    "is shorter than it says": ("digest", [*CARRY, Rest(0, 0), Carried(2, 3, 0o644, 0, XY)]),
    "has another digest": ("digest", [*CARRY, Rest(0, 0), Carried(2, 2, 0o644, 0, DIGEST)]),
    "has no room": ("no-space", [BOARD, Carry(b"in", 2**62)]),
    "is one too many": (
        "too-many", [BOARD, *(Carry(b"%d" % at) for at in range(words.CARRIED + 1))]
    ),
}


@pytest.mark.parametrize(("code", "script"), HOSTILE_FILES.values(), ids=HOSTILE_FILES.keys())
def test_a_file_that_breaks_the_protocol_lands_nowhere(
    files: Files, code: str, script: list[Said]
) -> None:
    near, far = socket.socketpair()
    sheds = Sheds(files)
    with near, far:
        say(near, script)
        near.shutdown(socket.SHUT_WR)
        receiving = ship.Receiving(far, files.open("log"), files.open("image"), sheds)
        with pytest.raises(TransferError) as caught:
            receiving.run()
    assert (caught.value.code, sheds.landed) == (code, {})


def test_a_file_that_begins_anew_lands_as_it_came_last(files: Files) -> None:
    near, far = socket.socketpair()
    sheds = Sheds(files)
    with near, far:
        say(near, [
            BOARD, Carry(b"in"), At(2, 0), Block(5), b"other", Carry(b"dropped"),
            Rest(0, 0), At(2, 0), Block(2), b"xy", DONE, End(),
        ])
        ship.Receiving(far, files.open("log"), files.open("image"), sheds).run()
    assert sheds.landed == {b"in": 2} and files.read("staged-in") == b"xy"


def test_files_are_taken_by_a_destination_with_a_quay_only(landing: Landing) -> None:
    link = say(landing.near, [BOARD, Carry(b"in")])
    with pytest.raises(TransferError) as caught:
        link.get()
    assert caught.value.code == "too-many"


@pytest.mark.parametrize("count", range(0, 100, 7))
def test_a_ship_that_breaks_off_anywhere_has_not_landed(landing: Landing, count: int) -> None:
    whole = bytearray()
    for said in [BOARD, At(LOG, 0), Block(3), b"log", Mark(1), Rest(3, len(IMAGE_BYTES)),
                 At(IMAGE, 0), Block(len(IMAGE_BYTES)), IMAGE_BYTES, End()]:
        whole += said if isinstance(said, bytes) else framed(said)
    assert len(whole) > 100
    landing.near.sendall(whole[:count])
    landing.near.shutdown(socket.SHUT_WR)
    outcome = landing.end()
    assert isinstance(outcome, TransferError) and outcome.code == "cut"


def framed(message: Message) -> bytes:
    near, far = socket.socketpair()
    with near, far:
        say(near, [message])
        return far.recv(1000)


# ---- destinations that break the protocol --------------------------------------------------


@pytest.mark.parametrize(("answer", "code"), [
    (Marked(2), "protocol"), (Whole(), "protocol"), (Failed("no-space", "full"), "no-space"),
])
def test_a_source_streams_to_nobody_who_answers_otherwise(
    files: Files, answer: Message, code: str
) -> None:
    (files.top / "log").write_bytes(b"log")
    near, far = socket.socketpair()
    with near, far:
        say(far, [answer])
        with pytest.raises(TransferError) as caught:
            ship.Sending(near, files.open("log")).stream(quiet)
        assert caught.value.code == code


@pytest.mark.parametrize("answers", [[Whole()], [Failed("no-space", "full")], []])
def test_a_source_that_waits_for_the_freeze_hears_the_other_end(
    files: Files, answers: list[Message]
) -> None:
    near, far = socket.socketpair()
    wake = os.eventfd(0)
    files.opened.append(wake)
    with near, far:
        say(far, [Marked(1)])
        sender = ship.Sending(near, files.open("log"))
        sender.stream(quiet)
        say(far, answers)
        if not answers:
            far.shutdown(socket.SHUT_RDWR)
        with pytest.raises(TransferError):
            sender.wait(wake)


def test_a_source_goes_on_when_it_is_woken(files: Files) -> None:
    near, far = socket.socketpair()
    wake = os.eventfd(0)
    files.opened.append(wake)
    with near, far:
        os.eventfd_write(wake, 1)
        ship.Sending(near, files.open("log")).wait(wake)


# ---- a log that is there already -----------------------------------------------------------


def test_what_the_destination_has_of_the_log_is_not_sent(files: Files) -> None:
    (files.top / "from.log").write_bytes(bytes(range(256)) * 256)
    near, far = socket.socketpair()
    destination = Link(far, words.decode_from_source, words.LIMIT)
    destination.put(words.Have(50_000))
    destination.flush()
    source = ship.Sending(near, files.open("from.log"))
    thread = threading.Thread(target=source.stream, args=(quiet,))
    with near, far:
        thread.start()
        assert isinstance(destination.get(), Board)
        assert destination.get() == At(LOG, 50_000)
        assert destination.get() == Block(65536 - 50_000)
        destination.read_into(memoryview(bytearray(65536 - 50_000)))
        assert destination.get() == Mark(1)
        destination.put(Marked(1))
        destination.flush()
        thread.join(10)


@pytest.mark.parametrize("had", [0, 1, 50_000, 64 * 1024, 70_000])
def test_a_log_is_whole_however_much_of_it_was_there(files: Files, had: int) -> None:
    whole = os.urandom(64 * 1024)
    (files.top / "log").write_bytes((whole + bytes(8192))[:had])
    (files.top / "from.log").write_bytes(whole)
    (files.top / "from.image").write_bytes(IMAGE_BYTES)
    near, far = socket.socketpair()

    def receive() -> None:
        receiving = ship.Receiving(far, files.open("log"), files.open("image"))
        receiving.run()
        receiving.finish()

    thread = threading.Thread(target=receive)
    thread.start()
    with near, far:
        source = ship.Sending(near, files.open("from.log"))
        source.stream(quiet)
        source.finish(files.open("from.image"), len(whole), len(IMAGE_BYTES))
        thread.join(10)
    assert files.read("log") == whole


def test_a_source_may_not_skip_what_is_not_there(landing: Landing) -> None:
    link = Link(landing.near, words.decode_from_destination, words.LIMIT)
    link.put(BOARD)
    link.put(At(LOG, 100))
    link.flush()
    with pytest.raises(TransferError, match="it goes on where nothing is"):
        link.get()


def test_a_snapshot_that_is_being_written_goes_ahead(landing: Landing, tmp_path: Path) -> None:
    log, whole = tmp_path / "from.log", os.urandom(3 * words.CHUNK + 7)
    log.write_bytes(b"a line\n")
    image = tmp_path / "from.image"
    wake = os.eventfd(0, os.EFD_CLOEXEC)
    sender = ship.Sending(landing.near, landing.files.open(log.name))
    sender.stream(quiet)
    with image.open("wb", 0) as file:
        file.write(whole[:words.CHUNK + 1])
        thread = threading.Thread(
            target=sender.follow, args=(landing.files.open(image.name), wake)
        )
        thread.start()
        eventually(lambda: landing.files.read("image") == whole[:words.CHUNK + 1], "its beginning")
        file.write(whole[words.CHUNK + 1:-3])
        eventually(lambda: landing.files.read("image") == whole[:-3], "more of it")
        os.eventfd_write(wake, 1)
        thread.join(10)
        file.write(whole[-3:])
    sender.finish(landing.files.open(image.name), log.stat().st_size, len(whole))
    os.close(wake)
    assert isinstance(landing.end(), ship.Shipped)
    assert landing.files.read("image") == whole
    assert landing.files.read("log") == b"a line\n"


def test_a_snapshot_whose_size_is_known_does_not_go_ahead(files: Files) -> None:
    near, far = socket.socketpair()
    with near, far:
        receiving = ship.Receiving(far, files.open("log"), files.open("image"), size=1)
        link = Link(near, words.decode_from_destination, words.LIMIT)
        for word in (BOARD, At(IMAGE, 0)):
            link.put(word)
        link.put_block(memoryview(b"xy"))
        link.flush()
        with pytest.raises(TransferError, match="it goes on where nothing is"):
            receiving.run()
    assert files.read("image") == b""
