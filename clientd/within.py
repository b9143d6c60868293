"""A path within some folders, opened so that nothing on the way leads out of them.

The kernel decides what lies within (openat2(2), Linux 5.6), component by component as it walks.
"""

import errno
import os
from collections.abc import Collection

from clientd import openat2 as resolve
from clientd.openat2 import openat2

#: Within a root nothing may lead elsewhere, not even a link that would come back.
STRICT = resolve.BENEATH | resolve.NO_SYMLINKS | resolve.NO_MAGICLINKS
#: Within ``/`` nothing can: links work as everybody knows them (/bin, /var/run).
ORDINARY = resolve.IN_ROOT | resolve.NO_MAGICLINKS


def open_within(roots: Collection[bytes], base: bytes, path: bytes, flags: int) -> int:
    """A descriptor; ``base`` is where relative paths start, and one of the roots in any case.

    Raises OSError.  EXDEV: outside of the roots.  ELOOP: by way of a symbolic link.
    """
    if b"/" in roots:
        return _open_below(b"/", os.path.join(base, path), flags, ORDINARY)
    root, below = _choose(roots, base, path)
    return _open_below(root, below, flags, STRICT)


def may_reach(roots: Collection[bytes], base: bytes, path: bytes) -> bool:
    """There is such a file within the roots, or a folder there for it to be made in."""
    for each in (path, os.path.dirname(path.rstrip(b"/")) or b"."):
        try:
            os.close(open_within(roots, base, each, os.O_PATH))
        except FileNotFoundError:
            continue
        except OSError:
            return False
        return True
    return False


def _choose(roots: Collection[bytes], base: bytes, path: bytes) -> tuple[bytes, bytes]:
    """The root to walk from and the path to walk; whether that stays within is not ours to
    say.  Of nested roots the innermost is taken."""
    if not path.startswith(b"/"):
        return base, path
    words = _words(path)
    inner_first = sorted((*roots, base), key=lambda root: -len(_words(root)))
    for root in inner_first:
        above = _words(root)
        if words[: len(above)] == above:
            slash = b"/" if path.endswith(b"/") else b""
            return root, b"/".join(words[len(above) :]) + slash
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)


def _words(path: bytes) -> list[bytes]:
    return [word for word in path.split(b"/") if word not in (b"", b".")]


def _open_below(root: bytes, path: bytes, flags: int, resolve: int) -> int:
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(top, path or b".", flags, resolve)
    finally:
        os.close(top)
