"""A task as a file: its image, written while it stands still and read at the other node.

    b"godwit image 1\\n", length of the header (4 bytes, big-endian), header (msgpack), pickle

Pickle protocol 5; large bytes objects go from memory to the file, and back, without a copy in
between.  Only a task's own process ever unpickles, and takes no class or function but these:
what the task's own module or package defines; what the modules named in its ``travels_with``
define; and values of Python's own (VALUES).  Functions that could do more than make a value are
not among them, whatever an image says.  This is a second line of defence, not a sandbox.
"""

import os
import pickle
import sys
import time
from types import BuiltinFunctionType, FunctionType
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from godwit.errors import TaskError
from godwit.task.finding import Program
from godwit.task.migratable import Migratable

MAGIC = b"godwit image 1\n"
#: Longest header, bytes.
_MOST = 64 * 1024
#: Bytes of memory that a runner has ready.
_READY = 5 * 256 * 1024
#: Bytes read at once for what is no large object.
_BUFFER = 64 * 1024
#: Said in each image, for whoever wonders.
_PYTHON = ".".join(map(str, sys.version_info[:3]))

#: module -> names in it that make values and do nothing else.
VALUES: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "builtins": "bytearray bytes complex frozenset list dict set tuple object range slice "
                    "int float bool str type Ellipsis NotImplemented",
        "array": "array _array_reconstructor",
        "collections": "Counter OrderedDict defaultdict deque",
        "copyreg": "_reconstructor __newobj__ __newobj_ex__",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "ipaddress": "IPv4Address IPv4Network IPv6Address IPv6Network",
        "itertools": "count cycle islice repeat chain accumulate product permutations "
                     "combinations",
        "pathlib": "PosixPath PurePath PurePosixPath PureWindowsPath",
        "pathlib._local": "PosixPath PurePath PurePosixPath PureWindowsPath",
        "random": "Random",
        "re": "_compile",
        "time": "struct_time",
        "types": "SimpleNamespace",
        "uuid": "UUID SafeUUID",
        "godwit.task.files": "TransactionalFile",
    }.items()
}


class Header(Struct, frozen=True):
    """What is said of an image before it is unpickled."""

    move: str
    program: str
    #: The sha256 of the source, if it was shipped; and in any case that of the module's text.
    digest: str
    module_digest: str
    python: str
    #: Wall clock.
    frozen_at: float


class Barred(pickle.PickleError):
    """A class or function that may not travel."""

    def __init__(self, module: str, name: str):
        super().__init__(f"{module}.{name} may not travel")
        self.module = module
        self.name = name


class Unwritable(Exception):
    """The image's file took no more."""


class Border:
    """Which classes and functions may be named in a program's image."""

    def __init__(self, program: Program):
        package = program.module.partition(".")[0]
        own = package if program.module != package else program.module
        if own == "godwit":
            own = program.module
        self._prefixes = tuple(
            f"{name}." for name in (own, *program.cls.travels_with)
        )
        self._modules = {own, program.module, *program.cls.travels_with}

    def lets(self, module: str, name: str) -> bool:
        """An exact name at the top of a module; no dotted ones."""
        if "." in name:
            return False
        if name in VALUES.get(module, ()):
            return True
        if module == "builtins":
            found = getattr(sys.modules[module], name, None)
            return isinstance(found, type) and issubclass(found, BaseException)
        return module in self._modules or module.startswith(self._prefixes)


class Pickler(pickle.Pickler):
    """Refuses what Unpickler would: so it is the source that says no."""

    def __init__(self, file: Any, border: Border):
        super().__init__(file, protocol=5)
        self._border = border

    def reducer_override(self, value: Any) -> Any:
        """Called for what is no plain value; classes and functions are named, so looked at."""
        if isinstance(value, type | FunctionType | BuiltinFunctionType):
            module, name = getattr(value, "__module__", None) or "", value.__qualname__
            if not self._border.lets(module, name) and value not in _SINGLE:
                raise Barred(module, name)
        return NotImplemented


#: Types that pickle names by a function of its own.
_SINGLE = (type(None), type(NotImplemented), type(...))


class Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, border: Border):
        super().__init__(file)
        self._border = border

    def find_class(self, module: str, name: str) -> Any:
        """What the image names.  Raises Barred."""
        if not self._border.lets(module, name):
            raise Barred(module, name)
        found = super().find_class(module, name)
        # A module has more than it defines: what it imported is not its own.
        if module not in VALUES and getattr(found, "__module__", module) != module:
            raise Barred(module, name)
        return found


class _Sink:
    """Writes all of each piece."""

    def __init__(self, fd: int):
        self._fd = fd
        self.size = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        length = len(view)
        try:
            while view:
                view = view[os.write(self._fd, view):]
        except OSError as err:
            raise Unwritable(f"its snapshot: {err.strerror}") from err
        self.size += length
        return length


def write(task: Migratable, program: Program, move: str, fd: int) -> int:
    """The image, from the start of the file; its length.

    Raises Unwritable, and whatever pickling raises.
    """
    os.lseek(fd, 0, os.SEEK_SET)
    sink = _Sink(fd)
    header = msgspec.msgpack.encode(Header(
        move, program.name, program.digest, program.module_digest(), _PYTHON,
        time.time(),
    ))
    sink.write(MAGIC + len(header).to_bytes(4, "big") + header)
    Pickler(sink, Border(program)).dump(task)
    os.ftruncate(fd, sink.size)
    return sink.size


def read(program: Program, move: str, fd: int, size: int) -> Migratable:
    """The task, as it was.  Raises TaskError."""
    have = os.fstat(fd).st_size
    if have != size:
        raise TaskError("bad-image", f"its snapshot has {have} bytes instead of {size}")
    with open(os.dup(fd), "rb", _BUFFER) as file:
        file.seek(0)
        _check(_header(file), program, move)
        return _unpickle(file, program)


def rehearse() -> None:
    """Goes once through what a load does, and has memory ready for a state of a megabyte.

    In a process that was just forked, whatever is touched first is copied or made first, a page
    at a time; better now than while the task stands still.
    """
    # malloc(3) maps large blocks one by one, till the first of them is freed: from then on those
    # of its size come from the heap, and stay there (mallopt(3), M_MMAP_THRESHOLD).
    bytes(_READY)
    bytearray(b"\1") * _READY
    image = os.memfd_create("godwit", os.MFD_CLOEXEC)
    try:
        program = Program("", Migratable)
        task = Migratable()
        task.__dict__["rehearsed"] = bytes(_BUFFER + 1)
        read(program, "", image, write(task, program, "", image))
    finally:
        os.close(image)


def _header(file: BinaryIO) -> Header:
    lead = file.read(len(MAGIC) + 4)
    length = int.from_bytes(lead[len(MAGIC):], "big")
    if not lead.startswith(MAGIC) or length > _MOST:
        raise TaskError("bad-image", "its snapshot is no image of this version of godwit")
    try:
        return msgspec.msgpack.decode(file.read(length), type=Header)
    except msgspec.MsgspecError as err:
        raise TaskError("bad-image", f"its snapshot: {err}") from err


def _check(header: Header, program: Program, move: str) -> None:
    node = os.environ.get("GODWIT_NODE", "this node")
    if (header.move, header.program, header.digest) != (move, program.name, program.digest):
        raise TaskError("bad-image", "its snapshot is that of another task or move")
    if header.module_digest != program.module_digest():
        raise TaskError(
            "other-source", f"{program.module} on {node} is not the source that the task runs"
        )


def _unpickle(file: BinaryIO, program: Program) -> Migratable:
    try:
        task = Unpickler(file, Border(program)).load()
    except OSError as err:
        where = f"{err.filename}: " if err.filename is not None else ""
        raise TaskError("no-file", f"{where}{err.strerror} {_on_node()}") from err
    except Barred as err:
        raise TaskError("barred", f"its snapshot names {err.module}.{err.name}") from err
    except Exception as err:  # __setstate__ may be anybody's
        raise TaskError("load", str(err) if isinstance(err, ValueError) else repr(err)) from err
    if type(task) is not program.cls:
        raise TaskError("bad-image", f"its snapshot is that of a {type(task).__name__}")
    return task


def _on_node() -> str:
    return f"on {os.environ.get('GODWIT_NODE', 'this node')}"


def can_travel(value: object, border: Border, file: Any) -> BaseException | None:
    """Why a value cannot be pickled; None: it can."""
    try:
        Pickler(file, border).dump(value)
    except Exception as err:  # noqa: BLE001 (__reduce__ may be anybody's)
        return err
    return None
