"""What a node's policy file says, and which launches it lets through."""

import contextlib
import os
import pwd
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clientd.keeper import environment, node
from clientd.keeper.gate import Gate
from clientd.keeper.policy import Policy, Wrong, read_policy
from clientd.keeper.policyfile import read_file
from clientd.keeper.settings import Settings
from clientd.keeper.templates import compile_template, plain_words
from clientd.within import may_reach
from godwit.errors import StartError, TaskError
from godwit.task.record import Spec

FULL = """
users = ["render", "nobody"]
max_tasks = 16
orphans = "kill=3600"

[commands]
mode = "templates"
templates = [
  ["/usr/bin/render", "--frame={int:frame}", "{path:scene}", "{one:draft|final}"],
  ["/usr/bin/tag", "{word:name}", "a {{b}}"],
]
env = ["LANG"]
folders = ["/srv/render"]

[files]
roots = ["/srv/render", "/data"]

[shared]
paths = ["/net/home"]
"""
RENDER = (b"/usr/bin/render", b"--frame=12", b"scenes/a b", b"draft")


def policy(text: str) -> Policy:
    return read_policy("/etc/clientd.toml", tomllib.loads(text))


def anywhere(_path: bytes) -> bool:
    return True


def spec(*words: bytes, **more: Any) -> Spec:
    return Spec("t1234567", words, **more)


def objection(
    text: str, asked: Spec, reach: Callable[[bytes], bool] = anywhere
) -> TaskError | None:
    return policy(text).objection(asked, environment.words(asked), "root", reach)


# ---- the file ------------------------------------------------------------------------------


def test_everything_that_can_be_written_is_read() -> None:
    found = policy(FULL)
    assert (found.users, found.max_tasks, found.orphans) == (("render", "nobody"), 16, "kill=3600")
    assert found.templates is not None and len(found.templates) == 2
    assert (found.env, found.folders) == (("LANG",), ("/srv/render",))
    assert (found.roots, found.shared) == (("/srv/render", "/data"), ("/net/home",))


def test_the_example_in_the_manual_is_a_policy() -> None:
    page = (Path(__file__).parent.parent / "docs" / "security.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    found = policy(example)
    assert found.users and found.max_tasks and found.templates and found.roots and found.shared
    assert found.env and found.folders and found.orphans


def test_an_empty_file_limits_nothing_but_copies() -> None:
    assert policy("") == Policy(path="/etc/clientd.toml")
    assert objection("", spec(b"rm", b"-rf", b"x")) is None
    assert policy("").full(1_000_000) is None
    assert policy("").lacks() == {}


@pytest.mark.parametrize(("text", "key", "right"), [
    ("user = ['a']", "user", "users"),
    ("users = 'a'", "users", "a list of texts"),
    ("users = []", "users", "at least one"),
    ("users = [1]", "users", "a list of texts"),
    ("users = ['']", "users", "a list of texts"),
    ("max_tasks = 0", "max_tasks", "from 1 to"),
    ("max_tasks = true", "max_tasks", "from 1 to"),
    ("max_tasks = 1.5", "max_tasks", "from 1 to"),
    ("max_tasks = '4'", "max_tasks", "from 1 to"),
    ("max_tasks = 9999999999", "max_tasks", "from 1 to"),
    ("orphans = 3", "orphans", "a text"),
    ("commands = 'open'", "commands", "[commands]"),
    ("[commands]\nmode = 'closed'", "commands.mode", '"open" or "templates"'),
    ("[commands]\nmode = 3", "commands.mode", '"open" or "templates"'),
    ("[commands]\nallow = []", "commands.allow", "mode"),
    ("[commands]\ntemplates = [['/x']]", "commands.templates", 'mode = "templates"'),
    ("[commands]\nenv = ['A']", "commands.env", 'mode = "templates"'),
    ("[commands]\nmode = 'templates'", "commands.templates", "lists of words"),
    ("[commands]\nmode = 'templates'\ntemplates = ['/x']", "commands.templates", "lists of words"),
    ("[commands]\nmode = 'templates'\ntemplates = [[]]", "commands.templates", "a program"),
    ("[commands]\nmode = 'templates'\ntemplates = [['render']]", "'render'", "whole path"),
    ("[commands]\nmode = 'templates'\ntemplates = [['/{word:x}']]", "'/{word:x}'", "holes"),
    ("[commands]\nmode = 'templates'\ntemplates = [['/x', '{any:x}']]", "{any:x}", "{int:NAME}"),
    ("[commands]\nmode = 'templates'\ntemplates = [['/x', '{int}']]", "{int}", "{int:NAME}"),
    ("[commands]\nmode = 'templates'\ntemplates = [['/x', '{one:a|}']]", "{one:a|}", "A|B|C"),
    ("[commands]\nmode = 'templates'\ntemplates = [['/x', 'a}']]", "'a}'", "}}"),
    ("[commands]\nmode = 'templates'\ntemplates = [['/x', '{int:a}{int:b}']]", "2 holes", "one"),
    ("[commands]\nmode = 'templates'\ntemplates = [['/x']]\nenv = ['A=']", "commands.env", "name"),
    ("[files]\nroots = ['srv']", "files.roots", "from / on"),
    ("[files]\nroots = ['/srv/../etc']", "files.roots", "from / on"),
    ("[files]\nroot = ['/srv']", "files.root", "roots"),
    ("[shared]\npaths = '/net'", "shared.paths", "a list of texts"),
    ("[share]\npaths = ['/net']", "share", "shared"),
])
def test_what_is_not_as_it_should_be_is_named_with_what_would_be_right(
    text: str, key: str, right: str
) -> None:
    with pytest.raises(Wrong) as refusal:
        policy(text)
    assert key in str(refusal.value) and right in str(refusal.value)
    assert "\n" not in str(refusal.value)


#: What TOML can hold, with the keys that mean something among them.
KEYS = st.sampled_from([
    "users", "max_tasks", "orphans", "commands", "files", "shared", "mode", "templates", "env",
    "folders", "roots", "paths",
]) | st.text(max_size=4)
TEXTS = st.sampled_from(["open", "templates", "/x", "{int:n}", "{one:a|b}", "{", ""]) | st.text()
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_the_toml_holds_is_a_policy_or_wrong(document: dict[str, Any]) -> None:
    with contextlib.suppress(Wrong):
        read_policy("/etc/clientd.toml", document)


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=4))
def test_what_fits_a_template_has_its_words_around_the_holes(words: list[bytes]) -> None:
    template = compile_template(["/x", "-n{int:n}", "{word:w}", "--to={path:p}/end"])
    command = (b"/x", *words)
    if template.fits(command, anywhere):
        _, number, word, path = command
        assert number.startswith(b"-n") and number[2:].isdigit()
        assert word and word[:1] not in b"-.+" and b"/" not in word
        assert path.startswith(b"--to=") and path.endswith(b"/end") and b"\0" not in path


@pytest.mark.parametrize(("option", "text", "kill_s"), [
    (None, "", 0.0), (None, "orphans = 'kill=9'", 9.0), (0.0, "orphans = 'kill=9'", 0.0),
    (5.0, "orphans = 'keep'", 5.0), (None, "orphans = 'keep'", 0.0),
])
def test_the_command_line_says_what_becomes_of_orphans_before_the_file_does(
    tmp_path: Path, option: float | None, text: str, kill_s: float
) -> None:
    (tmp_path / "clientd.toml").write_text(text)
    (tmp_path / "clientd.toml").chmod(0o600)
    settings = Settings("n1", "hub:1", "", str(tmp_path), str(tmp_path), option)
    assert node.with_policy(settings).orphans_kill_s == kill_s


def test_a_file_that_others_may_change_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clientd.toml"

    def refused() -> str:
        with pytest.raises(StartError) as refusal:
            read_file(str(path), "/files")
        assert str(refusal.value).startswith(f"{path}: ") and "\n" not in str(refusal.value)
        return str(refusal.value)

    assert "No such file" in refused()
    path.write_bytes(b"users = [\n")
    path.chmod(0o644)
    assert "not TOML" in refused()
    path.write_bytes(b"# \xe9")
    assert "UTF-8" in refused()
    path.write_bytes(b"users = ['no-such-user-at-all']")
    assert "no-such-user-at-all" in refused()
    path.write_bytes(b"#" * 2_000_000)
    assert "longer" in refused()
    path.write_bytes(b"")
    read_file(str(path), "/files")
    for mode in (0o664, 0o646):
        path.chmod(mode)
        assert "others may change it" in refused()


@pytest.mark.parametrize("inside", [True, False])
def test_a_program_that_a_copy_could_replace_is_refused(tmp_path: Path, inside: bool) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "bin").mkdir(parents=True)
    link.symlink_to(real)
    program = (link if inside else tmp_path) / "bin" / "render"
    path = tmp_path / "clientd.toml"
    path.write_text(
        f"[commands]\nmode = 'templates'\ntemplates = [['{program}']]\n[files]\nroots = ['{real}']"
    )
    path.chmod(0o600)
    if inside:
        with pytest.raises(StartError, match="a copy could replace it"):
            read_file(str(path), "/files")
    else:
        assert read_file(str(path), "/files").templates


# ---- commands ------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [
    RENDER,
    (b"/usr/bin/render", b"--frame=0", b"/data/x", b"final"),
    (b"/usr/bin/tag", b"v1.2@x+y-z", b"a {b}"),
])
def test_a_command_that_fits_a_template_is_started(words: tuple[bytes, ...]) -> None:
    assert objection(FULL, spec(*words, user="render")) is None


@pytest.mark.parametrize("words", [
    (b"render", *RENDER[1:]),
    (b"/usr/bin/../bin/render", *RENDER[1:]),
    RENDER[:-1],
    (*RENDER, b"more"),
    (b"/usr/bin/render", b"--frame=-1", b"x", b"draft"),
    (b"/usr/bin/render", b"--frame=", b"x", b"draft"),
    (b"/usr/bin/render", b"--frame=1\n", b"x", b"draft"),
    (b"/usr/bin/render", b"--frame=\xd9\xa1", b"x", b"draft"),
    (b"/usr/bin/render", b"--frame=1234567890123456789", b"x", b"draft"),
    (b"/usr/bin/render", b"--frame=1", b"-o", b"draft"),
    (b"/usr/bin/render", b"--frame=1", b"", b"draft"),
    (b"/usr/bin/render", b"--frame=1", b"a/../../etc/shadow", b"draft"),
    (b"/usr/bin/render", b"--frame=1", b"..", b"draft"),
    (b"/usr/bin/render", b"--frame=1", b"x", b"draft|final"),
    (b"/usr/bin/render", b"--frame=1", b"x", b"draft\n"),
    (b"/usr/bin/tag", b"-x", b"a {b}"),
    (b"/usr/bin/tag", b".x", b"a {b}"),
    (b"/usr/bin/tag", b"a/b", b"a {b}"),
    (b"/usr/bin/tag", b"a b", b"a {b}"),
    (b"/usr/bin/tag", b"a\n", b"a {b}"),
    (b"/usr/bin/tag", b"x", b"a {{b}}"),
    (b"/bin/sh", b"-c", b"id"),
])
def test_a_command_that_fits_none_is_refused_with_what_would_fit(words: tuple[bytes, ...]) -> None:
    refused = objection(FULL, spec(*words, user="render"))
    assert refused is not None and refused.code == "policy"
    assert "/usr/bin/render --frame={int:frame}" in str(refused) and "\n" not in str(refused)


def test_a_path_is_asked_for_from_where_the_task_starts() -> None:
    asked: list[bytes] = []

    def reach(path: bytes) -> bool:
        asked.append(path)
        return False

    assert objection(FULL, spec(*RENDER, user="render"), reach)
    assert objection(FULL, spec(*RENDER, user="render", cwd=b"/srv/render"), reach)
    assert asked == [b"scenes/a b", b"/srv/render/scenes/a b"]


def test_a_shell_is_refused_unless_its_line_is_the_words_of_a_template() -> None:
    for line, fits in (
        (b"/usr/bin/render --frame=1 x draft", True),
        (b"/usr/bin/render  --frame=1   x draft", True),
        (b"/usr/bin/render --frame=1 x draft; id", False),
        (b"/usr/bin/render --frame=1 $x draft", False),
        (b"/usr/bin/render --frame=1 x draft\nid", False),
        (b"/usr/bin/render --frame=1 'x' draft", False),
        (b"/usr/bin/render --frame=1 x* draft", False),
        (b"id", False),
        (b"", False),
    ):
        refused = objection(FULL, spec(line, shell=True, user="render"))
        assert (refused is None) is fits, line
        if refused:
            assert "lines for a shell are not run here" in str(refused)


def test_a_template_may_be_a_line_for_a_shell() -> None:
    text = "[commands]\nmode='templates'\ntemplates = [['/bin/sh', '-c', 'uptime; df']]"
    assert objection(text, spec(b"uptime; df", shell=True)) is None
    assert objection(text, spec(b"/bin/sh", b"-c", b"uptime; df")) is None
    assert objection(text, spec(b"uptime; df; id", shell=True))


@given(st.binary(max_size=40))
def test_a_plain_line_is_what_the_shell_would_execute(line: bytes) -> None:
    words = plain_words(line)
    if words:
        assert words[0].startswith(b"/") and b"=" not in words[0]
        assert not set(line) & set(b"|&;<>()$`\\\"'*?[]#~!{}\n\t%^\0")
        assert words == tuple(line.split(b" ")) or b"  " in line


@pytest.mark.parametrize(("more", "named"), [
    ({"env": {b"LD_PRELOAD": b"x.so"}}, "LD_PRELOAD"),
    ({"env": {b"LANG": b"C", b"PATH": b"/tmp"}}, "PATH"),
    ({"cwd": b"/tmp"}, "/srv/render"),
    ({"cwd": b"/srv/render/"}, "/srv/render"),
    ({"kind": "python"}, "python"),
    ({"user": "root"}, "root"),
    ({"user": ""}, "root"),
])
def test_templates_fix_what_is_around_a_command_too(more: dict[str, Any], named: str) -> None:
    refused = objection(FULL, spec(*RENDER, **{"user": "render", **more}))
    assert refused is not None and named in str(refused)


def test_what_the_file_names_around_a_command_may_be_used() -> None:
    asked = spec(*RENDER, user="nobody", env={b"LANG": b"C"}, cwd=b"/srv/render")
    assert objection(FULL, asked) is None


# ---- the gate ------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "code"), [
    (spec(), "no-program"),
    (spec(shell=True), "no-program"),
    (spec(b"a", b"b", shell=True), "no-program"),
    (spec(b"a\0b"), "nul-byte"),
    (spec(b"a", cwd=b"\0"), "nul-byte"),
    (spec(b"a", env={b"": b"x"}), "bad-env"),
    (spec(b"a", user="no-such-user-at-all"), "no-user"),
    (spec(b"a", user="a\0b"), "no-user"),
    (spec(b"a"), "policy"),
])
def test_a_malformed_launch_passes_no_gate(asked: Spec, code: str) -> None:
    refused = Gate(policy(FULL), b"/files", "root").objection(asked, 0)
    assert refused is not None and refused.code == code


def test_no_more_tasks_than_the_file_says_have_a_process() -> None:
    gate = Gate(policy("max_tasks = 2"), b"/files", "root")
    assert gate.objection(spec(b"x"), 1) is None
    refused = gate.objection(spec(b"x"), 2)
    assert refused is not None and refused.code == "max-tasks" and "2" in str(refused)


def test_a_path_hole_reaches_into_the_roots_and_by_no_link_out_of_them(tmp_path: Path) -> None:
    root, files = tmp_path / "root", tmp_path / "files"
    (root / "in").mkdir(parents=True)
    files.mkdir()
    (root / "here").touch()
    (root / "out").symlink_to("/etc")
    (files / "link").symlink_to("/etc/passwd")

    def reached(path: str) -> bool:
        return may_reach((os.fsencode(root),), os.fsencode(files), os.fsencode(path))

    for path in (f"{root}/here", f"{root}/in/new", "new", f"{files}/new"):
        assert reached(path), path
    for path in (f"{root}/out/passwd", f"{root}/out", "link", "no/such", "/etc/passwd", "../x"):
        assert not reached(path), path


def test_what_a_policy_takes_away_is_said() -> None:
    lacks = policy(FULL).lacks()
    assert lacks.keys() == {"shell", "python", "other-users", "adopted", "more-tasks"}
    assert "2 templates" in lacks["shell"] and "render, nobody" in lacks["other-users"]


def test_a_template_shows_as_it_was_written() -> None:
    assert compile_template(["/x", "{int:n}", "{{"]).text == "/x {int:n} {{"


#: A user that we are not.
OTHER = next(user.pw_name for user in pwd.getpwall() if user.pw_uid != os.geteuid())


def coming(kind: str = "shell", user: str = "") -> Spec:
    return Spec("t1234567", (b"/usr/bin/sleep", b"9"), kind=kind, user=user)


def test_what_comes_as_images_may_be_any_users_where_root_may_run_anything() -> None:
    gate = Gate(Policy(), b"/files", "root")
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert gate.objection_to_guest(coming(), 0) is None
    assert gate.objection_to_guest(coming(user=me), 0) is None
    if os.geteuid() == 0:
        assert gate.objection_to_guest(coming(user=OTHER), 0) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act for another user")
def test_no_images_come_where_root_runs_nothing_whoever_the_tasks_user_is() -> None:
    gate = Gate(policy(f"users = ['{OTHER}']"), b"/files", "root")
    assert gate.objection(coming(user=OTHER), 0) is None
    refused = gate.objection_to_guest(coming(user=OTHER), 0)
    assert refused is not None and refused.code == "policy"
    assert "no task runs as root" in str(refused)
    assert gate.objection_to_guest(coming("python", OTHER), 0) is None
    both = Gate(policy(f"users = ['{OTHER}', 'root']"), b"/files", "root")
    assert both.objection_to_guest(coming(user=OTHER), 0) is None


def test_images_are_not_taken_where_only_certain_commands_run() -> None:
    text = '[commands]\nmode = "templates"\ntemplates = [["/usr/bin/sleep", "9"]]'
    gate = Gate(policy(text), b"/files", "root")
    assert gate.objection(coming(), 0) is None
    refused = gate.objection_to_guest(coming(), 0)
    assert refused is not None and refused.code == "policy"
