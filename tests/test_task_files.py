"""TransactionalFile: what it reads and writes, and how it travels."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from godwit import TransactionalFile
from godwit.task import files

TEXT = "first\nsecond é\n\nlast, without a newline ✓"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GODWIT_NODE", "node2")
    (tmp_path / "in").write_text(TEXT)
    return tmp_path


def travelled(file: "TransactionalFile[Any]") -> "TransactionalFile[Any]":
    """As it is after a move."""
    state = pickle.dumps(file)
    file.close()
    moved: TransactionalFile[Any] = pickle.loads(state)
    return moved


# ---- reading -----------------------------------------------------------------------------------


def test_lines_are_those_of_the_file(here: Path) -> None:
    with TransactionalFile("in") as file:
        assert list(file) == TEXT.splitlines(keepends=True)
        assert file.readline() == ""
        assert file.tell() == len(TEXT.encode())


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_characters_are_read_by_their_number(here: Path, size: int) -> None:
    with TransactionalFile("in") as file:
        found = list(iter(lambda: file.read(size), ""))
        assert all(len(piece) == size for piece in found[:-1])
        assert "".join(found) == TEXT


@pytest.mark.parametrize("ahead", [1, 3, 4096])
def test_reads_and_lines_mix_and_every_position_can_be_gone_back_to(
    here: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr(files, "_AHEAD", ahead)
    with TransactionalFile("in") as file:
        seen = []
        for take in (lambda: file.read(3), file.readline) * 4:
            seen.append((file.tell(), take()))
        assert "".join(text for _, text in seen) == TEXT[:len("".join(t for _, t in seen))]
        for at, text in seen:
            file.seek(at)
            assert file.read(len(text)) == text


@given(
    text=st.text(st.sampled_from("aé✓\U0001f426\n"), max_size=60),
    sizes=st.lists(st.integers(0, 9), max_size=40), ahead=st.sampled_from([1, 2, 7, 64]),
)
def test_text_read_in_any_pieces_is_the_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, sizes: list[int], ahead: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "in"
    path.write_bytes(text.encode())
    before, files._AHEAD = files._AHEAD, ahead
    try:
        with TransactionalFile(str(path)) as file:
            found = "".join(file.read(size) if size else file.readline() for size in sizes)
            assert found == text[:len(found)]
            assert found + file.read() == text
    finally:
        files._AHEAD = before


def test_what_is_no_text_is_an_error_and_nothing_was_read(here: Path) -> None:
    (here / "in").write_bytes(b"good\n\xff\xfe\n")
    with TransactionalFile("in") as file:
        assert file.readline() == "good\n"
        for read in (file.readline, file.read, lambda: file.read(2)):
            with pytest.raises(UnicodeDecodeError):
                read()
            assert file.tell() == 5


def test_bytes_are_read_as_they_are(here: Path) -> None:
    with TransactionalFile("in", "rb") as file:
        assert file.read(7) + file.readline() + file.read() == TEXT.encode()


def test_what_is_appended_by_others_is_read(here: Path) -> None:
    with TransactionalFile("in") as file:
        file.read()
        with (here / "in").open("a") as other:
            other.write("more\n")
        assert file.readline() == "more\n"


# ---- writing -----------------------------------------------------------------------------------


def test_what_was_written_is_in_the_file_at_once(here: Path) -> None:
    file = TransactionalFile("out", "w")
    assert file.write("é\n") == 2
    assert (here / "out").read_text() == "é\n"
    file.writelines(["a\n", "b\n"])
    assert (here / "out").read_text() == "é\na\nb\n"
    assert file.tell() == 7
    file.close()


def test_reading_goes_on_where_writing_stopped(here: Path) -> None:
    with TransactionalFile("in", "r+") as file:
        assert file.readline() == "first\n"
        file.write("SECOND")
        assert file.readline() == " é\n"
    assert (here / "in").read_text() == TEXT.replace("second", "SECOND")


def test_appending_is_at_the_end_whoever_else_writes(here: Path) -> None:
    with TransactionalFile("in", "a") as file:
        assert file.tell() == len(TEXT.encode())
        with (here / "in").open("a") as other:
            other.write("1")
        file.write("2")
        assert file.tell() == len(TEXT.encode()) + 2
    assert (here / "in").read_text() == TEXT + "12"


@pytest.mark.parametrize("mode", ["w", "a", "r+"])
def test_a_write_that_fails_half_way_leaves_neither_data_nor_offset(
    here: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    (here / "out").write_text("" if mode != "a" else "before")
    file = TransactionalFile("out", mode)
    calls = iter([2])

    def full(fd: int, data: bytes, *at: int) -> int:
        for room in calls:
            real = os_pwrite(fd, data[:room], *at) if at else os_write(fd, data[:room])
            return int(real)
        raise OSError(28, "No space left on device")

    os_pwrite, os_write = os.pwrite, os.write
    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "write", full)
    at = file.tell()
    with pytest.raises(OSError, match="No space left"):
        file.write("five!")
    monkeypatch.undo()
    assert file.tell() == at
    assert (here / "out").read_text() == ("before" if mode == "a" else "")
    file.write("ok")
    assert (here / "out").read_text().endswith("ok")
    file.close()


@pytest.mark.parametrize(("mode", "wrong"), [("r", "write"), ("w", "read"), ("a", "readline")])
def test_a_file_is_used_as_it_was_opened(here: Path, mode: Any, wrong: str) -> None:
    with TransactionalFile("in", mode) as file, pytest.raises(OSError, match="not open for"):
        getattr(file, wrong)(*(["x"] if wrong == "write" else []))


def test_text_and_bytes_are_not_mixed_up(here: Path) -> None:
    with TransactionalFile("out", "w") as text, pytest.raises(TypeError):
        text.write(b"x")  # type: ignore[arg-type]
    with TransactionalFile("out", "wb") as raw, pytest.raises(TypeError):
        raw.write("x")  # type: ignore[arg-type]


def test_a_closed_file_is_not_used(here: Path) -> None:
    file = TransactionalFile("in")
    file.close()
    file.close()
    for use in (file.read, file.tell, file.flush):
        if use != file.tell:
            with pytest.raises(ValueError, match="closed"):
                use()


@pytest.mark.parametrize(("path", "mode", "error"), [
    ("nothing", "r", FileNotFoundError), ("in", "x", ValueError), ("in", "rw", ValueError),
    (".", "r", (IsADirectoryError, ValueError)), ("/dev/null", "w", ValueError),
])
def test_what_cannot_be_opened_is_refused(here: Path, path: str, mode: Any, error: Any) -> None:
    with pytest.raises(error):
        TransactionalFile(path, mode)


def test_an_encoding_whose_newline_is_another_is_refused(here: Path) -> None:
    with pytest.raises(ValueError, match="newline"):
        TransactionalFile("in", encoding="utf-16")


# ---- travelling --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "w", "a", "r+", "w+", "a+"])
@pytest.mark.parametrize("kind", ["", "b"])
def test_path_mode_and_offset_travel(here: Path, mode: str, kind: str) -> None:
    data: Any = b"abc" if kind else "abc"
    file: Any = TransactionalFile("in", mode + kind)  # type: ignore[call-overload]
    if "r" in mode:
        file.readline()
    else:
        file.write(data)
    at, before = file.tell(), (here / "in").read_bytes()
    moved = travelled(file)
    assert (moved.name, moved.mode, moved.tell()) == ("in", mode + kind, at)
    assert (here / "in").read_bytes() == before
    if moved.writable():
        moved.write(data)
        assert b"abc" in (here / "in").read_bytes()
    moved.close()


def test_lines_go_on_over_a_move(here: Path) -> None:
    file: Any = TransactionalFile("in")
    lines = [file.readline()]
    file = travelled(file)
    lines += list(file)
    assert lines == TEXT.splitlines(keepends=True)
    file.close()


def test_a_closed_file_travels_closed(here: Path) -> None:
    file = TransactionalFile("in")
    file.close()
    assert travelled(file).closed


def test_a_file_that_is_not_there_is_an_error(here: Path) -> None:
    file = TransactionalFile("out", "w")
    state = pickle.dumps(file)
    file.close()
    (here / "out").unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(state)
    assert not (here / "out").exists()


@pytest.mark.parametrize("other", ["fir", "other\nsecond é\n"])
def test_a_file_that_is_another_there_is_an_error(here: Path, other: str) -> None:
    file = TransactionalFile("in")
    file.readline()
    state = pickle.dumps(file)
    file.close()
    (here / "in").write_text(other)
    with pytest.raises(ValueError, match="in is not the same file on node2"):
        pickle.loads(state)


def test_what_comes_after_the_offset_may_differ(here: Path) -> None:
    file = TransactionalFile("in")
    file.readline()
    state = pickle.dumps(file)
    file.close()
    (here / "in").write_text("first\nand then something else")
    moved = pickle.loads(state)
    assert moved.read() == "and then something else"
    moved.close()


def test_open_files_are_known(here: Path) -> None:
    before = len(files.open_files())
    with TransactionalFile("in") as file:
        assert file in files.open_files()
        assert len(files.open_files()) == before + 1
    assert len(files.open_files()) == before
    again = TransactionalFile("in")
    files.close_all()
    assert again.closed
