"""The file of lines typed before."""

import os
import readline
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from masterd.shell import history
from masterd.shell.history import History


@pytest.fixture(autouse=True)
def readline_forgets() -> Iterator[None]:
    yield
    readline.clear_history()


def remembered() -> list[str]:
    return [readline.get_history_item(n + 1) for n in range(readline.get_current_history_length())]


def test_lines_come_back_in_the_next_session(tmp_path: Path) -> None:
    path = tmp_path / "history"
    first = History(str(path))
    first.load()
    for line in ("list", "list", " secret", "", "echo \udcff é", "list"):
        first.add(line)
    assert path.read_bytes() == b"list\necho \xff \xc3\xa9\nlist\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    History(str(path)).load()
    assert remembered() == ["list", "echo \udcff é", "list"]


def test_a_repeat_of_the_last_session_s_last_line_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("list\n")
    lines = History(str(path))
    lines.load()
    lines.add("list")
    assert path.read_text() == "list\n"


def test_a_long_file_is_cut_back_to_its_newest_lines(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("".join(f"line {n}\n" for n in range(history.KEPT * history.SLACK + 1)))
    History(str(path)).load()
    lines = path.read_text().splitlines()
    assert (len(lines), lines[-1]) == (history.KEPT, f"line {history.KEPT * history.SLACK}")
    assert remembered() == lines
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["history"]


def test_junk_and_a_missing_folder_are_done_without(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b"a\0b\n\n\xff\nno end")
    History(str(path)).load()
    assert remembered() == ["\udcff", "no end"]
    away = History(str(tmp_path / "no" / "history"))
    away.load()
    away.add("list")
    assert remembered() == ["list"]
