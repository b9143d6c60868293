"""What execve(2) takes for a program, told before it is asked.

Fact: execvp(3), which dumb-init uses, gives a file that the kernel refuses with ENOEXEC to /bin/sh,
so that a damaged program runs as a script.  Here it is refused, as for any other task.
"""

import os
from contextlib import suppress

#: More kinds, by the administrator's will: Documentation/admin-guide/binfmt-misc.rst.
MORE = "/proc/sys/fs/binfmt_misc"
#: e_machine and the class of an ELF file, which must be our own's.
_ELF = slice(4, 6), slice(18, 20)


def is_program(path: bytes) -> bool:
    """False for a file that no kernel of this machine's executes; true where that is not sure."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError:
        return True
    if head.startswith(b"#!"):
        return True
    if head.startswith(b"\x7fELF") and len(head) == 64:
        with open("/proc/self/exe", "rb") as own:
            ours = own.read(64)
        if all(head[part] == ours[part] for part in _ELF):
            return True
    return _has_more()


def _has_more() -> bool:
    with suppress(OSError):
        return bool(set(os.listdir(MORE)) - {"register", "status"})
    return False
