"""The keeper's small pure parts: back-off, environment, news, positions, adoption, options."""

import errno
from collections.abc import Callable

import pytest

from clientd import __main__ as main
from clientd.keeper import adoption, cgroups, environment, news, orders, processes
from clientd.keeper.adoption import Sight
from clientd.keeper.backoff import GOOD_LIFE_S, PAUSES, Backoff
from clientd.keeper.processes import Process
from clientd.keeper.records import Kept, Started, Stepped
from godwit.errors import StartError, TaskError, UsageError
from godwit.task.lifecycle import Cause, Status
from godwit.task.record import Spec, Task

# ---- back-off -------------------------------------------------------------------------------


def test_each_early_death_makes_the_pause_longer_up_to_a_bound() -> None:
    backoff = Backoff()
    pauses = []
    for now in range(len(PAUSES) + 2):
        backoff.born(now)
        pauses.append(backoff.died(now + 0.1) - (now + 0.1))
    assert pauses == pytest.approx([*PAUSES, PAUSES[-1], PAUSES[-1]])


def test_a_good_life_lets_earlier_deaths_be_forgotten() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.born(0.0)
        backoff.died(1.0)
    backoff.born(100.0)
    assert backoff.died(100.0 + GOOD_LIFE_S) == 100.0 + GOOD_LIFE_S


# ---- environment ----------------------------------------------------------------------------


def test_a_task_gets_its_users_environment_and_nothing_else_of_clientds() -> None:
    inherited = {
        b"LANG": b"C.UTF-8", b"LC_TIME": b"fi_FI", b"TZ": b"UTC",
        b"GODWIT_TOKEN": b"secret", b"PATH": b"/odd", b"HOME": b"/x", b"LD_PRELOAD": b"/x.so",
    }
    assert environment.of_user("ann", "/home/ann", "", inherited) == {
        b"LANG": b"C.UTF-8", b"LC_TIME": b"fi_FI", b"TZ": b"UTC", b"HOME": b"/home/ann",
        b"USER": b"ann", b"LOGNAME": b"ann", b"SHELL": b"/bin/sh",
        b"PATH": environment.DEFAULT_PATH,
    }


def test_what_a_launch_sets_wins_but_never_over_the_tasks_marks() -> None:
    spec = Spec(
        "aaaaaaaa", (b"x",), index=3,
        env={b"PATH": b"/mine", b"GODWIT_TASK": b"bbbbbbbb", b"GODWIT_KEEPER": b"none"},
    )
    found = environment.of_task({b"PATH": b"/usr/bin", b"HOME": b"/"}, spec, "node1", "00ff")
    assert found == {
        b"PATH": b"/mine", b"HOME": b"/", b"GODWIT_TASK": b"aaaaaaaa", b"GODWIT_NODE": b"node1",
        b"GODWIT_INDEX": b"3", b"GODWIT_KEEPER": b"00ff",
    }


def test_a_shell_line_is_one_word_for_the_shell() -> None:
    assert environment.words(Spec("t", (b"a | b",), shell=True)) == (b"/bin/sh", b"-c", b"a | b")


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (Spec("t", ()), "no-program"),
        (Spec("t", (b"a", b"b"), shell=True), "no-program"),
        (Spec("t", (b"a", b"b\0")), "nul-byte"),
        (Spec("t", (b"a",), cwd=b"/\0"), "nul-byte"),
        (Spec("t", (b"a",), env={b"A": b"\0"}), "nul-byte"),
        (Spec("t", (b"a",), env={b"A=B": b""}), "bad-env"),
        (Spec("t", (b"a",), env={b"": b"x"}), "bad-env"),
    ],
)
def test_what_execve_could_only_misunderstand_is_refused(spec: Spec, code: str) -> None:
    with pytest.raises(TaskError) as caught:
        environment.check(spec)
    assert caught.value.code == code


def probe(**files: int) -> Callable[[bytes], int]:
    """0 or an errno for each file, by its name with / as __."""
    return lambda file: files.get(file.decode().replace("/", "__"), errno.ENOENT)


def test_a_program_is_the_first_in_the_path_that_can_be_executed() -> None:
    files = probe(__a__x=errno.EACCES, __b__x=0, __c__x=0)
    assert environment.choose(b"x", b"/a:/b:/c", files) == b"/b/x"


def test_a_word_with_a_slash_is_not_looked_for() -> None:
    assert environment.candidates(b"./x", b"/a:/b") == [b"./x"]


def test_an_empty_folder_in_the_path_is_the_working_directory() -> None:
    assert environment.candidates(b"x", b"/a::/b:") == [b"/a/x", b"x", b"/b/x", b"x"]


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, "ENOENT"),
        ({"__a__x": errno.EACCES}, "EACCES"),
        ({"__b__x": errno.EISDIR}, "EISDIR"),
        ({"__a__x": errno.ENOTDIR}, "ENOENT"),
    ],
)
def test_missing_and_forbidden_are_told_apart(files: dict[str, int], code: str) -> None:
    with pytest.raises(TaskError) as caught:
        environment.choose(b"x", b"/a:/b", probe(**files))
    assert caught.value.code == code and "'x'" in str(caught.value)


def test_a_refusal_names_the_program_in_one_line_whatever_its_name() -> None:
    text = str(environment.refusal(b"a\n\xff" + b"z" * 10_000, errno.EACCES))
    assert "\n" not in text and len(text) < 400 and "\\xff" in text


# ---- news -----------------------------------------------------------------------------------


def task(name: str, size: int = 1) -> Task:
    return Task(Spec(name, (b"x" * size,)))


def test_a_task_that_changed_twice_in_a_turn_is_told_of_once() -> None:
    tell = news.News()
    for name in ("a", "b", "a", "gone"):
        tell.changed(name)
    tell.word(orders.Acted(1))
    tasks = {name: task(name) for name in ("a", "b")}
    assert tell.take(tasks) == [orders.Changed((tasks["a"], tasks["b"])), orders.Acted(1)]
    assert tell.take(tasks) == []


def test_many_tasks_take_several_words() -> None:
    sizes = [len(batch) for batch in news.batches(task(str(i)) for i in range(600))]
    assert sizes == [256, 256, 88] and list(news.batches([])) == []


def test_long_commands_take_a_word_each() -> None:
    assert [len(b) for b in news.batches([task("a", news.MOST_BYTES)] * 3)] == [1, 1, 1]


# ---- processes and cgroups ------------------------------------------------------------------


def test_a_process_name_may_hold_parentheses_and_spaces() -> None:
    stat = b"42 (a) R 1 (b) S 7 40 41 0 -1 " + b"0 " * 13 + b"9876 " + b"0 " * 29 + b"256\n"
    assert processes.parse(stat) == Process(42, "S", 7, 40, 41, 9876, 256)


MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
41 31 0:38 / /sys/fs/cgroup/a\\040b rw,relatime shared:9 - cgroup2 cgroup2 rw
"""


@pytest.mark.parametrize(
    ("mounts", "cgroup", "folder"),
    [
        (MOUNTS, "9:pids:/\n0::/\n", "/sys/fs/cgroup/a b"),
        (MOUNTS, "0::/user.slice/x\n", "/sys/fs/cgroup/a b/user.slice/x"),
        ("1 1 0:1 /box /cg rw - cgroup2 c rw\n", "0::/box/in\n", "/cg/in"),
        ("1 1 0:1 /box /cg rw - cgroup2 c rw\n", "0::/box\n", "/cg"),
    ],
)
def test_the_own_cgroup_is_found_wherever_the_hierarchy_is_mounted(
    mounts: str, cgroup: str, folder: str
) -> None:
    assert cgroups.own_folder(mounts, cgroup) == folder


@pytest.mark.parametrize(
    ("mounts", "cgroup"),
    [
        ("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", "0::/\n"),
        ("1 1 0:1 /box /cg rw - cgroup2 c rw\n", "0::/boxes\n"),
        (MOUNTS, "0::/../elsewhere\n"),
    ],
)
def test_without_a_hierarchy_that_holds_us_there_are_no_cgroups(mounts: str, cgroup: str) -> None:
    with pytest.raises(StartError):
        cgroups.own_folder(mounts, cgroup)


# ---- adoption -------------------------------------------------------------------------------

BOOT = "this-boot"
ROOT = Process(7, "S", 1, 7, 7, 1234, 0)
OTHER = Process(7, "S", 1, 7, 7, 9999, 0)
LEFT = Process(8, "S", 1, 7, 7, 1300, 0)
RUNNING = Task(Spec("aaaaaaaa", (b"x",)), Status.RUNNING, pid=7, start_ticks=1234, boot=BOOT)
STARTING = Task(RUNNING.spec)


def with_status(status: Status) -> Task:
    return Task(RUNNING.spec, status, pid=7, start_ticks=1234, boot=BOOT)


@pytest.mark.parametrize(
    ("before", "sight", "record"),
    [
        (RUNNING, Sight(ROOT, [ROOT], "log"), None),
        (with_status(Status.PAUSED), Sight(ROOT, [ROOT], "log"), None),
        (with_status(Status.UNKNOWN), Sight(ROOT, [ROOT], "log"), Stepped("aaaaaaaa", Cause.FOUND)),
        (with_status(Status.UNKNOWN), Sight(None, [], "log"), None),
        (
            RUNNING, Sight(None, [], "log"),
            Stepped("aaaaaaaa", Cause.LOST, adoption.UNWATCHED, 5.0),
        ),
        (
            RUNNING, Sight(OTHER, [], "log"),
            Stepped("aaaaaaaa", Cause.LOST, adoption.UNWATCHED, 5.0),
        ),
        (
            RUNNING, Sight(None, [LEFT], "log"),
            Stepped(
                "aaaaaaaa", Cause.LOST, f"{adoption.UNWATCHED}; {adoption.left_text(1)}", 5.0
            ),
        ),
        (
            STARTING, Sight(None, [LEFT, ROOT], "log"),
            Started("aaaaaaaa", 7, 1234, BOOT, "log", 5.0),
        ),
        (
            STARTING, Sight(None, [], "log"),
            Stepped("aaaaaaaa", Cause.LOST, adoption.UNSTARTED, 5.0),
        ),
    ],
)
def test_what_a_new_keeper_makes_of_a_task(before: Task, sight: Sight, record: object) -> None:
    assert adoption.decide(before, sight, BOOT, 5.0) == record


def test_after_a_reboot_nothing_is_taken_for_a_task() -> None:
    assert adoption.decide(RUNNING, Sight(ROOT, [], "log"), "another-boot", 5.0) == Stepped(
        "aaaaaaaa", Cause.LOST, adoption.REBOOTED, 5.0
    )


def test_a_task_without_a_record_is_taken_over_by_its_leader() -> None:
    sight = Sight(None, [LEFT, ROOT], "log", (b"x", b"y"))
    kept = adoption.unrecorded("aaaaaaaa", sight, BOOT, 5.0)
    assert kept == Kept(Task(
        Spec("aaaaaaaa", (b"x", b"y"), asked_at=5.0), Status.RUNNING, 7, 1234, BOOT,
        reason="found running; its record was lost", log="log", started_at=5.0,
    ))


def test_without_its_leader_the_end_of_an_unrecorded_task_is_not_known() -> None:
    kept = adoption.unrecorded("aaaaaaaa", Sight(None, [LEFT, LEFT], "log"), BOOT, 5.0)
    assert kept.task.status is Status.UNKNOWN
    assert kept.task.reason == "its record was lost; 2 processes it started still run"


# ---- options --------------------------------------------------------------------------------


def test_the_options_say_how_a_node_is_started() -> None:
    line = "--name n --listen [::1]:7 --state s --logs /l --orphans kill=60 -v"
    settings, level = main.asked(line.split(" "))
    assert (settings.name, settings.master, settings.listen) == ("n", "", "[::1]:7")
    assert settings.state.startswith("/") and settings.state.endswith("/s")
    assert (settings.logs, settings.orphans_kill_s, level) == ("/l", 60.0, "config")


@pytest.mark.parametrize(
    "line",
    [
        "", "--name n", "--master h:1", "--name all --master h:1", "--name n --master h",
        "--name n --master h:1 --listen h:2", "--name n --listen h:99999", "--name n --listen h:0",
        "--name n extra",
        "--name n --master h:1 --orphans", "--name n --master h:1 -v -q", "--name ١ --master h:1",
        "--name n --master h:1 --state \udcff",
        *(
            f"--name n --master h:1 --orphans {policy}"
            for policy in ("kill", "kill=", "kill=0", "kill=-1", "kill=x", "kill=١", "drop",
                           "kill=1.5", "kill=9999999999")
        ),
    ],
)
def test_a_wrong_command_line_gets_one_line_and_status_2(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        main.asked(line.split())
    assert caught.value.exit_status == 2 and "\n" not in f"{caught.value}{caught.value.hint}"
