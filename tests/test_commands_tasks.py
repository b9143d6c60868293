"""Starting, following, signalling and waiting, against a master that does as it is told."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.task.lifecycle import Status
from godwit.wire import operations as op
from godwit.wire.messages import WINDOW
from masterd.commands import asking, launching, logs, output
from tests.scripted import GONE, Desk, Scripted, exited, view


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as master:
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


def told(*pieces: tuple[str, bytes]) -> list[op.Reply]:
    return [op.Output(0, task, 0, data) for task, data in pieces]


# ---- execute -------------------------------------------------------------------------------


def test_execute_answers_with_task_node_and_pid(master: Scripted, desk: Desk) -> None:
    master.says(op.Execute, op.Tasks(0, (view("k3f9a2xq"),)))
    assert desk.run("execute", "node1", "sleep", "60") == 0
    assert desk.said == ["TASK      NODE   PID  COMMAND", "k3f9a2xq  node1    7  sleep 60"]
    assert master.got(op.Execute) == [
        op.Execute(2, "node1", (b"sleep", b"60"), contained=True)
    ]


def test_words_go_as_they_are_and_no_shell_reads_them(master: Scripted, desk: Desk) -> None:
    master.says(op.Execute, op.Tasks(0, (view("t"),)))
    odd = ["a;rm -rf /", "$HOME", "*", "", "--wait", "-q", os.fsdecode(b"\xff\xfe")]
    assert desk.run("execute", "-q", "all", "prog", *odd) == 0
    (asked,) = master.got(op.Execute)
    assert asked.argv == (b"prog", *map(os.fsencode, odd)) and not asked.shell
    assert desk.said == ["t"]


def test_all_that_can_be_said_of_a_launch_reaches_the_master(master: Scripted) -> None:
    master.says(op.Execute, op.Tasks(0, (view("t"),)))
    with Desk(master, environ={"HERE": "it is"}) as desk:
        assert desk.run(
            "execute", "--shell", "--cwd", "/tmp", "-e", "A=1=2", "-eHERE", "--env", "E=",
            "--name", "n", "--user", "u", "--count", "3", "--plain", "@a,b", "a | b > c",
        ) == 0
    assert master.got(op.Execute) == [op.Execute(
        2, "@a,b", (b"a | b > c",), shell=True, cwd=b"/tmp",
        env={b"A": b"1=2", b"HERE": b"it is", b"E": b""}, name="n", user="u", count=3,
    )]


@pytest.mark.parametrize(("words", "message"), [
    (["n1", "--wait", "ls"], "'--wait' stands where the program should"),
    (["n1", "--"], "no program is named"),
    (["n1", ""], "no program is named"),
    (["--shell", "n1", "a", "b"], "--shell takes one line as one word"),
    (["-e", "=x", "n1", "ls"], "-e '=x' names no variable"),
    (["-e", "NOT_THERE", "n1", "ls"], "-e NOT_THERE: there is no such variable here"),
    (["--count", "0", "n1", "ls"], "--count takes a whole number from 1 up, not '0'"),
    (["--count", "-3", "n1", "ls"], "--count takes a whole number from 1 up, not '-3'"),
    (["--count", "٣", "n1", "ls"], "--count takes a whole number from 1 up, not '٣'"),
    (["--timeout", "5", "n1", "ls"], "--timeout goes with --wait"),
    (["--wait", "--timeout", "soon", "n1", "ls"],
     "--timeout takes seconds, or a time like 10m, not 'soon'"),
])
def test_a_launch_that_is_asked_for_wrongly_reaches_nobody(
    master: Scripted, words: list[str], message: str
) -> None:
    with Desk(master, environ={}) as desk:
        assert desk.run("execute", *words) == 2
        assert len(desk.noted) == 1 and desk.noted[0].startswith(f"execute: {message}")
    assert master.asked == []


def test_two_dashes_let_a_program_begin_with_one(master: Scripted, desk: Desk) -> None:
    master.says(op.Execute, op.Tasks(0, (view("t"),)))
    for words in (["n1", "--", "-odd", "x"], ["--", "n1", "--", "-odd", "x"]):
        assert desk.run("execute", *words) == 0
    assert {asked.argv for asked in master.got(op.Execute)} == {(b"-odd", b"x")}


def test_what_could_not_start_is_told_beside_what_did(master: Scripted, desk: Desk) -> None:
    fault = op.Fault("node2", "ENOENT", "node2: no program 'frob'")
    master.says(op.Execute, op.Tasks(0, (view("t"),), (fault,)))
    assert desk.run("execute", "--json", "all", "frob") == 1
    document = json.loads(desk.said[0])
    assert [each["task"] for each in document["tasks"]] == ["t"]
    assert document["error"]["code"] == "ENOENT" and len(document["faults"]) == 1
    assert desk.noted == ["node2: no program 'frob'"]


@pytest.mark.parametrize(("ended", "status"), [
    (exited("t", code=0), 0), (exited("t", code=7), 7), (exited("t", code=255), 255),
    (exited("t", code=None, signal=9), 137), (view("t", status=Status.UNKNOWN), 125),
    (view("t", status=Status.FAILED, reason="ENOENT"), 125),
])
def test_waiting_exits_as_the_task_did(
    master: Scripted, desk: Desk, ended: op.TaskView, status: int
) -> None:
    master.says(op.Execute, op.Tasks(0, (view("t"),)))
    master.says(op.AwaitTasks, op.Tasks(0, (ended,)))
    assert desk.run("execute", "--wait", "node1", "x") == status
    assert desk.said == []
    assert desk.noted == ["t on node1: pid 7", f"t on node1: {asking.exit_text(ended.task)}"]
    assert desk.run("wait", "t") == status


def test_nothing_is_waited_for_when_nothing_started(master: Scripted, desk: Desk) -> None:
    master.says(op.Execute, op.Tasks(0, (), (op.Fault("n", "ENOENT", "n: no program 'x'"),)))
    assert desk.run("execute", "--wait", "n", "x") == 1
    assert master.got(op.AwaitTasks) == []


def test_one_followed_task_is_shown_as_it_writes(master: Scripted, desk: Desk) -> None:
    master.says(
        op.Execute, op.Launched(0, (view("t"),)),
        *told(("t", b"a\nb"), ("t", b"c\n"), ("t", b"tail")),
        op.OutputEnd(0, "t"), op.Tasks(0, (exited("t", code=3),)),
    )
    assert desk.run("execute", "-f", "node1", "x") == 0
    assert desk.out.getvalue() == "a\nbc\ntail"
    assert desk.run("execute", "-f", "--wait", "node1", "x") == 3


def test_a_signal_reaches_the_task_that_is_waited_for(master: Scripted, desk: Desk) -> None:
    master.says(op.Execute, op.Tasks(0, (view("t"),)))
    waiting: list[int] = []

    def wait(asked: op.AwaitTasks) -> list[op.Reply]:
        waiting.append(asked.id)
        os.kill(os.getpid(), signal.SIGTERM)
        return []

    master.answers[op.AwaitTasks] = wait
    master.answers[op.SignalTasks] = lambda asked: [
        op.Tasks(asked.id, ()), op.Tasks(waiting[0], (exited("t", code=None, signal=15),)),
    ]
    assert desk.run("execute", "--wait", "node1", "x") == 143
    assert [(s.tasks, s.number, s.whole) for s in master.got(op.SignalTasks)] == [
        (("t",), signal.SIGTERM, False)
    ]


def test_who_only_looks_on_leaves_by_ctrl_c_and_the_task_goes_on(
    master: Scripted, desk: Desk
) -> None:
    def launch(asked: op.Execute) -> list[op.Reply]:
        os.kill(os.getpid(), signal.SIGINT)
        return [op.Launched(asked.id, (view("t"),))]

    master.answers[op.Execute] = launch
    assert desk.run("execute", "-f", "-q", "node1", "x") == 130
    assert desk.noted == ["execute: left: what was started goes on (logs -f t)"]
    assert master.got(op.SignalTasks) == []


def test_the_time_of_a_wait_ends_it_and_not_the_task(master: Scripted, desk: Desk) -> None:
    master.says(op.Execute, op.Tasks(0, (view("t"),)))
    master.answers[op.AwaitTasks] = lambda asked: []
    assert desk.run("execute", "--wait", "-q", "--timeout", "0", "node1", "x") == 124
    assert desk.noted == ["execute: the time is over (what was waited for goes on)"]
    assert master.got(op.SignalTasks) == []


def test_a_master_that_dies_leaves_a_launch_in_doubt(master: Scripted, desk: Desk) -> None:
    master.says(op.Execute, GONE)
    assert desk.run("execute", "node1", "x", "--json") == 125
    assert desk.said == []
    assert "the outcome is unknown" in desk.noted[0]


# ---- on, and lines that are no command -----------------------------------------------------


def answer_with(master: Scripted, *pieces: tuple[str, bytes], codes: tuple[int, int]) -> None:
    master.says(
        op.Execute, op.Launched(0, (view("t1", "a"), view("t2", "longer"))), *told(*pieces),
        op.OutputEnd(0, "t1"), op.OutputEnd(0, "t2"),
        op.Tasks(0, (exited("t1", "a", codes[0]), exited("t2", "longer", codes[1]))),
    )


def test_a_line_runs_on_the_chosen_nodes(master: Scripted, desk: Desk) -> None:
    answer_with(master, ("t1", b"one\n"), ("t2", b"two\n"), codes=(0, 3))
    desk.context.chosen = "@a,longer"
    assert desk.remote("uname -a | cat") == 3
    assert desk.said == ["a      | one", "longer | two"]
    assert desk.noted == ["a: exit 0 · longer: exit 3"]
    assert master.got(op.Execute) == [op.Execute(
        2, "@a,longer", (b"uname -a | cat",), shell=True, oneoff=True, follow=True
    )]


def test_lines_of_nodes_never_mix(master: Scripted, desk: Desk) -> None:
    answer_with(
        master, ("t1", b"begun "), ("t2", b"x\nhalf"), ("t1", b"ended\nlast"), codes=(0, 0)
    )
    assert desk.remote("x") == 0
    assert desk.said == ["longer | x", "a      | begun ended", "a      | last", "longer | half"]


def test_what_cannot_be_reached_is_told_and_counts(master: Scripted, desk: Desk) -> None:
    fault = op.Fault("b", "unreachable", "b is unreachable")
    master.says(op.Execute, op.Launched(0, (), (fault,)), op.Tasks(0, ()))
    assert desk.remote("x") == 1
    assert desk.noted == ["b is unreachable"]


def test_several_words_are_a_program_and_one_is_a_line(master: Scripted, desk: Desk) -> None:
    answer_with(master, codes=(0, 0))
    assert desk.run("on", "all", "ls", "-l") == 0
    assert desk.run("on", "all", "ls -l | wc") == 0
    first, second = master.got(op.Execute)
    assert (first.argv, first.shell) == ((b"ls", b"-l"), False)
    assert (second.argv, second.shell) == ((b"ls -l | wc",), True)


def test_on_a_terminal_control_characters_are_escaped(master: Scripted) -> None:
    answer_with(master, ("t1", b"\x1b[2Jx\ty\r\n\xff\n"), codes=(0, 0))
    with Desk(master, out_tty=True) as desk:
        desk.remote("x")
        assert desk.said == [r"a      | \x1b[2Jx" + "\ty", r"a      | \xff"]


def test_in_a_pipe_the_bytes_of_a_line_are_as_they_were(
    master: Scripted, tmp_path: Path
) -> None:
    answer_with(master, ("t1", b"\x1b[2J\xff\r\n"), codes=(0, 0))
    path = tmp_path / "out"
    with open(path, "w") as out, Desk(master) as desk:
        desk.context.out = out
        desk.remote("x")
    assert path.read_bytes() == b"a      | \x1b[2J\xff\r\n"


def test_prefixes_are_coloured_on_a_screen_that_has_colours(master: Scripted) -> None:
    answer_with(master, ("t1", b"x\n"), ("t2", b"y\n"), codes=(0, 0))
    with Desk(master, out_tty=True, colour=True) as desk:
        desk.remote("x")
        assert desk.said == ["\033[36ma     \033[0m | x", "\033[33mlonger\033[0m | y"]


def test_ctrl_c_is_harder_each_time_and_the_fourth_leaves(master: Scripted, desk: Desk) -> None:
    def launch(asked: op.Execute) -> list[op.Reply]:
        os.kill(os.getpid(), signal.SIGINT)
        return [op.Launched(asked.id, (view("t1"), view("t2", "node2")))]

    def again(asked: op.SignalTasks) -> list[op.Reply]:
        os.kill(os.getpid(), signal.SIGINT)
        return [op.Tasks(asked.id, ())]

    master.answers[op.Execute] = launch
    master.answers[op.SignalTasks] = again
    assert desk.remote("sleep 100") == 130
    sent = [(s.tasks, s.number, s.whole) for s in master.got(op.SignalTasks)]
    both = ("t1", "t2")
    assert sent == [(both, 2, False), (both, 15, False), (both, 9, True)]
    assert desk.noted == [
        "SIGINT sent (next: SIGTERM)", "SIGTERM sent (next: SIGKILL)", "SIGKILL sent (next: leave)",
        "left: what was started goes on (logs -f t1 t2)",
    ]


def test_a_signal_is_for_the_tasks_that_have_not_ended(master: Scripted, desk: Desk) -> None:
    following: list[int] = []

    def launch(asked: op.Execute) -> Iterator[op.Reply]:
        following.append(asked.id)
        yield op.Launched(asked.id, (view("t1"), view("t2", "node2")))
        yield op.OutputEnd(asked.id, "t1")
        yield op.Output(asked.id, "t2", 0, b"x" * output.TELL_AT)

    def taken(asked: op.Took) -> list[op.Reply]:
        os.kill(os.getpid(), signal.SIGINT)
        return []

    master.answers[op.Execute] = launch
    master.answers[op.Took] = taken
    master.answers[op.SignalTasks] = lambda asked: [
        op.Tasks(following[0], (exited("t1"), exited("t2", code=None, signal=2)))
    ]
    assert desk.remote("x") == 130
    assert [s.tasks for s in master.got(op.SignalTasks)] == [("t2",)]


def dropping(master: Scripted, *tasks: str) -> None:
    """Logs of which the middle is missing."""
    master.says(op.ListTasks, op.Tasks(0, tuple(map(view, tasks))))
    master.says(
        op.FollowLogs,
        *(op.Output(0, task, 0, b"one\nhal") for task in tasks),
        *(op.Output(0, task, 99, b"", dropped=92) for task in tasks),
        *(op.Output(0, task, 99, b"two\n") for task in tasks),
        *(op.OutputEnd(0, task) for task in tasks), op.Tasks(0, ()),
    )


def test_what_was_dropped_of_a_log_is_told_on_stderr_alone(master: Scripted, desk: Desk) -> None:
    dropping(master, "t1")
    assert desk.run("logs", "t1") == 0
    assert desk.out.getvalue() == "one\nhaltwo\n"
    assert desk.noted == ["[godwit: 92 bytes dropped here]"]


def test_of_several_logs_it_is_told_which(master: Scripted, desk: Desk) -> None:
    dropping(master, "t1", "t2")
    assert desk.run("logs", "t1", "t2") == 0
    assert desk.noted == [f"[godwit: 92 bytes of {task} dropped here]" for task in ("t1", "t2")]
    assert desk.said == [
        "t1 | one", "t2 | one", "t1 | hal", "t2 | hal", "t1 | two", "t2 | two",
    ]


def test_as_json_it_is_an_object_of_its_own(master: Scripted, desk: Desk) -> None:
    dropping(master, "t1")
    assert desk.run("logs", "--json", "t1") == 0
    assert [json.loads(line) for line in desk.said] == [
        {"task": "t1", "node": "node1", "line": "one"},
        {"task": "t1", "node": "node1", "line": "hal"},
        {"task": "t1", "node": "node1", "line": None, "dropped": 92},
        {"task": "t1", "node": "node1", "line": "two"},
    ]


@pytest.mark.parametrize(("line", "hinted"), [
    ("cd /tmp", True), ("export A=1", True), ("cd /tmp && ls", False), ("ls", False),
])
def test_who_changes_folder_is_told_that_it_does_not_last(
    master: Scripted, line: str, hinted: bool
) -> None:
    answer_with(master, codes=(0, 0))
    with Desk(master, interactive=True) as desk:
        desk.remote(line)
        assert any("starts afresh" in note for note in desk.noted) is hinted


def test_the_outcomes_of_many_nodes_are_counted() -> None:
    many = [exited(f"t{n}", f"n{n}", code=int(n == 9)) for n in range(20)]
    assert launching.summary(many) == "19 nodes: exit 0 · n9: exit 1"


def test_what_was_taken_is_told_before_the_window_ends(master: Scripted, desk: Desk) -> None:
    chunk = b"x" * 1023 + b"\n"
    pieces = [("t1", chunk)] * (WINDOW // len(chunk))
    answer_with(master, *pieces, codes=(0, 0))
    desk.remote("x")
    master.says(op.ListNodes, op.Nodes(0, ()))
    desk.run("list")  # answered after all that was told before it
    took = master.got(op.Took)
    assert {(each.id, each.task) for each in took} == {(2, "t1")}
    assert sum(each.count for each in took) > WINDOW - output.TELL_AT


def test_a_line_without_end_is_not_held_for_ever(desk: Desk) -> None:
    sink = output.prefixed(desk.context, {"t": "n"})
    sink.take("t", b"x" * (output.LINE_LIMIT + 1))
    assert len(desk.said) == 1


# ---- logs ----------------------------------------------------------------------------------


def test_the_log_of_one_task_is_its_bytes(master: Scripted, desk: Desk) -> None:
    master.says(op.ListTasks, op.Tasks(0, (view("k3f9a2xq"),)))
    master.says(
        op.FollowLogs, *told(("k3f9a2xq", b"a\nno end")), op.OutputEnd(0, "k3f9a2xq"),
        op.Tasks(0, (view("k3f9a2xq"),)),
    )
    assert desk.run("logs", "-f", "-n", "5", "k3f") == 0
    assert desk.out.getvalue() == "a\nno end"
    assert master.got(op.FollowLogs) == [op.FollowLogs(3, ("k3f9a2xq",), lines=5, live=True)]


def test_logs_of_several_tasks_stand_after_their_ids(master: Scripted, desk: Desk) -> None:
    missing = op.Fault("x", "no-such-task", "no task 'x'")
    master.says(op.ListTasks, op.Tasks(0, (view("t1"), view("t2")), (missing,)))
    master.says(
        op.FollowLogs, *told(("t1", b"a\n"), ("t2", b"b")), op.OutputEnd(0, "t1"),
        op.OutputEnd(0, "t2", "lost", "node1 went away"), op.Tasks(0, ()),
    )
    assert desk.run("logs", "t1", "t2", "x") == 1
    assert desk.said == ["t1 | a", "t2 | b"]
    assert desk.noted == ["no task 'x'", "the output of t2 was cut short: node1 went away"]


def test_logs_for_scripts_are_an_object_a_line(master: Scripted, desk: Desk) -> None:
    master.says(op.ListTasks, op.Tasks(0, (view("t1"),)))
    master.says(op.FollowLogs, *told(("t1", b"a\xff\nb")), op.OutputEnd(0, "t1"), op.Tasks(0, ()))
    assert desk.run("logs", "--json", "t1") == 0
    assert [json.loads(line) for line in desk.said] == [
        {"task": "t1", "node": "node1", "line": r"a\xff"},
        {"task": "t1", "node": "node1", "line": "b"},
    ]


def test_ctrl_c_ends_the_following_and_not_the_task(master: Scripted, desk: Desk) -> None:
    def follow(asked: op.FollowLogs) -> list[op.Reply]:
        os.kill(os.getpid(), signal.SIGINT)
        return []

    master.says(op.ListTasks, op.Tasks(0, (view("t1"),)))
    master.answers[op.FollowLogs] = follow
    assert desk.run("logs", "-f", "t1") == 130
    assert desk.noted == []
    assert master.got(op.SignalTasks) == []


def test_on_a_terminal_a_character_cut_in_two_is_put_together(master: Scripted) -> None:
    with Desk(master, out_tty=True) as desk:
        sink = output.Plain(desk.context)
        for piece in (b"\xc3", b"\xa9\r", b"\n\x1b\xc3"):
            sink.take("t", piece)
        sink.end("t")
        assert desk.out.getvalue() == "é\n\\x1b\\xc3"


@pytest.mark.parametrize(("text", "seconds_ago"), [
    ("10m", 600), ("1h30m", 5400), ("45s", 45), ("2d", 172800),
])
def test_since_may_be_a_span(text: str, seconds_ago: float) -> None:
    assert logs.since(text, 1e9) == 1e9 - seconds_ago


def test_since_may_be_a_time_of_day_or_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    noon = 1714564800.0  # 2024-05-01T12:00:00Z
    assert logs.since("2024-05-01T12:00:00+00:00", 0) == noon
    today, yesterday = logs.since("2024-05-01T11:30", 0), logs.since("2024-05-01T12:30", 0) - 86400
    at = logs.since("2024-05-01T12:00", 0)
    assert logs.since("11:30", at) == today
    assert logs.since("12:30", at) == yesterday


@pytest.mark.parametrize("text", ["", "soon", "10", "25:00", "10x", "2024-13-01", "-5m", "1٣m"])
def test_what_is_no_time_is_refused(master: Scripted, desk: Desk, text: str) -> None:
    assert desk.run("logs", f"--since={text}", "t") == (2 if text else 1)
    assert len(desk.noted) == 1


# ---- kill and its kin ----------------------------------------------------------------------


@pytest.mark.parametrize(("words", "number", "whole", "said"), [
    (["kill", "t"], 2, False, "SIGINT sent"),
    (["kill", "-9", "t"], 9, False, "SIGKILL sent"),
    (["kill", "-s", "term", "t"], 15, False, "SIGTERM sent"),
    (["sKill", "t"], 9, True, "SIGKILL sent"),
    (["skill", "t"], 9, True, "SIGKILL sent"),
    (["signal", "t", "USR1"], 10, False, "SIGUSR1 sent"),
    (["signal", "t", "RTMIN+3"], 37, False, "SIGRTMIN+3 sent"),
])
def test_each_way_to_send_a_signal(
    master: Scripted, desk: Desk, words: list[str], number: int, whole: bool, said: str
) -> None:
    master.says(op.SignalTasks, op.Tasks(0, (view("t"),)))
    assert desk.run(*words) == 0
    assert desk.said == [f"t on node1: {said}"]
    assert master.got(op.SignalTasks) == [op.SignalTasks(2, ("t",), number, whole)]


@pytest.mark.parametrize("words", [
    ["kill"], ["kill", "-1"], ["kill", "-9"], ["kill", "-s", "NOPE", "t"], ["kill", "-s", "0", "t"],
    ["signal", "t", "-9"], ["signal", "t", "٩"], ["signal", "t"], ["sKill"], ["sKill", "-9", "t"],
    ["pause"], ["resume"], ["wait"], ["wait", "--timeout", "-1", "t"], ["logs"], ["inspect"],
])
def test_wrong_words_send_nothing(master: Scripted, desk: Desk, words: list[str]) -> None:
    assert desk.run(*words) == 2
    assert len(desk.noted) == 1 and desk.noted[0].startswith(f"{words[0]}: ")
    assert master.asked == []


@pytest.mark.parametrize("reference", ["0", "*", "٣", "-1", "", "a;b", "%1"])
def test_an_odd_reference_is_a_task_that_is_not_there(
    master: Scripted, desk: Desk, reference: str
) -> None:
    fault = op.Fault(reference, "no-such-task", f"no task {reference!r}")
    master.says(op.SignalTasks, op.Tasks(0, (), (fault,)))
    assert desk.run("kill", "--", reference) == 1
    assert desk.noted == [f"no task {reference!r}"]
    assert [asked.tasks for asked in master.got(op.SignalTasks)] == [(reference,)]


def test_bytes_that_are_no_text_name_no_task(master: Scripted, desk: Desk) -> None:
    assert desk.run("kill", os.fsdecode(b"\xff")) == 2
    assert len(desk.noted) == 1 and "not UTF-8" in desk.noted[0]
    assert master.got(op.SignalTasks) == []


def test_a_dry_run_only_says_what_would_be(master: Scripted, desk: Desk) -> None:
    master.says(op.ListTasks, op.Tasks(0, (view("t"),)))
    assert desk.run("kill", "-n", "-9", "t") == 0
    assert desk.run("sKill", "--dry-run", "t") == 0
    assert desk.said == ["t on node1: would get SIGKILL"] * 2
    assert master.got(op.SignalTasks) == []


def test_pause_and_resume(master: Scripted, desk: Desk) -> None:
    master.says(op.PauseTasks, op.Tasks(0, (view("t"),)))
    assert desk.run("pause", "t") == 0
    assert desk.run("resume", "-q", "t") == 0
    assert desk.said == ["t on node1: paused", "t"]
    assert [asked.resume for asked in master.got(op.PauseTasks)] == [False, True]


def test_wait_takes_the_first_status_that_is_not_0(master: Scripted, desk: Desk) -> None:
    ended = (exited("a"), exited("b", code=4), exited("c", code=5))
    master.says(op.AwaitTasks, op.Tasks(0, ended))
    assert desk.run("wait", "a", "b", "c", "--timeout", "10m") == 4
    assert desk.said == ["a on node1: exit 0", "b on node1: exit 4", "c on node1: exit 5"]
    assert master.got(op.AwaitTasks)[0].timeout_s == 600


def test_a_wait_whose_time_is_over_is_124(master: Scripted, desk: Desk) -> None:
    master.says(op.AwaitTasks, op.Problem(0, "timeout", "t still runs", exit_status=124))
    assert desk.run("wait", "--timeout", "0.5", "t", "--json") == 124
    assert desk.noted == ["wait: t still runs"]
    assert json.loads(desk.said[0])["error"]["code"] == "timeout"


def test_ctrl_c_ends_a_command_and_its_connection(
    master: Scripted, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(asked: op.AwaitTasks) -> list[op.Reply]:
        os.kill(os.getpid(), signal.SIGINT)
        return []

    master.answers[op.AwaitTasks] = wait
    master.says(op.PauseTasks, op.Tasks(0, ()))
    assert desk.run("wait", "t") == 130
    assert desk.noted == []
    assert desk.run("pause", "t") == 0
