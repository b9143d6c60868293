"""`execute --user`: a task has exactly its user's rights, whatever its clientd was started with."""

import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.keeping import Keeping

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start tasks as another user"),
]
USER = pwd.getpwnam("nobody")

#: What a task finds, a line each.
LOOK = """
cat /proc/self/status
echo fds $(ls /proc/self/fd)
echo stdin $(readlink /proc/self/fd/0)
echo umask $(umask)
echo session $(cut -d' ' -f6 /proc/$$/stat) $$
echo tty $(cut -d' ' -f7 /proc/$$/stat)
tr '\\0' '\\n' < /proc/$$/environ | sed 's/^/env /'
"""


@pytest.fixture
def privileged(tmp_path: Path) -> Iterator[Keeping]:
    """A keeper with more groups, rights, descriptors and variables than it should pass on."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv(1)")
    rights = (
        setpriv, "--groups=0,4,27", "--inh-caps=+net_raw,+sys_admin", "--ambient-caps=+net_raw",
        # With it the kernel leaves a process that changes its user all capabilities.
        "--securebits=+no_setuid_fixup",
    )
    opened = (
        sys.executable, "-c",
        "import os, sys; os.umask(0o077); os.dup2(1, 77); os.execv(sys.argv[1], sys.argv[1:])",
    )
    with Keeping(
        tmp_path, command=(*rights, *opened),
        environment={"GODWIT_TOKEN": "secret", "LD_LIBRARY_PATH": "/tmp", "LC_ALL": "C.UTF-8"},
    ) as keeping:
        yield keeping


def looked(keeping: Keeping, **more: object) -> dict[str, list[str]]:
    """What the task found, by the first word of each line."""
    task = keeping.start("/bin/sh", "-c", LOOK, cwd=b"/", **more)
    ended = keeping.end_of(task)
    text = keeping.log(task).decode()
    assert ended.exit_code == 0, text
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        word, *rest = line.split(None, 1)
        found.setdefault(word, []).append(rest[0] if rest else "")
    return found


def test_nothing_of_clientds_rights_is_left_to_a_task_of_another_user(privileged: Keeping) -> None:
    found = looked(privileged, user=USER.pw_name, env={b"MORE": b"1"})
    assert found["Uid:"][0].split() == [str(USER.pw_uid)] * 4
    assert found["Gid:"][0].split() == [str(USER.pw_gid)] * 4
    groups = os.getgrouplist(USER.pw_name, USER.pw_gid)
    assert sorted(map(int, found["Groups:"][0].split())) == sorted(groups)
    for word in ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:"):
        assert int(found[word][0], 16) == 0, word
    assert found["NoNewPrivs:"] == ["1"]
    assert int(found["SigBlk:"][0], 16) == 0


def test_it_finds_its_user_in_its_environment_and_nothing_of_clientds(
    privileged: Keeping
) -> None:
    found = looked(privileged, user=USER.pw_name, env={b"MORE": b"1"})
    variables = dict(line.split("=", 1) for line in found["env"])
    marks = {name for name in variables if name.startswith("GODWIT_")}
    assert marks == {"GODWIT_TASK", "GODWIT_NODE", "GODWIT_INDEX", "GODWIT_KEEPER"}
    assert {name: variables[name] for name in variables.keys() - marks} == {
        "HOME": USER.pw_dir, "USER": USER.pw_name, "LOGNAME": USER.pw_name, "MORE": "1",
        "SHELL": USER.pw_shell or "/bin/sh", "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **{name: os.environ[name] for name in ("LANG", "LANGUAGE", "TZ") if name in os.environ},
        **{name: value for name, value in os.environ.items()
           if name.startswith("LC_") and name != "LC_ALL"},
    }


def test_it_has_three_descriptors_its_own_session_and_the_usual_umask(privileged: Keeping) -> None:
    found = looked(privileged, user=USER.pw_name)
    # The fourth is the folder that ls reads.
    assert found["fds"] == ["0 1 2 3"] and found["stdin"] == ["/dev/null"]
    assert found["umask"] == ["0022"] and found["tty"] == ["0"]
    (session,) = found["session"]
    leader, task = session.split()
    assert leader == task


def test_it_cannot_become_root_again(privileged: Keeping) -> None:
    if shutil.which("su") is None:
        pytest.skip("needs su(1)")
    task = privileged.start("su", "-c", "id -u", "root", user=USER.pw_name, cwd=b"/")
    assert privileged.end_of(task).exit_code != 0
    assert b"0\n" not in privileged.log(task).splitlines(keepends=True)
