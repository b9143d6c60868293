"""Tables, numbers and escapes, as a person sees them."""

import pytest

from masterd import render


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert render.table(("A", "LONGER"), [("one", "x"), ("three", "y")]) == [
        "A      LONGER",
        "one    x",
        "three  y",
    ]


def test_numbers_stand_on_the_right() -> None:
    assert render.table(("PID", "X"), [("7", "a"), ("4711", "b")], right=("PID",)) == [
        " PID  X",
        "   7  a",
        "4711  b",
    ]


def test_a_wide_character_takes_two_columns_and_an_accent_none() -> None:
    assert render.cells("日本") == 4
    assert render.cells("e\u0301") == 1
    assert render.table(("A", "B"), [("日本", "x"), ("abcd", "y")])[1:] == ["日本  x", "abcd  y"]


def test_without_headers_there_is_one_line_for_each_row() -> None:
    assert render.table(("A",), [("x",)], show_headers=False) == ["x"]
    assert render.table(("A",), [], show_headers=False) == []


def test_the_last_column_is_cut_to_the_screen_and_says_so() -> None:
    lines = render.table(("A", "B"), [("x", "long " * 20)], width=30)
    assert all(render.cells(line) <= 30 for line in lines)
    assert lines[1].endswith("…")


def test_without_a_screen_nothing_is_cut() -> None:
    text = "x" * 500
    assert render.table(("A", "B"), [(text, text)])[1] == f"{text}  {text}"


def test_a_cut_never_splits_a_wide_character() -> None:
    assert render.cut("日本語", 4) == "日…"
    assert render.cut("日本語", 6) == "日本語"


def test_control_characters_in_a_cell_are_escaped() -> None:
    lines = render.table(("A",), [("\x1b[2J\r\nx\u202e",)])
    assert lines[1] == r"\x1b[2J\r\nx\u202e"


def test_a_painted_cell_keeps_its_column() -> None:
    painted = {"unreachable": "red"}
    lines = render.table(("STATE", "X"), [("unreachable", "a"), ("up", "b")], painted=painted)
    assert lines[1] == "\033[31munreachable\033[0m  a"
    assert lines[2] == "up           b"


def test_tabs_of_a_tasks_output_stay_and_escapes_do_not() -> None:
    assert render.screen_text("a\tb\x1b]0;title\x07") == r"a" + "\t" + r"b\x1b]0;title\x07"


@pytest.mark.parametrize(("count", "text"), [
    (0, "0B"), (999, "999B"), (1000, "1.0K"), (1536, "1.5K"), (10 << 10, "10K"),
    (1023 << 10, "1.0M"), (5 << 30, "5.0G"), (3 << 40, "3.0T"), (2 << 50, "2P"),
])
def test_bytes_are_short_for_people(count: int, text: str) -> None:
    assert render.human_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (-3, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (192, "3m12s"), (7500, "2h5m"),
    (86400, "1d"), (349200, "4d1h"),
])
def test_an_age_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert render.age(seconds) == text


@pytest.mark.parametrize(("environ", "wanted"), [
    ({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({}, False),
    ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "xterm", "NO_COLOR": ""}, True),
])
def test_colour_is_for_terminals_that_have_it_and_people_who_want_it(
    environ: dict[str, str], wanted: bool
) -> None:
    assert render.colour_wanted(environ) is wanted


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 ms"), (0.04, "0 ms"), (0.44, "0.4 ms"), (8.0, "8 ms"), (9.94, "9.9 ms"),
    (9.96, "10 ms"), (999.4, "999 ms"), (999.6, "1.0 s"), (59_940, "59.9 s"), (60_000, "1m"),
    (192_000, "3m12s"),
])
def test_milliseconds_have_three_digits_at_most(count: float, text: str) -> None:
    assert render.milliseconds(count) == text
