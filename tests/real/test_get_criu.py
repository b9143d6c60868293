"""bin/get-criu: what it does when there is one, and what it says when none can be had."""

import os
import subprocess
from pathlib import Path

import pytest

GET = Path(__file__).parent.parent.parent / "bin" / "get-criu"
WORKS = "#!/bin/sh\n[ $1 = --version ] && echo Version: 9.9; exit 0\n"
FAILS = (
    "#!/bin/sh\n[ $1 = --version ] && echo Version: 1.0 && exit\n"
    "echo 'Error (criu/vdso.c:1): vdso: bad'; exit 1\n"
)

root = pytest.mark.skipif(os.geteuid() != 0, reason="get-criu needs root")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def get(top: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    """Runs it with the programs in top/bin before all others; packages cannot be had."""
    (top / "bin").mkdir(exist_ok=True)
    program(top / "bin" / "apt-get", "#!/bin/sh\necho 'E: no network here'; exit 100\n")
    return subprocess.run(
        [str(GET), *args], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{top / 'bin'}:{os.environ['PATH']}"},
    )


@root
@pytest.mark.root
def test_the_systems_is_taken_when_it_works(tmp_path: Path) -> None:
    criu = program(tmp_path / "bin" / "criu", WORKS)
    done = get(tmp_path, str(tmp_path / "private"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"get-criu: the system's criu 9.9 works here: {criu}\n"
    assert not (tmp_path / "private").exists()


@root
@pytest.mark.root
def test_the_private_one_is_kept_while_it_works(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "criu", FAILS)
    private = program(tmp_path / "private" / "criu", WORKS)
    done = get(tmp_path, str(tmp_path / "private"))
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "get-criu: the system's criu 1.0 does not work here: Error (criu/vdso.c:1): vdso: bad",
        f"get-criu: the private criu 9.9 works here: {private}",
    ]


@root
@pytest.mark.root
def test_when_none_can_be_had_it_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "criu", FAILS)
    done = get(tmp_path, str(tmp_path / "private"))
    assert done.returncode == 1
    assert "vdso: bad" in done.stdout
    assert done.stderr.startswith("get-criu: ")
    assert sorted(os.listdir(tmp_path)) == ["bin"]


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    assert get(tmp_path, "--wrong").returncode == 2
    assert get(tmp_path, "one", "two").returncode == 2
    done = get(tmp_path, "--help")
    assert done.returncode == 0
    assert "get-criu [FOLDER]" in done.stdout
