"""What was issued outlives the database, and no damage brings back what was revoked."""

import os
from pathlib import Path

import pytest

from masterd import actions as do
from masterd.issued import Issue, Issued
from masterd.store import Kept, Store

ISSUES: list[Issue] = [
    do.KeepFact("master", "m1"), do.KeepLeaves("n1", ("aa",)), do.KeepLeaves("n2", ("bb", "cc")),
    do.KeepLeaves("n1", ("aa", "dd")), do.KeepLeaves("n2", ()),
]
COUNT: list[Issue] = [do.KeepFact("master", "m1"), do.KeepLeaves("n1", ("aa", "dd"))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "issued.jsonl"


def test_the_last_word_on_each_name_counts(file: Path) -> None:
    issued = Issued(str(file))
    assert issued.load() is None
    for issue in ISSUES:
        issued.append([issue])
    assert issued.load() == COUNT
    assert file.stat().st_mode & 0o777 == 0o600
    issued.rewrite(COUNT)
    assert issued.load() == COUNT and len(file.read_bytes().splitlines()) == 2
    issued.append([])
    assert issued.load() == COUNT


def test_a_torn_end_is_left_out_and_other_damage_makes_it_count_for_nothing(file: Path) -> None:
    issued = Issued(str(file))
    issued.append(ISSUES[:-1])
    whole = file.read_bytes()
    issued.append(ISSUES[-1:])
    revoked = file.read_bytes()
    for end in range(len(whole), len(revoked)):
        file.write_bytes(revoked[:end])
        assert issued.load() == [COUNT[0], ISSUES[3], ISSUES[2]]
    for at in range(len(revoked) - 1):
        harmed = bytearray(revoked)
        harmed[at] ^= 0x04
        file.write_bytes(harmed)
        assert issued.load() is None, at


def test_an_append_that_fails_leaves_no_half_line(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = Issued(str(file))
    issued.append(ISSUES[:1])

    def full(fd: int, data: bytes) -> int:
        monkeypatch.undo()
        os.write(fd, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        issued.append(ISSUES[1:2])
    assert issued.load() == ISSUES[:1]


def run(path: Path, *records: Issue) -> Kept:
    store = Store(str(path))
    kept = store.load()
    for record in records:
        store.put(record)
    store.close()
    return kept


@pytest.mark.parametrize("how", ["delete", "junk", "empty"])
def test_a_lost_database_costs_no_node_its_place(tmp_path: Path, how: str) -> None:
    path = tmp_path / "master.db"
    run(path, *ISSUES)
    for part in tmp_path.glob("master.db*"):
        part.unlink()
    if how != "delete":
        path.write_bytes(b"junk" * 1000 if how == "junk" else b"")
    kept = run(path)
    assert kept.facts == {"master": "m1"}
    assert kept.leaves == [do.KeepLeaves("n1", ("aa", "dd"))]
    # The database has it again, too.
    (tmp_path / "issued.jsonl").unlink()
    assert run(path).leaves == kept.leaves


def test_a_database_of_before_a_revocation_does_not_bring_the_node_back(tmp_path: Path) -> None:
    path = tmp_path / "master.db"
    run(path, *ISSUES[:3])
    old = path.read_bytes()
    run(path, *ISSUES[3:])
    path.write_bytes(old)
    assert run(path).leaves == [do.KeepLeaves("n1", ("aa", "dd"))]
    assert run(path).leaves == [do.KeepLeaves("n1", ("aa", "dd"))]


def test_a_damaged_file_leaves_the_word_to_the_database_and_is_written_anew(
    tmp_path: Path,
) -> None:
    path, file = tmp_path / "master.db", tmp_path / "issued.jsonl"
    run(path, *ISSUES)
    file.write_bytes(b"junk\n")
    assert run(path).leaves == [do.KeepLeaves("n1", ("aa", "dd"))]
    assert Issued(str(file)).load() == COUNT
