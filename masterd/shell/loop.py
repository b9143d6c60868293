"""Read a line, do what it means, again: until somebody leaves.

Whatever a line is, it ends as output, as one line on stderr, or as Leave; the shell goes on.
"""

from contextlib import suppress

from godwit.errors import PeerError, UsageError
from godwit.wire import operations as op
from masterd import commands, render
from masterd.commands.context import Context, Leave, screen_width
from masterd.shell import mishaps
from masterd.shell.attention import Attention
from masterd.shell.lines import Lines
from masterd.shell.meaning import Mistake, Nothing, Remote, Words, meaning

#: Statuses as sh has them: Ctrl-C, a reader of our output that went away.
INTERRUPTED, UNREAD = 130, 141
WRONG = 2
#: A bug of ours: what became of the command cannot be said.
INTERNAL = 125
#: A word longer than this, characters, is no slip of a command's name.
LONGEST_SLIP = 20
#: Longest choice of nodes in the prompt, columns.
CHOSEN_SHOWN = 30
#: Reads in a row that gave no line: then the terminal is lost, whatever it says.
LOST = 3


class Loop:
    """One shell's life."""

    def __init__(self, context: Context, lines: Lines, mishaps_file: str, attention: Attention):
        self._context = context
        self._lines = lines
        self._mishaps_file = mishaps_file
        self._attention = attention
        self._port = ""
        self._status = 0
        self._failed_reads = 0

    def run(self) -> int:
        """The status of the last command, as sh has it; or the one that was left with."""
        self._freshen()
        while True:
            try:
                self._step()
            except Leave as leaving:
                return leaving.status or self._status
            except KeyboardInterrupt:
                self._status = INTERRUPTED
                if not self._lines.typed:
                    return INTERRUPTED
                self._context.note("")
            except OSError:  # the terminal, or who read our output, has gone
                return UNREAD

    def _step(self) -> None:
        line = self._read()
        if line is None:
            self._end()
        else:
            self._status = self._attention.during(lambda: self._do(line))
            self._context.out.flush()

    def _read(self) -> str | None:
        """The next line; None at the end of file."""
        try:
            line = self._attention.during(lambda: self._lines.read(self._prompt()))
        except EOFError:
            self._failed_reads += 1
            return None
        except KeyboardInterrupt:
            if not self._lines.typed:
                raise
            # The terminal does not echo while a line is edited.
            self._context.note("^C")
            self._status = INTERRUPTED
            line = ""
        except (Leave, OSError):
            raise
        except Exception as err:
            # As in ``_do``; but a prompt that never comes is the end.
            self._tell_bug(err)
            self._failed_reads += 1
            if self._failed_reads >= LOST:
                raise Leave(INTERNAL) from err
            return ""
        self._failed_reads = 0
        return line

    def _end(self) -> None:
        """End of file means exit; when that is refused, a person is asked again."""
        if self._lines.typed:
            self._context.line("exit")
            self._context.out.flush()
        status = self._attention.during(lambda: self._do("exit"))
        if not self._lines.typed or self._failed_reads >= LOST:
            raise Leave(status)

    def _do(self, line: str) -> int:
        """The status of ``line``; a bug of ours is a line and a status like any other."""
        self._freshen()
        try:
            return self._mean(line)
        except (Leave, BrokenPipeError):
            raise
        except (Exception, SystemExit) as err:  # noqa: BLE001 - the prompt comes back after any bug
            self._tell_bug(err)
            return INTERNAL

    def _tell_bug(self, err: BaseException) -> None:
        self._context.note(mishaps.record(self._mishaps_file, err))

    def _mean(self, line: str) -> int:
        match meaning(line):
            case Nothing():
                return self._status
            case Words(words):
                return commands.dispatch(self._context, words)
            case Mistake(text):
                self._context.note(text)
                return WRONG
            case Remote(line, first):
                return self._remote(line, first)

    def _remote(self, line: str, first: str) -> int:
        """Runs ``line`` on the nodes, unless it looks like a slip and the person says so."""
        likely = self._context.interactive and len(first) <= LONGEST_SLIP
        near = commands.closest(first) if likely else None
        if near is None:
            return commands.remote(self._context, line)
        match self._ask_back(first, near):
            case "y":
                return self._mean(near + line[len(first) :])
            case "r":
                return commands.remote(self._context, line)
            case _:
                return WRONG

    def _ask_back(self, first: str, near: str) -> str:
        """y, r, or anything else for no."""
        where = self._where()
        question = f"{first} is no command. Did you mean {near}? "
        choices = f"[y = {near}, r = run it on {where}, N] "
        with suppress(EOFError):
            return self._context.ask(render.printable(question + choices)).strip().lower()
        self._context.note("")
        return ""

    def _where(self) -> str:
        """On how many nodes a line would run."""
        try:
            chosen = op.ListNodes(0, nodes=self._context.chosen)
            count = len(self._context.master.ask(chosen, op.Nodes).nodes)
        except (UsageError, PeerError):
            return "the chosen nodes"
        return "1 node" if count == 1 else f"{count} nodes"

    def _freshen(self) -> None:
        """Takes in what may have changed since the last line: the screen, the master."""
        if self._context.out_tty:
            self._context.width = screen_width(self._context.out)
        with suppress(UsageError, PeerError):
            master = self._context.master
            if master.attached:
                self._port = master.attached.address.rpartition(":")[2]

    def _prompt(self) -> str:
        """godwit @ PORT > , and the chosen nodes where they are not all."""
        chosen = self._context.chosen
        shown = render.cut(render.printable(chosen), CHOSEN_SHOWN)
        where = "" if chosen == "all" else f" [{shown}]"
        return f"godwit @ {self._port}{where} > "

