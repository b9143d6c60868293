"""Command lines, right and wrong: what is understood, and what is said of the rest."""

import time
from typing import Any

import pytest

from godwit.errors import UsageError
from masterd import commands
from masterd.commands import grammar, signals


def parse(line: str | list[str]) -> dict[str, Any] | None:
    name, *words = line.split() if isinstance(line, str) else line
    command = commands.find(name)
    assert command is not None
    if command.signal_words:
        words = grammar.spell_out_signal(words)
    return grammar.parse(grammar.grammar(command.doc, command.options_first), words)


@pytest.mark.parametrize(("line", "expected"), [
    ("list", {"NODES": None, "--all": False, "--output": None}),
    ("list @web[1-4] -a -o wide", {"NODES": "@web[1-4]", "--all": True, "--output": "wide"}),
    ("list -owide", {"--output": "wide"}),
    ("list --output=wide --no-h", {"--output": "wide", "--no-headers": True}),
    ("list -aq", {"--all": True, "--quiet": True}),
    ("list -- -a", {"NODES": "-a", "--all": False}),
    ("kill t1 t2", {"TASK": ["t1", "t2"], "--signal": None}),
    ("kill -9 t1", {"TASK": ["t1"], "--signal": "9"}),
    ("kill t1 -9", {"TASK": ["t1"], "--signal": "9"}),
    ("kill -TERM t1", {"TASK": ["t1"], "--signal": "TERM"}),
    ("kill -SIGKILL t1", {"TASK": ["t1"], "--signal": "SIGKILL"}),
    ("kill -s 9 t1", {"TASK": ["t1"], "--signal": "9"}),
    ("kill -s -9 t1", {"TASK": ["t1"], "--signal": "-9"}),
    ("kill -- -1", {"TASK": ["-1"], "--signal": None}),
    ("kill 0", {"TASK": ["0"]}),
    ("move t1 n1", {"TASK": ["t1"], "NODE": "n1", "--on-unknown": "hold"}),
    ("move t1 t2 --json t3 n1", {"TASK": ["t1", "t2", "t3"], "NODE": "n1", "--json": True}),
    ("move -- -1 --json n1", {"TASK": ["-1", "--json"], "NODE": "n1", "--json": False}),
    ("kill *", {"TASK": ["*"]}),
    ("kill ١٢٣", {"TASK": ["١٢٣"]}),
    ("execute n1 ls -l --all", {"NODES": "n1", "CMD": ["ls", "-l", "--all"], "--wait": False}),
    ("execute --wait -f n1 ls -l", {"CMD": ["ls", "-l"], "--wait": True, "--follow": True}),
    ("execute -e A=1 --env B n1 x", {"--env": ["A=1", "B"], "CMD": ["x"], "--count": "1"}),
    ("execute n1 -- -prog", {"CMD": ["--", "-prog"]}),
    ("execute -- n1 ls -l", {"NODES": "n1", "CMD": ["ls", "-l"]}),
    ("execute n1 a -- b", {"CMD": ["a", "--", "b"]}),
    ("register h 1 n", {"HOST": "h", "PORT": "1", "NAME": "n"}),
    ("register h:1 n", {"HOST": "h:1", "PORT": "n", "NAME": None}),
    ("events -n 5", {"--number": "5", "REFERENCE": None}),
    ("events", {"--number": "100"}),
    ("remove -ry node1:/a node1:/b", {"WHAT": ["node1:/a", "node1:/b"], "--recursive": True}),
])
def test_what_is_right_is_understood(line: str, expected: dict[str, Any]) -> None:
    given = parse(line)
    assert given is not None
    assert {name: given[name] for name in expected} == expected


@pytest.mark.parametrize("line", ["list --help", "execute -h", "kill -h t1", "execute --help n ls"])
def test_a_call_for_help_is_no_mistake(line: str) -> None:
    assert parse(line) is None


def test_help_among_a_programs_words_is_the_programs() -> None:
    given = parse("execute n1 ls --help")
    assert given is not None and given["CMD"] == ["ls", "--help"]


@pytest.mark.parametrize(("line", "message"), [
    ("list a b", "'b' is one argument too many"),
    ("list --nonsense", "no option --nonsense"),
    ("list -z", "no option -z"),
    ("list -az", "no option -z"),
    ("list -o", "--output needs a value"),
    ("list -o -- x", "--output needs a value"),
    ("list --json=yes", "--json takes no value"),
    ("list -a -a", "--all is given twice"),
    ("list --no", "--no may be --no-headers or --no-trunc"),
    ("kill", "TASK is missing"),
    ("kill -1", "TASK is missing"),
    ("kill -9 -15 t1", "--signal is given twice"),
    ("kill -9 -s 15 t1", "--signal is given twice"),
    ("kill -٩ t1", "no option -٩"),
    ("signal t1", "SIGNAL is missing"),
    ("execute", "NODES and CMD are missing"),
    ("execute n1", "CMD is missing"),
    ("execute --", "NODES and CMD are missing"),
    ("execute --wait", "NODES and CMD are missing"),
    ("execute -1 n1 ls", "no option -1"),
    ("copy a", "DST is missing"),
    ("copy a b c", "'c' is one argument too many"),
    ("register", "HOST and PORT are missing"),
    ("exit now", "'now' is one argument too many"),
])
def test_a_mistake_is_named_and_the_usage_told(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line)
    assert caught.value.message == message
    assert caught.value.hint.startswith("usage: " + line.split()[0])
    assert caught.value.exit_status == 2


def test_five_thousand_arguments_are_taken_at_once() -> None:
    words = [f"t{n}" for n in range(5000)]
    before = time.process_time()
    killed, executed = parse(["kill", *words]), parse(["execute", "all", "echo", *words])
    assert time.process_time() - before < 1
    assert killed is not None and killed["TASK"] == words
    assert executed is not None and executed["CMD"] == ["echo", *words]


def test_an_empty_word_is_an_argument() -> None:
    given = parse(["kill", ""])
    assert given is not None and given["TASK"] == [""]


@pytest.mark.parametrize("row", commands.ROWS, ids=lambda row: row.name)
def test_each_command_has_a_summary_one_usage_and_help(row: commands.Command) -> None:
    assert 10 < len(row.summary) < 90 and not row.summary.endswith(".")
    rules = grammar.grammar(row.doc, row.options_first)
    assert rules.usage.startswith(row.name)
    assert any(option.long == "--help" for option in rules.options)
    assert all(len(line) <= 100 for line in row.doc.splitlines())
    assert row.group in commands.GROUPS


@pytest.mark.parametrize("row", commands.ROWS, ids=lambda row: row.name)
def test_every_option_of_the_help_is_one_that_docopt_sees(row: commands.Command) -> None:
    rules = grammar.grammar(row.doc, row.options_first)
    stand_ins = [argument.name for argument in rules.arguments if argument.required]
    given = grammar.parse(rules, stand_ins)
    assert given is not None
    assert {o.name for o in rules.options} <= given.keys()


def test_every_command_has_json_but_those_that_only_a_person_or_a_shell_uses() -> None:
    without = {name for name, row in commands.table().items() if "--json" not in row.doc}
    assert without == {"use", "exit", "detach", "menu", "completion"}


@pytest.mark.parametrize(("word", "number"), [
    ("9", 9), ("KILL", 9), ("SIGKILL", 9), ("kill", 9), ("sigterm", 15), ("64", 64),
    ("RTMIN", 34), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("rtmin+1", 35), ("CLD", 17),
])
def test_a_signal_has_many_names(word: str, number: int) -> None:
    assert signals.number(word) == number


@pytest.mark.parametrize("word", [
    "0", "65", "-9", "", "SIG", "NOPE", "٩", "9x", "1e1", "RTMIN+31", "RTMIN-1", "RTMAX+1", "9999",
    "DFL", "_DFL",
])
def test_what_is_no_signal_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="no signal") as caught:
        signals.number(word)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(("words", "json"), [
    (["--json"], True), (["-o", "json"], True), (["--output=jsonl", "--bad"], True),
    (["--bad", "--json"], False), (["-o", "name"], False), (["--", "--json"], False),
])
def test_json_is_noticed_as_far_as_the_words_are_right(words: list[str], json: bool) -> None:
    assert grammar.wants_json(grammar.grammar(commands.table()["list"].doc), words) is json


def test_the_json_of_a_program_is_not_ours() -> None:
    rules = grammar.grammar(commands.table()["execute"].doc, True)
    assert not grammar.wants_json(rules, ["n1", "prog", "--json"])
    assert grammar.wants_json(rules, ["--json", "n1", "prog"])


@pytest.mark.parametrize(("word", "near"), [
    ("lst", "list"), ("ilst", "list"), ("lsit", "list"),
    ("exeucte", "execute"), ("kil", "kill"), ("skil", "skill"),
    ("getrusge", "getrusage"), ("trasnfer", "transfer"), ("mvoe", "move"), ("wyh", "why"),
    ("rnu", "run"),
    ("ls", None), ("uname", None), ("xyzzy", None), ("", None),
])
def test_a_slip_is_close_to_one_command(word: str, near: str | None) -> None:
    assert commands.closest(word, slip=True) == near


def test_a_program_of_this_machine_is_meant(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "stp").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commands.closest("stp") is None
    assert commands.closest("stp", slip=True) == "stop"
