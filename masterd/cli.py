"""godwit: one command of the shell, from any other shell.

Usage: godwit [--state DIR] COMMAND [ARGS...]
       godwit [--state DIR] shell
       godwit --version | --help

The master is the one whose state folder is DIR, else $GODWIT_STATE, else the default.
`godwit help` lists the commands.  Exit status: 0 done, 1 refused or failed, 2 wrong usage, the
task's own from wait and execute --wait, 124 time is over, 125 the outcome is unknown.
"""

import os
import sys
from io import TextIOWrapper

from godwit import __version__
from godwit.places import master_state

#: 128 + SIGPIPE: whoever read our output has gone.
UNREAD = 141
INTERRUPTED = 130
WRONG = 2


def main() -> int:
    """The console entry point; the exit status."""
    _open_streams()
    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return UNREAD
    except OSError as err:
        # A full disk below stdout, a terminal that hung up.
        _drop_output()
        print(f"godwit: {err.strerror or err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _drop_output() -> None:
    """The interpreter flushes once more at exit; what is left then goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_streams() -> None:
    """stdout and stderr are there, and take any text whatever the locale; stdin gives any."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - for the process's life
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # As words of the command line are: bytes that are no UTF-8 stay what they are.
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def run(words: list[str]) -> int:
    """Does what the words after ``godwit`` say."""
    state = None
    while words and words[0].startswith("-"):
        option, *words = words
        name, equals, value = option.partition("=")
        if name == "--state":
            if not equals and not words:
                return _wrong("--state needs a folder")
            state = value if equals else words.pop(0)
        elif option in ("-h", "--help"):
            print(__doc__)
            words = ["help"]
        elif option in ("-V", "--version"):
            print(f"godwit {__version__}")
            return 0
        else:
            return _wrong(f"no option {option}")
    return _command(master_state(state), words or ["help"])


def _command(state: str, words: list[str]) -> int:
    if words[0] == "shell":
        from masterd import shell

        return shell.main(state) if len(words) == 1 else _wrong("shell takes no arguments")
    from masterd import commands
    from masterd.commands.context import here

    context = here(state)
    try:
        return commands.dispatch(context, words)
    finally:
        context.close()


def _wrong(message: str) -> int:
    print(f"godwit: {message} (see godwit --help)", file=sys.stderr)
    return WRONG


if __name__ == "__main__":
    sys.exit(main())
