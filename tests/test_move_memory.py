"""Images that need not last lie in memory, as long as there is room for any that may come."""

import os
from pathlib import Path

import pytest

from clientd.keeper.moves import memory
from clientd.keeper.moves.places import Places
from clientd.keeper.moves.ways import LARGE, Images

is_there = pytest.mark.skipif(
    not memory.is_tmpfs(memory.TOP) or not memory.has_room(), reason="no tmpfs with room here"
)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(str(tmp_path), f"test-{os.getpid()}")


@is_there
def test_what_need_not_last_is_in_memory_and_leaves_nothing(images: Images) -> None:
    images.make("m1", lasts=False)
    path = images.path("m1")
    assert path == images.in_memory("m1")
    assert path.startswith(memory.TOP)
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        images.make("m1", lasts=False)
    os.close(images.open("m1", os.O_RDWR))
    images.drop("m1")
    assert not os.path.exists(os.path.dirname(path))
    images.drop("m1")


@is_there
def test_an_image_in_memory_is_lent_to_the_disk_as_a_copy(images: Images, tmp_path: Path) -> None:
    images.make("m1", lasts=False)
    Path(images.path("m1")).write_bytes(b"image")
    images.lend("m1", str(tmp_path / "lent"))
    beside = os.path.join(images.beside(make=True), "lent")
    images.lend("m1", beside)
    assert (tmp_path / "lent").read_bytes() == b"image"
    assert os.path.samefile(images.path("m1"), beside)
    images.drop("m1")
    os.unlink(beside)
    os.rmdir(os.path.dirname(beside))


def test_what_has_to_last_is_on_the_disk(images: Images, tmp_path: Path) -> None:
    images.make("m1")
    assert images.path("m1") == str(tmp_path / "moves" / "m1")
    assert images.in_memory("m1") == ""
    images.drop("m1")
    assert os.listdir(tmp_path / "moves") == []


def test_without_room_in_memory_the_disk_serves(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 << 60)
    images.make("m1", lasts=False)
    assert images.path("m1") == str(tmp_path / "moves" / "m1")


@is_there
def test_what_is_large_is_gone_at_once_and_given_back_by_whoever_has_it_last(
    images: Images
) -> None:
    images.make("m1")
    path = images.path("m1")
    os.truncate(path, LARGE + 1)
    last = images.drop("m1")
    assert not os.path.lexists(path) and os.fstat(last).st_nlink == 0
    os.close(last)
    images.make("m1")
    assert images.drop("m1") == images.drop("m1") == -1


@is_there
def test_a_folder_of_somebody_elses_is_none(tmp_path: Path) -> None:
    name = f"godwit-test-{os.getpid()}-other"
    path = Path(memory.TOP, name)
    mine = os.geteuid(), os.getegid()
    path.symlink_to(tmp_path)
    try:
        assert memory.folder(name, *mine) == ""
    finally:
        path.unlink()
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    try:
        assert memory.folder(name, *mine) == ""
        path.chmod(0o700)
        assert memory.folder(name, *mine) == str(path)
    finally:
        path.rmdir()


@is_there
def test_a_place_beside_them_is_made_at_need_and_pruned(images: Images) -> None:
    assert images.beside() == ""
    places = Places(images.beside(make=True))
    folder = places.make("m1", "load")
    assert images.beside()
    places.prune()
    assert os.path.isdir(folder)
    os.rmdir(folder)
    os.rmdir(os.path.dirname(folder))
    places.prune()
    assert images.beside() == ""
