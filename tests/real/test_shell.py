"""A person at the real shell: the master's own in the foreground, and one that is attached."""

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.real.cluster import DEADLINE_S, PYTHON, Cluster, eventually, hang_up

#: A prompt that ends what a command says.
PROMPT = r"godwit @ \d+(?: \[[^]]*\])? > "
#: Between words of one that was drawn again below a notice, whenever that came: an empty change of
#: colours, or on a dumb terminal a space and a backspace.
TWIN = r"(?:\x1b\[[0-9;]*m| \x08)"
REDRAWN = rf"godwit{TWIN} @{TWIN} \d+{TWIN} >{TWIN} "
#: Round the name of a node: colours, where there are some.
PLAIN = r"(?:\x1b\[[0-9;]*m)*"
TERMS = ("xterm", "dumb")
CTRL_C, CTRL_D, TAB, UP = "\x03", "\x04", "\t", "\x1b[A"


class Foreground(Cluster):
    """A cluster whose master was started at a terminal, with its shell there."""

    term = "xterm"
    at: "pexpect.spawn[str]"

    def start_master(self) -> None:
        self.at = pexpect.spawn(
            PYTHON[0], [*PYTHON[1:], "masterd", "--listen", self._listen, "--state", self.state,
                        "--logs", self.logs],
            env=self.environment(TERM=self.term), encoding="utf-8", timeout=DEADLINE_S,
            dimensions=(24, 120),
        )
        self.at.delaybeforesend = None
        self.at.expect(PROMPT)


def typed(shell: "pexpect.spawn[str]", line: str) -> str:
    shell.sendline(line)
    shell.expect(PROMPT)
    return str(shell.before)


def status_of(shell: "pexpect.spawn[str]") -> int | None:
    """Its exit status, once it has left its terminal and ended."""
    shell.expect(pexpect.EOF)
    shell.wait()
    shell.close()
    return shell.exitstatus


def drop_line(shell: "pexpect.spawn[str]", half: str = "") -> None:
    """Types ``half`` a line and Ctrl-C; till the next prompt."""
    shell.send(half + CTRL_C)
    shell.expect(r"\^C")
    shell.expect(PROMPT)


def wait_both_up(cluster: Cluster) -> None:
    """Both nodes, and no other, are there as they were."""
    eventually(lambda: cluster.states() == {"node1": "up", "node2": "up"}, "both are up")


@pytest.fixture(params=TERMS)
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Foreground]:
    """The master's own shell, two nodes up."""
    cluster = Foreground(tmp_path)
    cluster.term = request.param
    try:
        with cluster:
            yield cluster
    finally:
        hang_up(cluster.at)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("two")) as cluster:
        yield cluster


@contextlib.contextmanager
def attached(cluster: Cluster, term: str) -> Iterator["pexpect.spawn[str]"]:
    """``godwit shell`` at its first prompt, its watch connected; closed whatever happens."""
    shell = cluster.shell(term, columns=120)
    try:
        while not hears(shell):
            hang_up(shell)
            shell = cluster.shell(term, columns=120)
        yield shell
    finally:
        hang_up(shell)


def hears(shell: "pexpect.spawn[str]") -> bool:
    """It has come to its prompt, and notices reach it: the master told in time of its nodes."""
    shell.expect(PROMPT)
    return " up" in str(shell.before)


# ---- the master's own -----------------------------------------------------------------------


@pytest.mark.orphans
def test_exit_deregisters_every_node_with_a_line_for_each(own: Foreground) -> None:
    task = own.launch("node1", "sleep", "300")
    own.at.sendline("exit")
    own.at.expect(r"End 1 running task, every node and the master\? \[y/N\] ")
    own.at.sendline("n")
    own.at.expect("nothing was done")
    own.at.expect(PROMPT)
    wait_both_up(own)
    own.at.sendline("exit")
    own.at.expect(r"\[y/N\] ")
    own.at.sendline("y")
    # As of sh: the status of the last command, which was the exit that was not wanted.
    assert status_of(own.at) == 1
    # The node that is done first is told of first.
    lines = str(own.at.before).splitlines()
    assert "node1: deregistered, 1 task ended" in lines and "node2: deregistered" in lines
    assert not Path(f"/proc/{task['pid']}").exists()
    for node in own.nodes.values():
        eventually(lambda node=node: node.ended, "end of the node")  # type: ignore[misc]


@pytest.mark.orphans
def test_after_exit_the_same_state_can_be_used_at_once(own: Foreground) -> None:
    for _ in range(3):
        own.at.sendline("exit")
        assert status_of(own.at) == 0
        own.start_master()
    own.at.sendline("exit")
    own.at.expect(pexpect.EOF)


@pytest.mark.orphans
def test_detach_leaves_everything_running(own: Foreground) -> None:
    task = own.launch("node1", "sleep", "300")["task"]
    own.at.sendline("detach")
    assert status_of(own.at) == 0
    wait_both_up(own)
    assert own.shown(task)["status"] == "running"
    with attached(own, own.term) as shell:
        assert task in typed(shell, "list")
    assert own.godwit("stop", "--dereg").returncode == 0


@pytest.mark.orphans
def test_a_killed_foreground_shell_leaves_the_master_alone(own: Foreground) -> None:
    assert own.at.pid is not None
    own.at.kill(signal.SIGKILL)
    hang_up(own.at)
    wait_both_up(own)
    assert own.godwit("stop", "--dereg").returncode == 0


@pytest.mark.orphans
def test_a_sigterm_to_the_shell_ends_the_master_in_order(own: Foreground) -> None:
    own.at.kill(signal.SIGTERM)
    status_of(own.at)
    eventually(lambda: not own.states(), "end of the master")
    for node in own.nodes.values():
        assert not node.ended


# ---- any shell ------------------------------------------------------------------------------


@pytest.mark.parametrize("term", TERMS)
def test_exit_of_an_attached_shell_ends_the_shell_alone(two: Cluster, term: str) -> None:
    for way in ("exit\n", "quit\n", "detach\n", CTRL_D):
        with attached(two, term) as shell:
            shell.send(way)
            assert status_of(shell) == 0
    wait_both_up(two)


@pytest.mark.parametrize("term", TERMS)
def test_tab_completes_commands_nodes_and_tasks(two: Cluster, term: str) -> None:
    task = two.launch("node2", "sleep", "300")["task"]
    with attached(two, term) as shell:
        shell.send("execu" + TAB)
        shell.expect("execute ")
        shell.send("node2" + TAB + "echo completed\n")
        shell.expect("execute node2 echo|node2 +echo")
        shell.expect(PROMPT)
        shell.send("sKill " + task[:4] + TAB)
        shell.expect(task[4:])
        shell.send("\n")
        shell.expect(f"{task} on node2: SIGKILL sent")
        shell.expect(PROMPT)
        # Two ways to go on: nothing is chosen for the person, both are shown.
        drop_line(shell, "logs -f nothing")
        shell.send("use no" + TAB + TAB)
        shell.expect(r"node1\s+node2")
        drop_line(shell)


@pytest.mark.parametrize("term", TERMS)
def test_history_lasts_over_sessions(two: Cluster, term: str) -> None:
    with attached(two, term) as shell:
        typed(shell, f"echo remembered-{term}")
        shell.sendline("exit")
        shell.expect(pexpect.EOF)
    with attached(two, term) as shell:
        shell.send(UP + UP)
        shell.expect(f"remembered-{term}")
        shell.send("\n")
        shell.expect(rf"node\d{PLAIN} \| remembered-{term}")
        shell.expect(PROMPT)


@pytest.mark.parametrize("term", TERMS)
def test_notices_stand_above_a_half_typed_line(two: Cluster, tmp_path: Path, term: str) -> None:
    gate = tmp_path / "gate"
    task = two.launch("node1", "sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done; exit 9")
    with attached(two, term) as shell:
        shell.send("echo half-")
        shell.expect("echo half-")
        gate.touch()
        shell.expect(rf"-- {task['task']} on node1 exited 9")
        shell.expect(REDRAWN + "echo half-")
        shell.send("typed\n")
        shell.expect(rf"node\d{PLAIN} \| half-typed")
        shell.expect(PROMPT)


@pytest.mark.parametrize("term", TERMS)
def test_ctrl_c_ends_a_remote_command_and_not_the_shell(two: Cluster, term: str) -> None:
    with attached(two, term) as shell:
        shell.sendline("echo begun; sleep 300")
        for _ in range(2):
            shell.expect(rf"node\d{PLAIN} \| begun")
        shell.send(CTRL_C)
        shell.expect("SIGINT sent")
        shell.expect("node1: SIGINT · node2: SIGINT")
        shell.expect(PROMPT)
        # Who does not listen is told more firmly.
        shell.sendline("trap '' INT; echo deaf; while :; do sleep 0.05; done")
        for _ in range(2):  # the other would not be deaf yet
            shell.expect(rf"node\d{PLAIN} \| deaf")
        shell.send(CTRL_C)
        shell.expect("SIGINT sent")
        shell.send(CTRL_C)
        shell.expect("SIGTERM sent")
        shell.expect("node1: SIGTERM · node2: SIGTERM")
        shell.expect(PROMPT)
        drop_line(shell, "half a line")
        assert "0.1" in typed(shell, "version")


@pytest.mark.parametrize("term", TERMS)
def test_a_slip_of_a_command_is_asked_back_before_it_runs(two: Cluster, term: str) -> None:
    with attached(two, term) as shell:
        for answer, outcome in (
            ("y", "ADDRESS"), ("r", "lst: not found"), ("", PROMPT), ("n", PROMPT),
        ):
            shell.sendline("lst")
            shell.expect(r"lst is no command. Did you mean list\? .*2 nodes.*\] ")
            shell.sendline(answer)
            shell.expect(outcome)
            if outcome != PROMPT:
                shell.expect(PROMPT)
        # A line that is no slip runs at once.
        assert "Did you mean" not in typed(shell, "echo list")


@pytest.mark.parametrize("term", TERMS)
def test_use_chooses_where_lines_run_and_the_prompt_says_it(two: Cluster, term: str) -> None:
    with attached(two, term) as shell:
        typed(shell, "use node2")
        assert "[node2]" in str(shell.after)
        said = typed(shell, "echo on $GODWIT_NODE; exit 3")
        assert "on node2" in said and "on node1" not in said
        assert "node2: exit 3" in said
        typed(shell, "use all")
        assert "[" not in str(shell.after)
        said = typed(shell, "echo on $GODWIT_NODE")
        assert "on node1" in said and "on node2" in said


@pytest.mark.parametrize("term", TERMS)
def test_output_of_a_remote_command_is_seen_as_it_comes(
    two: Cluster, tmp_path: Path, term: str
) -> None:
    gate = tmp_path / "gate"
    with attached(two, term) as shell:
        shell.sendline(f"echo first; until [ -e {gate} ]; do sleep 0.02; done; echo last")
        for _ in range(2):
            shell.expect(rf"node\d{PLAIN} \| first")
        gate.touch()
        for _ in range(2):
            shell.expect(rf"node\d{PLAIN} \| last")
        shell.expect("node1: exit 0 · node2: exit 0")
        shell.expect(PROMPT)


@pytest.mark.parametrize("term", TERMS)
def test_a_person_is_asked_before_something_is_destroyed(two: Cluster, term: str) -> None:
    task = two.launch("node1", "sleep", "300")["task"]
    with attached(two, term) as shell:
        shell.sendline("dereg node1")
        shell.expect(r"End node1 and \d running tasks?\? \[y/N\] ")
        shell.sendline("")
        shell.expect("nothing was done")
        shell.expect(PROMPT)
        shell.sendline(f"remove {task}")
        shell.expect(r"Remove 1 running task\? \[y/N\] ")
        shell.sendline("y")
        shell.expect(f"{task} on node1: removed")
        shell.expect(PROMPT)
    assert two.states()["node1"] == "up" and task not in two.tasks()


@pytest.mark.parametrize("term", TERMS)
def test_help_is_everywhere(two: Cluster, term: str) -> None:
    with attached(two, term) as shell:
        for command in ("h", "help"):
            said = typed(shell, command)
            for name in ("list", "execute", "sKill", "getrusage", "copy", "register"):
                assert re.search(rf"\b{name}\b", said), name
        assert "Examples:" in typed(shell, "help execute")
        assert "Usage: sKill" in typed(shell, "sKill --help")


def test_the_shell_waits_for_a_master_that_comes_back(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=["node1"]) as one, attached(one, "xterm") as shell:
        one.kill_master()
        shell.expect("-- the master went away")
        shell.expect(REDRAWN)
        assert "master" in typed(shell, "list")
        one.restart_master()
        one.wait_up("node1")
        shell.expect("-- the master is back")
        shell.expect(REDRAWN)
        assert "up" in typed(shell, "list node1")
        shell.sendline("exit")
        shell.expect(pexpect.EOF)
