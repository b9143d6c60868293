"""Daemon logs: one object a line, levels, rotation, and disks that are full."""

import json
import os
import resource
from pathlib import Path

import pytest

from godwit import log as logs
from godwit.log import LEVELS, Level, Log, printable


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def close(log: Log) -> None:
    os.close(log._fd)


def test_a_line_is_one_object_with_what_it_is_about(tmp_path: Path) -> None:
    log = Log("masterd", str(tmp_path / "new" / "log"), None)
    log("warning", "two\nlines", task="abcd1234", error=OSError(2, "no"))
    close(log)
    (line,) = lines(tmp_path / "new" / "log")
    assert {**line, "at": 0} == {
        "at": 0, "level": "warning", "from": "masterd", "pid": os.getpid(), "text": "two\nlines",
        "task": "abcd1234", "error": "[Errno 2] no",
    }


@pytest.mark.parametrize("least", LEVELS)
def test_stderr_shows_its_level_and_above_the_file_all(
    least: Level, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = Log("m", str(tmp_path / "log"), least)
    for level in LEVELS:
        log(level, "x")
    close(log)
    shown = [line.split()[2].rstrip(":") for line in capfd.readouterr().err.splitlines()]
    assert shown == list(LEVELS[LEVELS.index(least):])
    assert [line["level"] for line in lines(tmp_path / "log")] == list(LEVELS)


def test_control_characters_do_not_reach_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    Log("m")("info", "a\x1b[2Jb\rc\u202ed\ndone")
    assert capfd.readouterr().err.endswith("m info: a\\x1b[2Jb\\rc\\u202ed\\ndone\n")


@pytest.mark.parametrize("text", ["plain", "it's a \\", "é 漢"])
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_a_full_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "ROTATE_AT", 200)
    path = tmp_path / "log"
    log = Log("m", str(path), None)
    for count in range(6):
        log("info", f"line {count} " + "x" * 100)
    close(log)
    kept = [str(line["text"])[5] for line in lines(tmp_path / "log.1") + lines(path)]
    assert kept == sorted(kept) and kept[-1] == "5" and path.stat().st_size < 400


def test_a_line_that_a_full_disk_cut_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    log = Log("m", str(path), None)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:20]))
    log("info", "cut")
    monkeypatch.undo()
    log("info", "whole")
    close(log)
    cut, whole = path.read_text().splitlines()
    assert len(cut) == 20 and json.loads(whole)["text"] == "whole"


def test_of_two_writers_one_sets_the_full_log_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "ROTATE_AT", 200)
    path = tmp_path / "log"
    one, other = Log("one", str(path), None), Log("other", str(path), None)
    one("info", "x" * 200)
    one("info", "after")
    other("info", "too")
    close(one)
    close(other)
    assert [line["text"] for line in lines(path)] == ["after", "too"]
    assert [line["text"] for line in lines(tmp_path / "log.1")] == ["x" * 200]


def test_no_descriptor_for_a_new_log_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never a number that by then is another file's."""
    log = Log("m", str(tmp_path / "log"), None)
    log("info", "x" * 200)
    monkeypatch.setattr(logs, "ROTATE_AT", 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (log._fd, hard))
    log("info", "lost")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    stranger = os.open(tmp_path / "stranger", os.O_RDWR | os.O_CREAT)
    log("info", "goes on")
    assert os.read(stranger, 10) == b"" and stranger != log._fd
    os.close(stranger)
    close(log)
    assert [line["text"] for line in lines(tmp_path / "log")] == ["goes on"]


def test_a_log_says_why_its_last_line_is_not_in_the_file(tmp_path: Path) -> None:
    full = Log("audit", "/dev/full", None)
    full("info", "lost")
    assert full.trouble == "No space left on device"
    close(full)
    log = Log("audit", str(tmp_path / "log"), None)
    log("info", "kept")
    assert log.trouble == ""
    close(log)


def test_a_private_log_is_private_after_a_rotation_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "ROTATE_AT", 10)
    (tmp_path / "log").touch(0o644)
    log = Log("audit", str(tmp_path / "log"), None, 0o600)
    for _ in range(3):
        log("info", "x")
    close(log)
    for name in ("log", "log.1"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
