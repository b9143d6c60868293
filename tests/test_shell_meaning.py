"""What a line means, as a table."""

import pytest

from masterd.shell.meaning import Meaning, Mistake, Nothing, Remote, Words, meaning
from masterd.shell.older import FORM

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
    "k3f -fromLocation node1 -toLocation node2":
        Words(["transfer", "--", "k3f", "node1", "node2"]),
    "'k 3' -fromLocation node1 -toLocation node2":
        Remote("'k 3' -fromLocation node1 -toLocation node2", "'k"),
    "k3f -toLocation 'no de' -fromLocation n1": Words(["transfer", "--", "k3f", "n1", "no de"]),
    "k3f -toLocation node2": Words(["move", "--", "k3f", "node2"]),
    "k3f -toLocation": Mistake(f"{FORM}; nothing was run"),
    "k3f -fromLocation node1": Mistake(f"{FORM}; nothing was run"),
    "k3f -toLocation node1 -toLocation node2": Mistake(f"{FORM}; nothing was run"),
    "k3f -toLocation node1 node2": Mistake(f"{FORM}; nothing was run"),
    "k3f -toLocation node1 -x node2": Mistake(f"{FORM}; nothing was run"),
    "grep -r -toLocation .": Remote("grep -r -toLocation .", "grep"),
    "k3f -toLocations x": Remote("k3f -toLocations x", "k3f"),
    "CountProcess 5 0.1 -location node1": Words(["run", "--", "node1", "CountProcess", "5", "0.1"]),
    "./t.py:T 'a b' -location node1": Words(["run", "--", "node1", "./t.py:T", "a b"]),
    "mod:Class -location 'node 1'": Words(["run", "--", "node 1", "mod:Class"]),
    "CountProcess 5 -location": Remote("CountProcess 5 -location", "CountProcess"),
    "find . -location node1": Remote("find . -location node1", "find"),
    "\udcff\udcfe": Remote("\udcff\udcfe", "\udcff\udcfe"),
    "list \udcff": Words(["list", "\udcff"]),
}


@pytest.mark.parametrize("line", MEANINGS, ids=ascii)
def test_the_first_word_decides_what_a_line_means(line: str) -> None:
    assert meaning(line) == MEANINGS[line]


def test_a_line_of_a_megabyte_is_read_whole() -> None:
    assert meaning("list " + "x" * 1_000_000) == Words(["list", "x" * 1_000_000])
