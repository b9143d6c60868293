"""Machine code as a whole program, elf(5).  Pure."""

import struct

#: e_machine, by os.uname().machine.
_MACHINES = {"x86_64": 62, "aarch64": 183}
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_BASE = 0x400000
#: A page, whichever of its sizes a machine has.
_ALIGNED = 0x10000
_LOAD, _STACK = 1, 0x6474E551
_EXECUTED, _WRITTEN, _READ = 1, 2, 4


def executable(machine: str, code: bytes) -> bytes:
    """The code in one segment, to read and execute; it begins at its first byte.

    Raises KeyError for a machine that is not known.
    """
    begin = _HEADER.size + 2 * _SEGMENT.size
    size = begin + len(code)
    header = _HEADER.pack(
        b"\x7fELF\x02\x01\x01", 2, _MACHINES[machine], 1, _BASE + begin, _HEADER.size, 0, 0,
        _HEADER.size, _SEGMENT.size, 2, 0, 0, 0,
    )
    load = _SEGMENT.pack(_LOAD, _READ | _EXECUTED, 0, _BASE, _BASE, size, size, _ALIGNED)
    stack = _SEGMENT.pack(_STACK, _READ | _WRITTEN, 0, 0, 0, 0, 0, 16)
    return header + load + stack + code
