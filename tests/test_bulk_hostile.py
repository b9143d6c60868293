"""Peers that lie: each is refused, and nothing outside the target is touched."""

import os
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from godwit import bulk
from godwit.bulk import words
from godwit.bulk.words import (
    Answer,
    Block,
    End,
    Entry,
    Finish,
    Finished,
    Have,
    Hole,
    Listing,
    Offer,
    Start,
)
from godwit.errors import TransferError
from godwit.wire.frames import encode as frame
from godwit.wire.messages import Message, encode
from tests.copying import Running, plant, running, seen

FOLDER = Entry(b"", "folder")
OFFER = Offer(words.VERSION, b"a", True, 1, 1, 1)
NOTHING = sha256(b"").digest()


def talk(end: Running | None, link: socket.socket, said: list[Message | bytes]) -> None:
    """Says all of it, reads whatever comes meanwhile, hangs up."""
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: link.recv(65536), b"")])
    reader.start()
    try:
        for word in said:
            link.sendall(word if isinstance(word, bytes) else frame(encode(word)))
        link.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it hung up on us first
    reader.join()


def told(target: bytes, said: list[Message | bytes]) -> TransferError:
    """What a receiver makes of a sender that says this."""
    near, far = socket.socketpair()
    with running(lambda link: bulk.receive(link, target), far) as receiving, near:
        talk(receiving, near, said)
    (outcome,) = receiving.outcome
    assert isinstance(outcome, TransferError), outcome
    return outcome


@pytest.fixture
def here(tmp_path: Path) -> Iterator[bytes]:
    """A folder ``to`` beside a file and a folder that nobody may touch."""
    plant(os.fsencode(tmp_path / "victim"), (b"kept", 0o600))
    plant(os.fsencode(tmp_path / "closed"), {b"x": (b"kept", 0o600)})
    os.mkdir(tmp_path / "to")
    (tmp_path / "closed").chmod(0o711)
    yield os.fsencode(tmp_path)
    assert seen(os.fsencode(tmp_path / "victim")) == (b"kept", 0o600)
    assert seen(os.fsencode(tmp_path / "closed")) == {b"x": (b"kept", 0o600)}
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o711
    assert set(os.listdir(tmp_path)) == {"victim", "closed", "to"}


@pytest.mark.parametrize(
    "name", [b"..", b".", b"../victim", b"/etc", b"a/b", b"a\0b", b"to/../../x", b"x" * 255 + b"y"]
)
def test_an_offered_name_that_is_none_is_refused(here: bytes, name: bytes) -> None:
    offer = Offer(words.VERSION, name, False, 1, 1, 1)
    assert told(here + b"/to", [offer]).code in ("bad-name", "protocol")
    assert not os.listdir(here + b"/to")


@pytest.mark.parametrize(
    "path", [b"..", b"../victim", b"/etc/x", b"a/../../victim", b"a//b", b"a\0", b".", b"x" * 256]
)
@pytest.mark.parametrize("kind", ["file", "folder", "link", "end"])
def test_a_listed_path_that_leaves_the_tree_is_refused(
    here: bytes, path: bytes, kind: str
) -> None:
    listing = Listing((FOLDER, Entry(path, kind, link=b"x")))  # type: ignore[arg-type]
    assert told(here + b"/to", [OFFER, listing]).code == "bad-name"


def contents(path: bytes, data: bytes = b"new") -> list[Message | bytes]:
    return [
        Listing((Entry(path, "file", 0o600, size=len(data)),)),
        Start(), Block(len(data)), data, End(sha256(data).digest()),
    ]


@pytest.mark.parametrize("link", [b"../../closed", b"../../../", b"/", b"."])
def test_a_link_that_the_sender_planted_is_not_followed(here: bytes, link: bytes) -> None:
    said = [OFFER, Listing((FOLDER, Entry(b"out", "link", link=link))), *contents(b"out/x")]
    assert told(here + b"/to", said).code in ("not-folder", "denied")
    said = [OFFER, Listing((FOLDER, Entry(b"out", "folder")))]
    assert told(here + b"/to", said).code == "exists"
    said = [OFFER, Listing((FOLDER, Entry(b"out", "end", mode=0o777))), Finish()]
    assert told(here + b"/to", said).code in ("not-folder", "denied")


def test_a_link_that_lies_in_the_target_is_replaced_and_not_written_through(here: bytes) -> None:
    plant(here + b"/to/a", {b"x": "../../victim", b"d": "../../closed"})
    told(here + b"/to", [OFFER, Listing((FOLDER,)), *contents(b"x")])
    assert seen(here + b"/to/a/x") == (b"new", 0o600)
    assert told(here + b"/to", [OFFER, Listing((FOLDER,)), *contents(b"d/x")]).code == "not-folder"


FILE = Listing((FOLDER, Entry(b"f", "file", 0o600, size=3)))

OUT_OF_TURN: list[list[Message | bytes]] = [
    [Finish()],
    [Offer(words.VERSION + 1, b"a", True, 1, 1, 1)],
    [OFFER, OFFER],
    [OFFER, Finish()],
    [OFFER, Start()],
    [OFFER, Block(3), b"new"],
    [OFFER, Hole(3)],
    [OFFER, End(NOTHING)],
    [OFFER, FILE, Finish()],
    [OFFER, FILE, FILE, FILE],
    [OFFER, FILE, Block(3), b"new"],
    [OFFER, FILE, Start(3)],
    [OFFER, FILE, Start(), Start()],
    [OFFER, FILE, Start(), End(NOTHING)],
    [OFFER, FILE, Start(), Block(4), b"news"],
    [OFFER, FILE, Start(), Hole(2**63 - 1)],
    [OFFER, FILE, Start(), Block(2), b"ne", Hole(2)],
    [OFFER, FILE, Start(), Finish()],
    [OFFER, Listing((FOLDER, Entry(b"f", "link", link=b"")))],
    [OFFER, Listing((FOLDER, Entry(b"f", "link", link=b"a\0b")))],
    [OFFER, Answer()],
    [OFFER, Finished(0, 0, 0, b"")],
]

MALFORMED: list[bytes] = [
    b"\xff\xff\xff\xff", b"\0\4\0\1", b"\0\0\0\1\xc1", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n",
    frame(encode(Offer(words.VERSION, b"x" * 256, True, 1, 1, 1))),
    frame(encode(Offer(words.VERSION, b"x", True, -1, 1, 1))),
    frame(encode(Offer(words.VERSION, b"x", True, 2**63, 1, 1))),
    *(
        frame(encode(OFFER)) + frame(encode(word))
        for word in (
            Listing(()), Listing((FOLDER,) * 129), Block(0), Block(words.BLOCK + 1), Hole(0),
            Listing((Entry(b"", "fifo"),)),  # type: ignore[arg-type]
            Listing((Entry(b"", "folder", mode=0o4755),)), Listing((Entry(b"", "file", size=-1),)),
            Listing((Entry(b"", "folder", mtime_ns=2**63),)), Start(-1), End(b"short"),
            Finish(("x",) * 102), Finish(("x" * 301,)),
        )
    ),
]


@pytest.mark.parametrize("said", OUT_OF_TURN)
def test_a_sender_that_speaks_out_of_turn_is_refused(
    here: bytes, said: list[Message | bytes]
) -> None:
    err = told(here + b"/to", said)
    assert (err.code, err.remote) == ("protocol", False)
    assert not os.path.exists(here + b"/to/a/f")


@pytest.mark.parametrize("said", MALFORMED)
def test_a_sender_that_sends_what_is_no_message_is_refused(here: bytes, said: bytes) -> None:
    assert told(here + b"/to", [said]).code == "protocol"


def test_contents_that_do_not_match_their_digest_leave_nothing(here: bytes) -> None:
    said: list[Message | bytes] = [OFFER, FILE, Start(), Block(3), b"new", End(NOTHING)]
    assert told(here + b"/to", said).code == "digest"
    assert not os.listdir(here + b"/to/a")


def test_a_copy_larger_than_the_disk_is_refused_before_anything_is_written(here: bytes) -> None:
    offer = Offer(words.VERSION, b"a", True, 1, 2**62, 2**62)
    assert told(here + b"/to", [offer]).code == "no-space"
    huge = Entry(b"", "file", size=2**62, room=2**62)
    said: list[Message | bytes] = [Offer(words.VERSION, b"a", False, 1, 1, 1), Listing((huge,))]
    assert told(here + b"/to", said).code == "no-space"
    assert not os.listdir(here + b"/to")


def test_a_peers_reason_is_shown_without_its_control_characters(here: bytes) -> None:
    err = told(here + b"/to", [words.Failed("denied", "\x1b[2Jno\n")])
    assert (err.code, err.text, err.remote) == ("denied", "\\x1b[2Jno\\n", True)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200), st.booleans())
def test_junk_ends_in_an_error_and_nothing_else(junk: bytes, offered: bool) -> None:
    target = b"/nonexistent-folder/x"
    said: list[Message | bytes] = [OFFER, junk] if offered else [junk]
    assert told(target, said).code in ("protocol", "cut", "not-found")


HOSTILE_RECEIVERS: list[list[Message | bytes]] = [
    [Finished(0, 0, 0, b"")],
    [Answer(), Finished(0, 0, 0, b"") , Answer(), Answer(), Answer()],
    [Answer(), Answer(), Answer(), Answer()],
    [Answer((Have(0, 3, b"short"),))],
    [Answer((Have(128, 3, NOTHING),))],
    [OFFER],
    [b"\xff\xff\xff\xff"],
    [b"\0\1\0\1"],
    [b"\0\0\0\1\xc1"],
]


@pytest.mark.parametrize("said", HOSTILE_RECEIVERS)
def test_a_receiver_that_breaks_the_protocol_is_refused(
    here: bytes, said: list[Message | bytes]
) -> None:
    near, far = socket.socketpair()
    with running(lambda link: bulk.send(link, here + b"/victim"), far) as sending, near:
        talk(sending, near, said)
    (outcome,) = sending.outcome
    assert isinstance(outcome, TransferError), outcome
    assert outcome.code == "protocol"


def answered(sending_from: bytes, *said: Message) -> tuple[bytes, object]:
    """What a sender says to a receiver that answers, and ends when all has come; its outcome."""
    near, far = socket.socketpair()
    with running(lambda link: bulk.send(link, sending_from), far) as sending, near:
        *first, last = said
        for word in first:
            near.sendall(frame(encode(word)))
        heard = b""
        while not heard.endswith(encode(Finish())):
            heard += near.recv(65536)
        near.sendall(frame(encode(last)))
    return heard, sending.outcome[0]


@pytest.mark.parametrize("size", [1, 4, 5, 2**62])
def test_a_receiver_that_claims_what_it_has_not_gets_the_file_from_its_start(
    here: bytes, size: int
) -> None:
    said = Answer((Have(0, size, NOTHING),)), Finished(1, 4, 0, b"x")
    heard, outcome = answered(here + b"/victim", *said)
    assert b"kept" in heard
    assert isinstance(outcome, bulk.Summary)


@pytest.mark.parametrize("counts", [(0, 0, 0), (0, 4, 0), (2, 4, 0), (1, 3, 0), (1, 4, 4)])
def test_a_receiver_that_ends_with_other_than_what_was_sent_is_refused(
    here: bytes, counts: tuple[int, int, int]
) -> None:
    _, outcome = answered(here + b"/victim", Answer(), Finished(*counts, b"x"))
    assert isinstance(outcome, TransferError) and outcome.code == "protocol", outcome
