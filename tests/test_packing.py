"""Snapshots are packed and come back as they were, or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMAGE = os.urandom(3 << 20) + bytes(5 << 20) + b"end"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "image").write_bytes(IMAGE)
    (tmp_path / "about").write_text("{}")
    assert run(tmp_path, "image", "packed", "pack") == ""
    return tmp_path


def run(top: Path, source: str, target: str, *words: str) -> str:
    """Its complaint, if it failed with one."""
    given = {"SOURCE": str(top / source), "TARGET": str(top / target), "ABOUT": str(top / "about")}
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 3<"$SOURCE" 4>"$TARGET" 5<"$ABOUT"', "sh",
         sys.executable, "-P", "-m", "clientd.keeper.packing", *words],
        env={**os.environ, **given}, capture_output=True, text=True, timeout=60,
    )
    assert done.stderr == "" and (done.returncode == 0) == (done.stdout == ""), done
    return done.stdout.strip()


def test_what_was_packed_comes_back_and_is_smaller_meanwhile(top: Path) -> None:
    assert (top / "packed").stat().st_size < len(IMAGE) // 2
    assert run(top, "packed", "back", "unpack", str(len(IMAGE))) == ""
    assert (top / "back").read_bytes() == IMAGE


@pytest.mark.parametrize("size", [0, 1, len(IMAGE) - 1])
def test_more_than_was_announced_is_not_unpacked(top: Path, size: int) -> None:
    said = run(top, "packed", "back", "unpack", str(size))
    assert said == f"it has more than the {size} bytes that it is to have"
    assert (top / "back").stat().st_size <= size


def test_what_is_cut_off_ends_early(top: Path) -> None:
    whole = (top / "packed").read_bytes()
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 10):
        (top / "cut").write_bytes(whole[:cut])
        assert "bytes early" in run(top, "cut", "back", "unpack", str(len(IMAGE)))


def test_what_was_changed_is_told(top: Path) -> None:
    changed = bytearray((top / "packed").read_bytes())
    for at in (0, len(changed) // 2, len(changed) - 1):
        changed[at] ^= 1
        (top / "changed").write_bytes(changed)
        assert run(top, "changed", "back", "unpack", str(len(IMAGE))) != ""
        changed[at] ^= 1


def test_a_full_disk_is_told(top: Path) -> None:
    assert run(top, "image", "../../../../../../../dev/full", "pack") == "No space left on device"
