"""Every test leaves the machine as it found it: no process, no zombie, no descriptor.

pytest becomes a child subreaper (prctl(2)), so that whatever a test started, and whatever that
started, comes back as a child of this process once its parent is gone: nothing can hide.
"""

import ctypes
import gc
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from _pytest.terminal import TerminalReporter
from xdist.remote import Producer

from tests import scheduling

PR_SET_CHILD_SUBREAPER = 36

#: Seconds that a process has to be gone that was told to end, or whose parent has just gone: it
#: takes milliseconds, but not on a machine that stands still for a while.
GRACE_S = 20.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("godwit")
    group.addoption("--seeds", type=int, default=2000, help="seeds that the simulator tries")
    group.addoption("--seed", type=int, help="the one seed that the simulator plays again")


def pytest_configure(config: pytest.Config) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = scheduling.in_order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(
    config: pytest.Config, log: Producer
) -> scheduling.Scheduling | None:
    """Nothing of ours when another --dist was asked for."""
    loadfile = config.getoption("dist") == "loadfile"
    return scheduling.Scheduling(config, log) if loadfile else None


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Says how the other checks of bin/check ended, above pytest's own last line."""
    if told := os.environ.get("GODWIT_CHECKED"):
        terminalreporter.section("other checks")
        terminalreporter.write(told)


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_session() -> Iterator[None]:
    """Module and session fixtures clean up too."""
    before = children()
    yield
    complain(strays(before))


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that left a process, a zombie or an open descriptor.

    The marker ``orphans`` forgives zombies: this process stands in for init(1) there.
    """
    open_before, children_before = set(descriptors()), children()
    yield
    orphans = request.node.get_closest_marker("orphans") is not None
    complain(strays(children_before, orphans) + leaked(open_before))


def complain(left: list[str]) -> None:
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


def descriptors() -> dict[int, str]:
    """What each descriptor of this process is open on."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def leaked(before: set[int]) -> list[str]:
    """Descriptors that are open now and were not before."""
    if descriptors().keys() <= before:
        return []
    # What only a cycle of objects still holds is not a leak: the collector closes it.
    with collected():
        now = descriptors()
    return [f"descriptor {fd} on {now[fd]}" for fd in sorted(now.keys() - before)]


@contextmanager
def collected() -> Iterator[None]:
    """Nothing is garbage at its beginning; no thread collects any, or opens files to tell of it.

    While another thread collects, such as one of execnet's, gc.collect() does nothing: so it is
    called until it did.
    """
    ours: list[int] = []

    def heard(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and threading.get_ident() == thread:
            ours.append(info["generation"])

    thread, was_on = threading.get_ident(), gc.isenabled()
    gc.disable()
    gc.callbacks.append(heard)
    try:
        while 2 not in ours:
            gc.collect()
            time.sleep(0.001)
        yield
    finally:
        gc.callbacks.remove(heard)
        if was_on:
            gc.enable()


def children() -> set[int]:
    """Pids of this process's children, zombies included."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        # A thread may end between listdir and open.
        with suppress(OSError), open(f"/proc/self/task/{thread}/children") as file:
            found.update(map(int, file.read().split()))
    return found


def strays(before: set[int], orphans: bool = False) -> list[str]:
    """Names what is still there, then ends it and whatever comes back from it."""
    named: list[str] = []
    while left := children() - before:
        for pid in sorted(left):
            named += stray(pid, orphans)
    return named


def stray(pid: int, orphans: bool) -> list[str]:
    """What a child is that should not be there, if anything; it is ended and reaped."""
    command, state = describe(pid)
    what = [] if state != "Z" or orphans else [f"zombie {pid} ({command})"]
    if state != "Z" and not ends(pid, GRACE_S):
        what = [f"process {pid} ({describe(pid)[0]})"]
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return what


def ends(pid: int, within_s: float) -> bool:
    """The process ends by itself soon enough."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(within_s * 1000))
    finally:
        os.close(fd)


def describe(pid: int) -> tuple[str, str]:
    """A process's command line (its name when it has none any more) and its state letter."""
    with suppress(OSError):
        with open(f"/proc/{pid}/stat", "rb") as file:
            name, _, rest = file.read().partition(b"(")[2].rpartition(b")")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().replace(b"\0", b" ").strip()
        return (words or name).decode("utf-8", "backslashreplace"), rest.split()[0].decode()
    return "?", "?"
