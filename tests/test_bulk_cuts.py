"""Copies whose connection breaks anywhere: never half a file, and a repeated copy goes on."""

import bisect
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from godwit import bulk
from godwit.bulk.words import BLOCK
from godwit.errors import TransferError
from tests.copying import Tree, copied, cut_after, partials, plant, seen, times
from tests.test_bulk_copy import folders


def holds_no_half(there: Tree, source: Tree) -> bool:
    """Every file and link below its final name is as at the source."""
    if isinstance(there, dict):
        assert isinstance(source, dict)
        return all(
            b".godwit-" in name or holds_no_half(inside, source[name])
            for name, inside in there.items()
        )
    return there == source


def check_cut(outcomes: tuple[object, object]) -> None:
    for outcome in outcomes:
        assert isinstance(outcome, TransferError), outcome
        assert outcome.code == "cut"


# Derandomized: each run of the checks tries the same cuts.
@settings(deadline=None, max_examples=60, derandomize=True)
@given(folders, st.lists(st.integers(1, 6000), min_size=1, max_size=4))
def test_a_tree_cut_anywhere_holds_no_half_file_and_is_completed_by_a_repeat(
    tree: dict[bytes, Tree], cuts: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, target = (os.path.join(os.fsencode(scratch), name) for name in (b"a", b"b"))
        plant(source, tree)
        for count in cuts:
            sent, received = cut_after(count, source, target)
            if isinstance(received, bulk.Summary):  # it was not cut
                assert sent == received
                break
            assert "cut" in (sent.code if isinstance(sent, TransferError) else "", received.code)
            if os.path.exists(target):
                assert holds_no_half(seen(target), seen(source))
        else:
            copied(source, target)
        assert seen(target) == seen(source)
        assert times(target) == times(source)
        assert not partials(os.fsencode(scratch))


@pytest.mark.parametrize("tree", [{}, {b"x": (b"1", 0o644)}])
def test_a_folder_whose_last_words_are_lost_is_gone_on_with(
    tmp_path: Path, tree: dict[bytes, Tree]
) -> None:
    source = os.fsencode(tmp_path / "a")
    plant(source, tree)
    (tmp_path / "scratch").mkdir()
    count = total_of(source, os.fsencode(tmp_path / "scratch" / "c"))
    # From the end: in the last message, the one before it, the last file.
    for short in range(1, 120, 3):
        target = os.fsencode(tmp_path / f"b{short}")
        sent, received = cut_after(count - short, source, target)
        assert isinstance(received, TransferError) and received.code == "cut"
        if isinstance(sent, bulk.Summary):  # it knew, and only its last word was lost
            assert seen(target) == seen(source)
        assert copied(source, target).path == target, f"it went into it, cut {short} bytes short"
        assert seen(target) == seen(source)
        assert not partials(os.fsencode(tmp_path))


def total_of(source: bytes, target: bytes) -> int:
    """Bytes that the sender of a copy of it says."""
    def is_whole(count: int) -> bool:
        return isinstance(cut_after(count, source, b"%b%d" % (target, count))[1], bulk.Summary)

    return bisect.bisect_left(range(4000), True, key=is_whole)


@pytest.mark.parametrize("blocks", [0.01, 1.5, 2.9])
def test_a_file_cut_goes_on_from_what_came(tmp_path: Path, blocks: float) -> None:
    source, target = os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")
    plant(source, (os.urandom(3 * BLOCK), 0o640))
    check_cut(cut_after(int(blocks * BLOCK), source, target))
    assert not os.path.exists(target)
    (partial,) = partials(os.fsencode(tmp_path)) or [b""]
    came = os.stat(tmp_path / os.fsdecode(partial)).st_size if partial else 0
    assert copied(source, target).kept == came >= int(blocks) * BLOCK
    assert seen(target) == seen(source)
    assert not partials(os.fsencode(tmp_path))


def test_a_partial_that_was_damaged_is_not_gone_on_from(tmp_path: Path) -> None:
    source, target = os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")
    plant(source, (os.urandom(3 * BLOCK), 0o640))
    cut_after(2 * BLOCK + 1000, source, target)
    (partial,) = partials(os.fsencode(tmp_path))
    with open(tmp_path / os.fsdecode(partial), "r+b") as file:
        file.write(b"damage")
    assert copied(source, target).kept == 0
    assert seen(target) == seen(source)


def test_a_source_that_changed_since_the_cut_is_copied_anew(tmp_path: Path) -> None:
    source, target = os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")
    plant(source, (bytes(3 * BLOCK), 0o640))
    cut_after(2 * BLOCK + 1000, source, target)
    os.utime(source, ns=(1, 1))
    assert copied(source, target).kept == 0
    assert seen(target) == seen(source)


def test_a_file_cut_over_an_existing_one_leaves_that_as_it_was(tmp_path: Path) -> None:
    source, target = os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")
    plant(source, (bytes(3 * BLOCK), 0o640))
    plant(target, (b"old", 0o600))
    check_cut(cut_after(2 * BLOCK, source, target))
    assert seen(target) == (b"old", 0o600)


def test_a_folder_cut_under_a_new_name_is_gone_on_with_and_not_gone_into(tmp_path: Path) -> None:
    source, target = os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")
    tree: dict[bytes, Tree] = {b"%d" % at: (os.urandom(BLOCK // 2), 0o644) for at in range(6)}
    plant(source, {**tree, b"closed": {b"x": (b"1", 0o400)}})
    os.chmod(source + b"/closed", 0o500)
    check_cut(cut_after(2 * BLOCK, source, target))
    assert partials(os.fsencode(tmp_path)), "the mark of an unfinished folder"
    summary = copied(source, target)
    assert summary.path == target
    assert summary.kept >= BLOCK
    assert seen(target) == seen(source)
    assert os.stat(target + b"/closed").st_mode & 0o777 == 0o500
    assert not partials(os.fsencode(tmp_path))


def test_a_complete_copy_repeated_sends_nothing_again_and_sets_modes(tmp_path: Path) -> None:
    source, into = os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "to")
    plant(source, {b"%d" % at: (b"%d" % at, 0o644) for at in range(200)})
    os.mkdir(into)
    first = copied(source, into)
    os.chmod(source + b"/7", 0o700)
    assert copied(source, into) == bulk.Summary(
        first.size, first.files, first.path, kept=first.size
    )
    assert seen(into + b"/a") == seen(source)
