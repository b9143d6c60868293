"""From a program's name to its class: ``CountProcess``, ``module:Class``, ``file.py:Class``."""

import hashlib
import importlib
import importlib.util
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from types import ModuleType

from msgspec import Struct

from godwit.errors import TaskError
from godwit.programs import PROGRAMS
from godwit.task.migratable import Migratable

NOT_FOUND = "no-program"


class Program(Struct, frozen=True):
    """A class that was found."""

    name: str
    cls: type[Migratable]
    #: sha256, hex, of the source that was shipped; empty when the module is installed here.
    digest: str = ""

    @property
    def module(self) -> str:
        return self.cls.__module__

    def module_digest(self) -> str:
        """sha256, hex, of its module's source as it is here; empty when there is none."""
        if self.digest:
            return self.digest
        spec = sys.modules[self.module].__spec__
        if spec is None or not spec.origin:
            return ""
        try:
            with open(spec.origin, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
        except OSError:
            return ""


def find(name: str, digest: str = "", source: bytes | None = None) -> Program:
    """Imports the program; ``source`` is its text, if that came along with ``digest``.

    Raises TaskError: ``no-program`` when there is none of that name, with close ones.
    """
    if digest:
        return _shipped(name, digest, source)
    if ":" not in name:
        if name not in PROGRAMS:
            raise _missing(name, PROGRAMS)
        name_of_module, wanted = PROGRAMS[name].where.split(":")
    else:
        name_of_module, _, wanted = name.rpartition(":")
    return Program(name, _class_in(_import(name_of_module, name), wanted, name))


def _import(module: str, program: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as err:
        if err.name and (module == err.name or module.startswith(err.name + ".")):
            raise TaskError(NOT_FOUND, f"{NO_SUCH}: there is no module {err.name!r}") from None
        raise TaskError("import", f"{program}: {in_one_line(err)}") from err
    except (TypeError, ValueError):
        raise TaskError(NOT_FOUND, f"{NO_SUCH}: {module!r} is no name of a module") from None
    except (Exception, SystemExit) as err:  # whatever its author wrote
        raise TaskError("import", f"{program}: {in_one_line(err)}") from err


NO_SUCH = "Job creation failed: program not found"


def _missing(name: str, known: Iterable[str]) -> TaskError:
    alike = {one: SequenceMatcher(None, one.lower(), name.lower()).ratio() for one in known}
    least = max(0.6, max(alike.values(), default=0.0) - 0.1)
    close = [one for one in sorted(alike, key=lambda one: -alike[one]) if alike[one] >= least]
    asked = f": did you mean {', '.join(close)}?" if close else f": {name}"
    return TaskError(NOT_FOUND, NO_SUCH + asked)


def tasks_in(module: ModuleType) -> dict[str, type[Migratable]]:
    """The tasks that a module defines itself."""
    return {
        name: one for name, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, Migratable) and one is not Migratable
        and one.__module__ == module.__name__ and not name.startswith("_")
    }


def _class_in(module: ModuleType, wanted: str, program: str) -> type[Migratable]:
    """Raises TaskError."""
    found = tasks_in(module)
    if not wanted and len(found) == 1:
        return next(iter(found.values()))
    cls = vars(module).get(wanted)
    if cls is None:
        raise _missing(wanted or program, found)
    if not (isinstance(cls, type) and issubclass(cls, Migratable)):
        raise TaskError("no-migratable", f"{program} is no subclass of godwit.Migratable")
    if cls.__module__ != module.__name__ or cls.__qualname__ != wanted:
        raise TaskError(
            "no-migratable", f"{program} is {cls.__module__}:{cls.__qualname__}: name it so"
        )
    return cls


def _shipped(name: str, digest: str, source: bytes | None) -> Program:
    """The source becomes a module that is called after its digest, the same wherever it goes."""
    file, _, wanted = name.rpartition(":") if ":" in name else (name, "", "")
    called = f"godwit_source_{digest}"
    module = sys.modules.get(called)
    if module is None:
        if source is None:
            raise TaskError("no-source", f"{name}: its source did not come along")
        if hashlib.sha256(source).hexdigest() != digest:
            raise TaskError("bad-source", f"{name}: its source is not the one that was launched")
        module = _execute(called, file, source, name)
    return Program(name, _class_in(module, wanted, name), digest)


def _execute(called: str, file: str, source: bytes, program: str) -> ModuleType:
    module = ModuleType(called)
    module.__file__ = file
    sys.modules[called] = module
    # So that a traceback shows its lines.
    text = importlib.util.decode_source(source) if _is_text(source) else ""
    linecache.cache[file] = (len(source), None, text.splitlines(keepends=True), file)
    try:
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as err:
        del sys.modules[called]
        raise TaskError("import", f"{program}: {in_one_line(err)}") from err
    return module


def _is_text(source: bytes) -> bool:
    try:
        importlib.util.decode_source(source)
    except (SyntaxError, UnicodeDecodeError):
        return False
    return True


def construct(program: Program, words: Sequence[str]) -> Migratable:
    """The task itself.  Raises TaskError, with one line: why its constructor refused."""
    try:
        inspect.signature(program.cls).bind(*words)
    except TypeError:
        raise TaskError("usage", f"usage: {usage(program.name, program.cls)}") from None
    try:
        return program.cls(*words)
    except ValueError as err:
        raise TaskError("refused", f"{program.name}: {err or in_one_line(err)}") from err
    except OSError as err:
        where = f"{err.filename}: " if err.filename is not None else ""
        raise TaskError(
            "refused", f"{program.name}: {where}{err.strerror or in_one_line(err)}"
        ) from err
    except (Exception, SystemExit) as err:  # whatever its author wrote
        raise TaskError("constructor", f"{program.name}: {in_one_line(err)}") from err


def usage(name: str, cls: Callable[..., object]) -> str:
    """``CountProcess N [PAUSE]``, from the constructor's parameters."""
    words = [name]
    for parameter in inspect.signature(cls).parameters.values():
        word = parameter.name.rstrip("_").upper()
        if parameter.kind is parameter.VAR_POSITIONAL:
            words.append(f"[{word}...]")
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            words.append(word if parameter.default is parameter.empty else f"[{word}]")
    return " ".join(words)


def in_one_line(err: BaseException) -> str:
    """A traceback's last line, and where that was."""
    what = "".join(traceback.format_exception_only(err)).strip().splitlines()[-1]
    if isinstance(err, SyntaxError):
        return f"{what} ({err.filename}, line {err.lineno})"
    frames = traceback.extract_tb(err.__traceback__)
    return f"{what} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else what
