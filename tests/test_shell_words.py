"""The words of a line as it is typed, against shlex, which reads it when it is done."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masterd.shell.words import Word, quoted, split

LAST = {
    "": Word(0, "", ""),
    "li": Word(0, "li", "li"),
    "list ": Word(5, "", ""),
    "  copy  a": Word(8, "a", "a"),
    "copy 'my fi": Word(5, "'my fi", "my fi", "'"),
    'copy "my fi': Word(5, '"my fi', "my fi", '"'),
    "copy my\\ fi": Word(5, "my\\ fi", "my fi"),
    "copy my\\": Word(5, "my\\", "my", "\\"),
    "copy a'b c'd": Word(5, "a'b c'd", "ab cd"),
    'copy "a\\"b': Word(5, '"a\\"b', 'a"b', '"'),
    'copy "a\\b': Word(5, '"a\\b', "a\\b", '"'),
}


@pytest.mark.parametrize("line", LAST)
def test_the_last_word_is_where_the_cursor_is(line: str) -> None:
    assert split(line)[-1] == LAST[line]


@given(st.text(alphabet="ab '\"\\\t\n\xa0\v", max_size=12))
def test_the_words_are_those_of_shlex(line: str) -> None:
    *whole, last = split(line)
    try:
        wanted = shlex.split(line)
    except ValueError:
        assert last.open
    else:
        assert not last.open
        assert [w.value for w in whole] + [last.value] * bool(last.typed) == wanted


@given(st.text(min_size=1), st.sampled_from(["", "'", '"']))
def test_a_quoted_word_is_read_as_what_it_was(value: str, quote: str) -> None:
    assert shlex.split("copy " + quoted(value, quote)) == ["copy", value]


def test_an_unfinished_word_stays_open() -> None:
    assert quoted("my folder/", "'", finished=False) == "'my folder/"
    assert quoted("my folder/", "", finished=False) == "my\\ folder/"
