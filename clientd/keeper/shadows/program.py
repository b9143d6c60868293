"""The program of a shadow: 494 bytes that do next to nothing, so that thousands cost nothing.

It blocks all signals, and writes of each that comes a record to its stdout, a pipe: how many it
has had, which it is, who sent it (pid and user).  While nobody empties the pipe it waits, and the
kernel keeps what comes.  SIGRTMAX by sigqueue(3) with our mark in the upper half of its value is an
order: to end with the status in the lower half, as wait(2) has it.

SIGKILL and SIGSTOP cannot be blocked, signal(7): its parent sees what they do.

For a machine that these bytes are not made for, or that lets none of them be executed,
clientd/keeper/shadows/plain.py does the same in Python: 9 MB in place of 12 KiB.
"""

import os
import struct
import sys
from pathlib import Path

from clientd.keeper.executable import executable

#: The order, and the mark: "godw".
ORDER = 64
MARK = 0x77646F67
#: A record: count, signal, pid and user of who sent it.
RECORD = struct.Struct("<IiiI")

#: Assembled from MACHINE.S beside this file; tests/test_shadow_program.py compares.
CODE = {"x86_64": bytes.fromhex(
    "b80e000000bf02000000488d35ff00000031d241ba080000000f05b89d000000bf0f000000488d3504010000"
    "0f05b82e01000031ffbe04000000488d15df0000004531d20f054881ec000100004889e3488dac2480000000"
    "4531e4b880000000488d3da90000004889de31d241ba080000000f0585c07ee383f840750f837b08ff750981"
    "7b1c676f6477742841ffc444896500894504488b4b1048894d08b801000000bf010000004889eeba10000000"
    "0f05eba7448b6b184589ee4183e67f7439b8270000000f0589c74489f6b83e0000000f05b80e000000bf0200"
    "0000488d353300000031d241ba080000000f054489f781cf80000000eb0c4489efc1ef0881e7ff000000b8e7"
    "0000000f050f1f00ffffffffffffffff000000000000000001000000000000000100000000000000676f6477"
    "69742d736861646f7700"
)}


def image(machine: str) -> bytes:
    """A whole program.  Raises KeyError."""
    return executable(machine, CODE[machine])


def open_image(machine: str) -> int:
    """A descriptor to be executed: in memory, where no path has to be open to the task's user.

    Raises KeyError where there is none for this machine, OSError.
    """
    whole = image(machine)
    fd = os.memfd_create("godwit-shadow", os.MFD_CLOEXEC)
    try:
        os.write(fd, whole)
    except OSError:
        os.close(fd)
        raise
    return fd


def plain() -> list[bytes]:
    """The command that does the same everywhere."""
    script = Path(__file__).with_name("plain.py")
    return [os.fsencode(word) for word in (sys.executable, "-I", "-S", str(script))]


def order(status: int) -> int:
    """The value that goes with ORDER."""
    return MARK << 32 | status
