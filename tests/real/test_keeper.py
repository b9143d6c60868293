"""The keeper with real forks: ends come back true, nothing is inherited, nothing is left."""

import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from clientd.keeper import adoption, kinship, orders, processes, records
from clientd.keeper.journal import Journal
from clientd.keeper.records import Accepted, Kept
from godwit.task.lifecycle import Status
from godwit.task.record import Spec
from tests.real.cluster import eventually
from tests.real.keeping import Keeping, with_checkout

IS_ROOT = os.geteuid() == 0
#: Prints what a process inherits, of a process that changes none of it.
STATUS = "cat /proc/self/status"


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    with Keeping(tmp_path) as keeping:
        yield keeping


@pytest.fixture(params=["cgroups", "kinship"])
def each_way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keeping]:
    """With and without control groups."""
    environment = {"WITHOUT_CGROUPS": "1"} if request.param == "kinship" else {}
    with Keeping(tmp_path, environment=environment) as keeping:
        if request.param == "cgroups" and "contain" not in keeping.facts.can:
            pytest.skip(f"no cgroups here: {keeping.facts.lacks['containment']}")
        yield keeping


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-I", "-S", "-c", code


class Gate:
    """Holds a task back until the test opens it: ``wait`` is a line for its shell."""

    def __init__(self, keeping: Keeping):
        self._path = keeping.top / "gate"
        os.mkfifo(self._path)
        self.wait = f"read x < {self._path}"

    def open(self) -> None:
        self._path.write_text("\n")


def of_task(keeping: Keeping, task: str) -> list[int]:
    """Pids of living processes that carry the task's mark and its keeper's."""
    return [
        one.pid for one in processes.everyone()
        if not one.is_dead and kinship.mark_of(one.pid) == (keeping.mark, task)
    ]


def children_of(pid: int) -> list[processes.Process]:
    return [one for one in processes.everyone() if one.parent == pid]


# ---- how a task ends ------------------------------------------------------------------------


def test_every_exit_code_comes_back_true(keeping: Keeping) -> None:
    specs = [keeping.spec("sh", "-c", f"exit {code}") for code in range(256)]
    keeping.agent.send(orders.Start(tuple(specs)))
    found = {code: keeping.end_of(spec.task) for code, spec in enumerate(specs)}
    assert {code: task.exit_code for code, task in found.items()} == {c: c for c in range(256)}
    assert all(task.signal is None and not task.reason for task in found.values())


def test_every_kind_of_signal_comes_back_true(keeping: Keeping) -> None:
    numbers = [1, 2, 3, 4, 6, 8, 9, 11, 13, 14, 15, 24, 34, 64]
    script = "ulimit -c 0; kill -{0} $$; sleep 100"
    specs = [keeping.spec("sh", "-c", script.format(number)) for number in numbers]
    keeping.agent.send(orders.Start(tuple(specs)))
    found = [keeping.end_of(spec.task) for spec in specs]
    assert [task.signal for task in found] == numbers
    assert all(task.exit_code is None and not task.core_dumped for task in found)


def test_usage_is_of_the_task_itself(keeping: Keeping) -> None:
    code = "b = bytearray(100 << 20)\nfor i in range(10**6): 0"
    task = keeping.end_of(keeping.start(*python(code)))
    assert task.usage is not None and task.usage.utime_s > 0.0
    assert task.usage.maxrss_bytes > 100 << 20 and not task.usage.maxrss_is_bound


def test_a_small_tasks_peak_is_only_a_bound(keeping: Keeping) -> None:
    """execve(2) leaves the keeper's own peak in the child's ru_maxrss."""
    task = keeping.end_of(keeping.start("true"))
    assert task.usage is not None and task.usage.maxrss_is_bound


def test_a_thousand_tasks_at_once(keeping: Keeping) -> None:
    line = "echo $GODWIT_TASK; kill -STOP $$"
    specs = tuple(keeping.spec("sh", "-c", line) for _ in range(1000))
    keeping.agent.send(orders.Start(specs))
    keeping.agent.till(lambda: len(keeping.agent.tasks) == 1000)
    names = tuple(spec.task for spec in specs)
    pids = {task.pid for task in keeping.agent.tasks.values()}
    assert len(pids) == 1000
    for name in names:
        eventually(lambda name=name: keeping.log(name) == name.encode() + b"\n", name)
    assert keeping.ask(orders.Signal, *names, number=9).code == ""
    assert {keeping.end_of(name).signal for name in names} == {9}
    eventually(lambda: has_only_its_agent(keeping), "no process is left but the agent's")


# ---- what a task is born with ---------------------------------------------------------------


def test_a_task_has_descriptors_0_1_2_and_no_other(keeping: Keeping) -> None:
    code = "import os; print(*[f'{n}:' + os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)]);"
    code += "print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[3:] == [3])"
    task = keeping.start(*python(code))
    keeping.end_of(task)
    log = keeping.logs / f"{task}.log"
    assert log.read_text() == f"0:/dev/null 1:{log} 2:{log}\nTrue\n"
    assert log.stat().st_mode & 0o777 == 0o640


def test_what_clientd_was_started_with_is_not_inherited(tmp_path: Path) -> None:
    """Ignored and blocked signals, odd descriptors, a low limit, a umask, an environment."""
    code = (
        "import os, signal, resource, sys\n"
        "for n in (1, 2, 3, 13, 15, 17, 25): signal.signal(n, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {2, 15, 17})\n"
        "os.dup2(1, 77); os.close(0); os.umask(0o077)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (321, resource.getrlimit(7)[1]))\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    keeping = Keeping(tmp_path, command=python(code), environment={"SECRET": "x"})
    with keeping:
        task = keeping.start("sh", "-c", f"{STATUS}; ls /proc/self/fd; ulimit -Sn; umask; env")
        keeping.end_of(task)
        lines = keeping.log(task).decode().splitlines()
    has_reset_signals(lines)
    fds = lines.index("0")
    assert lines[fds:fds + 6] == ["0", "1", "2", "3", "321", "0022"]
    assert f"GODWIT_TASK={task}" in lines
    assert not any(line.startswith("SECRET") for line in lines)


def has_reset_signals(status: list[str]) -> None:
    wanted = ("SigBlk", "SigIgn")
    masks = {line[:6]: int(line[7:], 16) for line in status if line.startswith(wanted)}
    # 32 and 33 are the C library's own: its posix_spawn(3) ignores them in every child.
    assert masks["SigBlk"] == 0 and masks["SigIgn"] & ~(3 << 31) == 0


def test_the_keepers_own_limit_is_raised_and_the_tasks_is_not(keeping: Keeping) -> None:
    task = keeping.start("sh", "-c", "ulimit -Sn; ulimit -Hn")
    keeping.end_of(task)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert keeping.log(task) == f"{soft}\n{hard}\n".encode()
    own = resource.prlimit(keeping.daemon.pid, resource.RLIMIT_NOFILE)
    assert own == (min(hard, 1 << 20), hard)


def test_a_task_leads_a_session_of_its_own(keeping: Keeping) -> None:
    task = keeping.start("sleep", "100")
    pid = keeping.agent.tasks[task].pid
    assert pid and os.getsid(pid) == os.getpgid(pid) == pid


def test_a_task_starts_where_it_was_asked_to(keeping: Keeping, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (keeping.state / "files" / "in").mkdir()
    found = [
        keeping.start("pwd", cwd=cwd) for cwd in (b"", b"in", os.fsencode(tmp_path / "here"))
    ]
    files = keeping.state / "files"
    for task, folder in zip(found, (files, files / "in", tmp_path / "here"), strict=True):
        keeping.end_of(task)
        assert keeping.log(task) == os.fsencode(folder) + b"\n"
    assert os.readlink(f"/proc/{keeping.daemon.pid}/cwd") == "/"


def test_words_reach_the_program_as_they_are(keeping: Keeping) -> None:
    words = (b"a b", b"$HOME", b"*", b"", b"\xff\n", b"; rm -rf /", b"-n")
    task = keeping.start("printf", b"<%s>", *words)
    keeping.end_of(task)
    assert keeping.log(task) == b"".join(b"<" + word + b">" for word in words)


def test_a_shell_line_is_for_the_shell(keeping: Keeping) -> None:
    task = keeping.start("echo a | tr a b; exit 5", shell=True, env={b"X": b"1"}, index=4)
    assert keeping.end_of(task).exit_code == 5 and keeping.log(task) == b"b\n"


# ---- what cannot be started -----------------------------------------------------------------


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_what_cannot_be_executed_is_an_error_that_names_it(
    keeping: Keeping, tmp_path: Path
) -> None:
    cases: list[tuple[tuple[str | bytes, ...], dict[str, object], str, str]] = [
        (("no-such-program",), {}, "ENOENT", "'no-such-program'"),
        (("/no/such",), {}, "ENOENT", "'/no/such'"),
        (("",), {}, "ENOENT", "''"),
        ((script(tmp_path / "x1", "#!/no/interpreter -x\n"),), {}, "ENOENT", "/no/interpreter"),
        ((script(tmp_path / "x2", "#!/bin/sh\n", 0o644),), {}, "EACCES", "x2"),
        ((script(tmp_path / "x3", "no first line\n"),), {}, "ENOEXEC", "x3"),
        ((str(tmp_path),), {}, "EISDIR", str(tmp_path)),
        ((str(tmp_path / "x2" / "y"),), {}, "ENOENT", "x2/y"),
        (("true", "x" * (1 << 18)), {}, "E2BIG", "'true'"),
        (("true", b"a\0b"), {}, "nul-byte", "NUL"),
        (("true",), {"cwd": b"/no/such\xff"}, "ENOENT", "/no/such\\xff"),
        (("true",), {"cwd": os.fsencode(tmp_path / "x2")}, "ENOTDIR", "x2"),
        (("true",), {"env": {b"A=": b""}}, "bad-env", "A="),
        (("true",), {"user": "no-such-user"}, "no-user", "no-such-user"),
        ((), {}, "no-program", "no program"),
    ]
    before = at_rest(keeping)
    for argv, more, code, text in cases:
        refused = keeping.refused(*argv, **more)
        assert refused.code == code and text in refused.text and "\n" not in refused.text
    assert sorted(os.listdir(keeping.logs)) == ["clientd.log"]
    assert not keeping.agent.tasks
    eventually(lambda: descriptors(keeping) == before, "no descriptor is left")
    eventually(lambda: has_only_its_agent(keeping), "no process is left")


def at_rest(keeping: Keeping) -> int:
    """Its descriptors, once it has looked for CRIU, which takes processes and their pipes."""
    # Between two of them there is none.
    eventually(lambda: "info: criu: " in keeping.daemon.text(), "criu was looked for")
    eventually(lambda: has_only_its_agent(keeping), "what looked for it is gone")
    return descriptors(keeping)


def has_only_its_agent(keeping: Keeping) -> bool:
    return [one.pid for one in children_of(keeping.daemon.pid)] == [keeping.agent.pid]


def descriptors(keeping: Keeping) -> int:
    return len(os.listdir(f"/proc/{keeping.daemon.pid}/fd"))


def test_a_program_found_later_in_the_path_is_used(keeping: Keeping, tmp_path: Path) -> None:
    for folder, mode in (("a", 0o644), ("b", 0o755)):
        (tmp_path / folder).mkdir()
        script(tmp_path / folder / "tool", f"#!/bin/sh\necho {folder}\n", mode)
    path = os.fsencode(f"{tmp_path}/a:{tmp_path}/b:/usr/bin:/bin")
    task = keeping.start("tool", env={b"PATH": path})
    keeping.end_of(task)
    assert keeping.log(task) == b"b\n"


def test_an_id_that_is_none_reaches_no_path(keeping: Keeping) -> None:
    keeping.agent.send(orders.Start((Spec("../../evil", (b"true",)),)))
    assert keeping.agent.word(orders.Rejected).code == "bad-id"


def test_an_id_is_started_once(keeping: Keeping) -> None:
    spec = keeping.spec("sh", "-c", "echo once")
    keeping.agent.send(orders.Start((spec, spec)), orders.Start((spec,)))
    keeping.agent.till(lambda: spec.task in keeping.agent.tasks)
    keeping.end_of(spec.task)
    keeping.agent.send(orders.Start((spec,)))
    assert keeping.agent.word(orders.Changed).tasks[0].status is Status.EXITED
    assert keeping.log(spec.task) == b"once\n"


def test_a_refused_and_a_forgotten_id_are_told_of_again(keeping: Keeping) -> None:
    bad, good = keeping.spec("no-such-program"), keeping.spec("true")
    keeping.agent.send(orders.Start((bad, good)))
    keeping.agent.till(lambda: good.task in keeping.agent.tasks)
    keeping.end_of(good.task)
    keeping.ask(orders.Forget, good.task)
    keeping.agent.send(orders.Start((bad, good)))
    assert keeping.agent.word(orders.Rejected).code == "ENOENT"
    assert keeping.agent.word(orders.Forgotten).tasks == (good.task,)


def test_a_log_without_a_record_says_that_the_id_has_run(keeping: Keeping) -> None:
    spec = keeping.spec("true")
    (keeping.logs / f"{spec.task}.log").write_text("precious")
    keeping.agent.send(orders.Start((spec,)))
    assert keeping.agent.word(orders.Rejected).code == "EEXIST"
    assert keeping.log(spec.task) == b"precious"


def test_the_newest_remote_commands_are_kept_and_older_ones_go_with_their_logs(
    keeping: Keeping,
) -> None:
    plain = keeping.start("true")
    specs = tuple(keeping.spec("true", oneoff=True) for _ in range(203))
    keeping.agent.send(orders.Start(specs))
    forgotten: set[str] = set()
    while len(forgotten) < 3:
        forgotten |= set(keeping.agent.word(orders.Forgotten).tasks)
    assert len(keeping.agent.tasks) == 201 and plain in keeping.agent.tasks
    logs = {f"{task}.log" for task in keeping.agent.tasks}
    left = {*logs, "clientd.log"}
    eventually(lambda: set(os.listdir(keeping.logs)) == left, "their logs are gone")


@pytest.mark.parametrize("limit", [20, 26])
def test_without_descriptors_launches_are_refused_and_ends_still_come_back_true(
    tmp_path: Path, limit: int
) -> None:
    few = ("/usr/bin/prlimit", f"--nofile={limit}:{limit}")
    with Keeping(tmp_path, command=few) as keeping:
        gate = tmp_path / "gate"  # all that start are there at once, however long that takes
        wait = f"until [ -e {gate} ]; do sleep 0.05; done"
        specs = tuple(keeping.spec("sh", "-c", f"{wait}; exit {i}") for i in range(30))
        keeping.agent.send(orders.Start(specs))
        told: dict[str, str] = {}
        while len(told) + len(keeping.agent.tasks) < len(specs):
            if isinstance(word := keeping.agent.next(), orders.Rejected):
                told[word.task] = word.code
        gate.touch()
        assert told and keeping.agent.tasks and set(told.values()) <= {"EMFILE", "containment"}
        for code, spec in enumerate(specs):
            if spec.task not in told:
                assert keeping.end_of(spec.task).exit_code == code
        assert keeping.end_of(keeping.start("true")).exit_code == 0


# ---- as another user ------------------------------------------------------------------------


@pytest.mark.skipif(not IS_ROOT, reason="needs root to start tasks as another user")
def test_a_task_as_a_user_has_that_users_rights_and_no_more(keeping: Keeping) -> None:
    user = pwd.getpwnam("nobody")
    task = keeping.start("sh", "-c", f"id -u; id -g; id -G; {STATUS}; echo $USER; pwd; umask",
                         user="nobody", cwd=b"/")
    end = keeping.end_of(task)
    lines = keeping.log(task).decode().splitlines()
    assert end.exit_code == 0, lines
    assert lines[:3] == [str(user.pw_uid), str(user.pw_gid), str(user.pw_gid)]
    assert f"Uid:{f'{chr(9)}{user.pw_uid}' * 4}" in lines and "NoNewPrivs:\t1" in lines
    has_reset_signals(lines)
    assert lines[-3:] == ["nobody", "/", "0022"]


@pytest.mark.skipif(not IS_ROOT, reason="needs root to start tasks as another user")
def test_what_another_user_may_not_do_is_an_error_at_once(keeping: Keeping, tmp_path: Path) -> None:
    secret = script(tmp_path / "secret", "#!/bin/sh\n", 0o700)
    before = at_rest(keeping)
    for argv, cwd, code, text in (
        (("true",), os.fsencode(tmp_path), "EACCES", "as nobody"),
        ((secret,), b"/", "EACCES", "secret"),
        (("no-such-program",), b"/", "ENOENT", "no-such-program"),
    ):
        refused = keeping.refused(*argv, cwd=cwd, user="nobody")
        assert refused.code == code and text in refused.text
    eventually(lambda: descriptors(keeping) == before, "no descriptor is left")
    eventually(lambda: has_only_its_agent(keeping), "no process is left")


# ---- signals, pauses, leftovers -------------------------------------------------------------


def test_a_signal_reaches_the_whole_process_group(keeping: Keeping) -> None:
    task = keeping.start("sh", "-c", "sleep 100 & sleep 100 & echo ready; wait")
    eventually(lambda: keeping.log(task) == b"ready\n", "the group")
    assert keeping.signal(task, 15).code == ""
    assert keeping.end_of(task).signal == 15
    eventually(lambda: not of_task(keeping, task), "the group's end")


def test_what_is_no_signal_is_not_sent(keeping: Keeping) -> None:
    task = keeping.start("sleep", "100")
    for number in (0, 65, -1, 32, 1 << 40):
        assert keeping.signal(task, number).code == "bad-signal"
    assert of_task(keeping, task)


def test_ended_and_unknown_tasks_get_no_signal(keeping: Keeping) -> None:
    task = keeping.start("true")
    keeping.end_of(task)
    assert keeping.signal(task, 15).code == "ended"
    assert keeping.signal(task, 9, whole=True).code == "ended"
    assert keeping.signal("zzzzzzzz", 15).code == "no-task"
    assert keeping.ask(orders.Pause, task).code == "ended"
    assert keeping.ask(orders.Forget, "zzzzzzzz").code == "no-task"


def test_an_order_about_several_tasks_tells_the_first_fault(keeping: Keeping) -> None:
    one, two = keeping.start("sleep", "100"), keeping.start("true")
    keeping.end_of(two)
    acted = keeping.ask(orders.Signal, "zzzzzzzz", one, two, number=15)
    assert acted.code == "no-task" and two in acted.text and "zzzzzzzz" in acted.text
    assert keeping.end_of(one).signal == 15


def state_of(pid: int | None) -> str:
    process = processes.look(pid or 0)
    return process.state if process else ""


def test_an_agent_that_asks_for_it_is_replaced_at_once_and_no_task_notices(
    keeping: Keeping,
) -> None:
    task = keeping.start("sleep", "300")
    before = keeping.agent.tasks[task]
    for _ in range(4):  # deaths would have brought pauses by now
        pid = keeping.agent.pid
        keeping.agent.send(orders.Restart())
        keeping.next_agent()
        assert keeping.agent.pid != pid and keeping.agent.tasks[task] == before
    told = keeping.daemon.text()
    assert told.count("another to take its place") == 4 and "another starts in" not in told


def test_a_paused_task_stands_still_and_goes_on(each_way: Keeping) -> None:
    task = each_way.start("sh", "-c", "trap 'echo got' TERM; while :; do echo; sleep 0.01; done")
    eventually(lambda: each_way.log(task).count(b"\n") > 2, "its loop")
    assert each_way.ask(orders.Pause, task).code == ""
    assert each_way.agent.tasks[task].status is Status.PAUSED
    eventually(lambda: quiet(each_way.logs / f"{task}.log"), "a pause")
    assert each_way.ask(orders.Pause, task).code == "bad-step"
    told = each_way.signal(task, 15)
    assert told.code == "" and "SIGTERM acts when it is resumed" in told.text
    assert each_way.ask(orders.Pause, task, resume=True).code == ""
    assert each_way.agent.tasks[task].status is Status.RUNNING
    eventually(lambda: b"got" in each_way.log(task), "the signal")
    assert each_way.ask(orders.Pause, task, resume=True).code == "bad-step"


def quiet(log: Path) -> bool:
    """Nothing is written for several times as long as it takes."""
    before = log.stat().st_size
    subprocess.run(["sleep", "0.1"], check=True)
    return log.stat().st_size == before


def test_a_paused_task_can_be_killed(each_way: Keeping) -> None:
    task = each_way.start("sleep", "100")
    each_way.ask(orders.Pause, task)
    assert each_way.signal(task, 9).text == ""
    assert each_way.end_of(task).signal == 9


#: Four processes: the root, one in its group, one in a session of its own, a double fork in one.
FAMILY = "sleep 300 & setsid sleep 300 & (setsid sh -c 'sleep 300 & exec sleep 300' &); echo ready"
SLEEP = (b"sleep", b"300")


def sleeps(keeping: Keeping, task: str) -> int:
    """How many of a task's processes have become the long sleeps of FAMILY."""
    return [processes.command_line(pid) for pid in of_task(keeping, task)].count(SLEEP)


def is_whole(keeping: Keeping, task: str) -> bool:
    """All of FAMILY are there below the root, and what made them has gone."""
    return len(of_task(keeping, task)) == 5 and sleeps(keeping, task) == 4


def test_nothing_that_a_task_started_outlives_its_whole_kill(each_way: Keeping) -> None:
    task = each_way.start("sh", "-c", f"{FAMILY}; wait")
    eventually(lambda: is_whole(each_way, task), "the family")
    assert each_way.signal(task, 9, whole=True).code == ""
    assert not of_task(each_way, task)
    assert each_way.end_of(task).signal == 9


def test_what_outlives_its_root_is_said_and_can_be_killed(each_way: Keeping) -> None:
    gate = Gate(each_way)
    task = each_way.start("sh", "-c", f"{FAMILY}; {gate.wait}; exit 7")
    eventually(lambda: is_whole(each_way, task), "the family")
    gate.open()
    end = each_way.end_of(task)
    assert (end.exit_code, end.reason) == (7, "4 processes it started still run")
    assert each_way.signal(task, 9, whole=True).code == ""
    assert not of_task(each_way, task)
    each_way.agent.till(lambda: not each_way.agent.tasks[task].reason)
    assert each_way.agent.tasks[task].exit_code == 7


def test_the_reason_goes_with_the_last_process(each_way: Keeping) -> None:
    gate = Gate(each_way)
    task = each_way.start("sh", "-c", f"setsid sh -c '{gate.wait}' & exit 0")
    assert each_way.end_of(task).reason == "1 process it started still runs"
    gate.open()
    each_way.agent.till(lambda: not each_way.agent.tasks[task].reason)


@pytest.mark.skipif(not IS_ROOT, reason="cgroups of version 2 need root")
def test_with_a_cgroup_no_disguise_helps(keeping: Keeping) -> None:
    """Double fork, own session, empty environment, parent gone."""
    if "contain" not in keeping.facts.can:
        pytest.skip(f"no cgroups here: {keeping.facts.lacks['containment']}")
    task = keeping.start("sh", "-c", "(env -i setsid sh -c 'echo $$; exec sleep 300' &); sleep 300")
    eventually(lambda: keeping.log(task).endswith(b"\n"), "the disguised one")
    pid = int(keeping.log(task))
    assert keeping.signal(task, 9, whole=True).code == ""
    # It may be a zombie of the keeper's for a moment.
    assert state_of(pid) in ("", "Z", "X")
    keeping.end_of(task)


def test_a_fork_bomb_is_ended(each_way: Keeping) -> None:
    """A bounded one: each generation forks the next and ends."""
    code = (
        "import os, time\n"
        "for i in range(3): os.fork()\n"
        "while True:\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid(); time.sleep(0.002)\n"
    )
    task = each_way.start(*python(code))
    each_way.end_of(task)
    assert each_way.signal(task, 9, whole=True).code == ""
    assert not of_task(each_way, task)


def test_forgetting_a_task_ends_it_and_removes_its_log(each_way: Keeping) -> None:
    task = each_way.start("sh", "-c", f"{FAMILY}; wait")
    eventually(lambda: is_whole(each_way, task), "the family")
    assert each_way.ask(orders.Forget, task).code == ""
    assert not of_task(each_way, task) and task not in each_way.agent.tasks
    assert sorted(os.listdir(each_way.logs)) == ["clientd.log"]


def test_orphans_of_tasks_are_waited_for(each_way: Keeping) -> None:
    task = each_way.start("sh", "-c", "(setsid true &); (true &); exit 0")
    each_way.end_of(task)
    eventually(lambda: len(children_of(each_way.daemon.pid)) == 1, "no zombie but the agent")


def test_measured_usage_counts_all_children_that_ended(keeping: Keeping) -> None:
    keeping.end_of(keeping.start(*python("for i in range(3 * 10**6): 0")))
    keeping.agent.send(orders.Measure())
    assert keeping.agent.word(orders.Measured).children.utime_s > 0.02


# ---- the agent ------------------------------------------------------------------------------


def test_an_agent_that_dies_is_replaced_and_told_all(keeping: Keeping) -> None:
    one, two = keeping.start("sleep", "100"), keeping.start("true")
    keeping.end_of(two)
    before = dict(keeping.agent.tasks)
    os.kill(keeping.agent.pid, signal.SIGKILL)
    facts = keeping.next_agent()
    assert facts == keeping.facts and keeping.agent.tasks == before
    assert keeping.signal(one, 15).code == "" and keeping.end_of(one).signal == 15


def test_a_task_that_ends_without_an_agent_is_told_of_to_the_next(keeping: Keeping) -> None:
    gate = Gate(keeping)
    task = keeping.start("sh", "-c", f"{gate.wait}; exit 9")
    os.kill(keeping.agent.pid, signal.SIGKILL)
    gate.open()
    keeping.next_agent()
    assert keeping.end_of(task).exit_code == 9


@pytest.mark.parametrize("junk", [b"\xff" * 64, b"\0\0\0\1\xc1", b"\0\0\0\3abc"])
def test_an_agent_that_talks_nonsense_is_replaced(keeping: Keeping, junk: bytes) -> None:
    task = keeping.start("sleep", "100")
    keeping.agent.link.sendall(junk)
    keeping.next_agent()
    assert keeping.agent.tasks[task].status is Status.RUNNING


def test_an_agent_that_hangs_up_is_replaced(keeping: Keeping) -> None:
    keeping.agent.link.shutdown(socket.SHUT_RDWR)
    keeping.next_agent()


def test_an_agent_that_does_not_read_is_replaced(keeping: Keeping, tmp_path: Path) -> None:
    """Refusals name what they refuse: 100,000 of them are more than the bound."""
    specs = tuple(Spec(f"x{number}", (b"true",), cwd=b"/") for number in range(150_000))
    stuck = keeping.agent
    stuck.send(orders.Start(specs))
    keeping.next_agent()
    eventually(lambda: processes.look(stuck.pid) is None, "the end of the stuck one")
    assert "unread" in keeping.daemon.text()


def test_restarts_of_an_agent_that_keeps_dying_come_later_each_time(keeping: Keeping) -> None:
    for _ in range(3):
        os.kill(keeping.agent.pid, signal.SIGKILL)
        keeping.next_agent()
    told = [line.rpartition("starts in ")[2] for line in keeping.daemon.text().splitlines()
            if "starts in" in line]
    assert told == ["0 s", "0.5 s", "1 s"]


# ---- after kill -9 of the keeper ------------------------------------------------------------


def test_tasks_outlive_the_keeper_and_their_ends_come_back_true(each_way: Keeping) -> None:
    gate = Gate(each_way)
    waits = each_way.start("sh", "-c", f"echo one; {gate.wait}; echo two; exit 7")
    killed = each_way.start("sleep", "100")
    ended = each_way.start("sh", "-c", "exit 3")
    each_way.end_of(ended)
    before = dict(each_way.agent.tasks)
    each_way.kill()
    each_way.run()
    assert each_way.agent.tasks == before
    gate.open()
    assert each_way.signal(killed, 9).code == ""
    found = each_way.end_of(waits), each_way.end_of(killed)
    if found[0].status is Status.UNKNOWN:
        pytest.skip(f"this kernel does not tell the status of a stranger: {found[0].reason}")
    assert (found[0].exit_code, found[1].signal) == (7, 9)
    assert each_way.log(waits) == b"one\ntwo\n"


def test_a_task_that_ended_unwatched_is_unknown_with_the_cause(keeping: Keeping) -> None:
    gate = Gate(keeping)
    task = keeping.start("sh", "-c", f"{gate.wait}; exit 0")
    pid = keeping.agent.tasks[task].pid
    keeping.kill()
    gate.open()
    eventually(lambda: not state_of(pid), "the task's end")
    keeping.run()
    found = keeping.agent.tasks[task]
    assert (found.status, found.reason) == (Status.UNKNOWN, adoption.UNWATCHED)
    assert found.exit_code is None and found.signal is None


def test_a_pid_that_is_anothers_now_is_not_taken_for_the_task(keeping: Keeping) -> None:
    """The journal says another start time: as after the pid was used again."""
    task = keeping.start("sleep", "100")
    known = keeping.agent.tasks[task]
    keeping.kill()
    rewrite(keeping, Kept(msgspec.structs.replace(known, start_ticks=known.start_ticks + 1)))
    keeping.run()
    assert keeping.agent.tasks[task].status is Status.UNKNOWN
    assert keeping.signal(task, 15).code == "ended"
    assert of_task(keeping, task) == [known.pid]


def rewrite(keeping: Keeping, *life: records.Records) -> None:
    """Another journal than the keeper left."""
    journal = Journal(str(keeping.state / "journal"))
    journal.load()
    journal.compact(life)
    journal.close()


def test_leftovers_are_found_again_and_can_be_ended(each_way: Keeping) -> None:
    gate = Gate(each_way)
    task = each_way.start("sh", "-c", f"{FAMILY}; {gate.wait}; exit 7")
    eventually(lambda: is_whole(each_way, task), "the family")
    gate.open()
    reason = each_way.end_of(task).reason
    each_way.kill()
    each_way.run()
    assert each_way.agent.tasks[task].reason == reason
    assert each_way.signal(task, 9, whole=True).code == ""
    assert not of_task(each_way, task)


def test_what_an_adopted_task_leaves_behind_is_said(each_way: Keeping) -> None:
    gate = Gate(each_way)
    task = each_way.start("sh", "-c", f"{FAMILY}; {gate.wait}; exit 7")
    eventually(lambda: is_whole(each_way, task), "the family")
    each_way.kill()
    each_way.run()
    gate.open()
    assert each_way.end_of(task).reason.endswith(adoption.left_text(4))
    assert each_way.signal(task, 9, whole=True).code == ""
    assert not of_task(each_way, task)


def test_a_task_that_was_paused_stays_paused(each_way: Keeping) -> None:
    task = each_way.start("sleep", "100")
    each_way.ask(orders.Pause, task)
    each_way.kill()
    each_way.run()
    assert each_way.agent.tasks[task].status is Status.PAUSED
    assert each_way.ask(orders.Pause, task, resume=True).code == ""
    assert each_way.signal(task, 15).code == "" and not of_task_soon(each_way, task)


def of_task_soon(keeping: Keeping, task: str) -> list[int]:
    """Nothing, once the task's processes have ended."""
    eventually(lambda: not of_task(keeping, task), f"the end of {task}")
    return []


def test_a_lost_journal_never_starts_a_second_copy(each_way: Keeping) -> None:
    """The task runs on; it is found by what it carries, and its id is known."""
    task = each_way.start("sleep", "100")
    spec, pid = each_way.agent.tasks[task].spec, each_way.agent.tasks[task].pid
    each_way.kill()
    (each_way.state / "journal").unlink()
    each_way.run()
    found = each_way.agent.tasks[task]
    assert (found.status, found.pid, found.spec.argv) == (Status.RUNNING, pid, spec.argv)
    assert "record was lost" in found.reason
    each_way.agent.send(orders.Start((spec,)))
    assert each_way.agent.word(orders.Changed).tasks == (found,)
    assert each_way.signal(task, 9, whole=True).code == ""
    assert not of_task(each_way, task)


def test_a_launch_cut_off_by_a_crash_is_found_or_unknown_never_doubled(each_way: Keeping) -> None:
    """The journal has ACCEPTED and no more; one of the two was in fact started."""
    task = each_way.start("sleep", "100")
    known = each_way.agent.tasks[task]
    other = each_way.spec("true")
    each_way.kill()
    rewrite(each_way, Accepted((known.spec, other)))
    each_way.run()
    found = each_way.agent.tasks
    assert (found[task].status, found[task].pid) == (Status.RUNNING, known.pid)
    assert found[task].log == known.log
    assert (found[other.task].status, found[other.task].reason) == (
        Status.UNKNOWN, adoption.UNSTARTED
    )
    each_way.agent.send(orders.Start((known.spec, other)))
    assert list(each_way.agent.word(orders.Changed).tasks) == [found[task], found[other.task]]


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_a_harmed_journal_is_said_and_nothing_is_started_again(keeping: Keeping, harm: str) -> None:
    tasks = [keeping.start("sh", "-c", "echo once; sleep 100") for _ in range(5)]
    specs = tuple(keeping.agent.tasks[task].spec for task in tasks)
    eventually(lambda: {keeping.log(task) for task in tasks} == {b"once\n"}, "all that they say")
    keeping.kill()
    path = keeping.state / "journal"
    data = bytearray(path.read_bytes())
    if harm == "cut":
        del data[-3:]
    else:
        data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    keeping.run()
    assert {"cut": "torn record", "flip": "is damaged at byte"}[harm] in keeping.daemon.text()
    assert {keeping.agent.tasks[task].status for task in tasks} == {Status.RUNNING}
    keeping.agent.send(orders.Start(specs))
    assert len(keeping.agent.word(orders.Changed).tasks) == 5
    assert {keeping.log(task) for task in tasks} == {b"once\n"}


# ---- starting and stopping clientd ----------------------------------------------------------


def run(keeping: Keeping, *options: str) -> "subprocess.CompletedProcess[str]":
    """One more clientd, that should end by itself."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "clientd", *options], capture_output=True, text=True,
        env=with_checkout(), timeout=30, cwd=keeping.top,
    )


def test_a_second_clientd_on_the_same_state_folder_is_refused(keeping: Keeping) -> None:
    second = run(keeping, "--name", "b", "--listen", "127.0.0.1:1", "--state", str(keeping.state),
                 "--logs", str(keeping.top))
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"clientd b: another clientd (pid {keeping.daemon.pid}) runs on the state folder "
        f"{keeping.state}\n"
    )


def test_a_wrong_command_line_is_one_line_and_status_2(keeping: Keeping) -> None:
    wrong = run(keeping, "--name", "all", "--master", "h:1")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("clientd: 'all' is a word of the shell")


def test_a_folder_that_cannot_be_made_is_one_line_and_status_1(keeping: Keeping) -> None:
    wrong = run(keeping, "--name", "n", "--master", "h:1", "--state", "/dev/null/x")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "/dev/null/x: Not a directory" in wrong.stderr


def test_the_start_is_told_in_clear_lines(keeping: Keeping) -> None:
    text = keeping.daemon.text()
    for part in ("node node1", "joins 127.0.0.1:1", str(keeping.state), str(keeping.logs), "can:"):
        assert part in text
    assert keeping.state.stat().st_mode & 0o777 == 0o700


def test_sigterm_leaves_tasks_running_and_the_next_clientd_has_them(each_way: Keeping) -> None:
    task = each_way.start("sleep", "100")
    agent = each_way.agent
    each_way.daemon.send(signal.SIGTERM)
    assert agent.word(orders.Stopping) == orders.Stopping("SIGTERM", 1)
    agent.leave()
    eventually(lambda: each_way.daemon.ended, "the keeper's end")
    assert of_task(each_way, task)
    each_way.run()
    assert each_way.agent.tasks[task].status is Status.RUNNING
    assert each_way.signal(task, 15).code == "" and not of_task_soon(each_way, task)


def test_an_agent_that_does_not_leave_is_ended(keeping: Keeping) -> None:
    keeping.daemon.end(signal.SIGTERM)
    eventually(lambda: processes.look(keeping.agent.pid) is None, "the agent's end")


def test_with_orphans_kill_sigterm_ends_all_of_all_tasks(tmp_path: Path) -> None:
    with Keeping(tmp_path, "--orphans", "kill=9") as keeping:
        assert keeping.facts.orphans_kill_s == 9.0
        stops_by_itself(keeping, lambda: keeping.daemon.send(signal.SIGTERM))


def test_the_agents_stop_ends_all_of_all_tasks(each_way: Keeping) -> None:
    stops_by_itself(each_way, lambda: each_way.agent.send(orders.Stop(True, "deregistered")))
    assert "stopping: deregistered" in each_way.daemon.text()


def stops_by_itself(keeping: Keeping, stop: Callable[[], object]) -> None:
    """Those that hear SIGTERM, those that do not, the paused, and what they left behind."""
    loop = "while :; do sleep 0.01; done"
    polite = keeping.start("sh", "-c", f"trap 'echo bye; exit 4' TERM; echo up; {loop}")
    deaf = keeping.start("sh", "-c", f"trap '' TERM; {FAMILY}; {loop}")
    paused = keeping.start("sleep", "100")
    keeping.ask(orders.Pause, paused)
    eventually(lambda: keeping.log(polite) == b"up\n" and sleeps(keeping, deaf) == 4, "both")
    stop()
    ends = {task: keeping.end_of(task) for task in (polite, deaf, paused)}
    assert (ends[polite].exit_code, ends[deaf].signal, ends[paused].signal) == (4, 9, 15)
    keeping.agent.word(orders.Stopping)
    keeping.agent.leave()
    eventually(lambda: keeping.daemon.ended, "the keeper's end")
    assert not any(of_task(keeping, task) for task in ends)
    assert keeping.log(polite).endswith(b"bye\n")
    assert f"{deaf} did not end by itself" in keeping.daemon.text()


def test_a_stopping_node_starts_nothing(each_way: Keeping) -> None:
    task = each_way.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done")
    eventually(lambda: each_way.log(task) == b"up\n", "the task")
    late = each_way.spec("true")
    each_way.agent.send(orders.Stop(True), orders.Start((late,)))
    assert each_way.agent.word(orders.Rejected).code == "stopping"
    assert each_way.end_of(task).signal == 9


def test_hangup_is_ignored_where_it_was_ignored_before(tmp_path: Path) -> None:
    with Keeping(tmp_path, command=("/usr/bin/nohup",)) as keeping:
        keeping.daemon.send(signal.SIGHUP)
        assert keeping.end_of(keeping.start("true")).exit_code == 0
        assert not keeping.daemon.ended


def test_hangup_stops_it_otherwise(keeping: Keeping) -> None:
    keeping.daemon.send(signal.SIGHUP)
    assert keeping.agent.word(orders.Stopping).reason == "SIGHUP"


@pytest.mark.skipif(not IS_ROOT, reason="needs root to become an ordinary user")
def test_an_ordinary_user_can_do_all_but_what_it_says() -> None:
    nobody = ("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    can = [*nobody, "/usr/bin/env", sys.executable, "-c", "import clientd.keeper.node"]
    if subprocess.run(can, env=with_checkout(), capture_output=True).returncode:
        pytest.skip("another user cannot execute this Python")
    with tempfile.TemporaryDirectory() as top:
        os.chown(top, 65534, 65534)
        with Keeping(Path(top), command=nobody) as keeping:
            assert keeping.facts.can == ("shell",)
            assert set(keeping.facts.lacks) == {"containment", "users"}
            assert "weaker here: no containment: " in keeping.daemon.text()
            task = keeping.start("sh", "-c", f"id -u; {FAMILY}; wait")
            eventually(lambda: is_whole(keeping, task), "the family")
            assert keeping.log(task).startswith(b"65534\n")
            assert keeping.refused("true", user="root").code == "EPERM"
            assert keeping.signal(task, 9, whole=True).code == ""
            assert not of_task(keeping, task)
