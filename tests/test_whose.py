"""Whose a process is, and what of it is not that user's."""

import os
import pwd

import pytest

from clientd.keeper import whose
from godwit.task.verdict import Ids

BOB = Ids("bob", 1000, 100, frozenset({100, 27}))
#: As /proc/PID/status has it of a process of bob's.
HIS = {
    "State": ["T", "(stopped)"],
    "Uid": ["1000"] * 4, "Gid": ["100"] * 4, "Groups": ["27"], "NoNewPrivs": ["1"],
    **{f"Cap{kind}": ["0000000000000000"] for kind in ("Inh", "Prm", "Eff", "Amb")},
}
MOUNTING = f"{1 << 21:016x}"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the kernel tells of each process."""
    now = dict(HIS)
    monkeypatch.setattr(whose, "status", lambda _: now)
    return now


def excess(init: int = 0, rights: int = 0) -> str:
    return whose.excess(init, [os.getpid()], BOB, rights)


def test_what_is_its_users_alone_has_nothing_in_excess(told: dict[str, list[str]]) -> None:
    assert excess() == ""
    told["Groups"] = []
    assert excess() == ""


@pytest.mark.parametrize(("name", "words", "text"), [
    ("Uid", ["1000", "1000", "0", "1000"], "Uid 0, and bob has 1000"),
    ("Gid", ["100", "0", "100", "100"], "Gid 0, and bob has 100"),
    ("Groups", ["27", "4", "100"], "group 4, which bob has not"),
    ("CapInh", [MOUNTING], "capabilities 0x200000"),
    ("CapPrm", [MOUNTING], "capabilities 0x200000"),
    ("CapEff", [MOUNTING], "capabilities 0x200000"),
    ("CapAmb", [MOUNTING], "capabilities 0x200000"),
    ("NoNewPrivs", ["0"], "not no_new_privs"),
])
def test_every_right_that_is_not_its_users_is_found(
    told: dict[str, list[str]], name: str, words: list[str], text: str
) -> None:
    told[name] = words
    assert excess() == f"process {os.getpid()} has {text}"


def test_a_zombie_had_its_rights_and_has_none(told: dict[str, list[str]]) -> None:
    told["CapPrm"], told["State"] = [MOUNTING], ["Z", "(zombie)"]
    assert excess() == ""


def test_the_init_alone_may_mount(told: dict[str, list[str]]) -> None:
    told["CapPrm"] = told["CapEff"] = [MOUNTING]
    assert excess(os.getpid(), 1 << 21) == ""
    assert "0x200000" in excess(0, 1 << 21)
    told["CapEff"] = [f"{1 << 21 | 1:016x}"]
    assert "capabilities 0x1" in excess(os.getpid(), 1 << 21)


def test_each_thread_is_looked_at_and_a_process_that_is_gone_is_an_error() -> None:
    """Credentials are a thread's own: credentials(7)."""
    found = whose.excess(0, [os.getpid()], BOB, 0)
    assert os.geteuid() == BOB.uid or found.startswith(f"process {os.getpid()} has Uid")
    with pytest.raises(OSError):
        whose.excess(0, [1 << 22], BOB, 0)


NOBODY = pwd.getpwnam("nobody")
THEIRS = Ids("nobody", NOBODY.pw_uid, NOBODY.pw_gid, frozenset({NOBODY.pw_gid}))


def why(name: str, saved: Ids | None) -> list[str]:
    return [reason.text for reason in whose.differences(name, saved, "here")]


def test_what_was_saved_is_restored_for_the_user_that_it_was_started_as_alone() -> None:
    assert why("nobody", THEIRS) == []
    assert why("nobody", None) == ["it is root's, and not nobody's"]
    more = Ids("nobody", THEIRS.uid, THEIRS.gid, frozenset({0}))
    assert why("nobody", more) == ["it has the rights of groups 0, which nobody has not on here"]
    # Nobody was named: root may restore whatever root has started.
    assert why("", THEIRS) == why("", None) == why("root", THEIRS) == []
