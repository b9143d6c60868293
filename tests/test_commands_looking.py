"""list, pid, getrusage, inspect, events, health, version: what people and scripts are shown."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from godwit.task.lifecycle import Status
from godwit.task.record import Usage
from godwit.wire import operations as op
from masterd.commands import asking, tables
from tests.scripted import GONE, Desk, Scripted, exited, node, view


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


def one_document(desk: Desk) -> Any:
    (line,) = desk.said
    return json.loads(line)


def test_list_shows_nodes_then_tasks(master: Scripted, desk: Desk) -> None:
    running, ended = view("k3f9a2xq", started_at=0.0), exited("p2aaaaaa", "node2", 3, pid=11)
    master.says(op.ListNodes, op.Nodes(0, (node("node1", running), node("node2", ended))))
    assert desk.run("list") == 0
    assert desk.said == [
        "NAME   ADDRESS      STATE      LOAD        MEM  TASKS  CAN",
        "node1  127.0.0.1:9  up     12% of 4  2.0G/8.0G      1  shell",
        "node2  127.0.0.1:9  up     12% of 4  2.0G/8.0G      0  shell",
        "",
        "TASK      NODE   KIND   PID  STATUS    AGE  COMMAND",
        "k3f9a2xq  node1  shell    7  running     -  sleep 60",
        "p2aaaaaa  node2  shell   11  exited 3    -  sleep 60",
    ]
    assert desk.noted == []


def test_list_shows_the_homes_of_tasks_once_one_is_away_from_its_own(
    master: Scripted, desk: Desk
) -> None:
    tasks = view("k3f9a2xq", "node2", home="node1"), view("p2aaaaaa", "node2", home="node2")
    master.says(op.ListNodes, op.Nodes(0, (node("node2", *tasks),)))
    assert desk.run("list") == 0
    assert [line.split()[:3] for line in desk.said[3:]] == [
        ["TASK", "NODE", "HOME"], ["k3f9a2xq", "node2", "node1"], ["p2aaaaaa", "node2", "node2"],
    ]


def test_what_nodes_lack_is_one_line_below_them(master: Scripted, desk: Desk) -> None:
    lacks = {"cgroups": "not root"}
    master.says(op.ListNodes, op.Nodes(0, (node("a", lacks=lacks), node("b", lacks=lacks))))
    desk.run("list")
    assert desk.said[-1] == "weaker on a, b: no cgroups (not root)"


def test_only_the_tasks_that_ended_last_are_shown_unless_all_are_asked_for(
    master: Scripted, desk: Desk
) -> None:
    ended = [exited(f"t{n:07}", ended_at=float(n)) for n in range(15)]
    master.says(op.ListNodes, op.Nodes(0, (node("node1", *ended),)))
    desk.run("list")
    shown = [line.split()[0] for line in desk.said[4:]]
    assert shown == [f"t{n:07}" for n in range(5, 15)]
    assert desk.noted == ["5 more ended tasks: --all shows them"]
    desk.run("list", "--all", "--no-headers")
    assert len(re.findall("^t00000", desk.out.getvalue(), re.M)) == 10 + 15


def test_who_has_no_nodes_is_told_how_to_get_one(master: Scripted, desk: Desk) -> None:
    master.says(op.ListNodes, op.Nodes(0, ()))
    assert desk.run("list") == 0
    assert desk.noted == ["no nodes yet: clientd --name NODE --master 127.0.0.1:15440"]


def test_remote_commands_are_shown_while_they_run(master: Scripted, desk: Desk) -> None:
    tasks = view("running1", oneoff=True), exited("ended001", oneoff=True)
    master.says(op.ListNodes, op.Nodes(0, (node("node1", *tasks),)))
    desk.run("list")
    assert "running1" in desk.out.getvalue() and "ended001" not in desk.out.getvalue()


def test_nothing_a_node_says_moves_the_cursor(master: Scripted, desk: Desk) -> None:
    task = view("k3f9a2xq", argv=(b"\x1b[2J\xff",), name="\x07")
    master.says(op.ListNodes, op.Nodes(0, (node("n\x1b1", task, can=("\r",)),)))
    for words in (["list"], ["pid"], ["list", "-o", "name"], ["list", "--json"]):
        assert desk.run(*words) == 0
    assert not re.search(r"[^\n -~]", desk.out.getvalue())
    assert r"\x1b[2J\xff" in desk.out.getvalue()


def test_the_json_of_list_has_the_documented_shape(master: Scripted, desk: Desk) -> None:
    killed = exited("p2aaaaaa", code=None, signal=9, log="/l", home="node9", started_at=1.5)
    master.says(op.ListNodes, op.Nodes(0, (node("node1", killed),)))
    assert desk.run("list", "--json") == 0
    (told,) = one_document(desk)["nodes"]
    assert {"name", "address", "state", "load", "can", "tasks"} <= told.keys()
    assert told["load"]["memory_bytes"] == 8 << 30 and told["load"]["users"] == 0
    assert told["tasks"] == [{
        "task": "p2aaaaaa", "node": "node1", "home": "node9", "kind": "shell",
        "command": "sleep 60", "pid": 7, "status": "exited", "exit_code": None,
        "signal": "SIGKILL", "reason": None, "epoch": 1, "log": "/l",
        "name": None, "user": None, "started_at": 1.5, "ended_at": None, "snapshot_every_s": None,
    }]


def test_json_has_every_task(master: Scripted, desk: Desk) -> None:
    ended = [exited(f"t{n:07}", oneoff=n % 2 == 0) for n in range(50)]
    master.says(op.ListNodes, op.Nodes(0, (node("node1", *ended),)))
    desk.run("pid", "--json")
    assert len(one_document(desk)["tasks"]) == 50


def test_the_map_of_a_node_without_tasks_says_so(master: Scripted, desk: Desk) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("node1", view("k3f9a2xq")), node("node2"))))
    assert desk.run("pid") == 0
    assert desk.said[-2:] == ["node2 (up)", "no tasks"]


@pytest.mark.parametrize(("words", "said"), [
    (["list", "-q"], ["k3f9a2xq"]),
    (["pid", "-q"], ["k3f9a2xq"]),
    (["list", "-o", "name"], ["node/node1", "task/k3f9a2xq"]),
    (["pid", "-o", "name"], ["task/k3f9a2xq"]),
    (["pid", "--no-headers"], ["node1 (up)", "7  running  k3f9a2xq  sleep 60"]),
])
def test_short_forms_are_for_pipes(
    master: Scripted, desk: Desk, words: list[str], said: list[str]
) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("node1", view("k3f9a2xq")),)))
    assert desk.run(*words) == 0
    assert desk.said == said


def test_jsonl_is_a_line_for_each(master: Scripted, desk: Desk) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("a", view("t1")), node("b", view("t2")))))
    desk.run("list", "-o", "jsonl")
    desk.run("pid", "-o", "jsonl")
    told = [json.loads(line) for line in desk.said]
    assert [each.get("name") for each in told[:2]] == ["a", "b"]
    assert [each["task"] for each in told[2:]] == ["t1", "t2"]


def test_wide_shows_more_and_cuts_nothing(master: Scripted) -> None:
    task = view("k3f9a2xq", argv=(b"x" * 300,), user="bob", log="/logs/k3f9a2xq.log")
    master.says(op.ListNodes, op.Nodes(0, (node("node1", task, system="Linux 6.1"),)))
    with Desk(master, width=80) as desk:
        desk.run("list", "-o", "wide")
        assert all(word in desk.out.getvalue() for word in ("Linux 6.1", "bob", "x" * 300))


def test_a_table_fits_the_screen_unless_it_shall_not_be_cut(master: Scripted) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("node1", view("k3f9a2xq", argv=(b"x" * 300,))),)))
    with Desk(master, width=80) as desk:
        desk.run("list")
        assert max(map(len, desk.said)) <= 80
        desk.run("list", "--no-trunc")
        assert max(map(len, desk.said)) > 300


@pytest.mark.parametrize(("task", "text"), [
    (view("t"), "running"), (exited("t"), "exited 0"), (exited("t", code=255), "exited 255"),
    (exited("t", code=None, signal=15), "exited SIGTERM"),
    (exited("t", code=None, signal=37), "exited SIGRTMIN+3"),
    (view("t", status=Status.FAILED, reason="ENOENT"), "failed: ENOENT"),
    (view("t", status=Status.UNKNOWN), "unknown"),
])
def test_a_status_says_how_it_ended(task: op.TaskView, text: str) -> None:
    assert asking.status_text(task.task) == text


def test_a_refusal_of_the_master_is_one_line_and_an_object(master: Scripted, desk: Desk) -> None:
    master.says(op.ListNodes, op.Problem(0, "no-such-node", "no node 'x'", "nodes: a, b"))
    assert desk.run("list", "x", "--json") == 1
    assert desk.noted == ["list: no node 'x' (nodes: a, b)"]
    assert one_document(desk) == {
        "error": {"code": "no-such-node", "message": "no node 'x'", "hint": "nodes: a, b"}
    }


def test_a_format_that_is_none_is_named(desk: Desk, master: Scripted) -> None:
    assert desk.run("list", "-o", "yaml") == 2
    assert desk.noted == [
        "list: no output format 'yaml' (one of table, wide, json, jsonl, name)"
    ]
    assert master.asked == []


def test_getrusage_is_for_people_and_scripts(master: Scripted, desk: Desk) -> None:
    used = Usage(utime_s=1.5, stime_s=0.25, maxrss_bytes=5 << 20, minflt=7, nvcsw=3)
    bound = Usage(maxrss_bytes=1 << 20, maxrss_is_bound=True)
    master.says(op.MeasureUsage, op.Usages(
        0, (op.NodeUsage("node1", used),),
        (view("t1aaaaaa", usage=bound), view("t2aaaaaa")),
    ))
    assert desk.run("getrusage") == 0
    assert desk.said == [
        "NODE    USER  SYSTEM  PEAK",
        "node1  1.50s   0.25s  5.0M",
        "",
        "TASK      NODE   STATUS    USER  SYSTEM   PEAK  COMMAND",
        "t1aaaaaa  node1  running  0.00s   0.00s  <1.0M  sleep 60",
        "t2aaaaaa  node1  running      -       -      -  sleep 60",
    ]
    desk.out.truncate(0)
    desk.out.seek(0)
    desk.run("getrusage", "node1", "--json")
    told = one_document(desk)
    assert told["nodes"][0]["children"]["maxrss_bytes"] == 5 << 20
    assert told["tasks"][0]["maxrss_bytes"] == 1 << 20 and told["tasks"][0]["maxrss_is_bound"]
    assert told["tasks"][1]["utime_s"] is None
    assert master.got(op.MeasureUsage)[1].about == "node1"


def test_faults_are_told_and_the_rest_is_shown(master: Scripted, desk: Desk) -> None:
    fault = op.Fault("x", "no-such-task", "no task 'x'", "`list` shows them")
    master.says(op.ListTasks, op.Tasks(0, (view("k3f9a2xq"),), (fault,)))
    master.says(op.History, op.Events(0, ()))
    master.says(op.ListMoves, op.Moves(0, ()))
    assert desk.run("inspect", "k3f", "x") == 1
    assert desk.said[0] == "task         k3f9a2xq"
    assert desk.noted == ["no task 'x' (`list` shows them)"]


def test_inspect_shows_all_facts_and_the_time_line(master: Scripted, desk: Desk) -> None:
    task = exited(
        "k3f9a2xq", code=None, signal=9, argv=(b"a b", b"c"), env={b"K": b"V"}, cwd=b"/tmp",
        started_at=100.0, ended_at=112.0, core_dumped=True, usage=Usage(utime_s=1.0),
    )
    master.says(op.ListTasks, op.Tasks(0, (task,)))
    master.says(op.History, op.Events(0, (op.Event(100.0, "info", "started\x1b"),)))
    master.says(op.ListMoves, op.Moves(0, ()))
    assert desk.run("inspect", "k3f") == 0
    told = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in desk.said if line[0] != " "
                and "  " in line)
    assert told["command"] == "'a b' c" and told["signal"] == "SIGKILL (9)"
    assert told["environment"] == "K=V" and told["folder"] == "/tmp" and told["ran for"] == "12s"
    assert desk.said[-1].endswith(r"started\x1b")
    desk.run("inspect", "k3f", "--json")
    (told,) = json.loads(desk.said[-1])["tasks"]
    assert told["argv"] == ["a b", "c"] and told["events"][0]["text"] == "started\x1b"


def test_events_are_lines_in_order(master: Scripted, desk: Desk) -> None:
    master.says(op.History, op.Events(0, (
        op.Event(2.0, "warning", "node1 is suspect", "node1"),
        op.Event(1.0, "info", "x\n", "node2"),
    )))
    assert desk.run("events", "-n", "2", "node1") == 0
    assert [line[21:] for line in desk.said] == [
        "warning  node1 is suspect", r"info     node2  x\n",
    ]
    assert master.got(op.History) == [op.History(2, "node1", limit=2)]


def test_events_follow_until_the_master_has_no_more(master: Scripted, desk: Desk) -> None:
    one, two = op.Event(0.0, "info", "one"), op.Event(0.0, "info", "two")
    master.says(op.History, op.Events(0, (one,), more=True), op.Events(0, (two,)))
    assert desk.run("events", "-f", "--json") == 0
    assert [json.loads(line)["text"] for line in desk.said] == ["one", "two"]


@pytest.mark.parametrize("number", ["-1", "x", "٣", "1.5", ""])
def test_a_number_of_events_is_a_number(desk: Desk, number: str) -> None:
    assert desk.run("events", f"--number={number}") == 2
    assert "--number takes a whole number" in desk.noted[0]


def test_health_fails_when_a_node_is_silent(master: Scripted, desk: Desk) -> None:
    master.says(op.ListNodes, op.Nodes(0, (node("a"), node("b", state="suspect", silent_s=7.0))))
    assert desk.run("health") == 1
    assert desk.said[1] == "nodes: 1 up, 1 suspect"
    assert desk.noted == ["b is suspect: silent for 7s"]
    master.says(op.ListNodes, op.Nodes(0, (node("a"), node("b", state="left"))))
    assert desk.run("health", "--json") == 0
    assert json.loads(desk.said[-1])["healthy"] is True


def test_version_needs_no_master(master: Scripted, desk: Desk, tmp_path: Path) -> None:
    assert desk.run("version") == 0
    assert desk.said[1] == "master 1.2.3"
    (tmp_path / "none").mkdir()
    with Desk(str(tmp_path / "none")) as lonely:
        assert lonely.run("version") == 0
        assert lonely.said[1] == "master: none"


def test_a_master_that_dies_is_one_line(master: Scripted, desk: Desk) -> None:
    master.says(op.ListNodes, GONE)
    assert desk.run("list") == 1
    assert desk.noted == ["list: the master went away"]


def test_newest_keeps_the_order_of_the_tasks() -> None:
    views = [exited("t1", ended_at=9.0), view("t2"), exited("t3", ended_at=1.0)]
    assert tables.newest(views, False) == (views, 0)


def test_help_is_by_group_and_one_in_full(desk: Desk) -> None:
    assert desk.run("help") == 0
    assert desk.said[0] == "Look" and "  pause         Stop tasks" in desk.out.getvalue()
    for words in (["help", "kill"], ["h", "kill"], ["kill", "--help"], ["kill", "-h"]):
        assert desk.run(*words) == 0
        assert desk.said[-1].strip() == "kill -s TERM ab12"
    assert desk.run("help", "lst") == 2
    assert desk.noted == ["help: no command 'lst' (did you mean list?)"]


def test_a_word_that_is_no_command_is_answered_with_the_nearest(desk: Desk) -> None:
    assert desk.run("lst", "--json") == 2
    assert desk.noted == ["no command 'lst' (did you mean list?)"]
    assert one_document(desk)["error"]["code"] == "no-command"
    assert desk.run("xyzzy") == 2
    assert desk.noted[-1] == "no command 'xyzzy' (`help` lists them)"
    assert desk.run() == 0
