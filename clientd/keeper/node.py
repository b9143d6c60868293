"""Puts a keeper together: folders, lock, what this machine allows, what was before; and runs it."""

import fcntl
import os
from collections.abc import Callable
from zlib import crc32

from clientd.keeper import processes
from clientd.keeper.apart import Apart
from clientd.keeper.birth import Born, settle_memory
from clientd.keeper.cgroups import Cgroups
from clientd.keeper.containment import Containment
from clientd.keeper.errands import Errands
from clientd.keeper.journal import Journal
from clientd.keeper.keeper import Keeper
from clientd.keeper.loop import Loop
from clientd.keeper.orders import Facts
from clientd.keeper.probing import Probing
from clientd.keeper.records import Based, Ledger
from clientd.keeper.register import Register
from clientd.keeper.settings import Settings
from clientd.keeper.spawn import Place, Spawner
from clientd.keeper.tasks import Tasks
from clientd.keeper.tools import Tools
from godwit import __version__, places
from godwit.errors import StartError
from godwit.log import Level, Log


def run(settings: Settings, born: Born, level: Level) -> None:
    """From start to stop; ``level`` is what goes to stderr.  Raises StartError."""
    files = make_folders(settings)
    lock = take_lock(settings)
    try:
        _run(settings, born, open_log(settings, level), files)
    finally:
        os.close(lock)


def make_folders(settings: Settings) -> bytes:
    """State, 0700; logs; and the folder that tasks start in, which is returned."""
    files = os.path.join(settings.state, "files")
    logs = os.path.join(settings.logs, settings.name)
    try:
        os.makedirs(settings.state, 0o700, exist_ok=True)
        os.chmod(settings.state, 0o700)
        os.makedirs(files, 0o700, exist_ok=True)
        os.makedirs(logs, exist_ok=True)
    except OSError as err:
        raise StartError(f"cannot make the folder {err.filename}: {err.strerror}") from err
    return os.fsencode(files)


def take_lock(settings: Settings) -> int:
    """A descriptor that holds the state folder for us.  Raises StartError: who has it."""
    path = os.path.join(settings.state, "lock")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise StartError(f"cannot open {path}: {err.strerror}") from err
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StartError(
            f"another clientd (pid {holder}) runs on the state folder {settings.state}"
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    return fd


def open_log(settings: Settings, level: Level) -> Log:
    """Raises StartError."""
    path = os.path.join(settings.logs, settings.name, "clientd.log")
    try:
        return Log(f"clientd {settings.name}", path, level)
    except OSError as err:
        raise StartError(f"cannot write the log {path}: {err.strerror}") from err


def mark_of(state: str) -> str:
    """Tells this clientd's tasks from those of others on this machine, in containers too.

    The same at each start, even when nothing is left in the state folder.
    """
    namespace = os.readlink("/proc/self/ns/pid")
    return f"{crc32(os.fsencode(f'{state} {namespace}')):08x}"


def contain(settings: Settings) -> tuple[Cgroups | None, str]:
    """This node's cgroups; or none, and why."""
    try:
        return Cgroups(f"godwit-{settings.name}-{mark_of(settings.state)}"), ""
    except StartError as err:
        return None, str(err)


def set_apart() -> tuple[Apart | None, str]:
    """What gives tasks a pid namespace; or none, and why."""
    try:
        return Apart(), ""
    except StartError as err:
        return None, str(err)


def _run(settings: Settings, born: Born, log: Log, files: bytes) -> None:
    journal = Journal(os.path.join(settings.state, "journal"))
    ledger = recall(journal, log)
    cgroups, without = contain(settings)
    if cgroups:
        ledger.apply(based := Based(cgroups.base))
        journal.append(based)
    apart, not_apart = set_apart()
    facts = facts_of(settings, without, not_apart)
    place = Place(
        settings.name, mark_of(settings.state), os.path.join(settings.logs, settings.name), files,
        born.files, born.own_files,
    )
    containment, register = Containment(cgroups, place.mark), Register(journal, ledger, log)
    loop, others = Loop(), dict[int, Callable[[], None]]()
    errands = Errands(loop, others)
    tools = Tools(loop, register, Spawner(place, apart), containment, facts.boot, others, errands)
    say_hello(settings, facts, log)
    os.chdir("/")  # what we are in cannot be unmounted
    tasks = Tasks(tools)
    tasks.adopt(containment.survey(ledger.bases))
    register.compact()
    settle_memory()
    keeper = Keeper(tools, tasks, facts, born)
    # One answer for all nodes of a machine.
    cache = os.path.join(places.state_home(), "criu.json")
    Probing(errands, cache, keeper.looked_for_criu).start()
    keeper.run()
    errands.close()
    journal.close()
    if apart:
        apart.close()
    containment.close()
    log("info", "stopped")


def recall(journal: Journal, log: Log) -> Ledger:
    """What the journal says.  Raises StartError."""
    records, trouble = journal.load()
    ledger = Ledger()
    senseless = ledger.replay(records)
    if trouble:
        log("warning", trouble)
    if senseless:
        log("warning", f"{senseless} records of the journal made no sense and were skipped")
    # Where an earlier keeper was started from may be gone: a login session's cgroup, say.
    ledger.bases = dict.fromkeys(filter(os.path.isdir, ledger.bases))
    return ledger


def facts_of(settings: Settings, uncontained: str, not_apart: str) -> Facts:
    """What this node is, can and lacks; why it cannot, where that is not empty."""
    is_root = os.geteuid() == 0
    lacks: dict[str, str] = {}
    if uncontained:
        lacks["containment"] = (
            f"{uncontained}; what leaves a task's session, clears its environment and outlives "
            "its parent escapes sKill"
        )
    if not_apart:
        lacks["apart"] = f"{not_apart}; every task is started as with --plain"
    if not is_root:
        lacks["users"] = "clientd does not run as root: every task runs as its user"
    return Facts(
        name=settings.name, state=settings.state, logs=settings.logs, boot=processes.boot_id(),
        master=settings.master, listen=settings.listen, orphans_kill_s=settings.orphans_kill_s,
        token_file=settings.token_file,
        can=(
            "shell", *(() if uncontained else ("contain",)), *(() if not_apart else ("apart",)),
            *(("users",) if is_root else ()),
        ),
        lacks=lacks,
    )


def say_hello(settings: Settings, facts: Facts, log: Log) -> None:
    """The start-up lines."""
    way = f"joins {settings.master}" if settings.master else f"waits on {settings.listen}"
    log("info", f"clientd {__version__}, node {settings.name}, pid {os.getpid()}: {way}")
    log("info", f"state folder {settings.state}")
    log("info", f"logs folder {os.path.join(settings.logs, settings.name)}")
    log("info", f"can: {', '.join(facts.can)}")
    for word, reason in facts.lacks.items():
        log("info", f"weaker here: no {word}: {reason}")
