"""A bug of ours, as one line for the person and a traceback in a file."""

import os
import time
import traceback

from godwit.log import printable

#: Longest text of an exception shown, characters.
SHOWN = 200


def record(path: str, err: BaseException) -> str:
    """The line to show; the traceback is appended to ``path``, which only its owner may read."""
    text = "".join(traceback.format_exception(err))
    stamp = time.strftime("%Y-%m-%d %H:%M:%S%z")
    what = printable(f"{type(err).__name__}: {err}"[:SHOWN])
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(f"{stamp}\n{text}\n".encode("utf-8", "backslashreplace"))
    except OSError as failed:
        return f"godwit: internal error: {what} (not written to {path}: {failed.strerror})"
    return f"godwit: internal error: {what} (written to {path})"
