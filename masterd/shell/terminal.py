"""The shell at a terminal: prompt, line editor, and notices above the half-typed line."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType

from godwit.wire.operations import Event, NodeView
from masterd.client import Client
from masterd.commands.context import Context
from masterd.shell import editor, mishaps, notices, paths, redraw
from masterd.shell.attention import Attention
from masterd.shell.board import BELL, Board
from masterd.shell.completion import Scene
from masterd.shell.history import History
from masterd.shell.loop import Loop
from masterd.shell.watch import Watch

#: Seconds that Tab and the welcome wait for the master at most.
PATIENCE = 0.5
HISTORY = "history"


class Typed:
    """Lines typed at a terminal, with notices above them."""

    typed = True

    def __init__(self, history: History, board: Board, display: redraw.Display | None):
        self._history = history
        self._board = board
        self._display = display
        self._prompt = ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the block lasts, the bell and Ctrl-Z are answered."""
        answers = {BELL: self._on_bell, signal.SIGTSTP: self._on_stop}
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN:
            del answers[signal.SIGTSTP]
        before = {number: signal.signal(number, answer) for number, answer in answers.items()}
        try:
            yield
        finally:
            for number, answer in before.items():
                signal.signal(number, answer)

    def read(self, prompt: str) -> str:
        self._prompt = prompt
        if self._display:
            self._board.open(threading.get_ident())
        try:
            for line in notices.lines(self._board.take(time.monotonic())):
                print(line)
            line = input(prompt)
        except OSError as err:  # the terminal is gone
            raise EOFError from err
        except SystemError as err:
            # Interrupted, input() looks for signals once more with the exception already set
            # (bltinmodule.c); a second signal there makes a SystemError of the first.
            raise err.__cause__ or err from None
        finally:
            self._board.shut()
        self._history.add(line)
        return line

    def _on_bell(self, _number: int, _frame: FrameType | None) -> None:
        """In the main thread, between two keys; if it comes at another time the bell rings on."""
        if self._display and self._display.ready:
            told = notices.lines(self._board.take(time.monotonic()))
            if told:
                self._display.above("\n".join(told), self._prompt)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: stops here, and goes on here when the shell above says so."""
        shown = self._display if self._display and self._display.ready else None
        with shown.aside() if shown else nullcontext():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            signal.signal(number, self._on_stop)


def run(context: Context, mishaps_file: str, attention: Attention) -> int:
    """One session at the terminal; its exit status."""
    board = Board()
    watch = Watch(lambda: Client.connect(context.state, notices=True), board)
    history = History(os.path.join(context.state, HISTORY))
    history.load()
    editor.set_up(lambda: Scene(watch.nodes(PATIENCE), paths.local_files))
    lines = Typed(history, board, redraw.display())
    with _bugs_of_threads_noticed(board, mishaps_file), watch.running(), lines.listening():
        nodes = watch.nodes(PATIENCE)
        _welcome(context, nodes if watch.has_heard else None)
        return Loop(context, lines, mishaps_file, attention).run()


def _count(nodes: Sequence[NodeView]) -> str:
    """2 nodes up, 1 away."""
    up = sum(node.state == "up" for node in nodes)
    away = f", {len(nodes) - up} away" if len(nodes) > up else ""
    return f"{up} node" + "s" * (up != 1) + f" up{away}"


def _welcome(context: Context, nodes: Sequence[NodeView] | None) -> None:
    """``nodes``: None while the master has not told of any."""
    attached = context.master.attached
    version = f"godwit {attached.version if attached else ''}"
    context.line(version if nodes is None else f"{version}: {_count(nodes)}")
    if context.owns_master:
        context.line("h for help, exit stops the nodes and this master, detach leaves them running")
    else:
        context.line("h for help, exit to leave")


@contextmanager
def _bugs_of_threads_noticed(board: Board, mishaps_file: str) -> Iterator[None]:
    """While the block lasts, a thread that dies of a bug says so as a notice."""

    def notice(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            line = mishaps.record(mishaps_file, args.exc_value)
            board.put([Event(time.time(), "severe", line)], time.monotonic())

    before, threading.excepthook = threading.excepthook, notice
    try:
        yield
    finally:
        threading.excepthook = before
