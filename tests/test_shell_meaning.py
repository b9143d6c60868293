"""What a line means, as a table."""

import pytest

from masterd.shell.meaning import Meaning, Mistake, Nothing, Remote, Words, meaning

MEANINGS: dict[str, Meaning] = {
    "": Nothing(),
    " \t ": Nothing(),
    "# list": Nothing(),
    "list": Words(["list"]),
    "  h  copy\r\n": Words(["h", "copy"]),
    "execute node1 echo 'a  b' c\\ d": Words(["execute", "node1", "echo", "a  b", "c d"]),
    "kill '' *": Words(["kill", "", "*"]),
    "list # all": Words(["list", "#", "all"]),
    "execute node1 'a": Mistake("execute: no closing '; nothing was run"),
    'list "': Mistake('list: no closing "; nothing was run'),
    "list \\": Mistake("list: a backslash at the end has nothing to escape; nothing was run"),
    "uname -a": Remote("uname -a", "uname"),
    "LIST": Remote("LIST", "LIST"),
    "'list'": Remote("'list'", "'list'"),
    "list;uname": Remote("list;uname", "list;uname"),
    "echo 'it": Remote("echo 'it", "echo"),
    "\udcff\udcfe": Remote("\udcff\udcfe", "\udcff\udcfe"),
    "list \udcff": Words(["list", "\udcff"]),
}


@pytest.mark.parametrize("line", MEANINGS, ids=ascii)
def test_the_first_word_decides_what_a_line_means(line: str) -> None:
    assert meaning(line) == MEANINGS[line]


def test_a_line_of_a_megabyte_is_read_whole() -> None:
    assert meaning("list " + "x" * 1_000_000) == Words(["list", "x" * 1_000_000])
