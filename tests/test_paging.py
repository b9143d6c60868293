"""What a pager carries between CRIU at its node and the pager at the other, and when it ends."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd import paging
from godwit.errors import TaskError
from godwit.ship import pagesocket

#: Seconds that anything here may take.
LIMIT_S = 30.0
MUCH = os.urandom(1 << 20) * 9  # more than is held at once


class Paged:
    """One pager in a thread: ``peer`` is the other node."""

    def __init__(self, top: Path):
        self.image = str(top / "moves" / "m1")
        self.peer, link = socket.socketpair()
        self.peer.settimeout(LIMIT_S)
        self._door = pagesocket.listening(self.image)
        self._thread = threading.Thread(
            target=paging.Pager(link, self._door, self.image).run, daemon=True
        )
        self._thread.start()
        self.calls: list[socket.socket] = []

    def call(self) -> socket.socket:
        """As CRIU does."""
        sock = pagesocket.joined(self.image)
        sock.settimeout(LIMIT_S)
        self.calls.append(sock)
        return sock

    def ended(self) -> bool:
        self._thread.join(LIMIT_S)
        return not self._thread.is_alive()

    def close(self) -> None:
        for sock in (self.peer, *self.calls):
            sock.close()
        assert self.ended()
        self._door.close()


@pytest.fixture
def paged(tmp_path: Path) -> Iterator[Paged]:
    pager = Paged(tmp_path)
    yield pager
    pager.close()


def taken(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(1 << 20)
        assert piece, "it ended before all was there"
        data += piece
    return bytes(data)


def test_bytes_go_both_ways_and_as_many_as_there_are(paged: Paged) -> None:
    criu = paged.call()
    criu.sendall(b"a request")
    assert taken(paged.peer, 9) == b"a request"
    threads = [
        threading.Thread(target=end.sendall, args=(MUCH,), daemon=True)
        for end in (criu, paged.peer)
    ]
    for thread in threads:
        thread.start()
    assert taken(paged.peer, len(MUCH)) == MUCH
    assert taken(criu, len(MUCH)) == MUCH
    for thread in threads:
        thread.join(LIMIT_S)


def test_the_last_word_of_one_that_hangs_up_still_arrives(paged: Paged) -> None:
    criu = paged.call()
    paged.peer.sendall(MUCH[:3 << 20])
    paged.peer.shutdown(socket.SHUT_WR)
    assert len(taken(criu, 3 << 20)) == 3 << 20
    assert criu.recv(1) == b""


def test_what_came_before_criu_called_waits_for_it(paged: Paged) -> None:
    paged.peer.sendall(b"early")
    assert taken(paged.call(), 5) == b"early"


@pytest.mark.parametrize("who", ["criu", "the other node"])
def test_when_one_hangs_up_so_does_it(paged: Paged, who: str) -> None:
    criu = paged.call()
    criu.sendall(b"x")
    taken(paged.peer, 1)
    one, other = (criu, paged.peer) if who == "criu" else (paged.peer, criu)
    one.close()
    assert other.recv(1) == b""
    assert paged.ended()
    assert not Path(paged.image + pagesocket.SUFFIX).exists()


def test_a_node_that_left_before_criu_called_ends_it(paged: Paged) -> None:
    paged.peer.close()
    assert paged.ended()
    with pytest.raises(TaskError, match="cannot be had"):
        paged.call()


def test_whoever_calls_second_hangs_up(paged: Paged) -> None:
    criu = paged.call()
    criu.sendall(b"x")
    taken(paged.peer, 1)
    pagesocket.hang_up(paged.image)
    assert criu.recv(1) == b""
    assert paged.peer.recv(1) == b""
    pagesocket.hang_up(paged.image)  # nobody is there any more


def test_a_folder_of_any_length_will_do(tmp_path: Path) -> None:
    image = str(tmp_path / ("long" * 50) / "m1")
    with pagesocket.listening(image) as door, pagesocket.joined(image):
        door.accept()[0].close()


def test_nothing_but_a_socket_is_called(tmp_path: Path) -> None:
    image = tmp_path / "m1"
    Path(f"{image}{pagesocket.SUFFIX}").write_text("")
    with pytest.raises(TaskError, match="no socket"):
        pagesocket.joined(str(image))


def test_a_node_that_is_silent_is_given_up_in_half_a_minute() -> None:
    with socket.socket() as sock:
        paging.set_silence(sock)
        tcp = socket.IPPROTO_TCP
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 1000 * paging.SILENCE_S == 30000
        asked = sock.getsockopt(tcp, socket.TCP_KEEPINTVL) * sock.getsockopt(
            tcp, socket.TCP_KEEPCNT
        )
        assert asked == paging.SILENCE_S
