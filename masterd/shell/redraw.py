"""Text above a half-typed line, by GNU readline's own display functions.

Python's readline module links GNU readline, so the symbols of the loaded library are reached
through the module itself; where they are missing (libedit, a static build) there is no Display
and the caller prints before the next prompt instead.

Facts about CPython (Modules/readline.c) that this rests on:
* input() waits for keys in select(2); a signal interrupts it, Python's handler for it then runs
  in the main thread, between two keys, where readline's functions may be called;
* after that readline goes on as if nothing had been: buffer and cursor are untouched.
So a thread that has something to say sends the main thread a signal (masterd.shell.board).  The
other way, PyOS_InputHook, is a wake-up ten times a second for as long as the prompt is open:
measured, 1 ms of CPU a second against 0.01.
"""

import ctypes
import os
import re
import readline
from collections.abc import Iterator
from contextlib import contextmanager

#: rl_readline_state, readline.h: set from the time the prompt is shown until the line is done.
CALLBACK = 0x0080000
#: In one of these the library is in the middle of something, or shows another prompt than ours:
#: dispatching, more input, searches, numeric argument, completing, signal, redisplay, done.
BUSY = 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x4000 | 0x8000 | 0x1000000 | 0x2000000

#: Terminals that can go to the left margin at most.
DUMB = ("", "dumb", "unknown")


def twin(prompt: str, dumb: bool) -> str:
    r"""Looks like ``prompt`` on the screen, and differs from it as a string of bytes.

    A program at the other end of the terminal (pexpect) takes each prompt for the end of a
    command; the one drawn again below a notice must not count.  An empty change of colours
    before each space does it, or a space and a backspace where there are no colours; \001 and
    \002 tell readline that they take no room.
    """
    return re.sub(r"\s", "\001 \b\002\\g<0>" if dumb else "\001\033[m\002\\g<0>", prompt)


class Display:
    """What the readline library shows.  Of use in the main thread only."""

    def __init__(self, library: ctypes.PyDLL, libc: ctypes.PyDLL):
        """Raises ValueError or AttributeError when the library lacks a symbol."""
        self._library = library
        self._libc = libc
        self._state = ctypes.c_ulong.in_dll(library, "rl_readline_state")
        self._stream = ctypes.c_void_p.in_dll(library, "rl_outstream")
        self._update = library.rl_forced_update_display
        self._set_prompt = library.rl_set_prompt
        self._clear = library.rl_clear_visible_line
        libc.fputs.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
        libc.fflush.argtypes = (ctypes.c_void_p,)

    @property
    def ready(self) -> bool:
        """A prompt is shown and readline waits for a key."""
        state = self._state.value
        return bool(state & CALLBACK) and not state & BUSY

    def above(self, text: str, prompt: str) -> None:
        """Prints ``text`` where the line was, then the line again with its cursor."""
        dumb = os.environ.get("TERM", "") in DUMB
        if dumb:
            self._put("\n")
        else:
            self._clear()
        self._put(text + "\n")
        self._set_prompt(os.fsencode(twin(prompt, dumb)))
        self._update()
        self._libc.fflush(self._stream)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While the block lasts, the terminal is as it was before the prompt; then the line again.

        CPython keeps readline from doing so at Ctrl-Z, and shells bring a stopped job back with
        the settings that they found when it stopped.
        """
        self._library.rl_deprep_terminal()
        try:
            yield
        finally:
            self._library.rl_prep_terminal(1)
            self._update()

    def _put(self, text: str) -> None:
        """Through readline's own stream, so that nothing overtakes what it has buffered."""
        self._libc.fputs(os.fsencode(text), self._stream)


def display() -> Display | None:
    """The display, or None when this Python's readline is not GNU's."""
    if "libedit" in (readline.__doc__ or "") or not getattr(readline, "__file__", None):
        return None
    try:
        return Display(ctypes.PyDLL(readline.__file__), ctypes.PyDLL(None))
    except (OSError, ValueError, AttributeError):
        return None
