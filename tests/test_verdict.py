"""Whether a task can move as it is, and why not: every reason, alone."""

import pytest
from msgspec import json
from msgspec.structs import replace

from godwit.task.reasons import OBSTACLES
from godwit.task.verdict import (
    Binary,
    Ids,
    OpenFile,
    Place,
    Seen,
    Traits,
    Verdict,
    judge,
    version_of,
)

CAN = ("shell", "contain", "apart", "users", "criu=4.1.1")
TASK = Traits(
    "x86_64", binaries=(Binary(b"/bin/sh", 100, "ab12"), Binary(b"/opt/script", 7)),
    files=(OpenFile(b"/work/out", 5, carried=True), OpenFile(b"/etc/conf", 9, 1, 2)),
    cwd=b"/work", memory_bytes=100 << 20, cpu=frozenset({"sse2", "avx2"}),
)
HERE = Place("here", "x86_64", CAN)
THERE = Place(
    "there", "x86_64", CAN, cpu=frozenset({"sse2", "avx2", "avx512f"}), free_bytes=1 << 30,
    files={
        b"/bin/sh": Seen(100, "ab12"), b"/opt/script": Seen(7), b"/etc/conf": Seen(9),
        b"/work": Seen(0),
    },
    rate=100e6,
)


def without(path: bytes) -> Place:
    return replace(THERE, files={p: seen for p, seen in THERE.files.items() if p != path})


def with_(path: bytes, seen: Seen) -> Place:
    return replace(THERE, files={**THERE.files, path: seen})


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]


def test_a_task_that_can_move_can_and_its_blackout_is_estimated() -> None:
    assert judge(TASK, HERE, THERE) == Verdict("there", "yes", (), 1139)


def test_without_a_known_rate_no_blackout_is_made_up() -> None:
    assert judge(TASK, HERE, replace(THERE, rate=0.0)) == Verdict("there", "yes")


@pytest.mark.parametrize(("there", "code", "text"), [
    (replace(THERE, can=("shell", "apart"), lacks={"criu": "clientd does not run as root"}),
     "criu", "there: clientd does not run as root"),
    (replace(THERE, can=("shell", "criu=4.1.1")), "apart", "there: no pid namespaces"),
    (replace(THERE, machine="aarch64"), "machine", "there is aarch64, it runs on x86_64"),
    (without(b"/bin/sh"), "file-missing", "/bin/sh is not on there"),
    (with_(b"/bin/sh", Seen(100, "other")), "file-differs", "/bin/sh is another on there"),
    (with_(b"/opt/script", Seen(8)), "file-differs", "/opt/script is another on there"),
    (without(b"/work"), "cwd", "its working directory /work is not on there"),
    (without(b"/etc/conf"), "file-missing", "/etc/conf is not on there"),
    (with_(b"/etc/conf", Seen(10)), "file-differs", "/etc/conf is another on there"),
    (replace(THERE, free_bytes=200 << 20), "memory",
     "there has 200 MiB free, and it needs 200 MiB on its way"),
])
def test_what_is_wrong_with_a_node_is_told(there: Place, code: str, text: str) -> None:
    verdict = judge(TASK, HERE, there)
    assert (verdict.verdict, codes(verdict)) == ("no", [code])
    assert verdict.reasons[0].text == text
    assert verdict.blackout_ms is None


@pytest.mark.parametrize("kind", OBSTACLES)
def test_every_obstacle_is_told_by_name(kind: str) -> None:
    verdict = judge(replace(TASK, obstacles=((kind, "NAMED"), (kind, "NAMED"))), HERE, THERE)
    (reason,) = verdict.reasons
    assert (verdict.verdict, reason.code) == (OBSTACLES[kind].verdict, kind)
    assert "{}" not in reason.text
    assert ("NAMED" in reason.text) == ("{}" in OBSTACLES[kind].text)


def test_an_obstacle_of_a_kind_that_is_not_known_here_forbids() -> None:
    verdict = judge(replace(TASK, obstacles=(("new", "{}"),)), HERE, THERE)
    assert (verdict.verdict, codes(verdict)) == ("no", ["obstacle"])
    assert verdict.reasons[0].text.endswith("in the way: {}")


def test_sockets_of_the_network_are_in_the_way_of_an_older_criu_alone() -> None:
    task = replace(TASK, obstacles=(("inet", "tcp"),))
    for version, word in (("3.17", "if"), ("4.1.1", "if"), ("4.2", "yes"), ("4.10", "yes")):
        can = ("apart", f"criu={version}")
        assert judge(task, replace(HERE, can=can), replace(THERE, can=can)).verdict == word


def test_a_node_that_cannot_freeze_lets_nobody_go() -> None:
    assert codes(judge(TASK, replace(HERE, can=("apart",)), THERE)) == ["criu"]


def test_a_plain_task_cannot_move_and_is_told_how_it_could_have() -> None:
    (reason,) = judge(replace(TASK, contained=False), HERE, THERE).reasons
    assert (reason.code, reason.verdict) == ("plain", "no")
    assert "--plain" in reason.fix


def test_a_lesser_processor_is_a_condition_and_not_a_refusal() -> None:
    verdict = judge(TASK, HERE, replace(THERE, cpu=frozenset({"sse2"})))
    assert (verdict.verdict, verdict.blackout_ms) == ("if", 1139)
    assert verdict.reasons[0].text == "the processor of there lacks avx2"


@pytest.mark.parametrize(("here", "there", "code"), [
    (HERE, replace(THERE, can=("apart", "criu=3.17.1")), "criu-older"),
    (replace(HERE, kernel="6.18.5-arch1"), replace(THERE, kernel="6.1.0"), "kernel-older"),
])
def test_what_is_older_there_is_a_condition(here: Place, there: Place, code: str) -> None:
    verdict = judge(TASK, here, there)
    assert (verdict.verdict, codes(verdict)) == ("if", [code])


@pytest.mark.parametrize(("here", "there"), [
    ("6.18.5", "6.18.1"), ("6.9.0", "6.18.5"), ("", "6.1.0"), ("6.1.0", ""), ("odd", "6.1.0"),
])
def test_a_kernel_that_is_as_new_or_not_known_is_no_reason(here: str, there: str) -> None:
    places = replace(HERE, kernel=here), replace(THERE, kernel=there)
    assert judge(TASK, *places).verdict == "yes"


def test_what_a_nodes_policy_forbids_is_forbidden() -> None:
    verdict = judge(TASK, HERE, replace(THERE, objection=("policy", "not as root")))
    assert (verdict.verdict, codes(verdict)) == ("no", ["policy"])
    assert verdict.reasons[0].text == "there: not as root"


def test_what_forbids_comes_before_what_is_a_condition() -> None:
    task = replace(TASK, obstacles=(("pipe-unseen", "5"), ("device", "/dev/kvm")))
    verdict = judge(task, HERE, THERE)
    assert (verdict.verdict, codes(verdict)) == ("no", ["device", "pipe-unseen"])


@pytest.mark.parametrize(("file", "there", "verdict"), [
    (OpenFile(b"/etc/conf", 9, 1, 2, locked=True), with_(b"/etc/conf", Seen(9, "", 1, 2)), "no"),
    (OpenFile(b"/etc/conf", 9, locked=True), replace(THERE, shared=(b"/etc",)), "no"),
    (OpenFile(b"/etc/conf", 9, 1, 2, locked=True), THERE, "yes"),  # each node has its own
    (OpenFile(b"/work/x", 9, carried=True, locked=True), THERE, "yes"),
    (OpenFile(b"/work/x", 9, 1, 2, carried=True, locked=True),
     with_(b"/work/x", Seen(9, "", 1, 2)), "no"),
])
def test_a_lock_on_a_shared_file_is_held_by_the_frozen_copy(
    file: OpenFile, there: Place, verdict: str
) -> None:
    found = judge(replace(TASK, files=(file,)), HERE, there)
    assert found.verdict == verdict
    assert codes(found) == (["file-lock"] if verdict == "no" else [])


def test_a_file_on_a_shared_file_system_is_the_same_file() -> None:
    assert judge(TASK, HERE, with_(b"/etc/conf", Seen(10, "", 1, 2))).verdict == "yes"


@pytest.mark.parametrize(("shared", "word"), [
    ((b"/etc",), "yes"), ((b"/etc/",), "yes"), ((b"/etc/conf",), "yes"), ((b"/",), "yes"),
    ((b"/et",), "no"), ((), "no"),
])
def test_what_is_below_a_shared_folder_needs_no_look(
    shared: tuple[bytes, ...], word: str
) -> None:
    there = replace(without(b"/etc/conf"), shared=shared)
    assert judge(TASK, HERE, there).verdict == word


def test_a_build_id_counts_more_than_a_size() -> None:
    assert judge(TASK, HERE, with_(b"/bin/sh", Seen(99, "ab12"))).verdict == "yes"


def test_the_version_is_taken_from_what_a_node_can() -> None:
    assert version_of(CAN) == "4.1.1"
    assert version_of(("shell", "criuish")) == ""


def test_a_verdict_is_json() -> None:
    verdict = judge(TASK, HERE, without(b"/work"))
    assert json.decode(json.encode(verdict), type=Verdict) == verdict


BOB = Ids("bob", 1000, 100, frozenset({100, 27}))


def as_bob(there: Ids | None, criu: str = "criu=4.1.1") -> Verdict:
    here = replace(HERE, can=("apart", criu))
    return judge(replace(TASK, ids=BOB), here, replace(THERE, can=here.can, ids=there))


@pytest.mark.parametrize("there", [BOB, replace(BOB, groups=frozenset({100, 27, 4})), None])
def test_a_users_task_can_go_where_that_user_has_the_same_numbers(there: Ids | None) -> None:
    assert as_bob(there).verdict == "yes"


@pytest.mark.parametrize(("there", "text"), [
    (replace(BOB, uid=1001), "it runs as user 1000, and bob is user 1001 on there"),
    (replace(BOB, gid=101, groups=BOB.groups), "it runs as group 100, and bob is group 101"),
    (replace(BOB, groups=frozenset({100})),
     "it has the rights of groups 27, which bob has not on there"),
])
def test_it_cannot_where_they_are_others(there: Ids, text: str) -> None:
    verdict = as_bob(there)
    assert verdict.verdict == "no" and codes(verdict) == ["user"]
    assert text in verdict.reasons[0].text and "same numbers" in verdict.reasons[0].fix


def test_an_old_criu_saves_no_task_of_another_user() -> None:
    verdict = as_bob(BOB, "criu=3.17.1")
    assert verdict.verdict == "no" and codes(verdict) == ["criu-older"]
    assert judge(TASK, replace(HERE, can=("apart", "criu=3.17.1")), THERE).verdict == "yes"
