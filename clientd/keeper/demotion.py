"""The agent as another user: whom, and what must be theirs before it can work.

Its folder is STATE/agent.  Who owns that folder can put links into it, so we change owners in it
only while it is still ours, and never act in it afterwards.
"""

import os
import pwd
import stat
from collections.abc import Iterable, Mapping

from clientd.keeper.settings import Settings
from godwit.errors import StartError

#: Taken over from our environment; with these in front, too.
KEPT = ("PATH", "LANG", "LANGUAGE", "TZ")
KEPT_FRONTS = ("LC_", "PYTHON", "GODWIT_")

#: Run as the user: can it run at all, and reach these folders?  Ours is the last line it prints.
PROBE = """
import os, sys
try:
    import clientd.agent
except Exception as err:
    sys.exit(f"cannot run this clientd: {err}")
for folder in sys.argv[1:]:
    if not os.access(folder, os.X_OK):
        sys.exit(f"may not enter {folder}: it and all above it need chmod o+x")
"""
PROBE_S = 60.0


def find_agent_user(name: str) -> pwd.struct_passwd | None:
    """None for an empty name: ourselves.  Raises StartError."""
    if not name:
        return None
    if os.geteuid() != 0:
        raise StartError(f"--agent-user {name}: clientd has to run as root for that")
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise StartError(f"--agent-user: there is no user {name!r} on this machine") from None
    if user.pw_uid == 0:
        raise StartError(f"--agent-user {name}: that is root, and no protection")
    return user


def hand_over(settings: Settings, user: pwd.struct_passwd | None) -> None:
    """Makes the agent's folders its user's.  Raises StartError."""
    agent, files = (os.path.join(settings.state, name) for name in ("agent", "files"))
    try:
        os.makedirs(agent, 0o700, exist_ok=True)
        _check_owner(agent, user)
        if user is None:
            return
        # The way to its own folders is open to it, and to nobody's eyes.
        os.chmod(settings.state, 0o711)
        if os.lstat(agent).st_uid != user.pw_uid:
            _give(agent, user)
        if os.lstat(files).st_uid != user.pw_uid:
            os.chown(files, user.pw_uid, user.pw_gid)
            os.chmod(files, 0o711)  # tasks of all users start there
    except OSError as err:
        raise StartError(f"--agent-user: {err.filename}: {err.strerror}") from err


def _check_owner(agent: str, user: pwd.struct_passwd | None) -> None:
    """What one user left there is not for another, least of all for root: it may be a trap."""
    owner = os.lstat(agent).st_uid
    if owner in (os.geteuid(), user.pw_uid if user else os.geteuid()):
        return
    whom = user.pw_name if user else "root"
    raise StartError(
        f"{agent} belongs to the user {_name(owner)}: start with --agent-user {_name(owner)}, or "
        f"look at what is in it and chown -R it to {whom}"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _give(folder: str, user: pwd.struct_passwd) -> None:
    """A folder that nobody but us could write to so far, with all in it; its own owner last."""
    for above, folders, files, fd in os.fwalk(folder, topdown=False):
        for name in (*folders, *files):
            if stat.S_ISLNK(os.lstat(name, dir_fd=fd).st_mode):
                raise StartError(f"{os.path.join(above, name)} is a symbolic link: not ours")
            os.chown(name, user.pw_uid, user.pw_gid, dir_fd=fd, follow_symlinks=False)
    os.chown(folder, user.pw_uid, user.pw_gid)


def environment_of(user: pwd.struct_passwd, ours: Mapping[str, str]) -> dict[str, str]:
    """The agent's: nothing of root's but what it needs to run."""
    kept = {
        name: value for name, value in ours.items()
        if name in KEPT or name.startswith(KEPT_FRONTS)
    }
    return {**kept, "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}


def try_out(
    user: pwd.struct_passwd, python: str, environment: Mapping[str, str], folders: Iterable[str]
) -> None:
    """Raises StartError, saying why this user could not do the agent's work."""
    import subprocess

    done = subprocess.run(
        [python, "-P", "-c", PROBE, *folders], user=user.pw_uid, group=user.pw_gid,
        extra_groups=os.getgrouplist(user.pw_name, user.pw_gid), env=dict(environment), cwd="/",
        stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S,
    )
    if done.returncode:
        lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        why = lines[-1] if lines else f"its Python ended with {done.returncode}"
        raise StartError(f"--agent-user {user.pw_name}: {why}")


def give_log(path: str, group: int) -> None:
    """A task's log that was there before: the agent's group reads it.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchown(fd, -1, group)
    finally:
        os.close(fd)
