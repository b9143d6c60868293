"""The words for what can go wrong with files, and OSError translated into them.

    not-found, denied, exists, is-folder, not-folder, bad-name, no-space, read-only, unsupported
    too-deep      more than DEPTH folders within folders
    not-a-file    a socket, a fifo or a device was named
    changed       the source changed while it was being read
    digest        what arrived is not what was sent
    itself        a folder was to be copied into itself
    cut           the connection ended before the copy did: repeat it to go on from there
    abandoned     whoever asked for the copy ended it
    protocol      the other end does not keep to the protocol

Any other errno is its own name in lower case, as ``eio``.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

from godwit.errors import TransferError
from godwit.log import printable

#: errno -> (our word, what it means here; empty: as strerror(3) has it).
WORDS = {
    errno.ENOENT: ("not-found", "no such file or folder"),
    errno.EACCES: ("denied", "permission denied"),
    errno.EPERM: ("denied", "operation not permitted"),
    errno.EEXIST: ("exists", ""),
    errno.EISDIR: ("is-folder", "is a folder"),
    errno.ENOTDIR: ("not-folder", "is not a folder, or passes something that is none"),
    errno.ELOOP: ("denied", "passes a symbolic link that is not followed"),
    errno.EXDEV: ("denied", "leads out of the folders that are open to copies"),
    errno.ENOSPC: ("no-space", "no space left on the device"),
    errno.EDQUOT: ("no-space", "the disk quota is used up"),
    errno.EROFS: ("read-only", "the file system is read-only"),
    errno.ENAMETOOLONG: ("bad-name", "the name is too long"),
    errno.ENOSYS: ("unsupported", ""),
    errno.ENXIO: ("not-a-file", "is no file and no folder"),
}


def shown(path: bytes) -> str:
    """A path as one short line of text that a terminal takes as text."""
    text = printable(path.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:60]}...{text[-130:]}"


def fault(err: OSError, about: bytes) -> TransferError:
    """The TransferError that says what ``err`` means for the file ``about``."""
    number = err.errno or errno.EIO
    other = errno.errorcode.get(number, "io").lower(), ""
    code, meaning = WORDS.get(number, other)
    # A text that is not strerror(3)'s was written for this very case.
    said = err.strerror if err.strerror != os.strerror(number) else ""
    return TransferError(code, f"{shown(about)}: {said or meaning or os.strerror(number)}")


@contextlib.contextmanager
def naming(about: bytes) -> Iterator[None]:
    """An OSError inside becomes a TransferError that names ``about``."""
    try:
        yield
    except OSError as err:
        raise fault(err, about) from err
