"""What Tab offers after godwit in another shell, as a table."""

import pytest

from masterd.shell import outer
from masterd.shell.completion import Scene
from tests.real.fake_master import node, task

SCENE = Scene(
    nodes=(node("node1", task("k3f9a2xq")), node("node2", task("bbbbbbbb", "node2"))),
    files=lambda beginning: [name for name in ("it's", "a file") if name.startswith(beginning)],
)

#: The line, the shell's own word at its end, and what may replace that.
OFFERS = {
    ("godwit exec", "exec"): ["execute "],
    ("godwit s", "s"): ["snapshots ", "sKill ", "signal ", "stop ", "shell "],
    ("godwit us", "us"): [],
    ("godwit --s", "--s"): ["--state "],
    ("godwit --state", "--state"): ["--state "],
    ("godwit --state ", ""): [],
    ("godwit --state /x ki", "ki"): ["kill "],
    ("godwit --state=/x --st", "--st"): ["--state "],
    ("/bin/godwit kill ", ""): ["bbbbbbbb ", "k3f9a2xq "],
    ("godwit --state /x kill k", "k"): ["k3f9a2xq "],
    ("godwit kill --js", "--js"): ["--json "],
    ("godwit execute @node1,n", "node1,n"): ["node1,node2 "],
    ("godwit execute @node1,n", "n"): ["node2 "],
    ("godwit kill --signal=HU", "HU"): [],
    ("godwit copy it", "it"): ["it\\'s "],
    ("godwit copy 'a f", "a f"): ["a file' "],
    ('godwit copy "a f', "a f"): ['a file" '],
    ("godwit copy 'a f", "other"): [],
    ("godwit nosuch ", ""): [],
    ("godwit", "godwit"): [],
    ("", ""): [],
    ("godwit move k3f9a2xq n", "n"): ["node1 ", "node2 "],
}


@pytest.mark.parametrize(("line", "word"), OFFERS)
def test_tab_offers_what_can_stand_there(line: str, word: str) -> None:
    assert outer.offers(outer.asked(line), word, lambda: SCENE) == OFFERS[line, word]


STATES = {
    "godwit kill ": None, "godwit --state /x kill ": "/x", "godwit --state=~/y kill ": "~/y",
    "godwit --state '/a b' kill ": "/a b", "godwit kill --state /x": None,
    "godwit --version --state /x kill ": "/x", "godwit --state /x ": "/x",
}


@pytest.mark.parametrize("line", STATES)
def test_the_line_says_whose_nodes_are_meant(line: str) -> None:
    assert outer.asked(line).state == STATES[line]


def test_nobody_is_asked_for_nodes_before_there_is_a_command() -> None:
    def never() -> Scene:
        raise AssertionError

    for line in ("godwit ", "godwit k", "godwit -", "godwit --state /x ki"):
        outer.offers(outer.asked(line), "", never)


@pytest.mark.parametrize(("line", "offer", "rest"), [
    ("godwit copy 'a f", "a file' ", "a file"), ('godwit copy "a f', 'a file" ', "a file"),
    ("godwit copy 'a f", "a folder/", "a folder/"), ("godwit kill k", "k3f9a2xq ", "k3f9a2xq "),
    ("godwit copy a\\", "a\\ file ", "a\\ file "),
])
def test_a_shell_that_closes_quotes_gets_none(line: str, offer: str, rest: str) -> None:
    assert outer.without_close(outer.asked(line), offer) == rest
