"""The runner: the process of one python task.

It is born warm (clientd.keeper.zygote), is given a task by Begin or by Load, runs it in its main
thread, and freezes it between two steps when it is told to.  godwit.task.control has the words.

SIGINT and SIGTERM let the step end, close the task's files, and then end the process by the same
signal, so that its status is true.  While it is frozen for a move it waits for the move's
verdict, and for nothing else: a signal acts when it runs again.
"""

import atexit
import gc
import io
import os
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from godwit.errors import TaskError
from godwit.programs import PROGRAMS
from godwit.task import control, files, finding, migratable, obstacles, packets, snapshot
from godwit.task.hearing import OWN, Hearing, Waker, start_thread
from godwit.task.migratable import Migratable

#: Seconds that a runner waits for a keeper before it has a task.
WARM_S = 60.0
#: Longest source text of a program, bytes.
MOST_SOURCE = 3 * 1024 * 1024
#: Longest reason, characters.
MOST_TEXT = 500
#: Seconds after which a thread that has work may take its turn: what the keeper says is heard
#: that soon, whatever the task computes.
SWITCH_S = 0.0005


def warm_up() -> None:
    """What the zygote does once for all runners."""
    for known in PROGRAMS:
        finding.find(known)


def run(listener: int) -> int:
    """All of a runner's life, in a process of its own; its exit code.

    ``listener`` is the descriptor of the socket that keepers connect to.
    """
    _streams()
    _search_path()
    sys.setswitchinterval(SWITCH_S)
    return Runner(socket.socket(fileno=listener)).main()


def _streams() -> None:
    """Lines are written as they end."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(fd, "w", closefd=False)),
            encoding="utf-8", errors="backslashreplace", line_buffering=True,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _search_path() -> None:
    """Modules are looked for where the task's PYTHONPATH says, and in its folder last."""
    named = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = [os.path.abspath(path) for path in named]
    sys.path.append(os.getcwd())


class Ending(BaseException):
    """Raised at a safe point when the task is to end by a signal."""


class Runner:
    """See the module; it is the Surroundings of its task, too."""

    def __init__(self, listener: socket.socket):
        self.wanted = self.urgent = False
        self._phase: control.Phase = "warm"
        self._move = ""
        self._signal = 0
        self._waker = Waker()
        self._program: finding.Program | None = None
        self._task: Migratable | None = None
        #: What was last said of the move, to be said again.
        self._loaded: control.Loaded | None = None
        self._thawed: control.Thawed | None = None
        self._written: control.Written | None = None
        self._synced: control.Synced | None = None
        #: A first step after Thawed is being done.
        self._steps = False
        self._hearing = Hearing(listener, self._at_once, self._state, self._call)

    def main(self) -> int:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self._waker.catch_signals()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        self._hearing.start()
        try:
            task = self._become()
        except TaskError as err:
            self._hearing.say(control.Failed(err.code, _line(err), self._move))
            return 1
        return self._finish(self._run(task))

    # ---- between the threads -------------------------------------------------------------------

    def _call(self) -> None:
        self.urgent = True  # first: see _attend
        self.wanted = True
        self._waker.wake()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = self._signal or number
        self._call()

    def _state(self) -> control.State:
        return control.State(self._phase, self._move)

    def _at_once(self, word: control.Orders) -> list[control.Word] | None:
        """In the other thread: what can be said while the task goes on with its step."""
        match word:
            case control.Ask():
                return [self._state()]
            case control.Begin() if self._phase != "warm":
                return [control.Begun()]
            case control.Thaw(move) if self._phase == "running" and self._hearing.take_back(move):
                self._thawed = control.Thawed(move, *_clocks())
                return [self._thawed]
            case control.Thaw(move) if self._thawed is not None and self._thawed.move == move:
                return [self._thawed]
            case control.Freeze(move) if self._phase in ("warm", "loaded", "ended"):
                return [control.Failed("not-running", f"it is {self._phase}", move)]
        return None

    def _take(self) -> tuple[control.Orders, list[int]] | None:
        """The next word, waited for; None for a warm runner that nobody needs any more."""
        while True:
            if heard := self._hearing.take():
                return heard
            is_warm = self._phase == "warm"
            if is_warm and self._signal:
                return None
            patience = WARM_S if is_warm and not self._hearing.is_connected else None
            if not self._waker.wait(patience):
                return None

    # ---- from warm to running ------------------------------------------------------------------

    def _become(self) -> Migratable:
        """Waits till there is a task that is to run.  Raises TaskError: there will be none."""
        while True:
            heard = self._take()
            if heard is None:
                self._give_up()
                continue
            word, fds = heard
            try:
                if self._heard_warm(word, fds):
                    assert self._task is not None
                    return self._task
            finally:
                packets.close(fds)

    def _give_up(self) -> None:
        """Without a task there is nothing to lose."""
        if self._signal:
            _die(self._signal)
        if not self._hearing.is_connected:
            os._exit(0)

    def _heard_warm(self, word: control.Orders, fds: list[int]) -> bool:
        """True when the task is to run now.  Raises TaskError."""
        match word:
            case control.Prepare(program, digest):
                self._find(program, digest, fds)
                snapshot.rehearse()
                self._hearing.say(control.Prepared())
            case control.Begin(program, args, digest):
                found = self._find(program, digest, fds)
                words = [os.fsdecode(arg) for arg in args]
                sys.argv = [program, *words]
                self._task = finding.construct(found, words)
                self._phase = "running"
                self._hearing.say(control.Begun())
                return True
            case control.Load() if self._phase == "warm":
                self._load(word, fds)
            case control.Load(move) if self._loaded is not None and self._loaded.move == move:
                self._hearing.say(self._loaded)
            case control.Thaw(move) if self._phase == "loaded" and move == self._move:
                self._thaw()
                return True
            case _:
                self._hearing.say(control.Failed("not-now", f"it is {self._phase}"))
        return False

    def _find(self, program: str, digest: str, fds: list[int]) -> finding.Program:
        source = packets.contents(fds[0], MOST_SOURCE) if fds else None
        self._program = finding.find(program, digest, source)
        return self._program

    def _load(self, word: control.Load, fds: list[int]) -> None:
        begun = time.monotonic()
        self._move = word.move
        if not fds:
            raise TaskError("bad-image", "its snapshot did not come along")
        program = self._find(word.program, word.digest, [])
        gc.disable()  # there is nothing yet that could be garbage
        try:
            self._task = snapshot.read(program, word.move, fds[0], word.size)
        finally:
            gc.enable()
        self._phase = "loaded"
        self._loaded = control.Loaded(word.move, _ms_since(begun))
        self._hearing.say(self._loaded)

    def _thaw(self) -> None:
        """From frozen or loaded to running."""
        self._phase = "running"
        self._thawed = control.Thawed(self._move, *_clocks())
        self._written = self._synced = None
        self._steps = True
        self._hearing.say(self._thawed)

    # ---- running -------------------------------------------------------------------------------

    def _run(self, task: Migratable) -> int:
        """Till the task has ended; its exit code, or minus the signal that ends it."""
        migratable.here = self
        try:
            if self._loaded is not None:
                task.resume()
            self._attend(task)
            task.run()
        except Ending:
            return -self._signal
        except SystemExit as err:
            return _code_of(err)
        except BaseException as err:  # noqa: BLE001 (whatever its author wrote)
            where = err.__traceback__
            traceback.print_exception(type(err), err, where.tb_next if where else None)
            return 1
        return 0

    def wait(self, seconds: float) -> None:
        self._waker.wait(seconds)

    def halt(self, task: Migratable) -> None:
        """At a safe point.  Raises Ending."""
        if self._steps:
            self._stepped()
        self._attend(task)

    def _attend(self, task: Migratable) -> None:
        """Does what was asked for meanwhile, and sleeps out what that cut short.  Raises Ending."""
        self.urgent = True
        while self.urgent:
            self._waker.clear()
            self.urgent = False
            self._obey(task)
            task.sleep_on()
        self.wanted = self._steps
        self._listen_again()

    def _listen_again(self) -> None:
        """What came in the moment before ``wanted`` was taken back is heard all the same."""
        if self.urgent:
            self.wanted = True

    def _obey(self, task: Migratable) -> None:
        while heard := self._hearing.take():
            word, fds = heard
            try:
                if isinstance(word, control.Freeze):
                    self._freeze(task, word.move, fds)
                elif isinstance(word, control.Begin):  # again, while it was being constructed
                    self._hearing.say(control.Begun())
                else:
                    self._hearing.say(control.Failed("not-now", "it runs"))
            finally:
                packets.close(fds)
        if self._signal:
            raise Ending

    def _stepped(self) -> None:
        self._steps = False
        _flush()
        self._hearing.say(control.Stepped(self._move, *_clocks()))

    # ---- frozen --------------------------------------------------------------------------------

    def _freeze(self, task: Migratable, move: str, fds: list[int]) -> None:
        """Returns when the task is to run on: at once if it cannot be frozen."""
        self._move = move
        try:
            self._suspend(task)
            try:
                self._write(task, move, fds)
            except TaskError:
                task.resume()
                raise
        except TaskError as err:
            self._hearing.say(control.Failed(err.code, _line(err), move))
            return
        self._stand_still()
        self._thaw()
        task.resume()

    def _suspend(self, task: Migratable) -> None:
        try:
            task.suspend()
        except Exception as err:
            traceback.print_exception(err)
            raise TaskError("suspend", f"its suspend(): {finding.in_one_line(err)}") from err

    def _write(self, task: Migratable, move: str, fds: list[int]) -> None:
        """The image.  Raises TaskError."""
        self._check_alone()
        if not fds:
            raise TaskError("no-image", "there is no file to write its snapshot to")
        assert self._program is not None
        _flush()
        at, wall = _clocks()
        try:
            size = snapshot.write(task, self._program, move, fds[0])
        except snapshot.Unwritable as err:
            raise TaskError("no-room", str(err)) from err
        except Exception as err:
            text = obstacles.describe(task, self._program, err)
            raise TaskError("cannot-travel", text) from err
        self._phase = "frozen"
        self._written = control.Written(move, size, _ms_since(at), at, wall, _open_files())
        self._synced = None
        self._hearing.say(self._written)
        start_thread("sync", self._sync, os.dup(fds[0]), move)

    def _check_alone(self) -> None:
        """Raises TaskError when there is more of the task than its object."""
        own = {one.ident for one in threading.enumerate() if one.name.startswith(OWN)}
        others = set(sys._current_frames()) - own - {threading.get_ident()}
        if others:
            names = [one.name for one in threading.enumerate() if one.ident in others]
            which = f" ({', '.join(names)})" if names else ""
            raise TaskError("has-threads", f"it has other threads{which}, which cannot travel")
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        raise TaskError("has-children", "it has child processes, which cannot travel")

    def _sync(self, fd: int, move: str) -> None:
        """Has the image on the disk, while the main thread waits and others read it."""
        begun = time.monotonic()
        try:
            os.fsync(fd)
        except OSError as err:
            self._hearing.say(control.Failed("sync", f"its snapshot: {err.strerror}", move))
            return
        finally:
            os.close(fd)
        synced = control.Synced(move, _ms_since(begun))
        written = self._written
        if written is not None and written.move == move:
            self._synced = synced
            self._hearing.say(synced)

    def _stand_still(self) -> None:
        """Till the verdict, however long that takes."""
        while True:
            heard = self._take()
            if heard is None:
                continue
            word, fds = heard
            packets.close(fds)
            match word:
                case control.Thaw(move) if move == self._move:
                    return
                case control.Freeze(move) if move == self._move:
                    self._hearing.say(*filter(None, (self._written, self._synced)))
                case control.Freeze(move):
                    self._hearing.say(
                        control.Failed("busy", f"it is frozen for move {self._move}", move)
                    )
                case _:
                    self._hearing.say(control.Failed("not-now", f"it is {self._phase}"))

    # ---- the end -------------------------------------------------------------------------------

    def _finish(self, status: int) -> int:
        """Files are closed, words are answered, and Python ends as it does elsewhere."""
        self._phase = "ended"
        files.close_all()
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads of the task's own
        atexit._run_exitfuncs()
        _flush()
        while heard := self._hearing.take():
            packets.close(heard[1])
            move = getattr(heard[0], "move", "")
            self._hearing.say(control.Failed("ended", "it has ended", move))
        if status < 0:
            _die(-status)
        return status


def _line(err: TaskError) -> str:
    """One line, and no longer than somebody reads."""
    text = " ".join(str(err).split())
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "..."


def _open_files() -> tuple[control.OpenFile, ...]:
    """As many as fit into a packet; those left out are missed where the task is loaded."""
    found, room = [], packets.MOST_INLINE // 2
    for file in files.open_files():
        room -= len(os.fsencode(file.name)) + 32
        if room >= 0:
            found.append(control.OpenFile(file.name, file.mode, file.tell()))
    return tuple(found)


def _clocks() -> tuple[float, float]:
    """Seconds of CLOCK_MONOTONIC, and since 1970."""
    return time.monotonic(), time.time()


def _ms_since(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 3)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _code_of(err: SystemExit) -> int:
    """As Python takes sys.exit()'s argument."""
    if err.code is None:
        return 0
    if isinstance(err.code, int):
        return err.code & 0xFF
    print(err.code, file=sys.stderr)
    return 1


def _die(number: int) -> NoReturn:
    """By a signal, truly."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
    os._exit(128 + number)
