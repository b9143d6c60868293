"""Paths of users within a node's roots, and removals there."""

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd import openat2
from clientd.roots import Erased, Roots, erase
from godwit.errors import TransferError
from tests.copying import Tree, copied, ordinary_user, plant, refused, seen


@pytest.fixture
def here(tmp_path: Path) -> bytes:
    """``files`` (the base) and ``open`` (a root) beside ``closed``, with ways out planted."""
    far = str(tmp_path / "n" / "closed")
    out: dict[bytes, Tree] = {b"up": "../closed", b"far": far, b"x": (b"mine", 0o644)}
    plant(
        os.fsencode(tmp_path / "n"),
        {
            b"files": {**out, b"sub": {b"y": (b"mine", 0o644)}},
            b"open": {**out, b"inner": {b"z": (b"mine", 0o644)}},
            b"closed": {b"secret": (b"theirs", 0o644)},
        },
    )
    return os.fsencode(tmp_path / "n")


@pytest.fixture
def strict(here: bytes) -> Iterator[Roots]:
    before = seen(here + b"/closed")
    yield Roots((here + b"/open",), here + b"/files")
    assert seen(here + b"/closed") == before


@pytest.fixture
def ordinary(here: bytes) -> Roots:
    return Roots((b"/",), here + b"/files")


def content(where: Roots, path: bytes) -> bytes:
    fd = where.open(path, os.O_RDONLY)
    with open(fd, "rb") as file:
        return file.read()


def test_a_relative_path_starts_at_the_base_and_an_absolute_one_lies_in_a_root(
    here: bytes, strict: Roots
) -> None:
    for path in (b"x", b"./x", b"sub/../x", here + b"/files/x", here + b"//open/./inner/z"):
        assert content(strict, path) == b"mine"


@pytest.mark.parametrize(
    "path",
    [
        b"../closed/secret", b"sub/../../closed/secret", b"/etc/passwd", b"/", b"..",
        b"HERE/closed/secret", b"HERE/open/../closed/secret", b"HERE/open/..", b"HERE/openx",
        b"HERE/closed/../open/x", b"up/secret", b"far/secret", b"up", b"HERE/open/up/secret",
        b"HERE/open/far/secret", b"/proc/self/root/etc/passwd",
    ],
)
def test_a_path_that_leads_out_of_the_roots_is_refused(
    here: bytes, strict: Roots, path: bytes
) -> None:
    path = path.replace(b"HERE", here)
    os.makedirs(here + b"/openx")
    with pytest.raises(OSError) as refusal:
        strict.open(path, os.O_RDONLY)
    assert refusal.value.errno in (errno.EXDEV, errno.ELOOP)
    assert refused(strict.source(path), here + b"/b").code == "denied"
    assert refused(here + b"/files/x", strict.target(path)).code == "denied"
    with pytest.raises(TransferError):
        erase(strict, path + b"/secret", recursive=True)


def test_with_the_root_folder_open_links_work_as_everywhere(here: bytes, ordinary: Roots) -> None:
    assert content(ordinary, b"up/secret") == b"theirs"
    assert content(ordinary, b"far/secret") == b"theirs"
    assert content(ordinary, b"../closed/secret") == b"theirs"
    assert content(ordinary, here + b"/open/x") == b"mine"


@pytest.mark.parametrize("path", [b"/proc/self/root/etc/passwd", b"/proc/self/cwd/.", b"/dev/fd/0"])
def test_magic_links_are_never_followed(ordinary: Roots, path: bytes) -> None:
    with pytest.raises(OSError, match="Too many levels"):
        ordinary.open(path, os.O_RDONLY)


def test_a_path_with_a_nul_byte_is_refused_and_not_cut_there(ordinary: Roots) -> None:
    with pytest.raises(OSError, match="NUL"):
        ordinary.open(b"x\0y", os.O_RDONLY)


def test_a_folder_swapped_for_a_link_while_paths_are_opened_never_leads_out(
    here: bytes, strict: Roots
) -> None:
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(here + b"/files/sub", here + b"/files/aside")
            os.symlink("../closed", here + b"/files/sub")
            os.unlink(here + b"/files/sub")
            os.rename(here + b"/files/aside", here + b"/files/sub")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(3000):
            try:
                fd = strict.open(b"sub/secret", os.O_RDONLY)
            except OSError:
                continue
            os.close(fd)
            pytest.fail("opened what lies outside")
    finally:
        stop.set()
        thread.join()


def test_a_kernel_without_openat2_is_said(
    strict: Roots, here: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openat2, "SYS_OPENAT2", 9999)
    err = refused(strict.source(b"x"), here + b"/b")
    assert err.code == "unsupported"
    assert "Linux 5.6" in err.text


def test_copies_go_from_root_to_base_and_on(here: bytes, strict: Roots) -> None:
    assert copied(strict.source(here + b"/open/inner"), strict.target(b"new")).path == b"new"
    assert seen(here + b"/files/new") == seen(here + b"/open/inner")
    copied(strict.source(b"x"), strict.target(b"new/"))
    assert seen(here + b"/files/new/x") == seen(here + b"/files/x")
    summary = copied(strict.source(b"sub"), strict.target(b""))
    assert (summary.path, summary.kept) == (b"./sub", 4)


def test_a_copied_link_is_not_followed_by_the_next_copy(here: bytes, strict: Roots) -> None:
    assert refused(here + b"/files/x", strict.target(b"up/new")).code == "denied"
    assert refused(here + b"/files/x", strict.target(b"up")).code == "denied"


# ---- erase ---------------------------------------------------------------------------------


def test_a_file_and_a_link_are_removed_and_not_what_the_link_points_to(
    here: bytes, strict: Roots
) -> None:
    assert erase(strict, b"x", recursive=False) == Erased(files=1)
    assert erase(strict, here + b"/open/up", recursive=True) == Erased(files=1)
    assert not os.path.lexists(here + b"/open/up")
    assert not os.path.exists(here + b"/files/x")


def test_a_folder_is_removed_with_all_in_it_only_when_so_asked(here: bytes, strict: Roots) -> None:
    plant(here + b"/files/d", {b"a": {b"b": {b"c": (b"1", 0), b"out": "../../.."}}, b"e": {}})
    with pytest.raises(TransferError) as refusal:
        erase(strict, b"d", recursive=False)
    assert refusal.value.code == "is-folder"
    assert erase(strict, b"d/", recursive=True) == Erased(files=2, folders=4)
    assert not os.path.exists(here + b"/files/d")


@pytest.mark.parametrize("path", [b"HERE/open", b"HERE/files", b".", b"..", b"", b"sub/..", b"/"])
def test_a_root_and_the_base_are_not_removed(here: bytes, strict: Roots, path: bytes) -> None:
    before = seen(here)
    with pytest.raises(TransferError) as refusal:
        erase(strict, path.replace(b"HERE", here), recursive=True)
    assert refusal.value.code in ("denied", "bad-name")
    assert seen(here) == before


@pytest.mark.parametrize("path", [b"HERE", b"HERE/files", b"../files", b"../../n"])
def test_what_holds_the_base_is_not_removed(here: bytes, ordinary: Roots, path: bytes) -> None:
    before = seen(here)
    with pytest.raises(TransferError) as refusal:
        erase(ordinary, path.replace(b"HERE", here), recursive=True)
    assert refusal.value.code == "denied"
    assert seen(here) == before


def test_a_root_inside_a_root_is_not_removed(here: bytes) -> None:
    nested = Roots((here + b"/open", here + b"/open/inner"), here + b"/files")
    with pytest.raises(TransferError):
        erase(nested, here + b"/open/inner", recursive=True)


def test_a_missing_file_is_named(strict: Roots) -> None:
    with pytest.raises(TransferError, match="no/such: no such file or folder") as refusal:
        erase(strict, b"no/such", recursive=False)
    assert refusal.value.code == "not-found"


def test_a_folder_deeper_than_any_path_is_removed(here: bytes, strict: Roots) -> None:
    fd = os.open(here + b"/files", os.O_RDONLY)
    for _ in range(1000):
        os.mkdir(b"deeper", dir_fd=fd)
        inner = os.open(b"deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    assert erase(strict, b"deeper", recursive=True) == Erased(folders=1000)


def test_what_may_not_be_removed_is_named(tmp_path: Path) -> None:
    plant(os.fsencode(tmp_path / "base"), {b"d": {b"f": (b"1", 0o644)}})
    for folder in (tmp_path / "base" / "d", tmp_path / "base"):
        folder.chmod(0o555)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    with ordinary_user(), pytest.raises(TransferError, match="d/f: permission denied") as refusal:
        erase(Roots((), os.fsencode(tmp_path / "base")), b"d/f", recursive=False)
    assert refusal.value.code == "denied"
    (tmp_path / "base").chmod(0o755)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_mounted_file_system_is_left_alone(here: bytes, strict: Roots) -> None:
    mounted = here + b"/files/sub/disk"
    os.mkdir(mounted)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mounted], check=True)
    try:
        plant(mounted + b"/kept", (b"1", 0o644))
        with pytest.raises(TransferError, match="another file system is mounted"):
            erase(strict, b"sub", recursive=True)
        assert os.listdir(mounted) == [b"kept"]
    finally:
        subprocess.run(["umount", mounted], check=True)
