"""sync_file_range(2), which Python has no function for: let the disk begin while more comes."""

import ctypes

#: SYNC_FILE_RANGE_WRITE of <linux/fs.h>: begin, and do not wait.  It promises nothing.
WRITE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def start_writeback(fd: int, offset: int, count: int) -> None:
    """Has the kernel begin to write these bytes to the disk; errors are fdatasync's to tell."""
    if count:
        _libc.sync_file_range(
            ctypes.c_int(fd), ctypes.c_int64(offset), ctypes.c_int64(count), ctypes.c_uint(WRITE)
        )
