"""bin/NAME from a bare checkout: first use, later uses, and everything that may come between.

A small checkout stands in for the real one: the real bin/, no dependencies, so no network.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from godwit.places import checkout

TOP = Path(checkout() or ".")
COMMANDS = ("masterd", "clientd", "godwit", "demo", "check")
#: A checkout after two first uses at once; status and stderr of both.
Pair = tuple[Path, list[tuple[int, str]]]
#: Seconds for a first use, which takes about four on an idle machine.
DEADLINE_S = 90

SETUP = "[options]\ninstall_requires =\n    {requirement}\n[options.extras_require]\ntest =\n"
SPEAKER = """\
import json, os, signal, sys
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "path": sys.path, "file": __file__}))
"""


def bare(top: Path) -> Path:
    """A checkout in which nothing was started yet; its ``godwit`` tells how it was started."""
    top.mkdir(parents=True)
    shutil.copytree(TOP / "bin", top / "bin")
    (top / "setup.cfg").write_text(SETUP.format(requirement=""))
    (top / "masterd").mkdir()
    (top / "masterd" / "__init__.py").touch()
    (top / "masterd" / "cli.py").write_text(SPEAKER)
    return top


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GODWIT_")}
    return {**kept, **more}


def start(top: Path, *args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [top / "bin" / "godwit", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env=environment(**environ), timeout=DEADLINE_S,
    )


def spoken(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A checkout after two first uses at once; status and stderr of both."""
    top = bare(tmp_path_factory.mktemp("first") / "check out")
    both = [
        subprocess.Popen(
            [top / "bin" / "godwit"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, env=environment(),
        )
        for _ in range(2)
    ]
    told = [one.communicate(timeout=DEADLINE_S)[1] for one in both]
    yield top, [(one.returncode, text) for one, text in zip(both, told, strict=True)]


@pytest.fixture
def used(pair: Pair, tmp_path: Path) -> Path:
    """A checkout of the test's own that was used before, somewhere else."""
    return Path(shutil.copytree(pair[0], tmp_path / "moved", symlinks=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_an_executable_that_sh_can_read(name: str) -> None:
    path = TOP / "bin" / name
    assert path.stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["sh", "-n", path]).returncode == 0


def test_the_help_of_check_checks_nothing(tmp_path: Path) -> None:
    bare(tmp_path / "here")
    told = subprocess.run(
        [tmp_path / "here" / "bin" / "check", "--help"], capture_output=True, text=True
    )
    assert told.stdout.startswith("Checks everything") and "#" not in told.stdout
    assert (told.returncode, told.stderr) == (0, "")
    assert not (tmp_path / "here" / ".venv").exists()


def test_two_first_uses_at_once_both_end_well(pair: Pair) -> None:
    _, ended = pair
    assert [status for status, _ in ended] == [0, 0], ended
    # The other one waited and found nothing left to do.
    assert sorted(text for _, text in ended) == ["", "godwit: preparing .venv (first use) ...\n"]


def test_a_second_use_prepares_nothing(pair: Pair) -> None:
    top, _ = pair
    before = (top / ".venv" / ".godwit").stat()
    assert start(top).stderr == ""
    after = (top / ".venv" / ".godwit").stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def test_arguments_arrive_as_they_were_given(pair: Pair) -> None:
    words = ["a b", "", "*", "--", "-P", "$HOME", "'\n"]
    assert spoken(start(pair[0], *words))["argv"] == words


def test_it_starts_through_links_and_from_any_folder(
    pair: Pair, tmp_path: Path
) -> None:
    (tmp_path / "first").symlink_to(pair[0] / "bin" / "godwit")
    (tmp_path / "second").symlink_to("first")
    done = subprocess.run(
        ["./second"], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert spoken(done)["cwd"] == str(tmp_path)
    done = subprocess.run(
        ["sh", "godwit"], cwd=pair[0] / "bin", capture_output=True, text=True, env=environment()
    )
    assert spoken(done)["cwd"] == str(pair[0] / "bin")


def test_nothing_is_imported_from_the_working_folder(
    pair: Pair, tmp_path: Path
) -> None:
    for name in ("signal.py", "json.py", "masterd.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the working folder')\n")
    done = subprocess.run(
        [pair[0] / "bin" / "godwit"], cwd=tmp_path, capture_output=True, text=True,
        env=environment(),
    )
    told = spoken(done)
    assert str(tmp_path) not in told["path"] and "" not in told["path"]


def test_a_moved_checkout_runs_its_own_code_and_builds_nothing(used: Path) -> None:
    done = start(used)
    assert spoken(done)["file"] == str(used / "masterd" / "cli.py")
    assert done.stderr == ""


def test_a_touched_setup_builds_nothing(used: Path) -> None:
    os.utime(used / "setup.cfg", (1, 1))
    assert start(used).stderr == ""
    assert (used / ".venv" / ".godwit").stat().st_mtime == 1


@pytest.mark.orphans
def test_a_first_use_killed_half_way_is_built_anew(tmp_path: Path) -> None:
    top = bare(tmp_path / "checkout")
    first = subprocess.Popen(
        [top / "bin" / "godwit"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment(), start_new_session=True,
    )
    deadline = time.monotonic() + DEADLINE_S
    while not (top / ".venv" / "pyvenv.cfg").exists():
        assert time.monotonic() < deadline, "no .venv begun"
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    (top / ".venv" / "bin" / "left-over").touch()
    done = start(top)
    spoken(done)
    assert "first use" in done.stderr
    assert not (top / ".venv" / "bin" / "left-over").exists()


def wheel(folder: Path) -> Path:
    """A distribution ``sample`` with the module sample.py."""
    path = folder / "sample-1-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: sample\nVersion: 1\n"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("sample.py", "")
        file.writestr("sample-1.dist-info/METADATA", about)
        file.writestr("sample-1.dist-info/WHEEL", kind)
        file.writestr("sample-1.dist-info/RECORD", "")
    return path


def test_a_new_requirement_is_installed_at_the_next_start(used: Path, tmp_path: Path) -> None:
    requirement = f"sample @ {wheel(tmp_path).as_uri()}"
    (used / "setup.cfg").write_text(SETUP.format(requirement=requirement))
    (used / "masterd" / "cli.py").write_text("import sample\n" + SPEAKER)
    done = start(used)
    spoken(done)
    assert done.stderr == "godwit: preparing .venv (requirements changed) ...\n"
    assert start(used).stderr == ""


def test_what_pip_cannot_install_is_named_and_nothing_is_started(
    used: Path, tmp_path: Path
) -> None:
    (used / "setup.cfg").write_text(SETUP.format(requirement="absent @ file:///nowhere/absent-1-py3-none-any.whl"))
    done = start(used)
    assert (done.returncode, done.stdout) == (1, "")
    assert "/nowhere/absent-1-py3-none-any.whl" in done.stderr and "start this again" in done.stderr
    assert "Traceback" not in done.stderr
    (used / "setup.cfg").write_text(SETUP.format(requirement=""))
    spoken(start(used))


def test_a_venv_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    top = bare(tmp_path / "checkout")
    (top / ".venv").mkdir()
    (top / ".venv" / "theirs").touch()
    done = start(top)
    assert done.returncode == 1
    assert done.stderr == (
        f"godwit: {top}/.venv was not made by bin/godwit: move it away and try again\n"
    )
    assert os.listdir(top / ".venv") == ["theirs"]


def test_a_python_that_is_gone_is_replaced(used: Path) -> None:
    python = used / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    done = start(used)
    spoken(done)
    assert "preparing" in done.stderr


def test_a_chosen_python_that_will_not_do_is_one_line(tmp_path: Path) -> None:
    done = start(bare(tmp_path / "checkout"), GODWIT_PYTHON="/bin/false")
    assert done.returncode == 1
    assert done.stderr == "godwit: GODWIT_PYTHON=/bin/false is no Python 3.11 or newer\n"


def test_without_a_python_it_says_which_one_is_needed(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "readlink"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = start(bare(tmp_path / "checkout"), PATH=str(tools))
    assert done.returncode == 1
    assert done.stderr.startswith("godwit: needs Python 3.11 or newer")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_checkout_of_somebody_else_is_one_line(tmp_path: Path) -> None:
    top = bare(tmp_path / "checkout")
    top.chmod(0o555)
    done = start(top)
    top.chmod(0o755)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr and len(done.stderr.splitlines()) == 1
