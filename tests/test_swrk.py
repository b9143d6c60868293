"""What CRIU is asked over its socket, and what it answers: rpc.proto, by hand."""

import pytest

from clientd.keeper import swrk
from clientd.keeper.stats import fields

#: As CRIU 4.1.1 writes it: pid 10499, with a harmless line of its log; and when it failed.
ANSWER = b"\x08\x02\x10\x01\x22\x03\x08\x83\x52\x4a\x05Error"
REFUSAL = b"\x08\x02\x10\x00\x22\x0b\x08" + b"\xff" * 9 + b"\x01\x38\x38"


def test_a_request_says_all_that_the_command_line_would() -> None:
    asked = fields(swrk.request(300, "/logs/n1/t.log", "criu.log"))
    assert asked[1] == 2
    options = asked[2]
    assert isinstance(options, bytes)
    found = fields(options)
    assert isinstance(found[27], bytes)
    assert fields(found.pop(27)) == {1: b"logs/n1/t.log", 2: swrk.LOG}  # type: ignore[arg-type]
    assert found == {1: 300, 8: 1, 9: 1, 10: b"criu.log", 26: 1, 34: 0, 48: 0, 69: 1}


def test_memory_may_come_later() -> None:
    options = fields(swrk.request(3, "/t.log", "criu.log", lazy=True))[2]
    assert isinstance(options, bytes)
    assert fields(options)[48] == 1


def test_a_long_path_is_told_whole() -> None:
    path = "/" + "x" * 1000
    options = fields(swrk.request(3, path, "criu.log"))[2]
    assert isinstance(options, bytes)
    inherited = fields(options)[27]
    assert isinstance(inherited, bytes)
    assert fields(inherited)[1] == path[1:].encode()


@pytest.mark.parametrize(("answer", "pid"), [
    (ANSWER, 10499), (REFUSAL, 0), (b"", 0), (ANSWER[:5], 0), (b"\xff" * 40, 0),
    (b"\x08\x02\x10\x01", 0), (b"\x08\x02\x10\x01\x22\x00", 0), (b"\x08\x02\x10\x01\x20\x07", 0),
])
def test_an_answer_is_a_pid_or_none(answer: bytes, pid: int) -> None:
    assert swrk.restored(answer) == pid


@pytest.mark.parametrize(("version", "can"), [
    ("4.1.1", True), ("4.1", True), ("4.2", True), ("5.0", True), ("10.0.1", True),
    ("4.0", False), ("3.17.1", False), ("", False), ("4", False), ("git", False),
])
def test_one_that_would_let_the_copy_run_is_not_asked(version: str, can: bool) -> None:
    assert swrk.can(version) == can


def test_a_line_to_one_that_is_gone_says_so() -> None:
    line = swrk.Line()
    line.started()
    assert line.answer() == b""
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        line.ask(b"x")
    line.close()
