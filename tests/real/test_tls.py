"""Nobody gets in: each promise about connections, tokens, codes, certificates; real daemons."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.errors import GodwitError, PeerError, Refused, UsageError
from godwit.wire import frames, joining, messages, trust
from godwit.wire import messages as wire
from godwit.wire import operations as op
from godwit.wire.link import OPENING_MOST, OPENING_MOST_EACH, OPENING_S, connect
from godwit.wire.preface import ADOPT, BULK, CONTROL, JOIN, SIZE
from godwit.wire.tokens import read_code, read_token
from godwit.wire.trust import Trust
from tests.certificates import Issuer, without
from tests.real.cluster import DEADLINE_S, Cluster, Daemon, descendants, eventually
from tests.real.lines import Line, hello, joined
from tests.real.playing import (
    LOCAL,
    Waiting,
    adopt,
    agent_of,
    authority,
    clientd,
    enrolled,
    greeted,
    join,
    make,
    port_of,
    strangers,
    token,
    waiting,
)
from tests.test_dispatch import MASTER, MASTER_STREAM, NODE, NODE_STREAM, OPENING, TABLE


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests that break nothing."""
    with Cluster(tmp_path_factory.mktemp("two")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def web7(two: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """The certificate of a node that a test plays."""
    return enrolled(two, tmp_path_factory.mktemp("web7"), "web7")


@pytest.fixture(autouse=True)
def others_are_undisturbed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to the shared cluster: its nodes keep the connections they had."""
    if "two" not in request.fixturenames:
        yield
        return
    two: Cluster = request.getfixturevalue("two")
    two.wait_up("node1", "node2")
    before = connections(two)
    yield
    # One that was lost and made again has another port.
    eventually(lambda: connections(two) == before, "the same connections, and both are up")
    done = two.godwit("execute", "--wait", "node1", "true")
    assert done.returncode == 0, done.stderr


def connections(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """The state and the address (with its port) of each real node's connection."""
    with cluster.client() as client:
        nodes = client.ask(op.ListNodes(0, "@node1,node2"), op.Nodes).nodes
    return {node.name: (node.state, node.address) for node in nodes}


# ---- the handshake -------------------------------------------------------------------------


def test_plain_tcp_is_refused(two: Cluster) -> None:
    with Line(two.address) as line:
        line.say(hello("node9"))
        assert list(line.hear()) == []
    assert "node9" not in two.states()


def test_tls_1_2_is_refused(two: Cluster, web7: Trust) -> None:
    old = web7.client()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Line(two.address, CONTROL, old)


@pytest.mark.parametrize("preface", [CONTROL, BULK])
@pytest.mark.parametrize("who", [
    "no certificate", "self-signed", "of another authority", "minted by a node", "minted master",
])
def test_a_stranger_is_told_nothing_and_not_listened_to(
    two: Cluster, web7: Trust, tmp_path: Path, who: str, preface: bytes
) -> None:
    tls = strangers(two, web7, tmp_path)[who]()
    with contextlib.suppress(ssl.SSLError), Line(two.address, preface, tls) as line:
        for name in ("web7", "web8", "node1"):
            line.say(hello(name))
        assert list(line.hear()) == []
    assert {"web7", "web8"}.isdisjoint(two.states())


def test_a_genuine_certificate_serves_its_own_name_only(two: Cluster, web7: Trust) -> None:
    for name in ("node1", "web8"):
        for channel in ("control", "stream"):
            with Line(two.address, CONTROL, web7.client()) as line:
                line.say(hello(name, channel))
                answer = line.heard(messages.decode_opening)
                assert isinstance(answer, wire.Refuse) and answer.code == "certificate"
                line.closed_after()


def test_a_certificate_of_the_authority_that_no_node_has_is_refused(
    two: Cluster, tmp_path: Path
) -> None:
    key = Path(two.state, "trust", "ca-key.pem").read_bytes()
    forged = Issuer(authority(two), key).folder(tmp_path / "x", "godwit:node:node1")
    with Line(two.address, CONTROL, forged.client()) as line:
        line.say(hello("node1"))
        answer = line.heard(messages.decode_opening)
        assert isinstance(answer, wire.Refuse) and answer.code == "certificate"
        line.closed_after()


def test_a_node_does_not_take_a_node_for_its_master(
    two: Cluster, web7: Trust, tmp_path: Path
) -> None:
    """What answers at the master's address has a genuine certificate, but a node's."""
    with socket.create_server((LOCAL, 0)) as server:
        address = f"{LOCAL}:{server.getsockname()[1]}"
        state = tmp_path / "web8"
        enrolled(two, make(state / "agent" / "trust"), "web8")
        daemon = clientd(two, tmp_path, "web8", "--master", address)
        try:
            server.settimeout(DEADLINE_S)
            sock, _ = server.accept()
            sock.settimeout(DEADLINE_S)
            with sock:
                assert sock.recv(SIZE, socket.MSG_WAITALL) == CONTROL
                with (
                    web7.server().wrap_socket(sock, server_side=True) as link,
                    # One that hangs up with our session tickets unread resets the connection.
                    contextlib.suppress(ConnectionResetError),
                ):
                    assert link.recv(100) == b"", "it says no hello"
            eventually(lambda: "no master of this cluster" in daemon.text(), "the reason")
        finally:
            daemon.end()
            assert daemon.close(expect_empty=True) == []


# ---- each message, each peer ---------------------------------------------------------------


@pytest.mark.parametrize(("message", "senders"), TABLE, ids=lambda part: type(part).__name__)
def test_what_a_peer_may_not_send_ends_its_own_connection(
    two: Cluster, web7: Trust, message: wire.Message, senders: set[str]
) -> None:
    with Line(two.address, CONTROL) as plain:
        plain.say(message)
        assert list(plain.hear()) == []
    with contextlib.suppress(ssl.SSLError), (
        Line(two.address, CONTROL, without(web7.client()))
    ) as bare:
        bare.say(message)
        assert list(bare.hear()) == []
    if not isinstance(message, wire.Hello):
        with Line(two.address, CONTROL, web7.client()) as line:
            line.say(message)
            assert list(line.hear()) == []
    with joined(two.address, web7, "web7") as control:
        with Line(two.address, CONTROL, web7.client()) as stream:
            stream.say(hello("web7", "stream"))
            assert isinstance(stream.heard(messages.decode_opening), wire.Welcome)
            if NODE_STREAM not in senders:
                stream.say(message)
                assert list(stream.hear()) == []
        if NODE not in senders:
            control.say(message)
            control.closed_after()
    eventually(lambda: "web7" in two.states(), "web7 is known")


def ends_for(
    cluster: Cluster, data: bytes, preface: bytes, tls: ssl.SSLContext | None = None
) -> None:
    """The connection ends for what was said, and not because its time is over."""
    def before_its_time() -> bool:
        """Who came before and said nothing is waited for still."""
        with Line(cluster.address, b"") as silent, Line(cluster.address, preface, tls) as line:
            line.send(data)
            line.closed_after()
            return held(silent)

    eventually(before_its_time, f"an end for {data!r} after {preface!r}")


@pytest.mark.parametrize("data", [
    frames.encode(b""), frames.encode(b"\xc1" * 100), b"\xff" * 4, frames.encode(b"\x91" * 4000),
    (frames.OPENING_LIMIT + 1).to_bytes(4, "big"), frames.encode(b"\x81\xa2is\xa5Hello"),
], ids=["empty", "junk", "4 GiB", "deep", "over 4 KiB", "half a hello"])
def test_junk_ends_its_own_connection(two: Cluster, web7: Trust, data: bytes) -> None:
    for preface in (CONTROL, JOIN, BULK):
        ends_for(two, data, preface, web7.client() if preface != JOIN else without(web7.client()))
    if data != (frames.OPENING_LIMIT + 1).to_bytes(4, "big"):
        with joined(two.address, web7, "web7") as line:
            line.send(data)
            line.closed_after()


def test_an_unknown_preface_is_refused(two: Cluster) -> None:
    for preface in (b"GET ", b"\x16\x03\x01\x02", b"gwO1", ADOPT, b"\0\0\0\0"):
        ends_for(two, b"", preface)


def test_refusals_are_in_the_log(two: Cluster) -> None:
    with Line(two.address, b"GET ") as line:
        line.closed_after()
    log = Path(two.logs, "masterd.log")
    said = ("not a connection of this protocol", f"refused a connection from {LOCAL}")
    eventually(lambda: all(text in log.read_text() for text in said), "both are in the log")


# ---- bounds before authentication ----------------------------------------------------------


def test_who_says_nothing_or_too_slowly_is_not_waited_for(two: Cluster, web7: Trust) -> None:
    bare, began = without(web7.client()), time.monotonic()
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(line) for line in (
            Line(two.address, b""), Line(two.address, b"gw"), Line(two.address, CONTROL),
            Line(two.address, JOIN), Line(two.address, BULK),
            Line(two.address, CONTROL, web7.client()), Line(two.address, JOIN, bare),
        )]
        # Byte by byte: each of its waits is short, all of them together are not.
        dripping = stack.enter_context(Line(two.address, JOIN, bare))
        dripping.link.settimeout(0.5)
        for byte in (1000).to_bytes(4, "big") + b"x" * 1000:
            dripping.send(bytes([byte]))
            try:
                if dripping.link.recv(65536) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("it was heard to its end")  # which takes a thousand of its waits
        for line in lines:
            line.closed_after()
        assert time.monotonic() - began > OPENING_S - 1  # they were given their time


def held(line: Line) -> bool:
    """The other end has not hung up."""
    line.link.setblocking(False)
    try:
        return line.link.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_one_address_has_so_many_openings_and_others_have_theirs(two: Cluster) -> None:
    with contextlib.ExitStack() as stack:
        def open_from(source: str) -> Line:
            return stack.enter_context(Line(two.address, b"", source=source))

        mine = [open_from("127.0.0.2") for _ in range(OPENING_MOST_EACH + 2)]
        eventually(lambda: sum(map(held, mine)) == OPENING_MOST_EACH, "two are turned away")
        assert held(open_from("127.0.0.3"))
        # The node's own address is not affected: a new connection of its is served.
        with Line(two.address, b"GET ") as line:
            line.closed_after()


def test_all_addresses_together_have_so_many_openings(two: Cluster) -> None:
    with contextlib.ExitStack() as stack:
        lines = [
            stack.enter_context(Line(two.address, b"", source=f"127.0.1.{1 + number // 8}"))
            for number in range(OPENING_MOST + 16)
        ]
        eventually(lambda: sum(map(held, lines)) == OPENING_MOST, "the rest is turned away")
    eventually(lambda: can_join(two), "room again")


def can_join(cluster: Cluster) -> bool:
    """The master answers a machine that wants to join (by refusing its token)."""
    known = read_token(token(cluster))
    wrong = str(known).replace(known.secret, "0" * len(known.secret))
    try:
        join(cluster, Trust(str(cluster.top / "nobody")), "nobody", wrong)
    except Refused as refused:
        return refused.code == "bad-token"
    except (OSError, PeerError):
        return False
    return False


def test_silent_openings_of_one_address_keep_nobody_else_from_joining(
    two: Cluster, web7: Trust
) -> None:
    def joined_beside_them() -> bool:
        """Whether they were silent still, and waited for, when somebody else had been answered."""
        with contextlib.ExitStack() as stack:
            silent = [
                stack.enter_context(Line(two.address, preface, source="127.0.0.2"))
                for preface in (JOIN, BULK) * (OPENING_MOST_EACH // 2)
            ]
            assert can_join(two)
            return all(map(held, silent))

    eventually(joined_beside_them, "an answer before their time was over")


# ---- tokens --------------------------------------------------------------------------------


def test_a_token_serves_once_and_with_uses_so_often(two: Cluster, tmp_path: Path) -> None:
    once, twice = token(two), token(two, "--uses", "2")
    join(two, Trust(str(tmp_path / "1")), "t1", once)
    with pytest.raises(Refused):
        join(two, Trust(str(tmp_path / "2")), "t2", once)
    for number in ("3", "4"):
        join(two, Trust(str(tmp_path / number)), f"t{number}", twice)
    with pytest.raises(Refused):
        join(two, Trust(str(tmp_path / "5")), "t5", twice)
    assert not (tmp_path / "5" / trust.OWN).exists()


def test_a_token_that_is_too_old_is_refused(two: Cluster, tmp_path: Path) -> None:
    short = token(two, "--ttl", "1")
    until = time.time() + 1
    eventually(lambda: time.time() > until, "its second is over")
    with pytest.raises(Refused) as refused:
        join(two, Trust(str(tmp_path / "1")), "t1", short)
    assert refused.value.code == "bad-token"


def test_a_token_for_another_name_is_refused_and_not_spent(two: Cluster, tmp_path: Path) -> None:
    named = token(two, "--node", "named")
    with pytest.raises(Refused):
        join(two, Trust(str(tmp_path / "1")), "other", named)
    join(two, Trust(str(tmp_path / "1")), "named", named)


def test_a_token_does_not_take_the_name_of_a_node(two: Cluster, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        join(two, Trust(str(tmp_path / "1")), "node1", token(two))
    assert refused.value.code == "taken"


def test_a_guessed_secret_is_refused(two: Cluster) -> None:
    assert can_join(two)


def test_a_node_does_not_join_a_master_that_is_not_the_tokens(
    two: Cluster, tmp_path: Path
) -> None:
    known = read_token(token(two))
    wrong = str(known).replace(known.ca, "0" * len(known.ca))
    with pytest.raises(PeerError, match="not the master this token is from"):
        join(two, Trust(str(tmp_path / "1")), "t9", wrong)
    # The secret did not leave: it is still good.
    join(two, Trust(str(tmp_path / "1")), "t9", str(known))


@pytest.mark.parametrize("text", ["", "gw1.x.y.z", "\0" * 10, "a token"])
def test_what_is_no_token_is_not_sent(two: Cluster, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        join(two, Trust(str(tmp_path / "1")), "t9", text)


@pytest.mark.parametrize("request_pem", [b"", b"junk"])
def test_a_join_without_a_request_gets_nothing(
    two: Cluster, web7: Trust, request_pem: bytes
) -> None:
    known = read_token(token(two))
    sock = connect((LOCAL, port_of(two)), JOIN)
    with sock, without(web7.client()).wrap_socket(sock) as link:
        joining.receive(link, joining.Cluster)
        joining.send(link, joining.Join(known.id, known.secret, "t8", request_pem))
        with pytest.raises((PeerError, OSError)):
            joining.receive(link, joining.Joined)


def test_a_clientd_says_in_one_line_that_it_needs_a_token(two: Cluster, tmp_path: Path) -> None:
    daemon = clientd(two, tmp_path, "t7", "--master", two.address)
    try:
        eventually(lambda: "godwit token" in daemon.text(), "the line")
        assert "Traceback" not in daemon.text()
    finally:
        daemon.end()
        assert daemon.close(expect_empty=True) == []


# ---- secrets stay where they belong --------------------------------------------------------


def files(*tops: Path) -> Iterator[Path]:
    for top in tops:
        yield from (path for path in top.rglob("*") if path.is_file())


def test_no_secret_is_in_a_database_a_log_an_argv_or_a_tasks_environment(tmp_path: Path) -> None:
    with Cluster(make(tmp_path / "one"), nodes=[]) as one:
        text = token(one)
        secret = read_token(text).secret
        daemon = clientd(one, tmp_path, "web7", "--master", one.address, GODWIT_TOKEN=text)
        one.nodes["web7"] = daemon
        one.wait_up("web7")
        task = one.json("execute", "--json", "web7", "env")["tasks"][0]["task"]
        one.godwit("wait", task)
        environment = one.godwit("logs", task).stdout
        assert "PATH=" in environment and "TOKEN" not in environment
        assert secret not in environment
        assert one.master
        for pid in (*descendants(daemon.init.pid), *descendants(one.master.init.pid)):
            with contextlib.suppress(OSError):
                assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        one.godwit("events")
        for path in files(tmp_path):
            assert secret.encode() not in path.read_bytes(), path
        keys = [path for path in files(tmp_path) if b"PRIVATE KEY" in path.read_bytes()]
        assert {path.name for path in keys} == {"own.pem", "ca-key.pem"}
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)
        assert stat.S_IMODE(Path(one.state, "trust").stat().st_mode) == 0o700


def test_a_master_does_not_start_on_a_key_that_others_may_read(tmp_path: Path) -> None:
    for name in ("ca-key.pem", "own.pem"):
        with Cluster(make(tmp_path / name), nodes=[]) as one:
            one.kill_master()
            key = Path(one.state, "trust", name)
            key.chmod(0o640)
            with pytest.raises(RuntimeError, match=r"can be read by others .* chmod 600"):
                one.restart_master()
            assert one.master
            assert one.master.close(expect_empty=True) == []
            key.chmod(0o600)
            one.restart_master()


def test_a_node_does_not_use_a_key_that_others_may_read(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one:
        one.kill_node("node1")
        key = tmp_path / "node1" / "agent" / "trust" / trust.OWN
        key.chmod(0o644)
        one.start_node("node1")
        node = one.nodes["node1"]
        eventually(lambda: "can be read by others" in node.text(), "the reason")
        key.chmod(0o600)
        one.wait_up("node1")


# ---- revocation and renewal ----------------------------------------------------------------


def restart_agent(daemon: Daemon) -> None:
    before = agent_of(daemon)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: agent_of(daemon) not in (0, before), "another agent")


def test_a_revoked_node_is_out_at_once_and_back_with_a_new_token(tmp_path: Path) -> None:
    with Cluster(tmp_path) as two:
        task = two.json("execute", "--json", "node1", "sleep", "300")["tasks"][0]
        stolen = Trust(shutil.copytree(tmp_path / "node1/agent/trust", tmp_path / "stolen"))
        with joined(two.address, enrolled(two, tmp_path / "w", "web7"), "web7") as web7:
            assert two.godwit("revoke", "--yes", "web7").returncode == 0
            web7.closed_after()
            # Not for its silence, which would end it later.
            assert "web7 is unreachable" not in two.godwit("events").stdout
        assert two.godwit("revoke", "--yes", "node1").returncode == 0
        assert two.states() == {"node2": "up"}
        with pytest.raises(GodwitError, match="certificate"):
            joined(two.address, stolen, "node1")
        restart_agent(two.nodes["node1"])
        log = tmp_path / "logs" / "node1" / "clientd.log"
        eventually(lambda: "no node's of this cluster" in log.read_text(), "it is refused")
        assert two.states() == {"node2": "up"}
        assert Path(f"/proc/{task['pid']}").exists(), "what runs there runs on"
        # The token it came with has ended, too; with another one, it is back by itself.
        (tmp_path / "token").unlink()
        two.token_file()
        two.wait_up("node1")
        assert two.godwit("sKill", task["task"]).returncode == 0
        with pytest.raises(GodwitError, match="certificate"):
            joined(two.address, stolen, "node1")
        assert two.godwit("revoke", "--yes", "nobody").returncode == 1


def test_a_certificate_that_grows_old_is_renewed_and_the_old_one_ends(tmp_path: Path) -> None:
    with Cluster(tmp_path) as two:
        folder = tmp_path / "node1" / "agent" / "trust"
        own = folder / trust.OWN
        before = own.read_bytes()
        old = Trust(shutil.copytree(folder, tmp_path / "old"))
        year_ago = time.time() - 300 * 86400
        os.utime(own, (year_ago, year_ago))
        restart_agent(two.nodes["node1"])
        eventually(lambda: own.read_bytes() != before, "the next certificate")
        two.wait_up("node1")
        assert stat.S_IMODE(own.stat().st_mode) == 0o600
        # The request and its key go after the certificate is in its place.
        left = [trust.CA, trust.OWN, "token-id"]
        eventually(lambda: names(folder) == left, "only these are left")
        # Both serve until the new one has been shown, also for copies between nodes.
        source = tmp_path / "source"
        source.write_bytes(os.urandom(100_000))
        assert two.godwit("copy", str(source), "node1:a").returncode == 0
        assert two.godwit("copy", "node1:a", "node2:b").returncode == 0
        assert two.godwit("copy", "node2:b", "node1:c").returncode == 0
        restart_agent(two.nodes["node1"])
        eventually(lambda: refuses(two.address, old, "node1"), "the old one has ended")
        two.wait_up("node1")
        two.kill_master()
        two.restart_master()
        two.wait_up("node1", "node2")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuses(address: str, folder: Trust, name: str) -> bool:
    with Line(address, CONTROL, folder.client()) as line:
        # Not a word of ours is needed for that, so a certificate that is still good harms nothing.
        line.link.settimeout(1)
        try:
            return isinstance(line.heard(messages.decode_opening), wire.Refuse)
        except TimeoutError:
            return False


# ---- machines that wait --------------------------------------------------------------------


def register(cluster: Cluster, port: int, code: str) -> tuple[int, str]:
    done = cluster.godwit(
        "register", LOCAL, str(port), "web7", "--code-file", "-", input=code + "\n"
    )
    return done.returncode, done.stderr


def test_an_orphan_is_taken_by_who_knows_its_code_and_by_nobody_else(tmp_path: Path) -> None:
    with Cluster(make(tmp_path / "one"), nodes=[]) as one, waiting(one, tmp_path) as web7:
        code = web7.code
        assert not any(code in text for text in web7.said()), "it is printed, and in no log"
        assert stat.S_IMODE((web7.trust / "code").stat().st_mode) == 0o600
        status, said = register(one, web7.port, "")
        assert status == 1 and "its code is needed" in said
        status, said = register(one, web7.port, "gwo1.nonsense")
        assert status == 2 and "no code" in said
        known = read_code(code)
        status, said = register(one, web7.port, code.replace(known.secret, "0" * 32))
        assert status == 1 and "not this node's code" in said
        status, said = register(one, web7.port, code.replace(known.leaf, "0" * 64))
        assert status == 1 and "not the node that printed this code" in said
        assert one.states() == {}
        assert register(one, web7.port, code)[0] == 0
        one.wait_up("web7")
        assert not (web7.trust / "code").exists()
        assert one.godwit("execute", "--wait", "web7", "true").returncode == 0
        taken_stays_taken(one, web7, code, tmp_path)
        assert one.godwit("dereg", "--yes", "web7").returncode == 0
        web7.again()
        assert web7.code != code, "it waits with another code"
        assert register(one, web7.port, code)[0] == 1
        assert register(one, web7.port, web7.code)[0] == 0
        assert one.godwit("dereg", "--yes", "web7").returncode == 0


def taken_stays_taken(one: Cluster, web7: Waiting, code: str, tmp_path: Path) -> None:
    """A second master, with the code or with a certificate of its own, does not get the node."""
    with Cluster(make(tmp_path / "second"), nodes=[]) as second:
        status, _ = register(second, web7.port, code)
        assert status == 1 and "web7" not in second.states()
        eventually(
            lambda: any("belongs to another master" in text for text in web7.said()), "a warning"
        )
        theirs = Trust(str(Path(second.state, "trust")))
        with contextlib.suppress(OSError), Line(
            f"{LOCAL}:{web7.port}", CONTROL, theirs.client()
        ) as line:
            line.say(wire.Adopt(wire.VERSION, "m2", "web7"))
            assert list(line.hear()) == []
    assert one.states() == {"web7": "up"}


def test_a_node_hears_only_masters_of_its_cluster_and_only_what_they_may_say(
    two: Cluster, web7: Trust, tmp_path: Path
) -> None:
    with waiting(two, tmp_path) as node:
        issuer = Issuer()
        master = issuer.folder(tmp_path / "m", "godwit:master:m1")
        adopt(issuer, node)
        address = f"{LOCAL}:{node.port}"
        fellow = issuer.folder(tmp_path / "n", "godwit:node:web8")
        with Line(address, CONTROL, fellow.client()) as line:
            line.say(wire.Adopt(wire.VERSION, "m1", "web7"))
            assert list(line.hear()) == [], "a fellow node may not play the master"
        with contextlib.suppress(ssl.SSLError), Line(address, CONTROL, web7.client()) as line:
            line.say(wire.Adopt(wire.VERSION, "m1", "web7"))
            assert list(line.hear()) == []
        for message, senders in TABLE:
            if not isinstance(message, wire.Adopt):
                with Line(address, CONTROL, master.client()) as line:
                    line.say(message)
                    assert list(line.hear()) == []
            with contextlib.ExitStack() as stack:
                channels = {
                    MASTER: stack.enter_context(greeted(address, master, "control")),
                    MASTER_STREAM: stack.enter_context(greeted(address, master, "stream")),
                }
                for peer, line in reversed(channels.items()):
                    if peer not in senders and OPENING not in senders:
                        line.say(message)
                        line.closed_after()
        assert agent_of(node.daemon), "it goes on"
        assert "Traceback" not in node.daemon.text()
