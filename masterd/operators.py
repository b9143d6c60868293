"""Who an operator is, as far as this machine knows."""

import pwd
from contextlib import suppress

from masterd.audit import Who

#: What the kernel gives for a process that no login led to: (uid_t)-1.
NO_LOGIN = 2**32 - 1


def identify(pid: int, uid: int) -> Who:
    """The user with that number, and who logged in to become it: proc(5), loginuid."""
    login = NO_LOGIN
    with suppress(OSError, ValueError), open(f"/proc/{pid}/loginuid") as file:
        login = int(file.read())
    return Who(uid, name_of(uid), pid, name_of(login) if login not in (NO_LOGIN, uid) else "")


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
