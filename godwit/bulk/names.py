"""Names that come from a peer or a user, checked component by component, and partials' names."""

import hashlib
import re

from godwit.bulk.faults import shown
from godwit.bulk.words import DEPTH, Entry
from godwit.errors import TransferError

#: NAME_MAX of Linux file systems, bytes.
LONGEST = 255
#: How much of a file's name its partial's name repeats, bytes.
STEM = 200

_PARTIAL = re.compile(rb"\.(.+)\.godwit-[0-9a-f]{16}", re.DOTALL)


def check(name: bytes) -> bytes:
    """``name``, when it can name one thing in a folder.  Raises TransferError (bad-name)."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > LONGEST:
        raise TransferError("bad-name", f"{shown(name) or 'nothing'}: not a name for a file")
    return name


def parts(path: bytes) -> tuple[bytes, ...]:
    """The checked components of an entry's path; none for the top itself."""
    if not path:
        return ()
    names = tuple(path.split(b"/"))
    if len(names) > DEPTH:
        raise too_deep(path)
    for name in names:
        check(name)
    return names


def too_deep(path: bytes) -> TransferError:
    return TransferError("too-deep", f"{shown(path)}: over {DEPTH} folders within folders")


def partial(name: bytes, entry: Entry) -> bytes:
    """Where ``entry`` is staged until it is complete: the same for the same source, untouched."""
    seed = b"%b\0%d\0%d\0%b" % (name, entry.size, entry.mtime_ns, entry.source)
    return named_partial(name, hashlib.sha256(seed).hexdigest()[:16])


def mark(name: bytes, source: bytes) -> bytes:
    """What lies beside the folder ``name`` while the copy of ``source`` that made it goes on."""
    return named_partial(name, hashlib.sha256(b"%b\0%b" % (name, source)).hexdigest()[:16])


def named_partial(name: bytes, suffix: str) -> bytes:
    """A partial's name with its 16 hex digits; of a long name only the first bytes fit."""
    return b".%b.godwit-%b" % (name[:STEM], suffix.encode())


def stem(name: bytes) -> bytes | None:
    """The (shortened) name of the file that a partial of this name is for; None: no partial."""
    found = _PARTIAL.fullmatch(name)
    return found[1] if found else None
