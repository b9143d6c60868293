"""Files of a snapshot are put back where they were, and nowhere else; what is there is kept."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clientd.keeper.moves.parcel import Held
from clientd.keeper.putback import Question, put_back
from godwit.errors import TransferError

TASK = "n3w00001"
Back = Callable[..., Path]


@pytest.fixture
def back(tmp_path: Path) -> Back:
    """Puts a file of this content back; the working directory."""
    copies, files = tmp_path / "copies", tmp_path / "files"
    copies.mkdir()
    (files / "w").mkdir(parents=True)

    def put(name: str, content: bytes, written: bool = True) -> Path:
        (copies / "file-0").write_bytes(content)
        held = Held(os.fsencode(name), "file-0", len(content), 0o640, os.getuid(), os.getgid(),
                    10**9, written)
        put_back(Question(TASK, "", bytes(files), b"w", str(copies), (held,)))
        return files / "w"

    put.folder = files / "w"  # type: ignore[attr-defined]
    return put


def folder_of(back: Back) -> Path:
    return Path(back.folder)  # type: ignore[attr-defined]


def test_a_file_that_is_gone_is_there_again_with_its_folders(back: Back) -> None:
    content = b"begin" + bytes(3 << 20) + b"end"
    top = back("a/b/out", content)
    out = top / "a" / "b" / "out"
    assert out.read_bytes() == content
    assert (out.stat().st_mode & 0o777, out.stat().st_mtime) == (0o640, 1.0)
    assert out.stat().st_blocks * 512 < len(content), "its hole stays one"
    assert os.listdir(out.parent) == ["out"]


def test_one_that_is_as_it_was_stays(back: Back) -> None:
    out = folder_of(back) / "out"
    out.write_bytes(b"same")
    before = out.stat()
    back("out", b"same")
    assert out.stat() == before and os.listdir(folder_of(back)) == ["out"]


@pytest.mark.parametrize("times", [1, 2])
def test_another_is_kept_beside_it_however_often_it_is_done(back: Back, times: int) -> None:
    (folder_of(back) / "out").write_bytes(b"newer and longer")
    for _ in range(times):
        back("out", b"old")
    assert {path.name: path.read_bytes() for path in folder_of(back).iterdir()} == {
        "out": b"old", f"out.before-{TASK}": b"newer and longer",
    }


def test_it_is_carried_on_from_wherever_it_was_left(back: Back) -> None:
    """The other name is there, and half of the copy."""
    out = folder_of(back) / "out"
    out.write_bytes(b"newer")
    back("out", b"old")
    (folder_of(back) / f"out.before-{TASK}").rename(out)
    os.link(out, folder_of(back) / f"out.before-{TASK}")
    back("out", b"old")
    assert sorted(os.listdir(folder_of(back))) == ["out", f"out.before-{TASK}"]
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize("written", [True, False])
def test_what_somebody_writes_stays(back: Back, written: bool) -> None:
    out = folder_of(back) / "out"
    with out.open("wb") as file:
        file.write(b"being written")
        file.flush()
        with pytest.raises(TransferError, match="open for writing"):
            back("out", b"old", written)
    assert out.read_bytes() == b"being written" and os.listdir(folder_of(back)) == ["out"]


def test_a_name_leads_nowhere_else(back: Back, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "out").write_bytes(b"theirs")
    (folder_of(back) / "link").symlink_to(outside)
    (folder_of(back) / "leaf").symlink_to(outside / "out")
    for name in ("../../outside/out", "/etc/passwd", "link/out", "leaf", "a//b", "."):
        with pytest.raises(TransferError):
            back(name, b"ours")
    assert (outside / "out").read_bytes() == b"theirs" and os.listdir(outside) == ["out"]


def test_what_is_no_file_and_another_by_the_other_name_are_refused(back: Back) -> None:
    (folder_of(back) / "pipe").mkdir()
    with pytest.raises(TransferError, match="is no file"):
        back("pipe", b"x")
    (folder_of(back) / "out").write_bytes(b"now")
    (folder_of(back) / f"out.before-{TASK}").write_bytes(b"another's")
    with pytest.raises(TransferError):
        back("out", b"old")
    assert (folder_of(back) / "out").read_bytes() == b"now"
    assert (folder_of(back) / f"out.before-{TASK}").read_bytes() == b"another's"
