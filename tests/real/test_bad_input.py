"""Nothing that is typed ends the shell, prints a traceback or changes state by mistake."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.real.cluster import PYTHON, Cluster, eventually, hang_up

#: Lines that can only be refused, and what the one line of refusal names.  TASK is a task that
#: runs, ID its first two characters.
REFUSED = (
    # signals to tasks
    ("kill", "TASK is missing"),
    ("kill -1", "TASK is missing"),
    ("kill -9", "TASK is missing"),
    ("kill -- -1", "'-1'"),
    ("kill 0", "'0'"),
    ("kill 1", "'1'"),
    ("kill *", "'*'"),
    ("kill ?", "'?'"),
    ("kill all", "'all'"),
    ("kill node1", "'node1'"),
    ("kill node1:0", "'node1:0'"),
    ("kill node1:1", "'node1:1'"),
    ("kill node1:*", "'node1:*'"),
    ("kill ID", "'ID' is too short"),
    ('kill ""', "''"),
    ("kill ٣", "'٣'"),
    ("kill 99999999999999999999999999", "'99999999999999999999999999'"),
    ("kill -99 TASK", "'99'"),
    ("kill -s FOO TASK", "'FOO'"),
    ("kill -s ٩ TASK", "'٩'"),
    ("kill -s -1 TASK", "'-1'"),
    ("kill --frob TASK", "--frob"),
    ("sKill", "TASK is missing"),
    ("sKill *", "'*'"),
    ("signal TASK", "SIGNAL is missing"),
    ("signal TASK 0", "'0'"),
    ("signal TASK 65", "'65'"),
    ("signal TASK ٣", "'٣'"),
    ("signal TASK KILL extra", "extra"),
    ("pause *", "'*'"),
    ("resume TASK", "running cannot be resumed"),
    # moving
    ("move", "TASK and NODE are missing"),
    ("move TASK", "NODE is missing"),
    ("move nothing node2", "'nothing'"),
    ("move TASK nowhere", "'nowhere'"),
    ("move TASK all", "'all'"),
    ("move TASK @node1,node2", "'@node1,node2'"),
    ("move TASK node1", "on node1 already"),
    ("move --on-unknown perhaps TASK node2", "'perhaps'"),
    ("transfer TASK node1", "TO is missing"),
    ("transfer TASK nowhere node2", "'nowhere'"),
    ("transfer TASK node2 node1", "is on node1, not on node2"),
    ("TASK -fromLocation node2 -toLocation node1", "is on node1, not on node2"),
    ("TASK -toLocation node1", "on node1 already"),
    ("TASK -toLocation", "transfer TASK FROM TO"),
    ("TASK -fromLocation node1", "transfer TASK FROM TO"),
    ("TASK -fromLocation node1 -toLocation node2 extra", "transfer TASK FROM TO"),
    ("moves nothing", "'nothing'"),
    ("moves -n 0", "'0'"),
    ("resolve", "MOVE is missing"),
    ("resolve TASK", "--source and --destination"),
    ("resolve nothing --source", "'nothing'"),
    ("resolve TASK --source", "no move of"),
    ("completion csh", "'csh'"),
    # looking
    ("list nowhere", "'nowhere'"),
    ("list -o xml", "'xml'"),
    ("list @node[1-", "bracket"),
    ("list @node[2-1]", "counts down"),
    ("list @node[1-99999999]", "more than"),
    ("list @,", "empty name"),
    ("pid nowhere", "'nowhere'"),
    ("inspect nothing", "'nothing'"),
    ("getrusage nothing", "'nothing'"),
    ("events nothing", "'nothing'"),
    ("events -n x", "'x'"),
    ("help nothing", "'nothing'"),
    ("health x", "'x'"),
    ("version x", "'x'"),
    ("logs", "TASK is missing"),
    ("logs nothing", "'nothing'"),
    ("logs -n -1 TASK", "'-1'"),
    ("logs -n ٣ TASK", "'٣'"),
    ("logs --since yesterday TASK", "'yesterday'"),
    ("wait", "TASK is missing"),
    ("wait nothing", "'nothing'"),
    ("wait --timeout x TASK", "'x'"),
    ("wait --timeout 0.1 TASK", "still running"),
    # starting
    ("use nowhere", "'nowhere'"),
    ("execute", "NODES and CMD are missing"),
    ("execute node1", "CMD is missing"),
    ("execute nowhere true", "'nowhere'"),
    ("execute * true", "'*'"),
    ("execute node1 'open", "no closing '"),
    ('execute node1 "open', 'no closing "'),
    ("execute node1 end\\", "backslash"),
    ("execute --count 0 node1 true", "'0'"),
    ("execute --count -1 node1 true", "'-1'"),
    ("execute --count ٣ node1 true", "'٣'"),
    ("execute --count 99999999 node1 true", "99999999"),
    ("execute --frob node1 true", "--frob"),
    ("execute node1 --frob", "'--frob'"),
    ("execute --shell node1 a b", "one word"),
    ("execute -e =x node1 true", "'=x'"),
    ("execute -e NO_SUCH_VARIABLE node1 true", "NO_SUCH_VARIABLE"),
    ("execute --timeout 3 node1 true", "--wait"),
    ('execute node1 ""', "no program"),
    ("execute node1 no-such-program", "'no-such-program'"),
    ("execute node1 'true; true'", "'true; true'"),
    ("execute --cwd /no/such node1 true", "/no/such"),
    ("execute --user no-such-user node1 true", "'no-such-user'"),
    ("on nowhere true", "'nowhere'"),
    ("on node1", "CMD is missing"),
    # files
    ("copy", "SRC and DST are missing"),
    ("copy a", "DST is missing"),
    ("copy a b", "both sides"),
    ("copy /no/such node1:x", "/no/such"),
    ("copy node1:/no/such x", "/no/such"),
    ("copy nowhere:x y", "'nowhere'"),
    ("copy node1: node2:", "node1"),
    ("remove", "WHAT is missing"),
    ("remove nothing", "'nothing'"),
    ("remove *", "'*'"),
    ("remove node1:", "not a name"),
    ("remove node1:/", "not a name"),
    ("remove -r node1:/", "not a name"),
    ("remove -r node1:.", "not a name"),
    ("remove -r node1:..", "not a name"),
    ("remove node1:/no/such", "/no/such"),
    ("remove node1:.", "not a name"),
    # nodes
    ("register", "HOST and PORT are missing"),
    ("register a b c", "'b'"),
    ("register 127.0.0.1 0 x", "'0'"),
    ("register 127.0.0.1 99999 x", "'99999'"),
    ("register 127.0.0.1 ٣ x", "'٣'"),
    ("register 127.0.0.1 1 'bad name'", "'bad name'"),
    ("register 127.0.0.1 1 all", "'all'"),
    ("register 127.0.0.1 1 node1", "node1 is a node already"),
    ("dereg", "NODES is missing"),
    ("dereg nowhere", "'nowhere'"),
    ("dereg *", "'*'"),
    ("stop now", "'now'"),
    ("exit now", "'now'"),
    ("detach now", "'now'"),
)
#: Typed after each line; what it writes to stderr.
MARK, MARKED = "use", b"lines run on: all\n"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("two")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def task(two: Cluster) -> str:
    """A task that must live through all of it."""
    return str(two.launch("node1", "sleep", "300")["task"])


def state(two: Cluster) -> dict[str, Any]:
    """What a mistake could have changed."""
    nodes = two.json("list", "--json")["nodes"]
    files = sorted(str(path) for path in (two.top / "node1" / "files").rglob("*"))
    tasks = {t["task"]: (t["status"], t["pid"]) for n in nodes for t in n["tasks"]}
    return {"tasks": tasks, "nodes": {n["name"]: n["state"] for n in nodes}, "files": files}


def settled(two: Cluster, task: str) -> dict[str, Any]:
    """The state, once nothing but the task runs and both nodes are heard."""
    def quiet() -> bool:
        now = state(two)
        alive = {name for name, (status, _) in now["tasks"].items() if status != "exited"}
        return alive == {task} and set(now["nodes"].values()) == {"up"}

    eventually(quiet, "nothing else runs")
    return state(two)


def piped(two: Cluster, typed: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*PYTHON, "masterd.cli", "--state", two.state, "shell"],
        input=typed, capture_output=True, timeout=100, env=two.environment(),
    )


def test_each_mistake_is_one_line_that_names_it_and_nothing_changes(
    two: Cluster, task: str
) -> None:
    before = settled(two, task)
    lines = [line.replace("TASK", task).replace("ID", task[:2]) for line, _ in REFUSED]
    done = piped(two, "".join(f"{line}\n{MARK}\n" for line in lines).encode())
    told = done.stderr.split(MARKED)
    assert len(told) == len(REFUSED) + 1, "the shell ended early: " + told[-1].decode()
    for line, (_, named), refusal in zip(lines, REFUSED, told, strict=False):
        text = refusal.decode()
        # `ID` and `TASK` in a refusal may be the word of the usage.
        assert named.replace("'ID'", f"'{task[:2]}'") in text, (line, text)
        assert text.count("\n") == 1 and "Traceback" not in text, (line, text)
    assert done.stdout == b""
    assert settled(two, task) == before


@pytest.mark.parametrize("words, status", [
    (["kill", "-1"], 2), (["kill", "0"], 1), (["kill", "*"], 1), (["kill", "٣"], 1),
    (["list", "--frob"], 2), (["lst"], 2), (["execute", "node1"], 2), ([""], 2), (["-x"], 2),
    (["execute", "node1", "no-such-program"], 1), (["copy", "a", "b"], 2), (["use", "node1"], 2),
    (["exit"], 1), (["wait", "nothing"], 1), (["list", b"\xff"], 2), (["shell", "x"], 2),
    (["kill", "x" * 100_000], 1), (["--state"], 2), (["move", "nothing", "node1"], 1),
    (["move", "nothing"], 2), (["move", b"\xff", "node1"], 2),
])
def test_the_exit_status_tells_wrong_usage_from_refusal(
    two: Cluster, words: list[str | bytes], status: int
) -> None:
    done = two.godwit(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_words_that_a_shell_would_obey_are_data(two: Cluster) -> None:
    victim = two.top / "victim"
    victim.touch()
    lines = (
        f"execute --wait -f node1 echo a;rm -rf {victim}",
        f"execute --wait -f node1 echo $(rm {victim}) `rm {victim}` | rm {victim} && rm {victim}",
        f"execute --wait -f node1 echo a > {victim} < /dev/null &",
        "execute --wait -f node1 echo * ~ {a,b} $HOME !! \\;",
    )
    done = piped(two, "\n".join(lines).encode())
    assert done.stdout.decode().splitlines() == [
        f"a;rm -rf {victim}",
        f"$(rm {victim}) `rm {victim}` | rm {victim} && rm {victim}",
        f"a > {victim} < /dev/null &",
        "* ~ {a,b} $HOME !! ;",
    ]
    assert victim.read_bytes() == b""


def test_five_thousand_arguments_are_passed_on(two: Cluster) -> None:
    words = [f"word{number}" for number in range(5000)]
    line = "execute --wait -f node1 printf %s\\\\n " + " ".join(words)
    done = piped(two, line.encode() + b"\n")
    assert done.stdout.decode().split() == words
    unknown = piped(two, b"kill " + b" ".join(b"no%d" % number for number in range(5000)) + b"\n")
    assert unknown.stderr.count(b"no task 'no") == 5000
    assert two.godwit("execute", "--wait", "-f", "node1", "echo", *words).stdout.split() == words


def test_bytes_that_are_no_utf8_are_passed_on_and_refused_where_text_is_wanted(
    two: Cluster,
) -> None:
    done = piped(two, b"execute --wait -f node1 printf %s \xff\xfe\n")
    assert done.stdout == b"\xff\xfe"
    lines = (b"kill \xff", b"list \xff", b"use \xff", b"execute \xff true", b"\xff\xfe")
    done = piped(two, b"".join(line + b"\n" + MARK.encode() + b"\n" for line in lines))
    assert done.stderr.count(MARKED) == len(lines)
    assert b"Traceback" not in done.stderr
    # A line for /bin/sh goes there as it is, and what comes back is shown as it is.
    assert done.stdout.count(b"\xff\xfe: not found") == 2


def test_control_characters_in_names_and_output_move_no_cursor(two: Cluster) -> None:
    escape = b"\x1b[2J\x1b]0;title\x07"
    done = piped(two, b"execute node1 printf '" + escape + b"'\nlist\nkill '" + escape + b"'\n")
    assert b"\x1b" not in done.stdout + done.stderr and b"\x07" not in done.stdout + done.stderr


def test_a_line_of_a_megabyte_is_taken_or_refused_in_one_line(two: Cluster) -> None:
    done = piped(two, b"execute node1 echo " + b"x" * 1_000_000 + b"\n" + MARK.encode() + b"\n")
    told, _, _ = done.stderr.partition(MARKED)
    assert done.stderr.endswith(MARKED)
    assert told.count(b"\n") == 1 and b"too long" in told, told[:300]
    eventually(lambda: two.states() == {"node1": "up", "node2": "up"}, "both are up")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_person_who_types_nonsense_keeps_the_prompt(
    two: Cluster, task: str, term: str
) -> None:
    before = settled(two, task)
    prompt = r"godwit @ \d+ > "
    shell = two.shell(term, columns=200)
    try:
        shell.expect(prompt)
        for line, _ in REFUSED[:24]:
            shell.sendline(line.replace("TASK", task).replace("ID", task[:2]))
            shell.expect(prompt)
            assert "Traceback" not in str(shell.before)
        for keys in ("\x00\x01\x02", "\x1b[999~", "\x12\x07", "\x16\x1b", "\xff\x15"):
            shell.send(keys + "\x03")
            shell.expect(prompt)
        shell.sendline("version")
        shell.expect("master ")
        shell.expect(prompt)
        shell.sendeof()
        shell.expect(pexpect.EOF)
        shell.wait()
    finally:
        hang_up(shell)
    assert shell.exitstatus == 0
    assert settled(two, task) == before


def test_strangers_at_the_port_end_only_their_own_connection(two: Cluster, task: str) -> None:

    host, _, port = two.address.rpartition(":")
    for junk in (
        b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 4096, b"\0" * 4096, b"\x16\x03\x01\x02\x00\x01", b"",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(junk)
            # Ended with bytes of ours unread, a connection is reset: tcp(7).  Then it has no end
            # left that could be shut: ENOTCONN.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass
    eventually(lambda: two.states() == {"node1": "up", "node2": "up"}, "both are up")
    assert two.shown(task)["status"] == "running"


def test_a_file_that_is_no_command_list_ends_in_order(two: Cluster) -> None:
    done = piped(two, Path("/bin/true").read_bytes()[:3000].replace(b"\n", b" ") + b"\nversion\n")
    assert b"Traceback" not in done.stderr and b"master " in done.stdout
