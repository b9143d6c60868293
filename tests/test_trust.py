"""TLS 1.3 with both certificates checked: who gets through a handshake, and what keys may be."""

import os
import ssl
from pathlib import Path

import pytest

from godwit.errors import PeerError, StartError
from godwit.wire import trust
from godwit.wire.trust import Peer, Trust
from tests.certificates import Issuer, filled, minted_by, self_made, shaken, without


@pytest.fixture(scope="module")
def ours() -> Issuer:
    return Issuer()


@pytest.fixture
def master(ours: Issuer, tmp_path: Path) -> Trust:
    return ours.folder(tmp_path / "master", "godwit:master:m1")


@pytest.fixture
def node(ours: Issuer, tmp_path: Path) -> Trust:
    return ours.folder(tmp_path / "node", "godwit:node:web7")


def test_both_ends_see_who_the_other_is(master: Trust, node: Trust) -> None:
    at_server, at_client = shaken(master.server(), node.client())
    assert at_server.uri == "godwit:node:web7" and not at_server.is_master
    assert at_client.uri == "godwit:master:m1" and at_client.is_master
    leaf = Path(node.path(trust.OWN)).read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    assert at_server.leaf == trust.pem_fingerprint(leaf[1] + leaf[2])


def test_a_client_without_a_certificate_is_refused(master: Trust, node: Trust) -> None:
    with pytest.raises(ssl.SSLError):
        shaken(master.server(), without(node.client()))


def test_a_self_signed_client_is_refused(master: Trust, ours: Issuer, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError):
        shaken(master.server(), self_made(tmp_path / "x", ours.ca).client())


def test_a_client_of_another_authority_is_refused(
    master: Trust, ours: Issuer, tmp_path: Path
) -> None:
    stranger = Issuer().folder(tmp_path / "x", "godwit:node:web7", ours.ca)
    with pytest.raises(ssl.SSLError):
        shaken(master.server(), stranger.client())


def test_a_certificate_that_a_nodes_own_signed_is_refused(
    master: Trust, node: Trust, ours: Issuer, tmp_path: Path
) -> None:
    minted = minted_by(node, tmp_path / "x", "godwit:node:web8", ours.ca)
    with pytest.raises(ssl.SSLError):
        shaken(master.server(), minted.client())


def test_a_server_of_another_authority_is_refused(node: Trust, tmp_path: Path) -> None:
    stranger = Issuer().folder(tmp_path / "x", "godwit:master:m1")
    with pytest.raises(ssl.SSLError):
        shaken(stranger.server(), node.client())


def test_tls_1_2_is_refused_at_both_ends(master: Trust, node: Trust) -> None:
    old_client = node.client()
    old_client.minimum_version = ssl.TLSVersion.TLSv1_2
    old_client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shaken(master.server(), old_client)
    old_server = master.server()
    old_server.minimum_version = ssl.TLSVersion.TLSv1_2
    old_server.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shaken(old_server, node.client())


def test_no_session_outlives_a_handshake(master: Trust) -> None:
    assert master.server().num_tickets == 0
    assert master.open_server().num_tickets == 0


def test_a_server_reads_its_files_again_when_they_change(
    master: Trust, node: Trust, ours: Issuer, tmp_path: Path
) -> None:
    before = master.server()
    assert master.server() is before
    renewed = ours.folder(tmp_path / "renewed", "godwit:master:m2")
    os.replace(renewed.path(trust.OWN), master.path(trust.OWN))
    _, at_client = shaken(master.server(), node.client())
    assert at_client.uri == "godwit:master:m2"
    os.chmod(master.path(trust.OWN), 0o644)
    with pytest.raises(StartError, match="chmod 600"):
        master.server()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(node: Trust, mode: int) -> None:
    os.chmod(node.path(trust.OWN), mode)
    for make in (node.server, node.client, node.open_server):
        with pytest.raises(StartError, match="chmod 600"):
            make()


def test_a_private_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        trust.write_private(str(tmp_path / "key"), b"secret")
    finally:
        os.umask(mask)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_certificate_of_another_key_does_not_replace_ours(
    node: Trust, ours: Issuer, tmp_path: Path
) -> None:
    before = Path(node.path(trust.OWN)).read_bytes()
    other = Path(ours.folder(tmp_path / "x", "godwit:node:web8").path(trust.OWN)).read_bytes()
    start = other.index(b"-----BEGIN CERTIFICATE-----")
    own_key = before[: before.index(b"-----BEGIN CERTIFICATE-----")]
    for certificate in (other[start:], b"", b"junk"):
        with pytest.raises(PeerError):
            node.take(own_key, certificate)
    assert Path(node.path(trust.OWN)).read_bytes() == before
    assert sorted(os.listdir(node.folder)) == [trust.CA, trust.OWN]
    node.take(other[:start], other[start:])
    assert Path(node.path(trust.OWN)).read_bytes() == other


def test_a_folder_is_complete_with_both_certificates(tmp_path: Path, ours: Issuer) -> None:
    folder = filled(tmp_path / "x", b"own", ours.ca)
    assert folder.complete
    os.unlink(folder.path(trust.OWN))
    assert not folder.complete


def test_who_is_no_master_may_not_play_one() -> None:
    trust.expect_master(Peer("1", "godwit:master:m1"))
    for uri in ("", "godwit:node:web7", "godwit:node:godwit:master:", "GODWIT:MASTER:m1"):
        with pytest.raises(PeerError):
            trust.expect_master(Peer("1", uri))


def test_another_certificate_than_expected_is_refused() -> None:
    trust.expect_leaf(("a", "b"), Peer("b"))
    for leaves in ((), ("a",), ("bb",)):
        with pytest.raises(PeerError):
            trust.expect_leaf(leaves, Peer("b"))


@pytest.mark.parametrize("pem", [b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\n!\n"])
def test_what_is_no_certificate_has_no_fingerprint(pem: bytes) -> None:
    with pytest.raises(PeerError):
        trust.pem_fingerprint(pem)
