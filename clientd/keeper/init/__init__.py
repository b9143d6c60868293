"""The init of a task's pid namespace: a program of some hundred bytes, in machine code.  Pure.

It starts the program, passes signals on to the program's process group, waits for whatever ends in
the namespace, and ends as the program does: with its code, or with 128+n when signal n ended it.
Its arguments say what to do:

    godwit-init u|- FOLDER FILE WORD...

Its one child gives up all capabilities (u), enters the folder, writes a byte to descriptor 3 and
reads one from 4; then it executes the file with these words.  What fails is written to 3: one of
FAILED and the errno, as FAILURE.  The rest, the environment too, is the program's as it is.

Why it is ours: the init of another user's task has rights that the program must not have, so no
library, and no variable that the task is given, may have a say in what it does.  It is saved with
every task that moves, and executed with every one that starts: so it is as small as can be.

Assembled from MACHINE.S beside this file; tests/test_init.py compares.
"""

import struct

from clientd.keeper.executable import executable

NAME = b"godwit-init"
LOWER, KEEP = b"u", b"-"
#: Descriptors: where it tells, and hears that the program may begin.
TELL, HEAR = 3, 4
READY = GO = b"\1"
#: What failed, and the errno.
FAILURE = struct.Struct("=II")
FAILED = ("fork", "capset", "chdir", "exec")
#: By os.uname().machine.
CODE = {
    "x86_64": bytes.fromhex(
        "4989e4b80e000000bf02000000488d35c401000031d241ba080000000f054531edb8390000000f0585c0"
        "0f887f0100000f84b000000031ffbe01000000b8210000000f05be02000000b8210000000f05bf030000"
        "00b8030000000f05bf04000000b8030000000f054881ec80000000b83d00000048c7c7ffffffff4889e6"
        "ba010000004531d20f0585c07e2183f80275de8b3c2489f883e07f74088db880000000eb03c1ef08b8e7"
        "0000000f05b880000000488d3d1f0100004889e631d241ba080000000f0583f81174a483f81274dd85c0"
        "7ed989c648c7c7feffffffb83e0000000f05ebc7b8700000000f05b80e000000bf02000000488d35e200"
        "000031d241ba080000000f05498b442410803875751f41bd01000000b87e000000488d3dd4000000488d"
        "35b50000000f0585c0757e41bd02000000b850000000498b7c24180f0585c07568bf03000000be020000"
        "00ba01000000b8480000000f05bf04000000b8480000000f05b801000000bf03000000488d3586000000"
        "0f0531c0bf04000000488d7424f80f0583f801753e41bd03000000498b0424498b7c2420498d74242849"
        "8d54c410b83b0000000f05f7d848c1e0204c09e8504889e6b801000000bf03000000ba080000000f05bf"
        "7f000000e9cffeffff90ffffffffffffffff000000000000000000000000000000000000000000000000"
        "220508200000000001"
    ),
    "aarch64": bytes.fromhex(
        "f3030091e81080d2400080d2610f0010020080d2030180d2010000d414008052200280d2010080d20200"
        "80d2030080d2040080d2881b80d2010000d41f000071ab0c005440060054000080d2210080d2020080d2"
        "080380d2010000d4000080d2410080d2010000d4600080d2280780d2010000d4800080d2010000d4ff03"
        "02d1882080d200008092e1030091220080d2030080d2010000d41f0000716d0100541f080071e1feff54"
        "e10340b922180072600000544000021102000014207c0853c80b80d2010000d4281180d260090010e103"
        "0091020080d2030180d2010000d41f440071e0fcff541f480071e0feff541f000071adfeff54e103002a"
        "20008092281080d2010000d4f0ffff17a81380d2010000d4e81080d2400080d221070010020080d20301"
        "80d2010000d4600a40f9000040391fd401712101005434008052680b80d2a0060058e00f1ff8e0030091"
        "81050010010000d4e003003554008052280680d2600e40f9010000d440030035600080d2410080d22200"
        "80d2280380d2010000d4800080d2010000d4080880d2600080d261040010010000d4e80780d2800080d2"
        "e14300d1010000d41f0400710102005474008052620240f9601240f961a20091620e028b42400091a81b"
        "80d2010000d4e003004bf403be29e1030091080880d2600080d2020180d2010000d4e00f80d2b3ffff17"
        "ffffffffffffffff000000000000000000000000000000000000000000000000220508200000000001"
    ),
}


def image(machine: str) -> bytes:
    """A whole program.  Raises KeyError for a machine that there is none for."""
    return executable(machine, CODE[machine])
