"""Tasks in a pid namespace of their own: as true as any others, and nothing outlives them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import init, orders, processes
from clientd.keeper.apart import Apart, init_of, install, is_init
from godwit.errors import StartError, TaskError
from godwit.task.lifecycle import Status
from tests.real.cluster import eventually
from tests.real.keeping import Keeping

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="pid namespaces need root"),
]

#: Those that end a program which does nothing about them.
DEADLY = sorted(
    signal.valid_signals() - {
        signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN,
        signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH,
    }
)


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    with Keeping(tmp_path_factory.mktemp("apart")) as keeping:
        if "apart" not in keeping.facts.can:
            pytest.skip(f"no pid namespaces here: {keeping.facts.lacks['apart']}")
        yield keeping


def sleeping(keeping: Keeping, *argv: str, **more: object) -> str:
    """A contained task that said it was ready."""
    task = keeping.start(*argv, contained=True, **more)
    eventually(lambda: b"ready" in keeping.log(task), "ready")
    return task


def test_exit_codes_are_the_programs_own(keeping: Keeping) -> None:
    for code in (0, 1, 2, 127, 129, 137, 143, 255):
        ended = keeping.end_of(keeping.start("sh", "-c", f"exit {code}", contained=True))
        assert (ended.exit_code, ended.signal) == (code, None)


def test_a_program_that_ends_at_once_has_its_pid_and_status(keeping: Keeping) -> None:
    ended = [keeping.end_of(keeping.start("true", contained=True)) for _ in range(20)]
    assert all(task.exit_code == 0 and task.pid and task.start_ticks for task in ended)


def test_every_signal_that_ends_the_program_is_told_as_it_was(keeping: Keeping) -> None:
    script = "ulimit -c 0; echo ready; exec sleep 300"
    tasks = {number: keeping.start("sh", "-c", script, contained=True) for number in DEADLY}
    for number, task in tasks.items():
        eventually(lambda task=task: b"ready" in keeping.log(task), "ready")  # type: ignore[misc]
        assert keeping.signal(task, number).code == ""
    for number, task in tasks.items():
        ended = keeping.end_of(task)
        assert (ended.signal, ended.exit_code) == (number, None)


def test_a_signal_of_its_own_making_is_told_too(keeping: Keeping) -> None:
    ended = keeping.end_of(keeping.start("sh", "-c", "kill -TERM $$", contained=True))
    assert (ended.signal, ended.exit_code) == (signal.SIGTERM, None)


def test_a_signal_reaches_a_handler_in_the_program(keeping: Keeping) -> None:
    script = "trap 'echo heard; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    task = sleeping(keeping, "sh", "-c", script)
    keeping.signal(task, signal.SIGINT)
    assert keeping.end_of(task).exit_code == 5
    assert keeping.log(task).endswith(b"heard\n")


def test_the_pid_shown_is_the_programs_on_this_machine(keeping: Keeping) -> None:
    task = sleeping(keeping, "sh", "-c", "echo ready $$; exec sleep 300")
    pid = keeping.agent.tasks[task].pid
    assert pid
    # The shell says it is ready before it has become the sleep.
    eventually(lambda: processes.command_line(pid) == (b"sleep", b"300"), "the program")
    assert is_init(init_of(pid))
    assert not is_init(pid)
    assert keeping.log(task) == b"ready 2\n"
    # Whoever signals it by hand, by either pid, is heard and told of truly.
    os.kill(init_of(pid), signal.SIGTERM)
    assert keeping.end_of(task).signal == signal.SIGTERM


def test_nothing_is_traced_once_it_runs(keeping: Keeping) -> None:
    task = sleeping(keeping, "sh", "-c", "echo ready; exec sleep 300")
    pid = keeping.agent.tasks[task].pid
    assert pid
    for each in (pid, init_of(pid)):
        assert "TracerPid:\t0\n" in Path(f"/proc/{each}/status").read_text()
    keeping.signal(task, signal.SIGKILL, whole=True)


def test_what_a_program_leaves_behind_ends_with_it(keeping: Keeping, tmp_path: Path) -> None:
    mark = f"LEFT={tmp_path}"
    script = f"(env -i {mark} setsid sh -c 'trap \"\" TERM; echo ready; sleep 300' &); read x"
    task = keeping.start("sh", "-c", f"{script}; while :; do sleep 0.05; done", contained=True)
    eventually(lambda: b"ready" in keeping.log(task), "ready")
    assert marked(mark)
    keeping.signal(task, signal.SIGTERM)
    ended = keeping.end_of(task)
    assert (ended.signal, ended.reason) == (signal.SIGTERM, "")
    # pid 1 is waited for when all others of its namespace are gone.
    assert not marked(mark)


@pytest.mark.parametrize("cgroups", [True, False])
def test_skill_leaves_nothing(tmp_path: Path, cgroups: bool) -> None:
    mark = f"LEFT={tmp_path}"
    environment = {} if cgroups else {"WITHOUT_CGROUPS": "1"}
    with Keeping(tmp_path, environment=environment) as keeping:
        script = f"(env -i {mark} setsid setsid sh -c 'trap \"\" TERM; echo ready; sleep 300' &)"
        task = sleeping(keeping, "sh", "-c", f"{script}; sleep 300")
        assert keeping.signal(task, signal.SIGKILL, whole=True).code == ""
        assert keeping.end_of(task).signal == signal.SIGKILL
        assert not marked(mark)


def test_a_program_that_cannot_be_executed_is_refused_with_the_reason(
    keeping: Keeping, tmp_path: Path
) -> None:
    elf, script = tmp_path / "elf", tmp_path / "script"
    elf.write_bytes(b"\x7fELF" + b"\0" * 100)
    script.write_text("#!/no/such/interpreter\n")
    for file in (elf, script):
        file.chmod(0o755)
    for word, code, text in (
        ("no-such-program", "ENOENT", "no such program"),
        ("/etc/passwd", "EACCES", "not an executable file"),
        ("/tmp", "EISDIR", "is a directory"),
        (str(elf), "ENOEXEC", "neither a program"),
        (str(script), "ENOENT", "its interpreter is missing: /no/such/interpreter"),
    ):
        refused = keeping.refused(word, contained=True)
        assert refused.code == code
        assert text in refused.text
    refused = keeping.refused("true", cwd=b"/no/such\xff", contained=True)
    assert (refused.code, "/no/such\\xff" in refused.text) == ("ENOENT", True)
    refused = keeping.refused("true", "x" * (1 << 18), contained=True)
    assert (refused.code, "'true'" in refused.text) == ("E2BIG", True)
    refused = keeping.refused("", contained=True)
    assert refused.code == "ENOENT"
    assert not (keeping.logs / f"{refused.task}.log").exists()


def test_it_runs_as_another_user_with_its_rusage(keeping: Keeping) -> None:
    burn = "id -u; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    ended = keeping.end_of(
        keeping.start("sh", "-c", burn, user="nobody", cwd=b"/", contained=True)
    )
    assert ended.exit_code == 0
    assert keeping.log(ended.id).strip() == b"65534"
    assert ended.usage
    # What the program used, and not init alone.
    assert ended.usage.utime_s > 0.02


def test_the_environment_is_as_for_any_other(keeping: Keeping) -> None:
    env = {b"MINE": b"1"}
    ended = keeping.end_of(keeping.start("env", contained=True, env=env))
    told = dict(line.split(b"=", 1) for line in keeping.log(ended.id).splitlines())
    assert told[b"MINE"] == b"1"
    assert told[b"GODWIT_TASK"] == ended.id.encode()
    assert told[b"GODWIT_KEEPER"] == keeping.mark.encode()


def test_many_at_once_are_all_true(keeping: Keeping) -> None:
    specs = [keeping.spec("sh", "-c", f"exit {n}", contained=True) for n in range(100)]
    keeping.agent.send(orders.Start(tuple(specs)))
    ended = [keeping.end_of(spec.task).exit_code for spec in specs]
    assert ended == list(range(100))


def test_a_restarted_keeper_knows_how_the_program_ended(tmp_path: Path) -> None:
    with Keeping(tmp_path) as keeping:
        tasks = [
            sleeping(keeping, "sh", "-c", f"echo ready; {then}")
            for then in ("sleep 300 & wait", "exec sleep 300")
        ]
        was = {task: keeping.agent.tasks[task] for task in tasks}
        keeping.kill()
        keeping.run()
        for task in tasks:
            known = keeping.agent.tasks[task]
            assert (known.pid, known.status) == (was[task].pid, Status.RUNNING)
            keeping.signal(task, signal.SIGTERM)
            ended = keeping.end_of(task)
            # Nobody but the kernel can tell, and it does since Linux 6.15.
            assert ended.signal == signal.SIGTERM or ended.status is Status.UNKNOWN
            if release() >= (6, 15):
                assert (ended.signal, ended.reason) == (signal.SIGTERM, "")


def test_a_machine_that_there_is_no_init_for_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "CODE", {})
    with pytest.raises(StartError, match="there is no init for"):
        Apart(str(tmp_path))


def test_the_init_is_put_where_it_has_the_same_path_everywhere(tmp_path: Path) -> None:
    path = install(str(tmp_path / "made"))
    before = os.stat(path)
    assert install(str(tmp_path / "made")) == path
    assert os.stat(path) == before
    Path(path).write_bytes(b"damaged")
    install(str(tmp_path / "made"))
    assert os.stat(path).st_size == before.st_size
    assert os.listdir(tmp_path / "made") == [os.path.basename(path)]


def test_an_init_has_nothing_open_and_stands_apart(keeping: Keeping) -> None:
    task = sleeping(keeping, "sh", "-c", "echo ready; exec sleep 300")
    pid = init_of(keeping.agent.tasks[task].pid or 0)
    assert {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()} == {"/dev/null"}
    assert Path(f"/proc/{pid}/cwd").resolve().parent.name == "inits"
    keeping.signal(task, signal.SIGKILL, whole=True)


def test_an_init_stands_in_a_folder_of_its_users_wherever_it_is_restored(tmp_path: Path) -> None:
    apart, top = Apart(str(tmp_path)), tmp_path / "inits"
    assert apart.init(1000).stand == os.fsencode(top / "1000.00")
    assert apart.stand(str(top / "1000.07"), 1000) == str(top / "1000.07")
    assert [path.stat().st_uid for path in sorted(top.iterdir())] == [1000, 1000]
    assert top.stat().st_mode & 0o777 == 0o700
    for path in ("/etc", str(top / "x"), str(top / "1001.00"), str(top / "1000.00/..")):
        with pytest.raises(TaskError, match="its init stands in"):
            apart.stand(path, 1000)
    with pytest.raises(TaskError, match="its init stands in"):
        apart.stand(str(top / "1000.00"), None)
    assert apart.stand("/srv", None) == "/srv"  # as root's inits once did


def marked(word: str) -> list[int]:
    """Pids of processes with this in their environment."""
    name, _, value = word.encode().partition(b"=")
    return [
        one.pid for one in processes.everyone()
        if not one.is_dead and processes.environment(one.pid).get(name) == value
    ]


def release() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)
