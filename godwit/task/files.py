"""TransactionalFile: an open file that travels with its task.

Path, mode and offset travel, the bytes do not: the file must be at the other node, too.  Each
read or write is a transaction: data and offset move together, or neither does.  Nothing that was
written is held back, so between two calls the file has exactly what was written to it.
"""

import codecs
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import UnsupportedOperation
from types import TracebackType
from typing import Any, Generic, TypeVar, overload
from typing import Literal as L
from weakref import WeakSet

#: Bytes read at once, ahead of what is asked for.
_AHEAD = 64 * 1024
#: Bytes before the offset that must be the same at the other node.
_TAIL = 4 * 1024

#: mode -> flags of the first opening, and may it be read, written, appended to.
_MODES: dict[str, tuple[int, str]] = {
    "r": (os.O_RDONLY, "r"),
    "r+": (os.O_RDWR, "rw"),
    "w": (os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "w"),
    "w+": (os.O_RDWR | os.O_CREAT | os.O_TRUNC, "rw"),
    "a": (os.O_WRONLY | os.O_CREAT | os.O_APPEND, "wa"),
    "a+": (os.O_RDWR | os.O_CREAT | os.O_APPEND, "rwa"),
}
#: What makes a file, or makes it empty: at the first opening only.
_FIRST = os.O_CREAT | os.O_TRUNC

_open: "WeakSet[TransactionalFile[Any]]" = WeakSet()
T = TypeVar("T", str, bytes)

TextMode = L["r", "w", "a", "r+", "w+", "a+", "rt", "wt", "at"]
BinaryMode = L["rb", "wb", "ab", "rb+", "wb+", "ab+", "r+b", "w+b", "a+b"]


def open_files() -> "list[TransactionalFile[Any]]":
    """All of this process that are open."""
    return [file for file in _open if not file.closed]


def close_all() -> None:
    """For the end of a task."""
    for file in open_files():
        file.close()


class TransactionalFile(Generic[T]):
    """A regular file, for text (``str``) or, with ``b`` in the mode, for ``bytes``.

    Modes are those of open(): r, w, a, with + and b.  ``w`` empties the file when it is opened
    first, and never after a move.  A relative path is relative to the task's working directory.
    Text has no newline translation, and an encoding in which a newline is the byte 10 (UTF-8 by
    default; not UTF-16).  Raises OSError as open() does, and ValueError for a bad mode.
    """

    @overload
    def __init__(
        self: "TransactionalFile[str]", path: str | os.PathLike[str], mode: TextMode = "r", *,
        encoding: str = "utf-8", errors: str = "strict",
    ) -> None: ...

    @overload
    def __init__(
        self: "TransactionalFile[bytes]", path: str | os.PathLike[str], mode: BinaryMode,
    ) -> None: ...

    def __init__(
        self, path: str | os.PathLike[str], mode: str = "r", *, encoding: str = "utf-8",
        errors: str = "strict",
    ) -> None:
        self.mode: str = mode
        self.name: str = os.fspath(path)
        self._encoding: str = "" if "b" in mode else codecs.lookup(encoding).name
        self._errors: str = errors
        if self._encoding and "\n".encode(self._encoding) != b"\n":
            raise ValueError(f"encoding {encoding}: a newline must be the byte 10")
        self._offset: int = 0
        self._fd: int = self._reach(first=True)
        if "a" in self._can:
            self._offset = os.fstat(self._fd).st_size
        self._come_to_be()

    def _reach(self, first: bool) -> int:
        """The file, opened.  Raises OSError and ValueError."""
        plain = self.mode.replace("b", "", 1).replace("t", "", 1)
        if plain not in _MODES:
            raise ValueError(f"invalid mode: {self.mode!r}")
        flags, self._can = _MODES[plain]
        fd = os.open(self.name, (flags if first else flags & ~_FIRST) | os.O_CLOEXEC, 0o666)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ValueError(f"{self.name}: no regular file, so it cannot travel")
        return fd

    def _come_to_be(self) -> None:
        #: Bytes read ahead; ``_at`` of them are before the offset.
        self._ahead = b""
        self._at = 0
        _open.add(self)

    # ---- reading -----------------------------------------------------------------------------

    def read(self, size: int | None = -1) -> T:
        """So many characters (bytes, if binary), fewer only at the end of the file; or the rest."""
        self._check("r")
        if size is None or size < 0:
            data = self._ahead[self._at:] + self._rest(self._offset + len(self._ahead) - self._at)
            return self._taken(data)
        if self._encoding:
            return self._read_text(size)
        data = self._ahead[self._at:self._at + size]
        while more := self._pread(size - len(data), self._offset + len(data)):
            data += more
        return self._taken(data)

    def _rest(self, offset: int) -> bytes:
        pieces = []
        while piece := self._pread(1 << 20, offset):
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _read_text(self, size: int) -> T:
        """No character has less than a byte, so that many bytes as characters are missing can be
        taken without reading too far."""
        decoder = codecs.getincrementaldecoder(self._encoding)(self._errors)
        data, text = b"", ""
        while len(text) < size:
            piece = self._ahead[self._at + len(data):][:size - len(text)]
            if not piece:
                piece = self._pread(max(_AHEAD, size - len(text)), self._offset + len(data))
                self._ahead = self._ahead[self._at:] + piece if self._ahead else piece
                self._at = 0
                piece = piece[:size - len(text)]
            if not piece:
                text += decoder.decode(b"", final=True)
                break
            data += piece
            text += decoder.decode(piece)
        pending = len(decoder.getstate()[0])
        self._move(len(data) - pending)
        return text  # type: ignore[return-value]

    def readline(self) -> T:
        """The next line with its newline; empty at the end of the file."""
        self._check("r")
        end = self._ahead.find(b"\n", self._at)
        while end < 0:
            begun = self._ahead[self._at:]
            more = self._pread(max(_AHEAD, len(begun)), self._offset + len(begun))
            if not more:
                return self._taken(begun)
            self._ahead, self._at = begun + more, 0
            end = self._ahead.find(b"\n", len(begun))
        return self._taken(self._ahead[self._at:end + 1])

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _taken(self, data: bytes) -> T:
        """``data`` is what comes next; decoded first, for if that fails nothing was read."""
        text = data.decode(self._encoding, self._errors) if self._encoding else data
        self._move(len(data))
        return text  # type: ignore[return-value]

    def _move(self, count: int) -> None:
        self._offset += count
        self._at += count
        if self._at >= len(self._ahead):
            self._ahead, self._at = b"", 0

    def _pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    # ---- writing -----------------------------------------------------------------------------

    def write(self, data: T) -> int:
        """All of it, or nothing and the error is raised; how many characters or bytes."""
        self._check("w")
        if self._encoding:
            if not isinstance(data, str):
                raise TypeError(f"write() takes str, not {type(data).__name__}")
            raw: bytes = data.encode(self._encoding, self._errors)
        else:
            raw = data  # type: ignore[assignment]
        self._ahead, self._at = b"", 0
        view = memoryview(raw).cast("B")
        if "a" in self._can:
            self._append(view)
        else:
            self._overwrite(view)
        return len(data)

    def _overwrite(self, view: memoryview) -> None:
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], self._offset + done)
        except OSError:
            # When the file ends with what was written, it shall end where that began.
            if done and os.fstat(self._fd).st_size == self._offset + done:
                with suppress(OSError):
                    os.ftruncate(self._fd, self._offset)
            raise
        self._offset += len(view)

    def _append(self, view: memoryview) -> None:
        """At the end of the file, wherever that is: O_APPEND."""
        done = 0
        try:
            while done < len(view):
                done += os.write(self._fd, view[done:])
        except OSError:
            if done:
                with suppress(OSError):
                    os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR) - done)
            raise
        self._offset = os.lseek(self._fd, 0, os.SEEK_CUR)

    def writelines(self, lines: Iterable[T]) -> None:
        """Each by itself."""
        for line in lines:
            self.write(line)

    # ---- where it is -------------------------------------------------------------------------

    def tell(self) -> int:
        """Bytes from the start of the file."""
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a byte; in text to one that ``tell`` told, the start or the end."""
        self._check("")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: -1}[whence]
        if base < 0:
            base = os.fstat(self._fd).st_size
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._offset = base + offset
        self._ahead, self._at = b"", 0
        return self._offset

    def flush(self) -> None:
        """Nothing is ever held back."""
        self._check("")

    def sync(self) -> None:
        """Returns when all is on the disk: fsync(2)."""
        self._check("")
        os.fsync(self._fd)

    def close(self) -> None:
        """May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def fileno(self) -> int:
        self._check("")
        return self._fd

    def readable(self) -> bool:
        return "r" in self._can

    def writable(self) -> bool:
        return "w" in self._can

    def _check(self, right: str) -> None:
        if self._fd < 0:
            raise ValueError(f"{self.name}: the file is closed")
        if right not in self._can:
            verb = "reading" if right == "r" else "writing"
            raise UnsupportedOperation(f"{self.name}: not open for {verb}")

    def __enter__(self) -> "TransactionalFile[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self._offset}"
        return f"<TransactionalFile {self.name!r} {self.mode!r} {state}>"

    # ---- travelling --------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        tail = "" if self.closed else _tail(self._fd, self._offset)
        return {
            "name": self.name, "mode": self.mode, "encoding": self._encoding,
            "errors": self._errors, "offset": self._offset, "closed": self.closed, "tail": tail,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the file here.  Raises OSError, and ValueError when it is another."""
        self._fd = -1
        self.name, self.mode = state["name"], state["mode"]
        self._encoding, self._errors = state["encoding"], state["errors"]
        self._offset = state["offset"]
        if not state["closed"]:
            self._fd = self._reach(first=False)
            if _tail(self._fd, self._offset) != state["tail"]:
                self.close()
                node = os.environ.get("GODWIT_NODE", "this node")
                raise ValueError(f"{self.name} is not the same file on {node}")
        else:
            self._can = ""
        self._come_to_be()


def _tail(fd: int, offset: int) -> str:
    """Tells the file from others by what stands right before the offset."""
    if os.fstat(fd).st_size < offset:
        return "ends before it"
    try:
        # Read, whatever it is open for: proc(5), /proc/PID/fd.
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # who may write it may not read it
        return ""
    try:
        begin = max(0, offset - _TAIL)
        return hashlib.sha256(os.pread(again, offset - begin, begin)).hexdigest()
    finally:
        os.close(again)
