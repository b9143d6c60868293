"""A node looks for a CRIU that works, asks each candidate, and remembers the answer."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import probing
from clientd.keeper.errands import Errands, Outcome
from clientd.keeper.loop import Loop
from clientd.keeper.probing import Found, Probing, without_lazy
from tests.real.cluster import DEADLINE_S


class Looking:
    """A loop with errands, and a folder to remember in."""

    def __init__(self, top: Path):
        self.top = top
        self.loop = Loop()
        self.errands = Errands(self.loop, {})

    def till(self, came: "list[Found] | list[Outcome]") -> None:
        until = self.loop.now() + DEADLINE_S
        while not came:
            assert self.loop.now() < until, "no answer"
            self.loop.alarm("look", 0.05, lambda: None)
            self.loop.turn(wait=True)

    def look(self) -> Found:
        came: list[Found] = []
        Probing(self.errands, str(self.top / "criu.json"), came.append).start()
        self.till(came)
        return came[0]


@pytest.fixture
def looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looking]:
    monkeypatch.setattr(probing, "geteuid", lambda: 0)
    looking = Looking(tmp_path)
    yield looking
    looking.errands.close()
    looking.loop.close()


def fake(path: Path, check: str, feature: str = "uffd-noncoop") -> Path:
    """A program that answers as criu does, and counts how often it was asked."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"#!/bin/sh\necho x >> {path}.asked\ncase $* in\n"
        f"--version) echo Version: 9.9 ;;\ncheck) {check} ;;\n"
        f"'check --feature {feature}') exit 0 ;;\n*) exit 1 ;;\nesac\n"
    )
    path.chmod(0o755)
    return path


def test_one_that_works_is_found_with_what_it_can(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake(looking.top / "criu", "echo Looks good.")
    monkeypatch.setenv("GODWIT_CRIU", str(path))
    assert looking.look() == Found(str(path), "9.9", lazy=True)


def test_what_was_found_is_remembered_until_the_file_is_another(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake(looking.top / "criu", "echo Looks good.")
    monkeypatch.setenv("GODWIT_CRIU", str(path))
    found = looking.look()
    asked = (looking.top / "criu.asked").read_text()
    assert looking.look() == found
    assert (looking.top / "criu.asked").read_text() == asked
    fake(path, "echo 'Error (criu/x.c:1): worse'; exit 1")
    assert "worse" in looking.look().reason


def test_what_was_remembered_badly_is_looked_for_again(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake(looking.top / "criu", "echo Looks good.")
    monkeypatch.setenv("GODWIT_CRIU", str(path))
    for damaged in ("", "[]", '{"key": 1}', '{"key": [], "found": {"nothing": 1}}'):
        (looking.top / "criu.json").write_text(damaged)
        assert looking.look().version == "9.9"


def test_the_next_is_tried_when_one_does_not_work(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = fake(looking.top / "bad" / "criu", "echo 'Error (criu/vdso.c:1): vdso: bad'; exit 1")
    good = fake(looking.top / "good" / "criu", "echo Looks good.", feature="mem_dirty_track")
    monkeypatch.setattr(probing, "candidates", lambda: [str(bad), str(good)])
    assert looking.look() == Found(str(good), "9.9", tracking=True)


def test_the_reason_is_told_when_none_works(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = fake(looking.top / "criu", "echo 'Error (criu/vdso.c:1): vdso: bad'; exit 1")
    monkeypatch.setenv("GODWIT_CRIU", str(bad))
    found = looking.look()
    assert not found.path
    assert found.reason == (
        f"{bad} 9.9 does not work here: vdso: bad; bin/get-criu gets one that does"
    )


def test_one_that_is_not_there_is_no_trouble(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GODWIT_CRIU", str(looking.top / "none"))
    assert "No such file or directory" in looking.look().reason
    monkeypatch.setattr(probing, "candidates", list)
    assert looking.look().reason == "criu is not installed; bin/get-criu gets it"


def test_an_ordinary_user_has_none(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "geteuid", lambda: 1000)
    assert looking.look().reason == "clientd does not run as root"


def test_the_one_in_the_environment_is_the_only_candidate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GODWIT_CRIU", "/named/criu")
    assert probing.candidates() == ["/named/criu"]
    monkeypatch.delenv("GODWIT_CRIU")
    monkeypatch.setenv("PATH", str(tmp_path))
    first = fake(tmp_path / "criu", "true")
    assert probing.candidates()[0] == str(first)


def test_memory_that_cannot_come_later_is_told() -> None:
    assert "cannot bring" in without_lazy(Found("/criu", "4", lazy=False))


@pytest.mark.parametrize(("soft", "most", "right", "told"), [
    ("16384", "1048576", 0, "fs.pipe-user-pages-soft=0 and fs.pipe-max-size=4194304"),
    ("0", "1048576", 0, "sysctl fs.pipe-max-size=4194304"),
    ("16384", "4194304", 0, "sysctl fs.pipe-user-pages-soft=0,"),
    ("0", "4194304", 0, ""), ("16384", "1048576", 1 << 24, ""),
])
def test_pipes_that_are_too_small_for_it_are_told_unless_no_limit_binds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, soft: str, most: str, right: int, told: str
) -> None:
    for name, value in (("PIPE_LIMIT", soft), ("PIPE_SIZE", most)):
        (tmp_path / name).write_text(value)
        monkeypatch.setattr(probing, name, str(tmp_path / name))
    monkeypatch.setattr(probing, "_rights", lambda: f"{right:x}")
    reason = without_lazy(Found("/criu", "4", lazy=True))
    assert told in reason and bool(reason) == bool(told)


# ---- errands -------------------------------------------------------------------------------


def test_an_errand_is_given_up_when_its_time_is_up(looking: Looking) -> None:
    came: list[Outcome] = []
    looking.errands.run(["/bin/sleep", "300"], came.append, 0.01)
    looking.till(came)
    assert (came[0].late, came[0].fine) == (True, False)


def test_an_errand_has_the_descriptors_it_was_given(looking: Looking, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    fds = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in (one, other)]
    came: list[Outcome] = []
    try:
        # Each by the number that the other has here.
        script = "echo first > /proc/self/fd/$1; echo second > /proc/self/fd/$0; echo said"
        words = ["/bin/sh", "-c", script, str(fds[0]), str(fds[1])]
        looking.errands.run(words, came.append, DEADLINE_S, {fds[1]: fds[0], fds[0]: fds[1]})
        looking.till(came)
    finally:
        for fd in fds:
            os.close(fd)
    assert (came[0].status, came[0].output) == (0, b"said\n")
    assert (one.read_text(), other.read_text()) == ("first\n", "second\n")


def test_an_errand_that_cannot_be_started_is_told_later(looking: Looking) -> None:
    came: list[Outcome] = []
    assert looking.errands.run(["/no/such/program"], came.append, 1.0) == 0
    assert not came
    looking.till(came)
    assert (came[0].status, b"No such file" in came[0].output) == (None, True)
