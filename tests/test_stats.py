"""CRIU's own figures, and what damaged files of them come to."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clientd.keeper import stats

#: dump { freezing_time: 300, frozen_time: 23000, pages_written: 5 }
INNER = b"\x08\xac\x02\x10\xd8\xb3\x01\x38\x05"
WHOLE = struct.pack("<III", stats.SERVICE_MAGIC, stats.STATS_MAGIC, 2 + len(INNER)) + (
    b"\x0a" + bytes([len(INNER)]) + INNER
)


def test_a_dumps_figures_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "stats-dump").write_bytes(WHOLE)
    assert stats.of_dump(str(tmp_path)) == {
        "freezing_us": 300, "frozen_us": 23000, "pages_written": 5
    }
    assert stats.of_restore(str(tmp_path)) == {}


@pytest.mark.parametrize("data", [
    b"", WHOLE[:11], WHOLE[:-1], b"\0" * 40, WHOLE[:12] + b"\xff" * 20,
    WHOLE[:12] + b"\x0a\x7f" + INNER, WHOLE[:12] + b"\x0d" + INNER + b"\0",
])
def test_figures_that_are_damaged_are_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "stats-dump").write_bytes(data)
    assert stats.of_dump(str(tmp_path)) == {}


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_an_error(message: bytes) -> None:
    try:
        found = stats.fields(message)
    except ValueError:
        return
    assert all(value >= 0 for value in found.values() if isinstance(value, int))
