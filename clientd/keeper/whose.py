"""Whose a process is, in numbers; how CRIU acts as that user; and what may come of it.

Fact: what limits a process has (prlimit(2)) is told to whoever has its user and group ids, or
CAP_SYS_RESOURCE, which root has not everywhere.  So CRIU saves a user's processes as that user,
with all the capabilities that we have: none of that user's other processes may look into it, for
they have fewer (ptrace(2)).

Fact: CRIU opens what is restored by names, before it gives up its rights; and meanwhile its user
may make other files, and links, of these names.  So it restores as that user, without the
capabilities to which modes and owners of files are nothing: nothing opens that the user could not
open.  Nor may it change the user, for then it would make itself user 0 first.

Fact: CRIU asks each process itself for its credentials, by code that runs in its memory.  Whoever
may write there at that moment, another process of the same user's, could answer for it.  So what
was restored is looked at before any of it runs.
"""

import os
import pwd
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from godwit.task.reasons import Reason
from godwit.task.verdict import Ids, differing

CAP_SYS_RESOURCE = 24
#: Of util-linux.
SETPRIV = "/usr/bin/setpriv"


def status(pid: int | str) -> dict[str, list[str]]:
    """/proc/PID/status.  Raises OSError."""
    with open(f"/proc/{pid}/status") as file:
        return {name: rest.split() for name, _, rest in (line.partition(":") for line in file)}


def ids(pid: int) -> Ids | None:
    """Of a process; None for one of root's, or that is gone."""
    with suppress(OSError):
        told = status(pid)
        uid, gid = int(told["Uid"][1]), int(told["Gid"][1])
        if uid:
            return Ids(_name(uid), uid, gid, frozenset(map(int, told["Groups"])))
    return None


def ids_here(name: str) -> Ids | None:
    """Of a user of this node; None for root, and where there is no such user."""
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    groups = frozenset(os.getgrouplist(name, user.pw_gid))
    return Ids(name, user.pw_uid, user.pw_gid, groups) if user.pw_uid else None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def unseen(init: int, pids: Iterable[int]) -> str:
    """As whom one of them runs whose limits CRIU, acting as the user of the init, is not told.

    Nothing if there is none.
    """
    with suppress(OSError):
        if int(status("self")["CapEff"][0], 16) >> CAP_SYS_RESOURCE & 1:
            return ""
        acting = status(init)
        for pid in pids:
            with suppress(OSError):
                told = status(pid)
                if any({*told[kind][:3]} != {acting[kind][0]} for kind in ("Uid", "Gid")):
                    return f"{_name(int(told['Uid'][1]))}, group {told['Gid'][1]}"
    return ""


#: What CRIU restores with, of what we have, capabilities(7): groups, fewer capabilities, buffers of
#: sockets, faults of pages, namespaces, limits, pids.
_RESTORING = {6: "setgid", 8: "setpcap", 12: "net_admin", 19: "sys_ptrace", 21: "sys_admin",
              24: "sys_resource", 40: "checkpoint_restore"}


def differences(name: str, saved: Ids | None, node: str) -> Iterator[Reason]:
    """Why what was saved of a task that was started as this user cannot be restored here."""
    here = ids_here(name) if name else None
    if here is not None and saved is None:
        yield Reason("user", f"it is root's, and not {name}'s")
    elif here is not None and saved is not None:
        yield from differing(saved, here, node)


def excess(init: int, pids: Iterable[int], user: Ids, rights: int) -> str:
    """What right one of these processes has that is not this user's; nothing if there is none.

    ``rights``: capabilities that the init may have.  What has ended runs no more, whatever rights
    it had: CRIU makes a zombie by a process that ends at once.  Raises OSError for one that is
    gone.
    """
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found = _excess(status(f"{pid}/task/{thread}"), user, rights if pid == init else 0)
            if found:
                return f"process {pid} has {found}"
    return ""


def _excess(told: dict[str, list[str]], user: Ids, rights: int) -> str:
    if told["State"][0] in "ZX":
        return ""
    for what, number in (("Uid", user.uid), ("Gid", user.gid)):
        if others := set(map(int, told[what])) - {number}:
            return f"{what} {min(others)}, and {user.name} has {number}"
    if others := set(map(int, told["Groups"])) - user.groups - {user.gid}:
        return f"group {min(others)}, which {user.name} has not"
    for kind in ("Inh", "Prm", "Eff", "Amb"):
        if more := int(told[f"Cap{kind}"][0], 16) & ~rights:
            return f"capabilities {more:#x}"
    return "" if told["NoNewPrivs"] == ["1"] else "not no_new_privs"


def saving(pid: int, words: list[str]) -> list[str]:
    """The command that runs CRIU, these words, to save what has this init."""
    whose = ids(pid)
    if whose is None:
        return words
    return _as(whose, (), range(64), words)


def restoring(user: Ids, words: Sequence[str]) -> list[str]:
    """The command that runs CRIU, these words, to restore what is this user's."""
    return _as(user, sorted(user.groups), _RESTORING, words)


def _as(
    user: Ids, groups: Collection[int], capabilities: Iterable[int], words: Sequence[str]
) -> list[str]:
    """``capabilities``: those of them that we have are kept."""
    permitted = int(status("self")["CapPrm"][0], 16)
    rights = ",".join(f"+cap_{n}" for n in capabilities if permitted >> n & 1)
    return [
        SETPRIV, f"--reuid={user.uid}", f"--regid={user.gid}",
        f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups",
        f"--inh-caps=-all,{rights}", f"--ambient-caps=-all,{rights}", "--", *words,
        "--unprivileged",
    ]
