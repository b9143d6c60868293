"""The cluster's certificate authority: what it signs, and what passes for signed by it."""

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from godwit.errors import PeerError
from godwit.wire import authority, trust
from godwit.wire.authority import Authority

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web7")])


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


@pytest.fixture(scope="module")
def ca() -> Authority:
    return Authority(*authority.new_authority("c1u5ter"))


def test_a_leaf_says_what_its_owner_is_and_cannot_sign(ca: Authority) -> None:
    request, _ = authority.new_request("web7")
    leaf = x509.load_pem_x509_certificate(ca.sign(request, "godwit:node:web7"))
    assert authority.uri_of(leaf.public_bytes(serialization.Encoding.DER)) == "godwit:node:web7"
    limits = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert limits.critical and not limits.value.ca
    assert usage.critical and not usage.value.key_cert_sign
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert life.days == authority.LEAF_DAYS


def test_the_name_in_a_request_is_nothing_to_go_by(ca: Authority) -> None:
    request, _ = authority.new_request("godwit:master:me")
    leaf = ca.sign(request, "godwit:node:web7")
    assert authority.uri_of(der(leaf)) == "godwit:node:web7"
    assert b"godwit:master:me" not in der(leaf)


def test_the_authority_signs_leaves_only() -> None:
    certificate, _ = authority.new_authority("c1u5ter")
    limits = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert limits.critical and limits.value.ca and limits.value.path_length == 0


@pytest.mark.parametrize("request_pem", [
    b"", b"\0\xff", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
])
def test_what_is_no_request_is_not_signed(ca: Authority, request_pem: bytes) -> None:
    with pytest.raises(PeerError):
        ca.sign(request_pem, "godwit:node:web7")


def test_a_request_that_its_own_key_did_not_sign_is_not_signed(ca: Authority) -> None:
    request, _ = authority.new_request("web7")
    raw = bytearray(
        x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER)
    )
    raw[-1] ^= 1
    broken = ssl.DER_cert_to_PEM_cert(bytes(raw)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(PeerError):
        ca.sign(broken.encode(), "godwit:node:web7")


@pytest.mark.parametrize("key", [
    rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()),
], ids=["rsa", "p256"])
def test_only_keys_of_the_kind_we_make_are_signed(
    ca: Authority, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    if isinstance(key, rsa.RSAPrivateKey):
        with pytest.raises(PeerError):
            ca.sign(pem, "godwit:node:web7")
    else:
        assert ca.sign(pem, "godwit:node:web7")


def test_only_what_this_authority_signed_passes(ca: Authority) -> None:
    request, key = authority.new_request("web7")
    leaf = ca.sign(request, "godwit:node:web7")
    authority.check_issued(der(leaf), ca.pem)
    other = Authority(*authority.new_authority("c1u5ter"))
    by_leaf = Authority(leaf, key)
    for pem in (
        other.sign(request, "godwit:node:web7"), by_leaf.sign(request, "godwit:master:me"),
        authority.self_signed("web7", key),
    ):
        with pytest.raises(PeerError):
            authority.check_issued(der(pem), ca.pem)
    with pytest.raises(PeerError):
        authority.check_issued(b"", ca.pem)


def test_a_certificate_without_a_uri_says_nothing() -> None:
    _, key = authority.new_request("web7")
    assert authority.uri_of(der(authority.self_signed("web7", key))) == ""
    assert authority.uri_of(b"") == ""


def test_a_name_longer_than_a_certificate_can_hold_still_fits(ca: Authority) -> None:
    request, _ = authority.new_request("n" * 200)
    uri = f"{trust.NODE}{'n' * 200}"
    assert authority.uri_of(der(ca.sign(request, uri))) == uri
