"""Gets this node a certificate.  A process of its own: what makes keys stays out of the agent.

    python -m clientd.enrol join FOLDER NAME HOST PORT     the token on stdin
    python -m clientd.enrol wait FOLDER NAME               makes what an orphan shows, and its code
    python -m clientd.enrol request FOLDER NAME            the next key and request, for a renewal

Exits 0, or 1 with one line on stderr.
"""

import os
import secrets
import ssl
import sys

from clientd import papers
from godwit.errors import GodwitError, PeerError
from godwit.wire import joining, trust
from godwit.wire.authority import check_issued, new_request, self_signed, uri_of
from godwit.wire.link import connect
from godwit.wire.preface import JOIN
from godwit.wire.tokens import SECRET_HEX, Code, read_token


def join(folder: trust.Trust, name: str, host: str, port: int, token_text: str) -> None:
    """Shows the token to the master, once it is sure that this is the token's master.

    Raises PeerError, UsageError, OSError.
    """
    token = read_token(token_text)
    request, key = new_request(name)
    sock = connect((host, port), JOIN)
    with sock, trust.blind_client().wrap_socket(sock) as link:
        ca = joining.receive(link, joining.Cluster).ca
        if trust.pem_fingerprint(ca) != token.ca:
            raise PeerError("that is not the master this token is from")
        leaf = link.getpeercert(binary_form=True)
        check_issued(leaf or b"", ca)
        trust.expect_master(trust.Peer("", uri_of(leaf or b"")))
        joining.send(link, joining.Join(token.id, token.secret, name, request))
        joined = joining.receive(link, joining.Joined)
    trust.write_private(folder.path(papers.TOKEN_ID), token.id.encode())
    trust.write_private(folder.path(trust.CA), ca)
    # The certificate comes last: with it, this node is one.
    folder.take(key, joined.certificate)


def wait(folder: trust.Trust, name: str) -> None:
    """A certificate of its own and a code, to be adopted with."""
    request, key = new_request(name)
    certificate = self_signed(name, key)
    code = Code(trust.pem_fingerprint(certificate), secrets.token_hex(SECRET_HEX // 2))
    trust.write_private(folder.path(papers.NEXT_KEY), key)
    trust.write_private(folder.path(papers.REQUEST), request)
    trust.write_private(folder.path(papers.ORPHAN), key + certificate)
    trust.write_private(folder.path(papers.CODE), f"{code}\n".encode())


def renew(folder: trust.Trust, name: str) -> None:
    """The next key, and a request for its certificate."""
    request, key = new_request(name)
    trust.write_private(folder.path(papers.NEXT_KEY), key)
    trust.write_private(folder.path(papers.REQUEST), request)


def main() -> int:
    """The entry point."""
    what, path, name, *where = sys.argv[1:]
    os.makedirs(path, mode=0o700, exist_ok=True)
    folder = trust.Trust(path)
    try:
        if what == "join":
            join(folder, name, where[0], int(where[1]), sys.stdin.read())
        elif what == "wait":
            wait(folder, name)
        else:
            renew(folder, name)
    except ssl.SSLError as err:
        return _failed(f"no TLS with the master: {err.reason or err}")
    except OSError as err:
        return _failed(err.strerror or "no answer")
    except GodwitError as err:
        return _failed(str(err))
    return 0


def _failed(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
