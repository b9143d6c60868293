"""The cluster's own certificate authority, and the keys and requests of those who want to join.

Imported only where certificates are made (45 ms): never by an agent, never by the shell.
A certificate says what its owner is by one URI in its SAN: ``godwit:master:ID`` or
``godwit:node:NAME``.  Names of hosts play no part: who is whom is a matter of the leaf's hash.
"""

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from godwit.errors import PeerError

#: Days that certificates are good for; leaves are renewed well before.
CA_DAYS = 3650
LEAF_DAYS = 365

_HASH = hashes.SHA256()
_PEM = serialization.Encoding.PEM


def new_key() -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """A P-256 key, and its PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key, pem


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017 - 3.11 has both
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Clocks of home machines differ; an hour is forgiven.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others, key_cert_sign=signs_others, crl_sign=signs_others,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )


def new_authority(cluster: str) -> tuple[bytes, bytes]:
    """Certificate and key of a new CA, as PEM."""
    key, key_pem = new_key()
    name = _name(f"godwit cluster {cluster[:8]}")
    public = key.public_key()
    certificate = (
        _builder(name, name, public, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_others=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, _HASH)
    )
    return certificate.public_bytes(_PEM), key_pem


def new_request(name: str) -> tuple[bytes, bytes]:
    """A certificate signing request and the key that it is for, as PEM."""
    key, key_pem = new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, _HASH)
    return request.public_bytes(_PEM), key_pem


def self_signed(name: str, key_pem: bytes) -> bytes:
    """The certificate of an orphan, good for being adopted and for nothing else."""
    key = _private(key_pem)
    subject = _name(f"orphan {name}")
    certificate = (
        _builder(subject, subject, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, _HASH)
    )
    return certificate.public_bytes(_PEM)


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


class Authority:
    """The CA at work, in the master."""

    def __init__(self, certificate: bytes, key: bytes):
        self.pem = certificate
        self._certificate = x509.load_pem_x509_certificate(certificate)
        self._key = _private(key)

    def sign(self, request_pem: bytes, uri: str, days: int = LEAF_DAYS) -> bytes:
        """The certificate of whoever made the request; ``uri`` says what it is.

        The master's own lives as long as the authority, whose key lies beside it anyway.

        Raises PeerError for a request that is none, or is not signed by its own key.
        """
        try:
            request = x509.load_pem_x509_csr(request_pem)
            public = request.public_key()
            if not request.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
                raise ValueError("its signature is not its own")
        except (ValueError, InvalidSignature) as err:
            raise PeerError(f"not a certificate request: {err}") from err
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = self._certificate
        return (
            _builder(_name(uri), issuer.subject, public, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_others=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, _HASH)
            .public_bytes(_PEM)
        )


def check_issued(leaf_der: bytes, ca_pem: bytes) -> None:
    """Raises PeerError unless this CA signed this leaf: for the one connection before trust."""
    try:
        leaf = x509.load_der_x509_certificate(leaf_der)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
    except (ValueError, TypeError, InvalidSignature) as err:
        raise PeerError("the master's certificate is not of that cluster") from err


def uri_of(leaf_der: bytes) -> str:
    """What a certificate says its owner is; empty when it does not say."""
    try:
        certificate = x509.load_der_x509_certificate(leaf_der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound):
        return ""
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if uris else ""
