"""Whether a Python task can move, and why not: every reason, alone."""

import pytest
from msgspec.structs import replace

from godwit.task.pickled import HELD, judge
from godwit.task.reasons import OBSTACLES
from godwit.task.verdict import OpenFile, Place, Seen, Traits, Verdict

TASK = Traits(
    "x86_64", files=(OpenFile(b"/work/in", 5, carried=True), OpenFile(b"/etc/conf", 9, 1, 2)),
    module="aa",
)
HERE = Place("here", "x86_64", ("python",))
THERE = Place(
    "there", "aarch64", ("python",), programs=frozenset({"Count"}), module="aa",
    files={b"/etc/conf": Seen(9)},
)


def judged(
    there: Place = THERE, task: Traits = TASK, program: str = "Count", digest: str = "",
    here: Place = HERE,
) -> Verdict:
    return judge(task, program, digest, here, there, 8)


def told(verdict: Verdict) -> list[tuple[str, str]]:
    return [(reason.code, reason.verdict) for reason in verdict.reasons]


def test_a_task_whose_program_is_there_can_go_to_another_kind_of_machine() -> None:
    assert judged() == Verdict("there", "yes", (), 8, "python")


@pytest.mark.parametrize(("there", "code", "text"), [
    (replace(THERE, can=("shell",), lacks={"python": "its policy lets 1 template run"}),
     "python", "there: its policy lets 1 template run"),
    (replace(THERE, programs=frozenset()), "no-program", "there has no program Count"),
    (replace(THERE, module=""), "no-program", "there has no program Count"),
    (replace(THERE, module="bb"), "other-source",
     "Count on there is not the source that the task runs"),
    (replace(THERE, objection=("policy", "not as root")), "policy", "there: not as root"),
    (replace(THERE, lacks_cwd=b"/files/sub"), "cwd",
     "its working directory /files/sub is not on there"),
    (replace(THERE, files={}), "file-missing", "/etc/conf is not on there"),
])
def test_what_is_wrong_with_a_node_is_told(there: Place, code: str, text: str) -> None:
    verdict = judged(there)
    assert told(verdict) == [(code, "no")]
    assert (verdict.verdict, verdict.blackout_ms) == ("no", None)
    assert verdict.reasons[0].text == text


def test_a_node_that_runs_no_python_lets_none_go() -> None:
    assert told(judged(here=replace(HERE, can=()))) == [("python", "no")]


@pytest.mark.parametrize("there", [
    replace(THERE, module=None), replace(THERE, module="", programs=frozenset()),
])
def test_a_source_that_goes_along_needs_no_program_there(there: Place) -> None:
    assert judged(there, program="./file.py:Count", digest="dd").verdict == "yes"


@pytest.mark.parametrize(("module", "word"), [(None, "yes"), ("aa", "yes"), ("", "no")])
def test_of_a_module_nothing_is_said_that_is_not_known(module: str | None, word: str) -> None:
    there = replace(THERE, module=module, programs=frozenset())
    assert judged(there, program="module:Count").verdict == word


def test_children_forbid_and_threads_are_a_condition() -> None:
    assert told(judged(task=replace(TASK, children=1))) == [("has-children", "no")]
    assert told(judged(task=replace(TASK, threads=2))) == [("has-threads", "if")]


@pytest.mark.parametrize("kind", OBSTACLES)
def test_what_an_object_may_hold_is_a_condition_and_the_rest_does_not_matter(kind: str) -> None:
    verdict = judged(task=replace(TASK, obstacles=((kind, "NAMED"), (kind, "NAMED"))))
    assert told(verdict) == ([(OBSTACLES[kind].code, "if")] if kind in HELD else [])
    assert verdict.blackout_ms == 8
    assert all("{}" not in reason.text for reason in verdict.reasons)


def test_a_file_of_another_size_is_a_condition_unless_it_is_the_same_file() -> None:
    assert told(judged(replace(THERE, files={b"/etc/conf": Seen(8)}))) == [("file-differs", "if")]
    shared = Seen(8, "", 1, 2)
    assert judged(replace(THERE, files={b"/etc/conf": shared})).verdict == "yes"


def test_what_is_below_a_shared_folder_needs_no_look() -> None:
    assert judged(replace(THERE, files={}, shared=(b"/etc",))).verdict == "yes"
