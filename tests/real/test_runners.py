"""Runners: real processes that are given tasks, frozen, and loaded."""

import hashlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import kinship, nursery, processes, runners
from godwit.errors import TaskError
from godwit.task import control
from tests.real.cluster import eventually
from tests.real.keeper_main import OLD_ZYGOTE
from tests.real.running import MARK, Runner, Running, Source

COUNTER = """
from godwit import Migratable

class Counter(Migratable):
    def __init__(self, *more):
        self.n = 0
        self.more = more
    def step(self):
        print(self.n)
        self.n += 1
        self.sleep(0.001)
        return True
"""
DIGEST = hashlib.sha256(COUNTER.encode()).hexdigest()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("runners")) as running:
        yield running


@pytest.fixture
def image(running: Running) -> Iterator[int]:
    fd = running.image()
    yield fd
    os.close(fd)


@pytest.fixture
def counter(running: Running) -> Iterator[Runner]:
    runner = running.begin("counter.py:Counter", source=COUNTER)
    runner.lines(3)
    yield runner
    running.forget(runner)


def begun(running: Running, body: str, *args: str) -> Runner:
    """A task whose class is T, with this body."""
    source = "from godwit import Migratable, TransactionalFile\nclass T(Migratable):\n" + body
    return running.begin("t.py:T", *args, source=source)


# ---- birth -------------------------------------------------------------------------------------


def test_a_runner_is_our_child_and_looks_like_its_task(running: Running) -> None:
    runner = running.begin("CountProcess", "100000", "0.01")
    process = processes.look(runner.pid)
    assert process and process.parent == os.getpid() and process.session == runner.pid
    assert kinship.mark_of(runner.pid) == (MARK, runner.task)
    words = Path(f"/proc/{runner.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    assert words == [b"CountProcess", b"100000", b"0.01"]
    assert Path(f"/proc/{runner.pid}/comm").read_text() == "CountProcess\n"
    running.forget(runner)


def test_a_runner_has_no_descriptors_but_its_own(running: Running) -> None:
    runner = running.begin("CountProcess", "100000", "0.01")
    runner.lines(1)  # all that there was to open is open
    folder = Path(f"/proc/{runner.pid}/fd")
    open_on = {int(one.name): os.readlink(one) for one in folder.iterdir()}
    assert open_on[0] == "/dev/null"
    assert open_on[1] == open_on[2] == str(running.log(runner.task))
    others = [path for fd, path in open_on.items() if fd > 2]
    assert all(path.startswith(("socket:", "pipe:")) for path in others), open_on
    running.forget(runner)


def test_a_long_environment_and_long_arguments_arrive(running: Running) -> None:
    body = (
        "    def __init__(self, word): self.word = word\n"
        "    def step(self): print(len(self.word), len(__import__('os').environ['PATH']))\n"
    )
    runner = begun(running, body, "x" * 200_000)
    assert runner.ended() == 0
    assert runner.log() == "200000 13\n"


def test_a_birth_that_fails_says_at_which_step(running: Running) -> None:
    runner = running.ask(cwd=b"/nowhere")
    assert runner.word(runners.Unborn) == runners.Unborn(
        "ENOENT", "chdir: No such file or directory"
    )
    running.settle()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_runner_of_another_user_has_none_of_our_rights(running: Running) -> None:
    running.top.chmod(0o755)
    body = "    def step(self): print(*__import__('os').getresuid(), open('/etc/shadow'))\n"
    runner = running.born("t", user=("nobody", 65534, 65534), cwd=b"/")
    source = "from godwit import Migratable\nclass T(Migratable):\n" + body
    running.give(runner, "t.py:T", source=source)
    runner.word(control.Begun)
    assert runner.ended() == 1
    assert "PermissionError" in runner.log() and "/etc/shadow" in runner.log()


def test_births_are_the_same_where_two_forks_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery, "COMMAND", OLD_ZYGOTE)
    with Running(tmp_path) as running:
        runner = running.begin("CountProcess", "100000", "0.01")
        process = processes.look(runner.pid)
        assert process and process.parent == os.getpid()
        running.forget(runner)
        assert running.ask(cwd=b"/nowhere").word(runners.Unborn).code == "ENOENT"


def test_another_zygote_is_started_when_one_was_killed(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        (zygote,) = running.others
        os.kill(zygote, signal.SIGKILL)
        lost = running.ask()
        running.till(lambda: bool(lost.came), "what became of it")
        assert isinstance(lost.came[0], runners.Born) or lost.came[0] == runners.Unborn(
            "zygote", "the process that starts python tasks ended"
        )
        running.till(lambda: zygote not in running.others, "its end")
        running.forget(lost)
        running.forget(running.begin("CountProcess", "100000"))


# ---- begin -------------------------------------------------------------------------------------


def test_a_task_runs_to_its_end(running: Running) -> None:
    runner = running.begin("CountProcess", "3", "0")
    assert runner.ended() == 0
    assert runner.log() == "0\n1\n2\n3\n"


@pytest.mark.parametrize(("program", "args", "failed"), [
    ("CountProces", (), control.Failed(
        "no-program", "Job creation failed: program not found: did you mean CountProcess?"
    )),
    ("Zzz", (), control.Failed("no-program", "Job creation failed: program not found: Zzz")),
    ("no_such_module:T", (), control.Failed(
        "no-program",
        "Job creation failed: program not found: there is no module 'no_such_module'",
    )),
    ("json:dumps", (), control.Failed(
        "no-migratable", "json:dumps is no subclass of godwit.Migratable"
    )),
    ("CountProcess", (), control.Failed("usage", "usage: CountProcess N [PAUSE]")),
    ("CountProcess", ("x",), control.Failed(
        "refused", "CountProcess: invalid literal for int() with base 10: 'x'"
    )),
    ("GrepProcess", ("a", "/nowhere/in", "out"), control.Failed(
        "refused", "GrepProcess: /nowhere/in: No such file or directory"
    )),
])
def test_what_cannot_begin_is_told_in_one_line(
    running: Running, program: str, args: tuple[str, ...], failed: control.Failed
) -> None:
    runner = running.born()
    running.give(runner, program, *args)
    assert runner.word(control.Failed) == failed
    assert runner.ended() == 1


def test_a_reason_is_one_line_of_a_length_that_is_read(running: Running) -> None:
    runner = running.born()
    source = (
        "from godwit import Migratable\nclass T(Migratable):\n"
        "    def __init__(self): raise ValueError('a\\nb ' * 100_000)\n"
    )
    running.give(runner, "t.py:T", source=source)
    text = runner.word(control.Failed).text
    assert text.startswith("t.py:T: a b a b ") and len(text) < 1000
    assert runner.ended() == 1


def test_a_process_that_says_what_it_likes_harms_only_itself(running: Running) -> None:
    body = (
        "    def step(self):\n"
        "        import os, socket, stat\n"
        "        for fd in range(3, 20):\n"
        "            try: socket.socket(fileno=os.dup(fd)).send(b'i' + b'\\x00' * 9)\n"
        "            except OSError: pass\n"
        "        self.sleep(1000); return True\n"
    )
    runner = begun(running, body)
    assert runner.ended() == -signal.SIGKILL
    running.forget(running.begin("CountProcess", "100000"))


def test_a_constructor_that_breaks_is_told_with_its_line(running: Running) -> None:
    runner = running.born()
    source = "from godwit import Migratable\nclass T(Migratable):\n    def __init__(self): 1/0\n"
    running.give(runner, "t.py:T", source=source)
    assert runner.word(control.Failed) == control.Failed(
        "constructor", "t.py:T: ZeroDivisionError: division by zero (t.py, line 3)"
    )
    assert runner.ended() == 1


def test_a_source_with_another_digest_is_refused(running: Running) -> None:
    runner = running.born()
    with Source(COUNTER + "\n") as fds:
        runner.hears(control.Begin("counter.py:Counter", (), DIGEST), *fds)
    assert runner.word(control.Failed).code == "bad-source"
    assert runner.ended() == 1


def test_begin_said_again_is_answered_and_nothing_is_done_twice(
    running: Running, counter: Runner
) -> None:
    running.give(counter, "counter.py:Counter", source=COUNTER)
    counter.word(control.Begun)
    assert counter.lines(20)[:20] == [str(n) for n in range(20)]


def test_an_exception_of_a_step_is_a_traceback_in_the_log(running: Running) -> None:
    runner = begun(running, "    def step(self):\n        raise KeyError('gone')\n")
    assert runner.ended() == 1
    assert 'File "t.py", line 4, in step' in runner.log()
    assert "    raise KeyError('gone')" in runner.log()
    assert runner.log().endswith("KeyError: 'gone'\n")


@pytest.mark.parametrize(("code", "status"), [("7", 7), ("None", 0), ("'so'", 1)])
def test_a_task_chooses_its_exit_status(running: Running, code: str, status: int) -> None:
    assert begun(running, f"    def step(self): raise SystemExit({code})\n").ended() == status


# ---- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_is_the_status(running: Running, number: int) -> None:
    runner = begun(
        running,
        "    def step(self):\n"
        "        print('in', flush=True)\n"
        "        open('go').read()\n"  # till somebody opens it to write
        "        print('out')\n"
        "        return True\n",
    ) if _fifo(running.top / "go") else None
    assert runner
    runner.lines(1)
    os.kill(runner.pid, number)
    (running.top / "go").write_text("")
    assert runner.ended() == -number
    assert runner.log() == "in\nout\n"


def _fifo(path: Path) -> bool:
    if not path.exists():
        os.mkfifo(path)
    return True


def test_a_signal_ends_a_sleep(running: Running) -> None:
    runner = begun(running, "    def step(self):\n        print(1)\n        self.sleep(3600)\n"
                            "        return True\n")
    runner.lines(1)
    os.kill(runner.pid, signal.SIGINT)
    assert runner.ended() == -signal.SIGINT
    assert runner.log() == "1\n"


# ---- freeze and thaw ---------------------------------------------------------------------------


def test_a_frozen_task_stands_still_and_its_image_is_whole(
    counter: Runner, image: int
) -> None:
    counter.hears(control.Freeze("m1"), image)
    written, synced = counter.word(control.Written), counter.word(control.Synced)
    data = os.pread(image, 1 << 20, 0)
    assert written.size == len(data) and written.move == synced.move == "m1"
    before = counter.log()
    assert counter.hears(control.Ask()).word(control.State) == control.State("frozen", "m1")
    assert counter.log() == before


def test_a_thawed_task_goes_on_where_it_was(counter: Runner, image: int) -> None:
    counter.hears(control.Freeze("m1"), image)
    written = counter.word(control.Written)
    counter.word(control.Synced)
    count = len(counter.log().splitlines())
    counter.hears(control.Thaw("m1"))
    thawed, stepped = counter.word(control.Thawed), counter.word(control.Stepped)
    assert written.at < thawed.at < stepped.at
    lines = counter.lines(count + 10)
    assert lines == [str(n) for n in range(len(lines))]


def test_a_loaded_task_goes_on_where_the_frozen_one_was(
    running: Running, counter: Runner, image: int
) -> None:
    counter.hears(control.Freeze("m1"), image)
    written = counter.word(control.Written)
    other = running.born("counter.py:Counter")
    with Source(COUNTER) as fds:
        other.hears(control.Prepare("counter.py:Counter", DIGEST), *fds).word(control.Prepared)
    other.hears(control.Load("m1", "counter.py:Counter", DIGEST, written.size), image)
    other.word(control.Loaded)
    assert other.log() == ""
    other.hears(control.Thaw("m1")).word(control.Thawed)
    other.word(control.Stepped)
    lines = counter.log().splitlines() + other.lines(10)
    assert lines == [str(n) for n in range(len(lines))]
    running.forget(other)


def test_every_word_of_a_move_may_be_said_again(
    running: Running, counter: Runner, image: int
) -> None:
    written = counter.hears(control.Freeze("m1"), image).word(control.Written)
    synced = counter.word(control.Synced)
    assert counter.hears(control.Freeze("m1")).word(control.Written) == written
    assert counter.word(control.Synced) == synced
    assert counter.hears(control.Freeze("m2"), image).word(control.Failed) == control.Failed(
        "busy", "it is frozen for move m1", "m2"
    )
    other = running.born()
    with Source(COUNTER) as fds:
        other.hears(control.Prepare("counter.py:Counter", DIGEST), *fds).word(control.Prepared)
    load = control.Load("m1", "counter.py:Counter", DIGEST, written.size)
    loaded = other.hears(load, image).word(control.Loaded)
    assert other.hears(load, image).word(control.Loaded) == loaded
    thawed = other.hears(control.Thaw("m1")).word(control.Thawed)
    other.word(control.Stepped)
    assert other.hears(control.Thaw("m1")).word(control.Thawed) == thawed
    running.forget(other)


def test_a_freeze_cuts_a_sleep_short_and_the_rest_is_slept_elsewhere(
    running: Running, image: int
) -> None:
    body = (
        "    def step(self):\n"
        "        print('a')\n"
        "        self.sleep(3600)\n"
        "        return True\n"
    )
    source = "from godwit import Migratable\nclass T(Migratable):\n" + body
    runner = running.begin("t.py:T", source=source)
    runner.lines(1)
    written = runner.hears(control.Freeze("m1"), image).word(control.Written)
    other = running.born()
    digest = hashlib.sha256(source.encode()).hexdigest()
    with Source(source) as fds:
        other.hears(control.Prepare("t.py:T", digest), *fds).word(control.Prepared)
    other.hears(control.Load("m1", "t.py:T", digest, written.size), image).word(control.Loaded)
    other.hears(control.Thaw("m1")).word(control.Thawed)
    # It sleeps: it can be frozen, and has printed nothing.
    other.hears(control.Freeze("m2"), image).word(control.Written)
    assert other.log() == ""
    running.forget(runner)
    running.forget(other)


def test_a_thaw_takes_back_a_freeze_that_waits_for_the_step(running: Running, image: int) -> None:
    _fifo(running.top / "go")
    runner = begun(
        running,
        "    def step(self):\n"
        "        print('in', flush=True)\n"
        "        open('go').read()\n"
        "        print('out')\n"
        "        return False\n",
    )
    runner.lines(1)
    runner.hears(control.Freeze("m1"), image)
    assert runner.hears(control.Ask()).word(control.State).phase == "running"
    runner.hears(control.Thaw("m1")).word(control.Thawed)
    (running.top / "go").write_text("")
    assert runner.ended() == 0
    assert runner.log() == "in\nout\n"


def test_a_signal_waits_for_the_verdict(counter: Runner, image: int) -> None:
    counter.hears(control.Freeze("m1"), image).word(control.Written)
    counter.word(control.Synced)
    os.kill(counter.pid, signal.SIGINT)
    assert counter.hears(control.Ask()).word(control.State) == control.State("frozen", "m1")
    counter.hears(control.Thaw("m1")).word(control.Thawed)
    assert counter.ended() == -signal.SIGINT


def test_a_task_that_ends_meanwhile_is_told_as_ended(running: Running, image: int) -> None:
    _fifo(running.top / "go")
    runner = begun(running, "    def step(self): print(1, flush=True); open('go').read()\n")
    runner.lines(1)
    runner.hears(control.Freeze("m1"), image)
    runner.hears(control.Ask()).word(control.State)
    (running.top / "go").write_text("")
    assert runner.word(control.Failed) == control.Failed("ended", "it has ended", "m1")
    assert runner.ended() == 0


@pytest.mark.orphans
@pytest.mark.parametrize(("state", "code", "text"), [
    ("self.conn = socket.socket()", "cannot-travel", "self.conn: a socket cannot travel"),
    (
        "self.pool = [{'lock': threading.Lock()}]", "cannot-travel",
        "self.pool[0]['lock']: a lock cannot travel",
    ),
    (
        "self.file = open('/dev/null')", "cannot-travel",
        "self.file: an open file cannot travel (open it with godwit.TransactionalFile)",
    ),
    ("self.gen = (i for i in 'a')", "cannot-travel", "self.gen: a generator cannot travel"),
    (
        "self.key = lambda: 1", "cannot-travel",
        "self.key: a lambda or a function inside another cannot travel",
    ),
    (
        "self.run_it = subprocess.Popen", "cannot-travel",
        "self.run_it: subprocess.Popen may travel only if the task says "
        "travels_with = ('subprocess',)",
    ),
    (
        "subprocess.Popen(['sleep', '1000'])", "has-children",
        "it has child processes, which cannot travel",
    ),
    (
        "threading.Thread(target=time.sleep, args=(1000,), name='idler', daemon=True).start()",
        "has-threads", "it has other threads (idler), which cannot travel",
    ),
])
def test_what_cannot_travel_is_named_and_the_task_runs_on(
    running: Running, image: int, state: str, code: str, text: str
) -> None:
    runner = begun(
        running,
        "    def __init__(self):\n"
        "        import socket, subprocess, threading, time\n"
        f"        self.n = 0; {state}\n"
        "    def step(self):\n"
        "        print(self.n); self.n += 1; self.sleep(0.001)\n"
        "        return True\n",
    )
    failed = runner.hears(control.Freeze("m1"), image).word(control.Failed)
    assert failed == control.Failed(code, text, "m1")
    lines = runner.lines(len(runner.log().splitlines()) + 5)
    assert lines == [str(n) for n in range(len(lines))]
    os.killpg(runner.pid, signal.SIGKILL)
    running.forget(runner)


def test_suspend_gives_up_what_cannot_travel_and_resume_makes_it_anew(
    running: Running, image: int
) -> None:
    runner = begun(
        running,
        "    def __init__(self): self.n = 0; self.resume()\n"
        "    def suspend(self): self.conn.close(); self.conn = None\n"
        "    def resume(self): import socket; self.conn = socket.socket()\n"
        "    def step(self):\n"
        "        print(self.conn.fileno() > 2); self.sleep(0.001); return True\n",
    )
    runner.hears(control.Freeze("m1"), image).word(control.Written)
    runner.word(control.Synced)
    runner.hears(control.Thaw("m1")).word(control.Thawed)
    runner.word(control.Stepped)
    assert set(runner.lines(3)) == {"True"}
    running.forget(runner)


def test_a_run_of_its_own_goes_on_from_its_fields(running: Running, image: int) -> None:
    source = (
        "from godwit import Migratable\n"
        "class T(Migratable):\n"
        "    def __init__(self): self.n = 0\n"
        "    def run(self):\n"
        "        print('run')\n"
        "        while True:\n"
        "            print(self.n); self.n += 1\n"
        "            self.sleep(0.001); self.checkpoint()\n"
    )
    digest = hashlib.sha256(source.encode()).hexdigest()
    runner = running.begin("t.py:T", source=source)
    runner.lines(4)
    written = runner.hears(control.Freeze("m1"), image).word(control.Written)
    other = running.born()
    with Source(source) as fds:
        other.hears(control.Prepare("t.py:T", digest), *fds).word(control.Prepared)
    other.hears(control.Load("m1", "t.py:T", digest, written.size), image).word(control.Loaded)
    other.hears(control.Thaw("m1")).word(control.Thawed)
    numbers = runner.log().splitlines()[1:] + other.lines(5)[1:]
    assert numbers == [str(n) for n in range(len(numbers))]
    running.forget(runner)
    running.forget(other)


# ---- load --------------------------------------------------------------------------------------


def loading(running: Running, image: int, program: str, size: int | None = None) -> control.Failed:
    """How a load of the image fails."""
    runner = running.born()
    size = os.fstat(image).st_size if size is None else size
    runner.hears(control.Load("m1", program, "", size), image)
    failed = runner.word(control.Failed)
    assert runner.ended() == 1
    return failed


def test_an_image_of_another_program_or_move_is_not_loaded(running: Running, image: int) -> None:
    runner = running.begin("CountProcess", "100000", "0.01")
    runner.hears(control.Freeze("m1"), image).word(control.Written)
    assert loading(running, image, "Factorial").code == "bad-image"
    assert loading(running, image, "CountProcess", 7).code == "bad-image"
    os.pwrite(image, b"x", 3)
    assert loading(running, image, "CountProcess").code == "bad-image"
    running.forget(runner)


def test_a_file_that_is_not_the_same_there_is_named_before_it_runs(
    running: Running, image: int
) -> None:
    (running.top / "in").write_text("".join(f"{n}\n" for n in range(100_000)))
    source = (
        "from godwit.programs.copying import CopyProcess\n"
        "class T(CopyProcess):\n"
        "    def step(self):\n"
        "        if self.number < 99_999: return super().step()\n"
        "        self.sleep(0.01); return True\n"  # it never ends
    )
    digest = hashlib.sha256(source.encode()).hexdigest()
    runner = running.begin("t.py:T", "me", "in", "out", source=source)
    # Of a file that nothing was read of, nothing could be compared.
    out = running.top / "out"
    eventually(lambda: out.exists() and out.stat().st_size > 0, "it has read something")
    written = runner.hears(control.Freeze("m1"), image).word(control.Written)
    assert {(f.path, f.mode) for f in written.files} == {("in", "r"), ("out", "w")}
    elsewhere = running.top / "elsewhere"
    elsewhere.mkdir(exist_ok=True)

    def failing() -> str:
        other = running.born(cwd=os.fsencode(elsewhere))
        with Source(source) as fds:
            other.hears(control.Prepare("t.py:T", digest), *fds).word(control.Prepared)
        other.hears(control.Load("m1", "t.py:T", digest, written.size), image)
        text = other.word(control.Failed).text
        assert other.ended() == 1
        return text

    assert failing() == "in: No such file or directory on node1"
    (elsewhere / "in").write_text("something else\n" * 100_000)
    (elsewhere / "out").write_bytes((running.top / "out").read_bytes())
    assert failing() == "in is not the same file on node1"
    running.forget(runner)


def test_an_image_cannot_name_what_is_no_value(running: Running, image: int) -> None:
    runner = running.begin("CountProcess", "100000", "0.01")
    runner.hears(control.Freeze("m1"), image).word(control.Written)
    data = os.pread(image, 1 << 20, 0)
    start = data.index(b"\x80\x05")
    os.pwrite(image, b"\x80\x05cposix\nsystem\n(S'touch owned'\ntR.", start)
    os.ftruncate(image, len(data))
    failed = loading(running, image, "CountProcess")
    assert failed.text == "its snapshot names posix.system"
    assert not (running.top / "owned").exists()
    running.forget(runner)


# ---- keepers come and go -----------------------------------------------------------------------


def test_a_new_keeper_finds_a_frozen_task_as_it_was(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        image = running.image()
        counter = running.begin("counter.py:Counter", source=COUNTER)
        written = counter.hears(control.Freeze("m1"), image).word(control.Written)
        synced = counter.word(control.Synced)
        running.adopt(counter)
        running.runners.close()
        running.runners = running.another()
        running.runners.connect(counter.task)
        assert counter.word(control.State) == control.State("frozen", "m1")
        assert counter.hears(control.Freeze("m1")).word(control.Written) == written
        assert counter.word(control.Synced) == synced
        counter.hears(control.Thaw("m1")).word(control.Thawed)
        counter.word(control.Stepped)
        running.forget(counter)
        os.close(image)


def test_there_is_no_runner_to_connect_to(running: Running) -> None:
    with pytest.raises(TaskError, match="nobody00: its process: No such file"):
        running.runners.connect("nobody00")


def test_bytes_that_are_no_word_end_the_connection_and_not_the_task(
    running: Running, counter: Runner
) -> None:
    running.adopt(counter)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(running.top / "run" / counter.task))
        stranger.send(b"what?")
        while stranger.recv(1024):
            pass
    assert counter.word(runners.Gone) == runners.Gone()
    assert not running.runners.holds(counter.task)
    running.runners.connect(counter.task)
    assert counter.word(control.State).phase == "running"
    count = len(counter.log().splitlines())
    lines = counter.lines(count + 3)
    assert lines == [str(n) for n in range(len(lines))]
