"""A task as data: how it is shown, and how it is written down."""

import signal

import msgspec
import pytest

from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task, Usage, shell_status, signal_name


@pytest.mark.parametrize(("argv", "shell", "shown"), [
    ((b"echo", b"a b", b"$x"), False, "echo 'a b' '$x'"),
    ((b"a | b > c",), True, "a | b > c"),
    ((b"\xff\x00", "é".encode()), False, "'\\xff\x00' 'é'"),
    ((b"",), False, "''"),
])
def test_a_command_is_shown_as_it_would_be_typed(
    argv: tuple[bytes, ...], shell: bool, shown: str
) -> None:
    assert Spec("a", argv, shell=shell).command == shown


@pytest.mark.parametrize(("number", "name"), [
    (15, "SIGTERM"), (9, "SIGKILL"), (int(signal.SIGRTMIN), "SIGRTMIN"),
    (int(signal.SIGRTMIN) + 3, "SIGRTMIN+3"), (int(signal.SIGRTMAX), "SIGRTMAX"),
    (32, "SIG32"), (0, "SIG0"), (999, "SIG999"),
])
def test_a_signal_has_a_name(number: int, name: str) -> None:
    assert signal_name(number) == name


@pytest.mark.parametrize(("code", "number", "status"), [
    (0, None, 0), (255, None, 255), (None, 9, 137), (None, 15, 143), (None, None, 125),
])
def test_an_end_is_what_a_shell_would_show(
    code: int | None, number: int | None, status: int
) -> None:
    assert shell_status(Task(Spec("a", ()), exit_code=code, signal=number)) == status


def test_a_record_comes_back_as_it_was_written() -> None:
    spec = Spec("abcd1234", (b"\xff",), env={b"\x80": b""}, cwd=b"/\xfe", index=3, oneoff=True)
    task = Task(spec, Status.UNKNOWN, pid=5, start_ticks=9, usage=Usage(nvcsw=1), reason="x")
    payload = msgspec.msgpack.encode(task)
    assert msgspec.msgpack.decode(payload, type=Task) == task and task.id == "abcd1234"
