"""Makes and mends CHECKOUT/.venv, the Python that bin/NAME runs in: .prepare.py [test].

Run by bin/.start.sh, by any Python 3.11+, with nothing installed: the standard library only.

``.venv/.godwit`` is three things in one.  It is the mark: a .venv without it is somebody else's
and is left alone.  It is the lock: whoever works on .venv holds flock(2) on it, pip included, so
two first uses at once end well.  It is the stamp, written last: while it is empty .venv is
unfinished, and whoever finds it so builds anew.  The stamp's time is that of the setup.cfg it was
made for, so that the shell sees a change without starting a process.
"""

import configparser
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

CHECKOUT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VENV = os.path.join(CHECKOUT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, ".godwit")
SETUP = os.path.join(CHECKOUT, "setup.cfg")

#: What works where ``python -m venv`` does.  An import is not enough: a folder that was left behind
#: can be imported, and Debian keeps the wheels elsewhere again.
ENSUREPIP = "import venv, ensurepip; ensurepip.version()"
#: Lines of a failed program's output that are shown.
SHOWN = 12


class Failure(Exception):
    """Why .venv cannot be made, and what to do about it."""


def main() -> int:
    try:
        with locked() as lock:
            prepare(lock, tests="test" in sys.argv[1:])
    except Failure as failure:
        say(str(failure))
        return 1
    except OSError as err:
        say(f"cannot prepare {VENV}: {err}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


@contextlib.contextmanager
def locked() -> Iterator[int]:
    """The stamp's descriptor, locked; children that are given it hold the lock too."""
    os.makedirs(VENV, exist_ok=True)
    if os.listdir(VENV) and not os.path.exists(STAMP):
        raise Failure(f"{VENV} was not made by bin/godwit: move it away and try again")
    lock = os.open(STAMP, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def prepare(lock: int, tests: bool) -> None:
    """Does what is still to do under the lock.  Raises Failure."""
    before = read_stamp(lock)
    # Whoever has the test extras keeps them: checks and daemons share one .venv.
    extras = "test" if tests or before.get("extras") == "test" else ""
    made_at = os.stat(SETUP).st_mtime_ns
    wanted = requirements(extras)
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    given = os.environ.get("GODWIT_PYTHON", "")
    whole = works(before, given)
    after = {
        "checkout": CHECKOUT,
        "extras": extras,
        "python": given if given or not whole else before["python"],
        "version": before["version"] if whole else version_of(base),
        "wants": hashlib.sha256("\n".join(wanted).encode()).hexdigest(),
    }
    if not whole or after["wants"] != before["wants"]:
        os.ftruncate(lock, 0)
        say(f"preparing .venv ({'requirements changed' if whole else 'first use'}) ...")
        if not whole:
            build(base, lock)
        install(wanted, base, lock)
    point_at_checkout(after["version"])
    write_stamp(lock, after, made_at)


def read_stamp(lock: int) -> dict[str, str]:
    """The lines of the stamp, each a key and its value; nothing when .venv is unfinished."""
    text = os.pread(lock, 65536, 0).decode("utf-8", "surrogateescape")
    return dict(line.partition(" ")[::2] for line in text.splitlines())


def write_stamp(lock: int, lines: dict[str, str], made_at: int) -> None:
    """One write: who reads without the lock sees all of it or takes it for a change."""
    text = "".join(f"{key} {value}\n" for key, value in lines.items())
    os.ftruncate(lock, 0)
    os.pwrite(lock, text.encode("utf-8", "surrogateescape"), 0)
    os.utime(lock, ns=(made_at, made_at))


def requirements(extras: str) -> list[str]:
    """What setup.cfg asks for, as pip takes it."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(SETUP, encoding="utf-8")
    text = config["options"]["install_requires"]
    if extras:
        text += "\n" + config["options.extras_require"][extras]
    return [line.strip() for line in text.splitlines() if line.strip()]


def works(stamp: dict[str, str], given: str) -> bool:
    """.venv is finished, its Python still runs, and it is the one asked for, if one is."""
    if not stamp or (given and given != stamp["python"]):
        return False
    try:
        return version_of(PYTHON) == stamp["version"]
    except Failure:
        return False


def version_of(python: str) -> str:
    """MAJOR.MINOR of an interpreter.  Raises Failure when it does not run."""
    return run([python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()


def build(base: str, lock: int) -> None:
    """An empty environment on the interpreter ``base``; of what was there only the lock stays.

    ``base`` is a real path such as /usr/bin/python3.11: when the system goes on to the next
    Python, the link in .venv breaks, which is seen, instead of changing its meaning.
    """
    for entry in os.scandir(VENV):
        if entry.path != STAMP:
            remove(entry)
    make = [base, "-I", "-m", "venv", VENV]
    if not can(base, ENSUREPIP):
        add_ensurepip(base, lock)
    if not can(base, ENSUREPIP):
        if not can(base, "import venv, pip.__main__"):
            raise Failure(f"{base} cannot make a .venv; as root: apt-get install {package(base)}")
        make.insert(-1, "--without-pip")
    run(make, lock)


def remove(entry: "os.DirEntry[str]") -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path)
    else:
        os.unlink(entry.path)


def can(python: str, statement: str) -> bool:
    """The interpreter executes this without an exception."""
    command = [python, "-I", "-c", statement]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def package(base: str) -> str:
    """The Debian package that brings venv and ensurepip for ``base``."""
    return f"python{version_of(base)}-venv"


def add_ensurepip(base: str, lock: int) -> None:
    """Debian keeps ensurepip in a package of its own; root has it installed, if apt can."""
    apt = shutil.which("apt-get")
    if os.geteuid() != 0 or not apt or not base.startswith("/usr/bin/"):
        return
    say(f"installing {package(base)} ...")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = [apt, "install", "-y", "--no-install-recommends", package(base)]
    with contextlib.suppress(Failure):
        run(get, lock, quiet)
        return
    # The lists of packages are often missing on a fresh machine; what then fails is told by
    # whoever finds ensurepip still missing.
    with contextlib.suppress(Failure):
        run([apt, "update"], lock, quiet)
        run(get, lock, quiet)


def install(wanted: list[str], base: str, lock: int) -> None:
    """Has pip install what is wanted.  Raises Failure with pip's last lines."""
    if not wanted:
        return
    pip = [PYTHON, "-I", "-m", "pip"]
    if not can(PYTHON, "import pip.__main__"):
        pip = [base, "-I", "-m", "pip", "--python", PYTHON]
    # A user's `pip config set install.user true` does not go with an environment.
    run(
        [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", *wanted],
        lock,
        {**os.environ, "PIP_USER": "0"},
        hint="check the network or pip's index settings, then start this again",
    )


def point_at_checkout(version: str) -> None:
    """Puts the checkout on the environment's sys.path; nothing of godwit is installed there."""
    path = os.path.join(VENV, "lib", f"python{version}", "site-packages", "godwit.pth")
    with open(path, "w", encoding="utf-8") as file:
        file.write(CHECKOUT + "\n")


def run(
    command: list[str],
    lock: int | None = None,
    environment: dict[str, str] | None = None,
    hint: str = "",
) -> str:
    """The output of a program.  Raises Failure with the last lines of it and the hint."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            env=environment,
            text=True,
            errors="replace",
        )
    except OSError as err:
        raise Failure(f"cannot run {command[0]}: {err.strerror}") from err
    if done.returncode != 0:
        last = done.stdout.strip().splitlines()[-SHOWN:]
        told = [f"{' '.join(command[:5])} ... failed ({done.returncode})", *last, hint]
        raise Failure("\n".join(line for line in told if line))
    return done.stdout


def say(text: str) -> None:
    print(f"godwit: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
