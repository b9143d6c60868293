"""What a user writes for nodes and tasks, and which that means."""

import pytest

from godwit.errors import UsageError
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task
from masterd import references
from masterd.references import choose_nodes, choose_task, choose_tasks, expand


@pytest.mark.parametrize(("reference", "names"), [
    ("web1", ["web1"]),
    ("a,b", ["a", "b"]),
    ("@a,b,a", ["a", "b"]),
    ("@web[1-3]", ["web1", "web2", "web3"]),
    ("@web[08-11]x", ["web08x", "web09x", "web10x", "web11x"]),
    ("@web[1,3-4],db", ["web1", "web3", "web4", "db"]),
    ("@r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ("h:15441", ["h:15441"]),
    ("@" + "[1]" * 3000, ["1" * 3000]),
])
def test_a_reference_stands_for_these_names(reference: str, names: list[str]) -> None:
    assert expand(reference) == names


@pytest.mark.parametrize("reference", [
    "", "@", "a,,b", "a,", "@web[", "@web]", "@web[]", "@web[a-b]", "@web[1-]", "@web[-1]",
    "@web[1-2-3]", "@web[1,,2]", "@a[1[2]]", "@web[5-1]", "@web[1-10001]",
    "@web[1-99999999999999]", "@[1-200][1-200]", "@web[١-٣]",
])
def test_what_spells_no_names_out_is_refused(reference: str) -> None:
    with pytest.raises(UsageError) as refused:
        expand(reference)
    assert refused.value.code == "bad-nodes" and refused.value.exit_status == 2


def test_nodes_are_known_by_name_or_address_each_once() -> None:
    known, addresses = ["b", "a"], {"h:1": "a"}
    assert choose_nodes("all", ["web10", "web2", "a"], {}) == ["a", "web2", "web10"]
    assert choose_nodes("h:1,b,a", known, addresses) == ["a", "b"]
    assert choose_nodes("all", [], {}) == []


def test_an_unknown_node_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no node 'c'") as refused:
        choose_nodes("@a,c", ["a", *(f"n{i}" for i in reversed(range(9)))], {})
    assert refused.value.hint == "nodes: a, n0, n1, n2, n3, n4, n5, n6, ..."
    with pytest.raises(UsageError, match="there are no nodes yet"):
        choose_nodes("c", [], {})


def task(name: str, pid: int | None, status: Status = Status.RUNNING) -> Task:
    return Task(Spec(name, (b"true",)), status, pid)


TASKS = {
    one.id: (node, one) for node, one in [
        ("n1", task("abcdefgh", 10)),
        ("n1", task("abcxxxxx", 20, Status.EXITED)),
        ("n2", task("bbbbbbbb", 10)),
        ("n2", task("cccccccc", 20)),
        ("n2", task("dddddddd", 30, Status.EXITED)),
        ("n2", task("eeeeeeee", None, Status.STARTING)),
    ]
}


@pytest.mark.parametrize(("reference", "chosen"), [
    ("abcdefgh", "abcdefgh"), ("abcd", "abcdefgh"), ("bbb", "bbbbbbbb"), ("n1:10", "abcdefgh"),
    ("n2:10", "bbbbbbbb"),
    ("20", "cccccccc"),  # the one that lives
    ("n1:20", "abcxxxxx"), ("30", "dddddddd"),
])
def test_a_reference_means_this_task(reference: str, chosen: str) -> None:
    assert choose_task(reference, TASKS) == chosen


@pytest.mark.parametrize(("reference", "code"), [
    ("10", "ambiguous"), ("abc", "ambiguous"), ("ab", "no-such-task"), ("", "no-such-task"),
    ("0", "no-such-task"), ("-1", "no-such-task"), ("*", "no-such-task"), ("n3:10", "no-such-task"),
    ("١٠", "no-such-task"), ("n1:", "no-such-task"), (":10", "no-such-task"),
    ("1" * 11, "no-such-task"), ("abcdefghi", "no-such-task"), ("ABCDEFGH", "no-such-task"),
    ("x\0y", "no-such-task"),
])
def test_what_means_no_one_task_is_refused(reference: str, code: str) -> None:
    with pytest.raises(UsageError) as refused:
        choose_task(reference, TASKS)
    assert refused.value.code == code and refused.value.exit_status == 1


def test_candidates_are_listed_where_a_reference_is_ambiguous() -> None:
    with pytest.raises(UsageError, match="'10' could be any of 2 tasks") as refused:
        choose_task("10", TASKS)
    assert refused.value.hint == "abcdefgh (n1:10), bbbbbbbb (n2:10)"
    many = {f"abc{i:05}": ("n1", task(f"abc{i:05}", i)) for i in range(99)}
    with pytest.raises(UsageError) as refused:
        choose_task("abc", many)
    assert refused.value.hint.count("(") == references.LISTED and refused.value.hint.endswith("...")


def test_of_many_references_the_good_ones_are_taken_each_once() -> None:
    chosen, faults = choose_tasks(["bbb", "nope", "n2:10", "30"], TASKS)
    assert chosen == ["bbbbbbbb", "dddddddd"]
    assert [(fault.about, fault.code) for fault in faults] == [("nope", "no-such-task")]
