"""CRIU's errors in the user's words."""

import pytest

from clientd.keeper.complaints import Complaint, complaint, errors

AWAY = "Error (criu/cr-dump.c:2111): Dumping FAILED."

#: As CRIU 4.1.1 wrote them -> what it means.
LOGS = [
    ("Error (criu/sk-inet.c:176): inet: In-flight connection (l) for f9e9a", "tcp",
     "it has a TCP connection"),
    ("(00.01) Error (criu/sk-inet.c:190): inet: Connected TCP socket, consider using "
     "--tcp-established option.", "tcp", "it has a TCP connection"),
    ("Error (criu/files-ext.c:94): Can't dump file 3 of that type [20600] (chr 10:229)",
     "file-kind", "it has a descriptor of a kind that cannot be saved: chr 10:229"),
    ("pie: 2: Error (criu/pie/parasite.c:588): send_fds failed (-22)", "io-uring",
     "it uses io_uring, which cannot be saved"),
    ("Error (compel/src/lib/infect.c:263): Unseizable non-zombie 18184 found, state S, err -1/10",
     "traced", "it cannot be stopped: a debugger may hold it"),
    (" 16059: Error (criu/sk-unix.c:1651): unix: Can't bind id 0x1a ino 10133870 addr : Address "
     "already in use", "address", "an address of one of its sockets is in use there"),
    ("Error (criu/sockets.c:628): sockets: Can't get 1:16 opt: Operation not supported", "socket",
     "it has a socket of a kind that cannot be saved here"),
    ("Error (criu/files-reg.c:2290): Can't open file var/tmp/x on restore: No such file or "
     "directory", "file-missing", "/var/tmp/x is not there"),
    ("Error (criu/files-reg.c:2179): File usr/bin/prog has bad size 5 (expect 6)", "file-differs",
     "/usr/bin/prog is not the same there: its size differs"),
    ("Error (criu/page-pipe.c:1): page-pipe: tee: Operation not permitted", "pipe-limit",
     "pages cannot be held in pipes here"),
    ("pie: 2: Error (criu/pie/parasite.c:496): Can't create a directory (-17)", "crowded",
     "another task was being frozen in the same place"),
    ("Error (criu/files-reg.c:2290): Can't open file home/bob/x on restore: Permission denied",
     "file", "/home/bob/x cannot be opened there: Permission denied"),
]


@pytest.mark.parametrize(("line", "code", "text"), LOGS)
def test_an_error_that_is_known_is_told_in_the_users_words(
    line: str, code: str, text: str
) -> None:
    found = complaint(f"Warn  (criu/x.c:1): something\n{line}\n{AWAY}\n")
    assert (found.code, found.text) == (code, text)


def test_an_error_that_is_not_known_is_told_as_criu_has_it() -> None:
    found = complaint(f"(00.2) Error (criu/some.c:12): some: Nothing works (7)\n{AWAY}\n")
    assert str(found) == "CRIU says: some: Nothing works (7)"


def test_a_user_who_may_not_execute_criu_is_told_so() -> None:
    found = complaint("setpriv: failed to execute /proc/self/fd/101/criu: Permission denied\n")
    assert (found.code, found.text) == ("criu", "the task's user may not execute CRIU there")


def test_what_changes_nothing_is_not_taken_for_the_cause() -> None:
    log = (
        "Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not "
        "permitted\n"
    )
    assert errors(log) == []
    assert complaint(log) == Complaint("criu", "CRIU failed and did not say why")
    assert complaint(log + LOGS[0][0]).code == "tcp"


@pytest.mark.parametrize("log", ["", "\n", "no errors at all\n", "Error", "Error: ", "\0\xff"])
def test_a_log_that_says_nothing_is_no_trouble(log: str) -> None:
    assert complaint(log).text == "CRIU failed and did not say why"


def test_what_would_change_it_is_told_with_it() -> None:
    assert str(Complaint("x", "it cannot", "do that")) == "it cannot; do that"
    assert str(Complaint("x", "it cannot")) == "it cannot"
