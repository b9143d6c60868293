"""Lines in, statuses out: what the loop does with whatever a command does."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from masterd import commands
from masterd.commands.context import Context, Leave
from masterd.shell.attention import Attention
from masterd.shell.loop import INTERNAL, INTERRUPTED, LOST, UNREAD, WRONG, Loop
from tests.real.fake_master import FakeMaster

Line = str | BaseException


class Script:
    """Lines, or what happens instead of one."""

    def __init__(self, lines: Sequence[Line], typed: bool):
        self.lines = list(lines)
        self.typed = typed
        self.prompts: list[str] = []

    def read(self, prompt: str) -> str:
        self.prompts.append(prompt)
        line = self.lines.pop(0) if self.lines else EOFError()
        if isinstance(line, BaseException):
            raise line
        return line


class Ran:
    """Stands in for the commands: what was run, and what became of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.become: dict[str, int | BaseException] = {"exit": Leave(0)}

    def dispatch(self, _context: Context, words: list[str]) -> int:
        return self._run("+".join(words))

    def remote(self, _context: Context, line: str) -> int:
        return self._run(f"remote:{line}")

    def _run(self, line: str) -> int:
        self.lines.append(line)
        outcome = self.become.get(line, 0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    ran = Ran()
    monkeypatch.setattr(commands, "dispatch", ran.dispatch)
    monkeypatch.setattr(commands, "remote", ran.remote)
    return ran


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path) as master:
        yield master


class Shell:
    """One loop over a script."""

    def __init__(self, state: Path, *lines: Line, typed: bool = False, answer: str = ""):
        def ask(question: str) -> str:
            self.asked.append(question)
            return answer

        self.asked: list[str] = []
        self.err = io.StringIO()
        self.script = Script(lines, typed)
        self.context = Context(str(state), io.StringIO(), self.err, interactive=typed, ask=ask)
        self.errors_file = state / "errors"
        self.loop = Loop(self.context, self.script, str(self.errors_file), Attention())

    def run(self) -> int:
        try:
            return self.loop.run()
        finally:
            self.context.close()


def shell(state: Path, *lines: Line, typed: bool = False) -> Shell:
    return Shell(state, *lines, typed=typed)


def test_a_line_is_a_command_a_remote_line_or_nothing(
    master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    lines = ("", "# x", "  list  --json ", "uname -a", "'list'", "kill 'a b'")
    assert shell(tmp_path, *lines).run() == 0
    assert ran.lines == ["list+--json", "remote:uname -a", "remote:'list'", "kill+a b", "exit"]


STATUSES: list[tuple[tuple[Line, ...], int]] = [
    ((), 0),
    (("false",), 1),
    (("false", "list"), 0),
    (("false", "", "# comment"), 1),
    (("false", "exit"), 1),
    (("exit 7", "list"), 7),
    (("list '",), WRONG),
    (("bug",), INTERNAL),
    (("systemexit",), INTERNAL),
    (("pipe", "list"), UNREAD),
    (("interrupt", "list"), INTERRUPTED),
    ((KeyboardInterrupt(), "list"), INTERRUPTED),
]


@pytest.mark.parametrize(("lines", "status"), STATUSES, ids=str)
def test_a_shell_in_a_pipe_exits_as_sh_does(
    lines: tuple[Line, ...], status: int, master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    ran.become |= {
        "remote:false": 1, "exit+7": Leave(7), "remote:bug": ZeroDivisionError("by 0"),
        "remote:systemexit": SystemExit(3), "remote:pipe": BrokenPipeError(),
        "remote:interrupt": KeyboardInterrupt(),
    }
    assert shell(tmp_path, *lines).run() == status


def test_a_bug_is_one_line_and_a_traceback_in_a_file(
    master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    ran.become["remote:x"] = ValueError("odd\x1b[2J " + "y" * 1000)
    one = shell(tmp_path, "x", "list")
    assert one.run() == 0
    told = one.err.getvalue()
    assert told.startswith("godwit: internal error: ValueError: odd\\x1b[2J yyy")
    assert told.endswith(f"(written to {tmp_path / 'errors'})\n")
    assert told.count("\n") == 1
    assert "Traceback" in one.errors_file.read_text()
    assert one.errors_file.stat().st_mode & 0o777 == 0o600
    assert ran.lines == ["remote:x", "list", "exit"]


def test_a_bug_whose_file_cannot_be_written_is_still_one_line(
    master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    ran.become["remote:x"] = ValueError("odd")
    one = shell(tmp_path, "x")
    one.errors_file.mkdir()
    assert one.run() == INTERNAL
    assert "not written" in one.err.getvalue()


def test_a_bug_while_reading_does_not_end_the_shell_but_an_endless_one_does(
    master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    bug = ValueError("odd")
    one = shell(tmp_path, bug, "list", *[bug] * LOST, "never", typed=True)
    assert one.run() == INTERNAL
    assert ran.lines == ["list"]
    assert one.err.getvalue().count("internal error: ValueError: odd") == 1 + LOST


def test_ctrl_c_at_the_prompt_and_in_a_command_gives_a_new_prompt(
    master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    ran.become["remote:sleep"] = KeyboardInterrupt()
    one = shell(tmp_path, KeyboardInterrupt(), "sleep", "list", "exit", typed=True)
    assert one.run() == 0
    assert ran.lines == ["remote:sleep", "list", "exit"]


def test_end_of_file_at_the_prompt_is_exit_and_may_be_refused(
    master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    ran.become["exit"] = 1
    one = shell(tmp_path, EOFError(), "list", typed=True)
    assert one.run() == 1
    assert ran.lines == ["exit", "list", *["exit"] * LOST]


PROMPTS = {
    "all": "godwit @ 15440 > ",
    "@node1,node2": "godwit @ 15440 [@node1,node2] > ",
    "\x1b" * 40: "godwit @ 15440 [" + ("\\x1b" * 40)[:29] + "…] > ",
}


@pytest.mark.parametrize("chosen", PROMPTS, ids=ascii)
def test_the_prompt_names_the_port_and_the_chosen_nodes(
    chosen: str, master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    one = shell(tmp_path, typed=True)
    one.context.chosen = chosen
    one.run()
    assert one.script.prompts == [PROMPTS[chosen]]


ANSWERS = {
    "y": ["list+-q", "exit"], "Y\n": ["list+-q", "exit"], "r": ["remote:lst -q", "exit"],
    "n": ["exit"], "": ["exit"], "yes": ["exit"],
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_slip_is_asked_back_before_it_runs_on_nodes(
    answer: str, master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    one = Shell(tmp_path, "lst -q", typed=True, answer=answer)
    one.run()
    assert one.asked == [
        "lst is no command. Did you mean list? [y = list, r = run it on 2 nodes, N] "
    ]
    assert ran.lines == ANSWERS[answer]


def test_in_a_pipe_nobody_is_asked(master: FakeMaster, ran: Ran, tmp_path: Path) -> None:
    one = Shell(tmp_path, "lst -q", answer="y")
    one.run()
    assert (one.asked, ran.lines) == ([], ["remote:lst -q", "exit"])


def test_a_master_that_was_restarted_meanwhile_is_found_again(
    master: FakeMaster, ran: Ran, tmp_path: Path
) -> None:
    one = shell(tmp_path, "list")
    first = one.context.master
    master.stop()
    master.start()
    one.run()
    assert first.closed
