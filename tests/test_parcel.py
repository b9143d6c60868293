"""Images of one dump in one file, the folders they lie in, and what is read of a dump."""

import os
import struct
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from clientd.keeper import stats
from clientd.keeper.complaints import Complaint
from clientd.keeper.errands import Outcome
from clientd.keeper.moves import imaged, parcel
from clientd.keeper.moves.parcel import Head, Notes
from clientd.keeper.moves.places import Places
from godwit.errors import TaskError
from godwit.task.verdict import Ids

#: Of a small dump: a name with all kinds of characters, an empty one, none whole blocks.
IMAGES = {
    "core-1.img": b"c" * 700, "pages-1.img": b"p" * 8192, "pages-2.img": b"q" * 4096,
    "tmpfs-dev-42.tar.gz.img": b"", "godwit.json": b'{"log":"/l","files":"/f"}',
    "stats-dump": b"s" * 512,
}


def folder_of(top: Path, images: dict[str, bytes]) -> Path:
    folder = top / "images"
    folder.mkdir()
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return folder


def by_tar(fd: int, words: str, folder: Path) -> None:
    """As an errand runs it, with the parcel as descriptor 3."""
    line = f"exec 3>&{fd}; exec sh -c \"$0\" sh \"$1\""
    subprocess.run(["bash", "-c", line, words, str(folder)], pass_fds=[fd], check=True)


def packed(top: Path, images: dict[str, bytes], tar: bool = False) -> tuple[int, Head]:
    """A parcel of these, as a source makes it."""
    folder = folder_of(top, images)
    head, path = parcel.largest(str(folder)), top / "parcel"
    if head.name:
        os.rename(folder / head.name, path)
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    if tar:
        by_tar(fd, parcel.PACK, folder)
    else:
        parcel.pack(fd, str(folder))
    assert parcel.close(fd, head) == path.stat().st_size
    return fd, head


def made(top: Path, archive: bytes, head: bytes = b"", name: bytes = b"") -> int:
    """A parcel that somebody made up."""
    path = top / "made"
    path.write_bytes(head + archive + parcel.TRAILER.pack(parcel.MAGIC, len(head), name))
    return os.open(path, os.O_RDONLY)


def tar(*members: tarfile.TarInfo, format: int = tarfile.GNU_FORMAT) -> bytes:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for member in members:
            archive.addfile(member, BytesIO(b"x" * member.size))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 3) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize("unpacks_by_tar", [False, True])
@pytest.mark.parametrize("packs_by_tar", [False, True])
def test_what_is_packed_comes_out_the_same(
    tmp_path: Path, packs_by_tar: bool, unpacks_by_tar: bool
) -> None:
    fd, head = packed(tmp_path, IMAGES, packs_by_tar)
    found = parcel.opened(fd)
    assert found.head == head == Head("pages-1.img", 8192)
    assert os.pread(fd, head.size, 0) == IMAGES["pages-1.img"]
    out = tmp_path / "out"
    out.mkdir()
    if unpacks_by_tar:
        by_tar(fd, parcel.UNPACK, out)
    else:
        found.unpack(fd, str(out))
    os.close(fd)
    rest = {name: data for name, data in IMAGES.items() if name != head.name}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == rest


def test_little_is_what_takes_less_than_a_program(tmp_path: Path) -> None:
    fd, _ = packed(tmp_path, IMAGES)
    assert parcel.opened(fd).is_little
    os.close(fd)
    header = member("pages-2.img", size=parcel.LITTLE + 1).tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(512 + parcel.LITTLE + 1024)
        file.seek(0, os.SEEK_END)
        file.write(parcel.TRAILER.pack(parcel.MAGIC, 0, b""))
    with path.open("rb") as file:
        assert not parcel.opened(file.fileno()).is_little


def test_a_dump_without_memory_has_no_first_part(tmp_path: Path) -> None:
    fd, head = packed(tmp_path, {"core-1.img": b"c"})
    assert head == Head() == parcel.opened(fd).head
    os.close(fd)


@pytest.mark.parametrize("cut", [0, 1, parcel.TRAILER.size - 1, parcel.TRAILER.size, 600, 3000])
def test_a_parcel_that_is_cut_is_refused(tmp_path: Path, cut: int) -> None:
    fd, _ = packed(tmp_path, IMAGES)
    os.truncate(tmp_path / "parcel", cut)
    with pytest.raises(TaskError, match="damaged"):
        parcel.opened(fd)
    os.close(fd)


def test_a_first_part_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.write_bytes(parcel.TRAILER.pack(parcel.MAGIC, 1 << 60, b"pages-1.img"))
    with path.open("rb") as file, pytest.raises(TaskError, match="no snapshot"):
        parcel.opened(file.fileno())


@pytest.mark.parametrize("name", [b"core-1.img", b"../pages-1.img", b"/pages-1.img", b"pages-.img"])
def test_a_first_part_with_another_name_is_refused(tmp_path: Path, name: bytes) -> None:
    fd = made(tmp_path, tar(member("core-1.img")), b"pages", name)
    with pytest.raises(TaskError, match="no snapshot"):
        parcel.opened(fd)
    os.close(fd)


@pytest.mark.parametrize("members", [
    [member("../core-1.img")], [member("/etc/passwd")], [member("a/b")], [member(".hidden")],
    [member("-rf")], [member("a" * 150)], [member("folder", tarfile.DIRTYPE)],
    [member("link", tarfile.SYMTYPE)], [member("hard", tarfile.LNKTYPE)],
    [member("pipe", tarfile.FIFOTYPE)], [member("dev", tarfile.CHRTYPE)],
    [member("twice"), member("twice")], [member("pages-1.img")],
])
def test_an_archive_that_could_lead_anywhere_is_refused(
    tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    fd = made(tmp_path, tar(*members), b"pages", b"pages-1.img")
    with pytest.raises(TaskError, match="damaged"):
        parcel.opened(fd)
    os.close(fd)


def test_an_archive_of_another_format_is_refused(tmp_path: Path) -> None:
    fd = made(tmp_path, tar(member("a" * 90 + "/" + "b" * 60), format=tarfile.USTAR_FORMAT))
    with pytest.raises(TaskError, match=r"format|no name"):
        parcel.opened(fd)
    os.close(fd)


def test_the_size_of_a_huge_image_is_read_as_tar_writes_it(tmp_path: Path) -> None:
    """From 8 GiB on it is binary: the archive claims more than there is, and is refused."""
    header = member("pages-7.img", size=1 << 40).tobuf(tarfile.GNU_FORMAT)
    fd = made(tmp_path, header + bytes(512))
    with pytest.raises(TaskError, match="cut"):
        parcel.opened(fd)
    os.close(fd)


def test_notes_are_read_as_they_were_written(tmp_path: Path) -> None:
    notes = Notes("/logs/n1/t.log", "/state/files", (2, 5), Ids("bob", 1000, 100, frozenset({27})))
    notes.write(str(tmp_path))
    assert Notes.read(str(tmp_path)) == notes
    (tmp_path / parcel.NOTES).write_bytes(b"{}")
    with pytest.raises(TaskError, match="damaged"):
        Notes.read(str(tmp_path))


# ---- places ----------------------------------------------------------------------------------


def test_a_moves_folders_are_nobody_elses(tmp_path: Path) -> None:
    places = Places(str(tmp_path))
    assert places.all() == [] == list(places.of("m1"))
    first, second = (places.make("m1", "load") for _ in range(2))
    assert first != second
    assert places.all() == ["m1"]
    (folder,) = places.of("m1")
    assert {os.path.dirname(first), os.path.dirname(second)} == {folder}
    assert os.stat(folder).st_mode & 0o777 == 0o700 == os.stat(first).st_mode & 0o777


def test_a_dumper_is_known_by_its_start_too(tmp_path: Path) -> None:
    places = Places(str(tmp_path))
    folder = Path(places.make("m1"))
    assert not places.dumper("m1")
    places.say_dumper("m1", os.getpid())
    assert places.dumper("m1")
    (folder / "dumper").write_text(f"{os.getpid()} 1")  # a pid that was given again
    assert not places.dumper("m1")
    (folder / "dumper").write_text("damaged")
    assert not places.dumper("m1")


# ---- what is read of a dump ------------------------------------------------------------------


def test_the_moment_it_stood_still_is_before_the_dump_ended(tmp_path: Path) -> None:
    (tmp_path / stats.DUMPED).write_bytes(b"")
    os.utime(tmp_path / stats.DUMPED, (1000.0, 1000.0))
    figures = {"freezing_us": 2_000, "frozen_us": 48_000}
    assert imaged.stood_still(str(tmp_path), figures) == pytest.approx(999.95)
    assert imaged.stood_still(str(tmp_path), {}) == pytest.approx(1000.0)


def test_errors_are_told_by_code_and_text() -> None:
    assert imaged.told(TaskError("x", "why")) == ("x", "why")
    assert imaged.told(FileNotFoundError(2, "No such file", "/a")) == ("files", "/a: No such file")


def test_what_an_errand_said_last_is_told() -> None:
    assert imaged.last(Outcome(256, b"first\nlast\n", 0.1)) == "last"
    assert imaged.last(Outcome(256, b"", 0.1)) == "it said nothing"


def test_figures_of_a_dump_are_read_by_their_names(tmp_path: Path) -> None:
    inner = b"\x08\x05\x10\x80\x01"  # freezing 5, frozen 128
    message = b"\x0a" + bytes([len(inner)]) + inner
    header = struct.pack("<III", stats.SERVICE_MAGIC, stats.STATS_MAGIC, len(message))
    (tmp_path / stats.DUMPED).write_bytes(header + message)
    assert stats.of_dump(str(tmp_path)) == {"freezing_us": 5, "frozen_us": 128}
    (tmp_path / stats.DUMPED).write_bytes(header[:7])
    assert stats.of_dump(str(tmp_path)) == {}


def test_a_complaint_is_told_as_text() -> None:
    assert str(Complaint("tcp", "it has a connection", "close it")).startswith("it has")
