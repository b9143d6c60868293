"""Programs: found by name, constructed, run to their end; and how they come over a move."""

import hashlib
import io
import os
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from godwit.errors import TaskError
from godwit.programs import PROGRAMS
from godwit.task import finding, snapshot
from godwit.task.migratable import Migratable


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(name: str, *words: str) -> Migratable:
    return finding.construct(finding.find(name), words)


def moved(task: Migratable, name: str) -> Migratable:
    """The same task after a move."""
    program = finding.find(name)
    image = os.memfd_create("image")
    try:
        size = snapshot.write(task, program, "m1", image)
        return snapshot.read(program, "m1", image, size)
    finally:
        os.close(image)


def run_with_moves(name: str, *words: str) -> None:
    """Every step on another node."""
    task = made(name, *words)
    while task.step():
        task = moved(task, name)
        task._asleep_till = 0.0


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_table_says_what_a_program_takes_and_does(name: str) -> None:
    program = finding.find(name)
    assert finding.usage(name, program.cls) == f"{name} {PROGRAMS[name].takes}"
    assert program.cls.__doc__


def test_grep_writes_the_lines_that_match(here: Path) -> None:
    (here / "in").write_bytes(b"".join(b"%d \xff\n" % n for n in range(1000)) + b"77 last")
    run_with_moves("GrepProcess", "^7+ ", "in", "out")
    assert (here / "out").read_bytes() == b"7 \xff\n77 \xff\n777 \xff\n77 last\n"


def test_copy_numbers_and_signs_each_line(here: Path) -> None:
    (here / "in").write_text("a\n\nc")
    run_with_moves("CopyProcess", "me", "in", "out")
    assert (here / "out").read_text() == "1 me a\n2 me \n3 me c\n"


def test_stat_writes_host_and_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Migratable, "sleep", lambda self, seconds: None)
    run_with_moves("StatProcess", "3", "out")
    lines = (here / "out").read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        host, time = line.split(" ")
        assert host == os.uname().nodename and datetime.fromisoformat(time).utcoffset() is not None


@pytest.mark.parametrize(("n", "product"), [(0, 1), (1, 1), (5, 120)])
def test_factorial_is_the_product(here: Path, n: int, product: int) -> None:
    run_with_moves("Factorial", str(n), "out")
    assert (here / "out").read_text() == f"{product}\n"


def test_factorial_writes_out_what_python_thinks_too_long(here: Path) -> None:
    made("Factorial", "2000", "out").run()
    assert len((here / "out").read_text()) == 5737


def test_count_prints_each_number_once(capsys: pytest.CaptureFixture[str]) -> None:
    run_with_moves("CountProcess", "5", "0")
    assert capsys.readouterr().out == "0\n1\n2\n3\n4\n5\n"


@pytest.mark.parametrize(("name", "words"), [
    ("CountProcess", ("-1",)), ("CountProcess", ("x",)), ("CountProcess", ("1", "-1")),
    ("CountProcess", ("1", "nan")), ("CountProcess", ("1", "inf")), ("CountProcess", ()),
    ("CountProcess", ("1", "2", "3")), ("GrepProcess", ("(", "in", "out")),
    ("GrepProcess", ("a", "nothing", "out")), ("StatProcess", ("-1", "out")),
    ("Factorial", ("1000001", "out")), ("Factorial", ("-1", "out")), ("CopyProcess", ("a", "b")),
])
def test_wrong_arguments_are_one_line(here: Path, name: str, words: tuple[str, ...]) -> None:
    with pytest.raises(TaskError) as raised:
        made(name, *words)
    assert raised.value.code in ("usage", "refused")
    assert "\n" not in str(raised.value) and name in str(raised.value)


# ---- finding -----------------------------------------------------------------------------------


def shipped(text: str, name: str) -> finding.Program:
    return finding.find(name, hashlib.sha256(text.encode()).hexdigest(), text.encode())


ONE = "from godwit import Migratable\nclass One(Migratable):\n    def step(self): return False\n"


def test_a_source_with_one_task_needs_no_class_named() -> None:
    assert shipped(ONE, "one.py").cls.__name__ == "One"
    assert shipped(ONE, "one.py:").cls.__name__ == "One"
    assert shipped(ONE, "one.py:One").cls is shipped(ONE, "other.py:One").cls


@pytest.mark.parametrize(("text", "name", "code", "said"), [
    (ONE + "class Two(One): pass\n", "t.py", "no-program", "program not found: t.py"),
    (ONE, "t.py:Onee", "no-program", "did you mean One?"),
    (ONE + "x = 3\n", "t.py:x", "no-migratable", "no subclass"),
    ("from godwit import Migratable\n", "t.py:Migratable", "no-migratable", "name it so"),
    ("def f(:\n", "t.py:T", "import", "(t.py, line 1)"),
    ("import no_such_module_at_all\n", "t.py:T", "import", "No module named"),
    ("raise SystemExit(3)\n" + ONE + "# 1\n", "t.py:One", "import", "SystemExit: 3"),
    ("x = '\udce9'\n".encode("utf-8", "surrogateescape").decode("latin-1"), "t.py:T",
     "no-program", "not found"),
])
def test_a_source_that_will_not_do_says_why(text: str, name: str, code: str, said: str) -> None:
    with pytest.raises(TaskError) as raised:
        shipped(text, name)
    assert raised.value.code == code and said in str(raised.value)


@pytest.mark.parametrize("name", ["", "nothing", "a:b", "..x:Y", ":X", "os.path:join:x", "os:"])
def test_what_is_no_program_is_not_found(name: str) -> None:
    with pytest.raises(TaskError):
        finding.find(name)


# ---- images ------------------------------------------------------------------------------------


class Holder(Migratable):
    def __init__(self, value: object = None) -> None:
        self.value = value


PROGRAM = finding.Program("here:Holder", Holder)


@pytest.mark.parametrize("value", [
    None, 1, 1.5, 1j, "é", b"x" * 300_000, bytearray(b"x"), [1, [2]], {"a": {1, 2}}, frozenset("a"),
    range(3), datetime(2026, 1, 1), Path("/x"), ValueError("x"), Holder(), Holder, print and len,
    __import__("collections").deque([1]), __import__("re").compile("a"),
    __import__("decimal").Decimal("1.5"), __import__("random").Random(5).random(),
    __import__("array").array("d", [1.0]), __import__("uuid").UUID(int=5), ..., NotImplemented,
], ids=lambda value: type(value).__name__)
def test_values_travel(value: object) -> None:
    if value is len:
        with pytest.raises(snapshot.Barred):
            there_and_back(value)
        return
    found = there_and_back(value)
    if isinstance(value, Holder | ValueError):
        assert type(found) is type(value)
    else:
        assert found == value


def there_and_back(value: object) -> object:
    file = io.BytesIO()
    border = snapshot.Border(PROGRAM)
    snapshot.Pickler(file, border).dump(value)
    file.seek(0)
    return snapshot.Unpickler(file, border).load()


class Call:
    """Pickled as a call."""

    def __init__(self, *call: Any):
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def test_what_an_image_may_not_name_is_refused_at_both_ends() -> None:
    for function in (os.system, eval, getattr, __import__, open, exec, setattr):
        pickled = pickle.dumps(Call(function, ("x",)))
        with pytest.raises(snapshot.Barred):
            snapshot.Unpickler(io.BytesIO(pickled), snapshot.Border(PROGRAM)).load()
        with pytest.raises(snapshot.Barred):
            snapshot.Pickler(io.BytesIO(), snapshot.Border(PROGRAM)).dump(Call(function, ("x",)))


def test_what_a_module_imported_is_not_its_own() -> None:
    pickled = b"\x80\x05\x8c" + bytes([len(__name__)]) + __name__.encode()
    pickled += b"\x8c\x07finding\x93."
    with pytest.raises(snapshot.Barred):
        # os, say, reached through a module that the task's own.
        snapshot.Unpickler(io.BytesIO(
            pickled.replace(b"\x8c\x07finding", b"\x8c\x09TaskError")
        ), snapshot.Border(PROGRAM)).load()


@pytest.mark.parametrize("name", ["Holder.step", "Holder.__init__"])
def test_no_dotted_name_is_taken(name: str) -> None:
    pickled = b"\x80\x05\x8c" + bytes([len(__name__)]) + __name__.encode()
    pickled += b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
    with pytest.raises(snapshot.Barred):
        snapshot.Unpickler(io.BytesIO(pickled), snapshot.Border(PROGRAM)).load()


def test_a_module_named_by_the_task_may_travel() -> None:
    class Wider(Holder):
        travels_with = ("textwrap",)

    from textwrap import TextWrapper

    border = snapshot.Border(finding.Program("here:Wider", Wider))
    file = io.BytesIO()
    snapshot.Pickler(file, border).dump(TextWrapper(width=7))
    file.seek(0)
    assert snapshot.Unpickler(file, border).load().width == 7


@pytest.mark.parametrize("cut", [0, 5, 15, 19, 30, -1])
def test_an_image_that_was_cut_is_refused(cut: int) -> None:
    image = os.memfd_create("image")
    program = finding.find("CountProcess")
    try:
        size = snapshot.write(made("CountProcess", "5"), program, "m", image)
        os.ftruncate(image, size + cut if cut < 0 else cut)
        with pytest.raises(TaskError):
            snapshot.read(program, "m", image, os.fstat(image).st_size)
        with pytest.raises(TaskError, match="bytes instead of"):
            snapshot.read(program, "m", image, size)
    finally:
        os.close(image)


# ---- without a runner --------------------------------------------------------------------------


def test_a_task_runs_by_itself_in_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    class Slow(Migratable):
        n = 0

        def step(self) -> bool:
            self.sleep(0.001)
            self.n += 1
            return self.n < 3

    task = Slow()
    task.run()
    assert task.n == 3


def test_a_task_with_neither_step_nor_run_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Migratable has neither step nor run"):
        Migratable().run()
