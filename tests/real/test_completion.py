"""Tab after godwit, in the shells as people have them: real ones, at a terminal."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pexpect
import pyte
import pytest

from tests.real.cluster import hang_up
from tests.real.fake_master import FakeMaster, node, task

TOP = str(Path(__file__).parents[2])
SHELLS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}
SET_UP = {"bash": "true", "zsh": "autoload -Uz compinit; compinit -u -d $PWD/dump"}
ROWS, COLUMNS = 10, 200


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    state = tmp_path / "state"
    state.mkdir()
    with FakeMaster(state) as master:
        master.nodes = (node("node1", task("k3f9a2xq"), task("k3zzzzzz")), node("node2"))
        yield master


class Shell:
    """A shell at a terminal of one line's interest: the one that the cursor is in."""

    def __init__(self, name: str, folder: Path):
        environment = {
            **os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": TOP,
            "GODWIT_STATE": str(folder / "state"), "TERM": "xterm", "HOME": str(folder),
            "ZDOTDIR": str(folder), "INPUTRC": "/dev/null",
        }
        self.child = pexpect.spawn(
            name, SHELLS[name], env=environment, cwd=str(folder), timeout=30, encoding="utf-8",
            dimensions=(ROWS, COLUMNS),
        )
        self.child.delaybeforesend = None
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self._screen)

    def shows(self, *wanted: str) -> str:
        """Waits until the line is one of ``wanted``, a space before its last character left out."""
        deadline = time.monotonic() + 30
        while (line := self._line()) not in wanted and time.monotonic() < deadline:
            with suppress(pexpect.TIMEOUT):
                self._stream.feed(self.child.read_nonblocking(65536, 0.05))
        assert line in wanted, f"{line!r} is none of {wanted}"
        return line

    def completes(self, typed: str, whole: str) -> None:
        """Tab makes this of what is typed: at the latest when the master is quick enough.

        It is waited for a second at most, and then nothing is offered.
        """
        for _ in range(10):
            self.child.send(typed + "\t.")
            shown = self.shows(f"ready> {whole}", f"ready> {typed}.")
            # Ctrl-U drops the line.
            self.child.send("\x15")
            self.shows("ready>")
            if shown == f"ready> {whole}":
                return
        raise AssertionError(f"{typed!r} is not completed")

    def _line(self) -> str:
        line = self._screen.display[self._screen.cursor.y].rstrip()
        return line.replace(" .", ".")


@contextmanager
def shell(name: str, folder: Path) -> Iterator[Shell]:
    """A shell with godwit on its PATH, ready for Tab."""
    program = folder / "bin" / "godwit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m masterd.cli "$@"\n')
    program.chmod(0o755)
    someone = Shell(name, folder)
    try:
        someone.child.sendline(f'{SET_UP[name]}; eval "$(godwit completion {name})"; PS1="ready> "')
        someone.shows("ready>")
        yield someone
    finally:
        hang_up(someone.child)


#: What is typed before Tab, and the line that stands there after it and a dot.
LINES = {
    "godwit --state state kill k3f": "godwit --state state kill k3f9a2xq.",
    "godwit execute @node1,n": "godwit execute @node1,node2.",
    "godwit copy a\\ fi": "godwit copy a\\ file.",
    "godwit copy 'a fi": "godwit copy 'a file'.",
    "godwit copy node1:/x sub": "godwit copy node1:/x subfolder/.",
    "godwit --state sub": "godwit --state subfolder/.",
    "true; bin/godwit exec": "true; bin/godwit execute.",
}


@pytest.mark.parametrize("name", SHELLS)
def test_tab_completes_words_of_godwit(name: str, master: FakeMaster, tmp_path: Path) -> None:
    if not shutil.which(name):
        pytest.skip(f"no {name} here")
    (tmp_path / "a file").touch()
    (tmp_path / "subfolder").mkdir()
    with shell(name, tmp_path) as someone:
        for typed, whole in LINES.items():
            someone.completes(typed, whole)
