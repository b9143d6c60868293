"""Looks for a CRIU that works here, without holding anybody up.

What was found is remembered for as long as neither the file nor the kernel is another.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from os import geteuid

from msgspec import Struct
from msgspec.structs import asdict

from clientd.keeper import whose
from clientd.keeper.complaints import errors
from clientd.keeper.errands import Errands, Outcome
from godwit import places

#: Seconds for one of its answers.
LIMIT_S = 20.0
#: Asked of it by this name -> our word for it.
FEATURES = {"uffd-noncoop": "lazy", "mem_dirty_track": "tracking"}


class Found(Struct, frozen=True):
    """What is known of CRIU here; without a path there is none that works, for this reason."""

    path: str = ""
    version: str = ""
    #: It can bring pages after the process runs again.
    lazy: bool = False
    #: It can tell which pages were written to since the last time.
    tracking: bool = False
    reason: str = ""


Done = Callable[[Found], None]

PIPE_LIMIT = "/proc/sys/fs/pipe-user-pages-soft"
PIPE_SIZE = "/proc/sys/fs/pipe-max-size"
#: Bytes of the pipe that CRIU takes pages out of: its PIPE_MAX_SIZE, rounded up as the kernel does.
LARGEST = 4 << 20


def without_lazy(found: Found) -> str:
    """Why pages cannot be brought later, or nothing.

    Fact: till they are asked for they wait in pipes of the source's, and past these limits tee(2)
    takes less than it is asked for.
    """
    if not found.lazy:
        return "this kernel or CRIU cannot bring a task's memory after it runs again"
    if int(_rights(), 16) >> whose.CAP_SYS_RESOURCE & 1:
        return ""
    settings = []
    if _setting(PIPE_LIMIT):
        settings.append("fs.pipe-user-pages-soft=0")
    if _setting(PIPE_SIZE) < LARGEST:
        settings.append(f"fs.pipe-max-size={LARGEST}")
    if settings:
        return (
            f"a task's memory cannot wait in pipes here: set sysctl {' and '.join(settings)}, "
            "or give clientd CAP_SYS_RESOURCE"
        )
    return ""


def _setting(path: str) -> int:
    """0 where it cannot be read."""
    with suppress(OSError, ValueError), open(path) as file:
        return int(file.read())
    return 0


def _rights() -> str:
    """Our effective capabilities, in hexadecimal."""
    return whose.status("self")["CapEff"][0]


def candidates() -> list[str]:
    """Where it may be, best first: $GODWIT_CRIU alone when that is set."""
    if named := os.environ.get("GODWIT_CRIU"):
        return [named]
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    folders = [top and os.path.join(top, ".criu") for top in (places.checkout(),)]
    folders.append(os.path.join(places.state_home(), "criu"))
    private = [os.path.join(folder, "criu") for folder in folders if folder]
    system = shutil.which("criu", path=path)
    return [*([system] if system else []), *filter(os.path.exists, private)]


class Probing:
    """One look for it; ``done`` comes once, perhaps at once."""

    def __init__(self, errands: Errands, cache: str, done: Done):
        self._errands = errands
        self._cache = cache
        self._done = done
        self._candidates = candidates()
        self._key = _key(self._candidates)
        self._reasons: list[str] = []

    def start(self) -> None:
        if geteuid() != 0:
            self._done(Found(reason="clientd does not run as root"))
        elif (known := _recall(self._cache, self._key)) is not None:
            self._done(known)
        else:
            self._next()

    def _next(self) -> None:
        if not self._candidates:
            reason = "; ".join(self._reasons) or "criu is not installed; bin/get-criu gets it"
            self._settle(Found(reason=reason))
            return
        path = self._candidates.pop(0)
        self._ask(path, "--version", then=partial(self._told_version, path))

    def _ask(self, path: str, *words: str, then: Callable[[Outcome], None]) -> None:
        self._errands.run([path, *words], then, LIMIT_S)

    def _told_version(self, path: str, outcome: Outcome) -> None:
        if not outcome.fine:
            self._failed(path, "", outcome)
            return
        version = version_in(outcome.output.decode("utf-8", "replace"))
        self._ask(path, "check", then=partial(self._checked, path, version))

    def _checked(self, path: str, version: str, outcome: Outcome) -> None:
        if not outcome.fine:
            self._failed(path, version, outcome)
            return
        self._feature(Found(path, version), list(FEATURES))

    def _feature(self, found: Found, left: list[str]) -> None:
        if not left:
            self._settle(found)
            return
        name = left[0]

        def told(outcome: Outcome) -> None:
            known = asdict(found) | {FEATURES[name]: outcome.fine}
            self._feature(Found(**known), left[1:])

        self._ask(found.path, "check", "--feature", name, then=told)

    def _failed(self, path: str, version: str, outcome: Outcome) -> None:
        said = outcome.output.decode("utf-8", "replace")
        why = (errors(said) or said.strip().splitlines() or ["it failed and said nothing"])[0]
        if outcome.late:
            why = f"no answer within {LIMIT_S:g} s"
        named = f"{path} {version}".strip()
        self._reasons.append(f"{named} does not work here: {why}; bin/get-criu gets one that does")
        self._next()

    def _settle(self, found: Found) -> None:
        _remember(self._cache, self._key, found)
        self._done(found)


def version_in(text: str) -> str:
    """4.1.1 of "Version: 4.1.1"."""
    for line in text.splitlines():
        if line.startswith("Version:"):
            return line.split(":", 1)[1].strip()
    return ""


def _key(paths: list[str]) -> list[object]:
    """Another one when a file, the kernel, or what we may do is another."""
    system = os.uname()
    identities: list[object] = [system.release, system.version, _rights()]
    for path in paths:
        try:
            seen = os.stat(path)
        except OSError:
            identities.append([path])
        else:
            identities.append([path, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns])
    return identities


def _recall(cache: str, key: list[object]) -> Found | None:
    try:
        with open(cache) as file:
            known = json.load(file)
        return Found(**known["found"]) if known["key"] == key else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remember(cache: str, key: list[object], found: Found) -> None:
    new = f"{cache}.new"
    try:
        with open(new, "w") as file:
            json.dump({"key": key, "found": asdict(found)}, file)
        os.rename(new, cache)
    except OSError:
        return  # looked for again next time
