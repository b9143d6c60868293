"""The shell as a person has it: a real terminal, keys, a screen.  The master is made up."""

import os
import signal
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pexpect
import pyte
import pytest

from godwit.wire import operations as op
from tests.real.cluster import eventually, hang_up
from tests.real.fake_master import FakeMaster, node, task

PROMPT = "godwit @ 15440 > "
TERMS = ("xterm", "vt100", "dumb")
MAIN = "import sys; from masterd.shell import main; sys.exit(main(*sys.argv[1:]))"
TOP = str(Path(__file__).parents[2])
ROWS, COLUMNS = 30, 80


class Person:
    """Types at a shell and sees its screen."""

    def __init__(self, state: Path, term: str, command: tuple[str, ...] = ()):
        program, *args = command or (sys.executable, "-c", MAIN, str(state))
        kept = {k: v for k, v in os.environ.items() if k not in ("INPUTRC", "GODWIT_STATE")}
        environment = {**kept, "TERM": term, "PYTHONPATH": TOP, "HOME": str(state), "PS1": "$ "}
        self.child = pexpect.spawn(
            program, args, env=environment, cwd=str(state), timeout=20, encoding="utf-8",
            codec_errors="surrogateescape", dimensions=(ROWS, COLUMNS),
        )
        self.child.delaybeforesend = None
        self.child.logfile_read = self
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self._screen)

    def write(self, text: str) -> None:
        """What the terminal got; pexpect calls this."""
        self._stream.feed(text)

    def flush(self) -> None:
        """pexpect calls this too."""

    def types(self, keys: str) -> None:
        self.child.send(keys)

    def sees(self, text: str) -> str:
        """Waits for ``text``; what came before it."""
        self.child.expect_exact(text)
        return str(self.child.before)

    def read(self) -> None:
        """Takes in what has come, so that the terminal does not fill up."""
        with suppress(pexpect.TIMEOUT):
            self.child.read_nonblocking(65536, 0)

    def runs(self, line: str) -> str:
        """The usual pattern: a line, then the prompt; what came between them."""
        self.child.sendline(line)
        return self.sees(PROMPT)

    def screen(self, last: str) -> list[str]:
        """The lines on the screen once the last of them is ``last``."""
        deadline = time.monotonic() + 20
        while (lines := self._lines())[-1:] != [last] and time.monotonic() < deadline:
            with suppress(pexpect.TIMEOUT):
                self.child.read_nonblocking(65536, 0.05)
        assert lines[-1:] == [last]
        return lines

    def _lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def leaves(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.wait()
        self.child.close()
        assert self.child.exitstatus is not None, self.child.signalstatus
        return int(self.child.exitstatus)


@contextmanager
def person(state: Path, term: str = "xterm", *command: str) -> Iterator[Person]:
    someone = Person(state, term, command)
    try:
        yield someone
    finally:
        hang_up(someone.child)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path) as master:
        master.nodes = (node("node1", task("k3f9a2xq"), task("k3zzzzzz")), node("node2"))
        yield master


@pytest.fixture(params=TERMS)
def at_prompt(
    request: pytest.FixtureRequest, master: FakeMaster, tmp_path: Path
) -> Iterator[Person]:
    with person(tmp_path, request.param) as someone:
        someone.sees(PROMPT)
        yield someone


def heard(master: FakeMaster) -> None:
    """Until the shell listens."""
    deadline = time.monotonic() + 20
    while not master.listeners and time.monotonic() < deadline:
        time.sleep(0.01)
    assert master.listeners


def test_the_usual_pattern_of_scripts_works_every_time(at_prompt: Person) -> None:
    for number in range(10):
        said = at_prompt.runs(f"echo {number}")
        assert said.startswith(f"echo {number}\r\n")
        assert said.count(f"echo {number}") == 3  # as typed, and from two nodes


def test_a_notice_between_two_commands_is_no_prompt_to_a_script(
    at_prompt: Person, master: FakeMaster
) -> None:
    heard(master)
    for number in range(3):
        master.notice(f"node{number} went")
        at_prompt.sees(f"-- node{number} went")
        assert at_prompt.runs(f"echo {number}").count(f"echo {number}") == 3


def test_a_notice_leaves_the_half_typed_line_and_its_cursor(
    at_prompt: Person, master: FakeMaster
) -> None:
    heard(master)
    at_prompt.types("echo wold\x02\x02")
    at_prompt.sees("wold")
    master.notice("node1 went \x1b[2J")
    at_prompt.sees("-- node1 went \\x1b[2J")
    at_prompt.screen(f"{PROMPT}echo wold")
    at_prompt.types("r\r")
    assert "echo world" in at_prompt.sees(PROMPT)


def test_a_line_longer_than_the_screen_is_wide_survives_a_notice(
    master: FakeMaster, tmp_path: Path
) -> None:
    line = "echo " + " ".join(str(n) * 5 for n in range(10, 30))
    with person(tmp_path) as someone:
        someone.sees(PROMPT)
        heard(master)
        someone.types(line)
        someone.sees("2929292929")
        master.notice("node1 went")
        someone.sees("-- node1 went")
        wrapped = PROMPT + line
        shown = [wrapped[at : at + COLUMNS].rstrip() for at in range(0, len(wrapped), COLUMNS)]
        assert someone.screen(shown[-1])[-len(shown) - 1 :] == ["-- node1 went", *shown]


def test_a_thousand_ends_are_one_line(at_prompt: Person, master: FakeMaster) -> None:
    heard(master)
    texts = [f"{n:08} on node1 exited {int(n > 997)}: true" for n in range(1000)]
    master.notice(*texts, task="x")
    at_prompt.sees("-- 1,000 tasks ended: 998 exit 0, 2 exit 1")
    assert "echo 1" in at_prompt.runs("echo 1")


def test_tab_completes_commands_nodes_tasks_and_files(
    at_prompt: Person, tmp_path: Path
) -> None:
    (tmp_path / "a folder").mkdir()
    at_prompt.types("exec\t")
    at_prompt.sees("execute ")
    at_prompt.types("no\t")
    listed = at_prompt.sees("execute node")
    assert "node1" in listed and "node2" in listed
    at_prompt.types("\x15kill k3f\t")
    at_prompt.sees("kill k3f9a2xq ")
    at_prompt.types("\x15copy a\\ f\t")
    at_prompt.sees("copy a\\ folder/")
    at_prompt.types("\x15")
    assert "echo 1" in at_prompt.runs("echo 1")


def test_tab_does_not_wait_for_a_master_that_hangs(master: FakeMaster, tmp_path: Path) -> None:
    with person(tmp_path) as someone:
        someone.sees(PROMPT)
        time.sleep(1.1)  # until the listing of the welcome is too old
        master.answering.clear()
        someone.types("kill \t\x15# on\r")
        someone.sees(PROMPT)  # while the master hangs
        master.answering.set()


class Listless(FakeMaster):
    """Tells of no nodes, not even that there are none."""

    def _answers(self, request: op.Request) -> Iterator[op.Reply]:
        return iter(()) if isinstance(request, op.ListNodes) else super()._answers(request)


def test_nodes_that_nobody_has_told_of_are_not_counted(tmp_path: Path) -> None:
    with Listless(tmp_path), person(tmp_path) as someone:
        said = someone.sees(PROMPT)
        assert "h for help" in said and " up" not in said


def test_ctrl_c_clears_the_line_and_ctrl_d_leaves(at_prompt: Person) -> None:
    at_prompt.types("echo lost")
    at_prompt.sees("echo lost")
    at_prompt.types("\x03")
    at_prompt.sees(PROMPT)
    assert "lost" not in at_prompt.runs("echo 1")
    at_prompt.types("\x04")
    assert at_prompt.leaves() == 0


def test_a_ctrl_c_that_is_held_down_does_not_end_the_shell(
    master: FakeMaster, tmp_path: Path
) -> None:
    with person(tmp_path) as someone:
        someone.sees(PROMPT)
        for number in range(2000):
            os.kill(someone.child.pid, signal.SIGINT)
            if number % 20 == 0:
                someone.types("echo 1\r\x03")
                someone.read()
        someone.types("\x15echo alive\r")
        someone.sees("echo alive\r\n")
        someone.sees(PROMPT)


def test_a_paste_of_several_lines_runs_one_by_one(at_prompt: Person) -> None:
    at_prompt.types("echo 1\necho 2\n# 3\necho 4\n")
    assert at_prompt.sees(PROMPT).count("echo 1") >= 3
    assert at_prompt.sees(PROMPT).count("echo 2") >= 2
    at_prompt.sees(PROMPT)
    assert at_prompt.sees(PROMPT).count("echo 4") >= 2


def test_bytes_that_are_no_utf_8_are_sent_as_they_are(master: FakeMaster, tmp_path: Path) -> None:
    with person(tmp_path) as someone:
        someone.sees(PROMPT)
        someone.types("echo \udcff\udcfe.\r")
        someone.sees(PROMPT)
        assert someone.child.isalive()
    sent = [asked.argv for asked in master.asked if hasattr(asked, "argv")]
    assert sent == [(b"echo \xff\xfe.",)]


def test_lines_of_an_earlier_session_come_back_with_the_arrow(
    master: FakeMaster, tmp_path: Path
) -> None:
    for _ in range(2):
        with person(tmp_path) as someone:
            someone.sees(PROMPT)
            someone.runs("echo once")
            someone.runs(" echo secret")
            someone.types("\x04")
            someone.leaves()
    with person(tmp_path) as someone:
        someone.sees(PROMPT)
        someone.types("\x1b[A")
        someone.sees("echo once")
    assert (tmp_path / "history").read_text() == "echo once\n"


def test_a_slip_is_asked_back(at_prompt: Person) -> None:
    at_prompt.types("lst\r")
    at_prompt.sees("lst is no command. Did you mean list? [y = list, r = run it on 2 nodes, N] ")
    at_prompt.types("n\r")
    at_prompt.sees(PROMPT)
    at_prompt.types("lst\r")
    at_prompt.sees("N] ")
    assert "lst" in at_prompt.runs("r")


def test_the_menu_asks_and_ctrl_c_leaves_it(at_prompt: Person, master: FakeMaster) -> None:
    at_prompt.types("menu\r")
    at_prompt.sees("0  quit\r\nChoice: ")
    at_prompt.types("1\r")
    at_prompt.sees("On which node? ")
    at_prompt.types("2\r")
    at_prompt.sees("or a shell command: ")
    at_prompt.types("echo 1\r")
    assert "oneoff01" in at_prompt.sees("Choice: ")
    at_prompt.types("3\r")
    at_prompt.sees("Which task is to move? ")
    at_prompt.types("\x03")
    at_prompt.sees(PROMPT)
    assert at_prompt.runs("echo 2").count("echo 2") == 3
    launched = [asked for asked in master.asked if isinstance(asked, op.Execute)]
    assert [(asked.nodes, asked.argv) for asked in launched] == [
        ("node2", (b"echo 1",)), ("all", (b"echo 2",)),
    ]


def test_the_prompt_shows_the_chosen_nodes(at_prompt: Person) -> None:
    at_prompt.types("use node1\r")
    at_prompt.sees("godwit @ 15440 [node1] > ")
    at_prompt.types("use all\r")
    at_prompt.sees(PROMPT)


def test_the_master_goes_and_comes_back_under_an_open_shell(
    at_prompt: Person, master: FakeMaster
) -> None:
    heard(master)
    master.stop()
    at_prompt.sees("-- the master went away")
    assert "no master runs" in at_prompt.runs("list")
    master.start()
    at_prompt.sees("-- the master is back")
    assert "echo 1" in at_prompt.runs("echo 1")


def test_a_term_signal_gives_the_terminal_back(master: FakeMaster, tmp_path: Path) -> None:
    script = f"{sys.executable} -c '{MAIN}' {tmp_path} & echo $!; fg; echo status $?"
    with person(tmp_path, "xterm", "/bin/sh", "-ic", script) as someone:
        pid = int(someone.sees("\r\n"))
        someone.sees(PROMPT)
        os.kill(pid, signal.SIGTERM)
        someone.sees("status 143")
        local = termios.tcgetattr(someone.child.child_fd)[3]
        assert local & termios.ICANON and local & termios.ECHO


def test_ctrl_z_stops_the_shell_and_fg_brings_the_line_back(
    master: FakeMaster, tmp_path: Path
) -> None:
    with person(tmp_path, "xterm", "/bin/sh", "-i") as someone:
        someone.sees("$ ")
        someone.types(f"{sys.executable} -c '{MAIN}' {tmp_path}\r")
        someone.sees(PROMPT)
        someone.types("echo ha")
        someone.sees("echo ha")
        someone.types("\x1a")
        someone.sees("$ ")
        someone.types("fg\r")
        someone.sees(f"{PROMPT}echo ha")
        someone.types("lf\r")
        assert "echo half" in someone.sees(PROMPT)
        someone.types("\x04")
        someone.sees("$ ")


def test_a_terminal_that_hangs_up_ends_the_shell(master: FakeMaster, tmp_path: Path) -> None:
    with person(tmp_path) as someone:
        someone.sees(PROMPT)
        heard(master)
        someone.child.ptyproc.fileobj.close()
        _, status = os.waitpid(someone.child.pid, 0)
        # Or pexpect closes and waits once more.
        someone.child.ptyproc.closed = someone.child.ptyproc.terminated = True
    assert os.waitstatus_to_exitcode(status) == 129


def test_without_gnu_readline_notices_come_before_the_next_prompt(
    master: FakeMaster, tmp_path: Path
) -> None:
    other = f"from masterd.shell import redraw; redraw.display = lambda: None; {MAIN}"
    with person(tmp_path, "xterm", sys.executable, "-c", other, str(tmp_path)) as someone:
        someone.sees(PROMPT)
        heard(master)
        someone.types("echo ha")
        someone.sees("echo ha")
        master.notice("node1 went")
        someone.types("lf\r")
        said = someone.sees(PROMPT)
        assert "echo half" in said
        assert "-- node1 went" in said + someone.runs("echo 1")


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_other_letters_reach_the_nodes_in_any_locale(
    locale: str, master: FakeMaster, tmp_path: Path
) -> None:
    command = (f"LC_ALL={locale}", sys.executable, "-c", MAIN, str(tmp_path))
    with person(tmp_path, "xterm", "/usr/bin/env", *command) as someone:
        someone.sees(PROMPT)
        someone.types("echo Uferschnepfe äöü 鷸\r")
        someone.sees(PROMPT)
    sent = [asked.argv for asked in master.asked if hasattr(asked, "argv")]
    assert sent == [("echo Uferschnepfe äöü 鷸".encode(),)]


def test_an_idle_prompt_uses_no_processor(master: FakeMaster, tmp_path: Path) -> None:
    with person(tmp_path) as someone:
        someone.sees(PROMPT)
        heard(master)

        def rests() -> bool:  # not before it has done what it does as it starts
            before = ticks(someone.child.pid)
            time.sleep(2)
            return ticks(someone.child.pid) - before <= 1

        eventually(rests, "it rests for two seconds")


def ticks(pid: int) -> int:
    """User and system time of a process, clock ticks (proc(5))."""
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
