"""From words to a command's exit status; every mistake ends here, as one line."""

import json
from collections.abc import Callable

from godwit.errors import GodwitError, UsageError
from masterd.commands import Command, find, grammar
from masterd.commands.context import Context

#: What a shell shows after Ctrl-C: 128 + SIGINT.
INTERRUPTED = 130


def dispatch(context: Context, words: list[str]) -> int:
    """See masterd.commands.dispatch."""
    if not words:
        return 0
    word, *rest = words
    command = find(word)
    if command is None:
        return _guarded(context, word, lambda: _refuse(word), "--json" in rest)
    rules = grammar.grammar(command.doc, command.options_first)
    if command.signal_words:
        rest = grammar.spell_out_signal(rest)
    as_json = grammar.wants_json(rules, rest)
    return _guarded(context, word, lambda: _run(context, command, rules, rest), as_json)


def remote(context: Context, line: str) -> int:
    """See masterd.commands.remote."""
    from masterd.commands import launching

    return _guarded(context, "", lambda: launching.remote(context, line), False)


def _run(context: Context, command: Command, rules: grammar.Grammar, words: list[str]) -> int:
    given = grammar.parse(rules, words)
    if given is None:
        context.line(command.doc)
        return 0
    return command.run(context, given)


def _refuse(word: str) -> int:
    from masterd.commands.helping import no_command

    raise no_command(word)


def _guarded(context: Context, word: str, run: Callable[[], int], as_json: bool) -> int:
    try:
        return run()
    except UsageError as err:
        report(context, word, err, as_json)
        return err.exit_status
    except GodwitError as err:
        report(context, word, UsageError(str(err), code="failed"), as_json)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def report(context: Context, word: str, err: UsageError, as_json: bool) -> None:
    """One line on stderr; for scripts also an object on stdout."""
    about = f"{word}: " if word and find(word) else ""
    hint = f" ({err.hint})" if err.hint else ""
    context.note(f"{about}{err.message}{hint}")
    if as_json:
        error = {"code": err.code, "message": err.message, "hint": err.hint}
        context.line(json.dumps({"error": error}))
