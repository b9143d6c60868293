"""The relay between two connections."""

import os
import socket
import ssl
import struct
import threading
from pathlib import Path

import pytest

from godwit import bulk
from godwit.bulk import relay
from godwit.errors import TransferError
from tests.copying import needs_openssl, plain, plant, running, seen, tls_contexts


class Relayed:
    """Two sockets whose far ends a relay joins, in a thread."""

    def __init__(self, pair: tuple[socket.socket, socket.socket] | None = None):
        self.a, self._near = pair or tcp_pair()
        self.b, self._far = socket.socketpair()
        self.carried: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.carried = bulk.splice(self._near, self._far)

    def __enter__(self) -> "Relayed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.a.close()
        self.b.close()
        self._thread.join()
        self._near.close()
        self._far.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b, _ = server.accept()
    return a, b


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def test_bytes_go_both_ways_until_both_have_ended() -> None:
    with Relayed() as relayed:
        relayed.a.sendall(b"to b")
        relayed.a.shutdown(socket.SHUT_WR)
        assert read_all(relayed.b) == b"to b"
        relayed.b.sendall(b"back to a")
        relayed.b.shutdown(socket.SHUT_WR)
        assert read_all(relayed.a) == b"back to a"
    assert relayed.carried == (4, 9)


def test_more_than_the_relay_can_hold_goes_through() -> None:
    data = os.urandom(5 * relay.HELD)
    came: list[bytes] = []
    with Relayed() as relayed:
        reader = threading.Thread(target=lambda: came.append(read_all(relayed.b)))
        reader.start()
        relayed.a.sendall(data)
        relayed.a.close()
        reader.join()
    assert came == [data]
    assert relayed.carried == (len(data), 0)


def test_a_connection_that_is_reset_ends_the_relay() -> None:
    with Relayed() as relayed:
        relayed.a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        relayed.a.close()
        assert read_all(relayed.b) == b""
    assert relayed.carried == (0, 0)


def test_the_other_direction_ends_a_while_after_one_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "LAST_WORDS_S", 0.0)
    relayed = Relayed()
    with relayed:
        relayed.a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        relayed.a.close()
        relayed._thread.join()
        assert relayed.carried == (0, 0)


def test_copies_and_refusals_go_through_the_relay(tmp_path: Path) -> None:
    source, target = os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")
    plant(source, {b"big": (os.urandom(3_000_000), 0o644), b"x": (b"1", 0o644)})
    with (
        Relayed() as relayed,
        running(lambda link: bulk.receive(link, target), relayed.b) as receiving,
        running(lambda link: bulk.send(link, source), relayed.a) as sending,
    ):
        pass
    assert isinstance(plain(sending), bulk.Summary)
    assert plain(sending) == plain(receiving)
    assert seen(target) == seen(source)
    with (
        Relayed() as relayed,
        running(lambda link: bulk.receive(link, target + b"/no/x"), relayed.b) as receiving,
        running(lambda link: bulk.send(link, source), relayed.a) as sending,
    ):
        pass
    for end in (plain(sending), plain(receiving)):
        assert isinstance(end, TransferError)
        assert end.code == "not-found"


@needs_openssl
def test_a_tls_connection_is_relayed_to_a_plain_one(tmp_path: Path) -> None:
    serving, calling = tls_contexts(tmp_path)
    data = os.urandom(3_000_000)
    raw, raw_far = tcp_pair()
    accepted: list[ssl.SSLSocket] = []
    shaking = threading.Thread(
        target=lambda: accepted.append(serving.wrap_socket(raw_far, server_side=True))
    )
    shaking.start()
    secret = calling.wrap_socket(raw)
    shaking.join()
    with Relayed((secret, accepted[0])) as relayed:
        writer = threading.Thread(target=lambda: relayed.b.sendall(data))
        writer.start()
        secret.sendall(data)
        came = memoryview(bytearray(len(data)))
        assert relayed.b.recv_into(came, flags=socket.MSG_WAITALL) == len(data)
        assert came == data
        received = bytearray()
        while len(received) < len(data):
            received += secret.recv(65536)
        assert received == data
        writer.join()
        relayed.b.close()
        assert secret.recv(1) == b""
    assert relayed.carried == (len(data), len(data))
