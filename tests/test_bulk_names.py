"""Names that a peer sends, and the names of partials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from godwit.bulk import names
from godwit.bulk.words import DEPTH, Entry
from godwit.errors import TransferError

good = st.binary(min_size=1, max_size=255).filter(
    lambda name: name not in (b".", b"..") and not set(name) & {0, ord("/")}
)


@given(good)
def test_every_name_that_a_file_can_have_is_taken_as_it_is(name: bytes) -> None:
    assert names.check(name) == name


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"x" * 256])
def test_a_name_that_no_file_can_have_is_refused(name: bytes) -> None:
    with pytest.raises(TransferError) as refusal:
        names.check(name)
    assert refusal.value.code == "bad-name"


@given(st.lists(good, max_size=20))
def test_a_path_is_its_components(path: list[bytes]) -> None:
    assert names.parts(b"/".join(path)) == tuple(path)


@pytest.mark.parametrize("path", [b"/", b"/a", b"a/", b"a//b", b"a/../b", b"./a", b"..", b"a/."])
def test_a_path_with_a_bad_component_is_refused(path: bytes) -> None:
    with pytest.raises(TransferError):
        names.parts(path)


def test_a_path_over_the_bound_of_depth_is_refused() -> None:
    assert len(names.parts(b"/".join([b"d"] * DEPTH))) == DEPTH
    with pytest.raises(TransferError) as refusal:
        names.parts(b"/".join([b"d"] * (DEPTH + 1)))
    assert refusal.value.code == "too-deep"


@given(good, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_partial_has_a_possible_name_that_tells_whose_it_is(
    name: bytes, size: int, mtime_ns: int
) -> None:
    partial = names.partial(name, Entry(b"", "file", size=size, mtime_ns=mtime_ns))
    assert names.check(partial) == partial
    assert names.stem(partial) == name[: names.STEM]


def test_a_file_of_another_size_time_or_inode_has_another_partial() -> None:
    like = (
        Entry(b"", "file", size=1), Entry(b"", "file", size=2),
        Entry(b"", "file", size=1, mtime_ns=1), Entry(b"", "file", size=1, source=b"1:2"),
    )
    assert len({names.partial(b"x", entry) for entry in like}) == len(like)


@pytest.mark.parametrize("name", [b"x", b".x.godwit-", b".x.godwit-0123", b"x.godwit-" + b"0" * 16])
def test_other_names_are_not_taken_for_partials(name: bytes) -> None:
    assert names.stem(name) is None
