"""What Tab offers, as a table: the line before the cursor -> whole words to choose from."""

import pytest

from godwit.task.lifecycle import Status
from masterd import commands
from masterd.commands.grammar import grammar
from masterd.shell.completion import ARGUMENTS, Scene, complete
from tests.real.fake_master import node, task

#: Arguments that are the user's own words: nothing is known of them.
OWN = {"CMD", "LINE", "HOST", "PORT", "NAME", "WORD", "PID"}
FILES = ("notes.txt", "my folder/", "it's")

SCENE = Scene(
    nodes=(
        node("node1", task("k3f9a2xq"), task("k3zzzzzz"), task("old00000", status=Status.EXITED)),
        node("node2", task("bbbbbbbb", "node2"), task("heldheld", "node2", Status.HELD)),
        node("gone", state="left"),
    ),
    files=lambda beginning: [name for name in FILES if name.startswith(beginning)],
)

OFFERS: dict[str, list[str]] = {
    "exec": ["execute "],
    "  exec": ["execute "],
    "p": ["pid ", "programs ", "pause "],
    "nosuch": [],
    "uname -": [],
    "'ex": [],
    "use ": ["all ", "node1 ", "node2 "],
    "use n": ["node1 ", "node2 "],
    "use @node1,": ["@node1,node2 "],
    "use @n": ["@node1 ", "@node2 "],
    "list --js": ["--json "],
    "list --output js": ["json ", "jsonl "],
    "list -o wi": ["wide "],
    "execute ": ["all ", "node1 ", "node2 "],
    "execute --jso": ["--json "],
    "execute --json node": ["node1 ", "node2 "],
    "execute node1 ": [],
    "execute node1 --js": [],
    "kill ": ["bbbbbbbb ", "heldheld ", "k3f9a2xq ", "k3zzzzzz "],
    "kill k3": ["k3f9a2xq ", "k3zzzzzz "],
    "kill k3f9a2xq b": ["bbbbbbbb "],
    "kill 'k3f": ["'k3f9a2xq' "],
    'kill "k3f': ['"k3f9a2xq" '],
    "kill old": [],
    "kill --signal HU": ["HUP "],
    "kill --signal SIGHU": ["SIGHUP "],
    "logs old": ["old00000 "],
    "signal k3f": ["k3f9a2xq "],
    "signal k3f9a2xq USR": ["USR1 ", "USR2 "],
    "getrusage ": [
        "all ", "bbbbbbbb ", "heldheld ", "k3f9a2xq ", "k3zzzzzz ", "node1 ", "node2 ",
        "old00000 ",
    ],
    "move k3f": ["k3f9a2xq "],
    "move old": [],
    "move k3f9a2xq k3z": ["k3zzzzzz "],
    "move k3f9a2xq n": ["node1 ", "node2 "],
    "move k3f9a2xq bbbbbbbb n": ["node1 ", "node2 "],
    "move k3f9a2xq a": [],
    "move k3f9a2xq ho": ["home "],
    "move --on-unknown h": ["hold "],
    "transfer ": ["bbbbbbbb ", "heldheld ", "k3f9a2xq ", "k3zzzzzz "],
    "transfer k3f9a2xq ": ["node1 ", "node2 "],
    "transfer k3f9a2xq node1 ": ["node1 ", "node2 "],
    "transfer k3f9a2xq node1 node2 ": [],
    "resolve ": ["heldheld "],
    "completion ": ["bash ", "zsh "],
    "moves n": ["node1 ", "node2 "],
    "token --node n": ["node1 ", "node2 "],
    "copy n": ["node1:", "node2:", "notes.txt "],
    "copy my": ["my\\ folder/"],
    "copy my\\ fo": ["my\\ folder/"],
    "copy my\\": ["my\\ folder/"],
    "copy 'my fo": ["'my folder/"],
    "copy it": ["it\\'s "],
    'copy "it': ['"it\'s" '],
    "copy m'y f": [],
    "copy notes.txt node1": ["node1:"],
    "copy notes.txt node1: ": [],
    "remove node": ["node1:", "node2:"],
    "remove old": ["old00000 "],
    "run node1 Co": ["CopyProcess ", "CountProcess "],
    "run node1 ne": [],
    "run --c": ["--count ", "--cwd "],
    "help exe": ["execute "],
    "h exe": ["execute "],
}


@pytest.mark.parametrize("line", OFFERS)
def test_tab_offers_what_can_stand_there(line: str) -> None:
    assert complete(line, SCENE)[1] == OFFERS[line]


def test_every_command_is_offered_at_the_start() -> None:
    assert [word.rstrip() for word in complete("", SCENE)[1]] == list(commands.table())


def test_an_answer_replaces_the_word_from_its_start() -> None:
    assert complete("copy a 'my fo", SCENE)[0] == len("copy a ")


def test_names_that_cannot_be_typed_are_not_offered() -> None:
    scene = Scene(files=lambda beginning: ["bad\nname", "bad\udcff", "bad\x1b"])
    assert complete("copy ba", scene)[1] == []


def test_every_argument_of_every_command_completes_or_is_the_user_s_own() -> None:
    names = {
        argument.name
        for command in commands.table().values()
        for argument in grammar(command.doc, command.options_first).arguments
    }
    assert names <= ARGUMENTS.keys() | OWN


@pytest.mark.parametrize("name", commands.table())
def test_options_of_every_command_are_offered(name: str) -> None:
    command = commands.table()[name]
    options = {o.long for o in grammar(command.doc, command.options_first).options}
    offered = {word.strip() for word in complete(f"{name} --", SCENE)[1]}
    assert offered == {long for long in options if long}
