"""Puts a keeper together: folders, lock, what this machine allows, what was before; and runs it."""

import fcntl
import os
import pwd
from collections.abc import Callable
from contextlib import suppress
from zlib import crc32

from msgspec.structs import replace

from clientd.keeper import agents, byhand, processes
from clientd.keeper.apart import Apart
from clientd.keeper.birth import Born, settle_memory
from clientd.keeper.cgroups import Cgroups
from clientd.keeper.containment import Containment
from clientd.keeper.demotion import find_agent_user, give_log, hand_over, try_out
from clientd.keeper.errands import Errands
from clientd.keeper.gate import Gate
from clientd.keeper.journal import Journal
from clientd.keeper.keeper import Keeper
from clientd.keeper.loop import Loop
from clientd.keeper.orders import Facts
from clientd.keeper.policyfile import NAME, read_file
from clientd.keeper.probing import Probing
from clientd.keeper.records import Based, Ledger
from clientd.keeper.register import Register
from clientd.keeper.settings import Settings, orphans_kill_s
from clientd.keeper.spawn import Place, Spawner, myself
from clientd.keeper.tasks import Tasks
from clientd.keeper.tools import Tools
from clientd.keeper.trim import Trimmer, objection
from godwit import __version__, places
from godwit.errors import StartError, UsageError
from godwit.log import Level, Log
from godwit.programs import PROGRAMS


def run(settings: Settings, born: Born, level: Level) -> None:
    """From start to stop; ``level`` is what goes to stderr.  Raises StartError."""
    settings = with_policy(settings)
    agent = find_agent_user(settings.agent_user)
    if agent and agent.pw_name in (settings.policy.users or ()):
        raise StartError(
            f"{settings.policy.path}: users: {agent.pw_name} is the agent's user (--agent-user), "
            "as whom no task runs; name others"
        )
    files = make_folders(settings)
    lock = take_lock(settings)
    try:
        hand_over(settings, agent)
        _run(settings, born, level, files, agent)
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


def with_policy(settings: Settings) -> Settings:
    """Settings with what the node's policy file says.  Raises StartError."""
    path = settings.config or os.path.join(settings.state, NAME)
    if settings.config or os.path.lexists(path):
        settings = replace(settings, policy=read_file(path, os.path.join(settings.state, "files")))
    try:
        kill_s = orphans_kill_s(settings.policy.orphans or "keep")
    except UsageError as err:
        raise StartError(f"{path}: orphans: {err.hint}") from err
    if settings.orphans_kill_s is None:
        settings = replace(settings, orphans_kill_s=kill_s)
    return settings


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
    # The pid is for people; on a full disk there may be no room for it.
    with suppress(OSError):
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


def _run(
    settings: Settings, born: Born, level: Level, files: bytes, agent: pwd.struct_passwd | None
) -> None:
    log = open_log(settings, level)
    journal = Journal(os.path.join(settings.state, "journal"))
    ledger = recall(journal, log)
    cgroups, without = contain(settings)
    if cgroups:
        ledger.apply(based := Based(cgroups.base))
        journal.append(based)
    apart, not_apart = set_apart()
    facts = facts_of(settings, without, not_apart, level)
    place = Place(
        settings.name, mark_of(settings.state), os.path.join(settings.logs, settings.name), files,
        born.files, born.own_files, agent.pw_gid if agent else -1,
    )
    if agent:
        admit_agent(settings, agent, ledger)
    containment, register = Containment(cgroups, place.mark), Register(journal, ledger, log)
    gate = Gate(settings.policy, files, myself()[0], agent)
    loop, others = Loop(), dict[int, Callable[[], None]]()
    errands = Errands(loop, others)
    tools = Tools(
        loop, register, Spawner(place, apart), containment, gate, facts.boot, others, errands
    )
    say_hello(settings, facts, log)
    os.chdir("/")  # what we are in cannot be unmounted
    tasks = Tasks(tools)
    tasks.adopt(containment.survey(ledger.bases))
    register.compact()
    settle_memory()
    if settings.log_max:
        Trimmer(tools.loop, register, settings.log_max, tasks.occupied).look()
    keeper = Keeper(tools, tasks, facts, born)
    # One answer for all nodes of a machine.
    cache = os.path.join(places.state_home(), "criu.json")
    Probing(errands, cache, keeper.looked_for_criu).start()
    keeper.run()
    errands.close()
    tasks.births.close()
    journal.close()
    containment.close()
    log("info", "stopped")


def admit_agent(settings: Settings, agent: pwd.struct_passwd, ledger: Ledger) -> None:
    """An agent of another user reads what tasks wrote before.  Raises StartError if it cannot."""
    for task in ledger.tasks.values():
        if task.log and task.spec.kind != byhand.KIND:
            with suppress(OSError):  # it is gone
                give_log(task.log, agent.pw_gid)
    folders = [os.path.join(settings.state, name) for name in ("agent", "files")]
    folders.append(os.path.join(settings.logs, settings.name))
    try_out(agent, agents.COMMAND[0], agents.environment(agent), folders)


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


def facts_of(settings: Settings, uncontained: str, not_apart: str, level: Level) -> Facts:
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
    if settings.log_max and (why := objection(os.path.join(settings.logs, settings.name))):
        lacks["log-max"] = f"{why}; logs of tasks grow without a bound"
    policy = settings.policy
    lacks |= policy.lacks()
    can = {
        "shell": policy.templates is None, "python": policy.templates is None,
        "contain": not uncontained, "apart": not not_apart, "users": is_root,
        "policy": bool(policy.path), byhand.KIND: policy.adopts,
    }
    return Facts(
        name=settings.name, state=settings.state, logs=settings.logs, boot=processes.boot_id(),
        master=settings.master, listen=settings.listen,
        orphans_kill_s=settings.orphans_kill_s or 0.0, token_file=settings.token_file,
        can=tuple(word for word, there in can.items() if there), lacks=lacks,
        roots=tuple(map(os.fsencode, policy.roots)), shared=tuple(map(os.fsencode, policy.shared)),
        config=policy.path or os.path.join(settings.state, NAME), stderr=level,
        programs={name: f"{known.takes}: {known.does}" for name, known in PROGRAMS.items()},
    )


def say_hello(settings: Settings, facts: Facts, log: Log) -> None:
    """The start-up lines."""
    way = f"joins {settings.master}" if settings.master else f"waits on {settings.listen}"
    log("info", f"clientd {__version__}, node {settings.name}, pid {os.getpid()}: {way}")
    log("info", f"state folder {settings.state}")
    log("info", f"logs folder {os.path.join(settings.logs, settings.name)}")
    log("info", f"can: {', '.join(facts.can)}")
    if settings.agent_user:
        log("info", f"the agent runs as {settings.agent_user}")
    if settings.policy.path:
        log("info", f"policy {settings.policy.path}")
    for word, reason in facts.lacks.items():
        log("info", f"weaker here: no {word}: {reason}")
