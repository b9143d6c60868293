"""The command that makes Tab work in bash and zsh."""

import os
import threading
from collections.abc import Sequence
from contextlib import closing, suppress

from godwit.errors import GodwitError
from godwit.places import master_state
from godwit.wire import operations as op
from masterd.commands import asking
from masterd.commands.asking import Given
from masterd.commands.context import Context
from masterd.shell import outer
from masterd.shell.completion import Scene
from masterd.shell.paths import local_files

#: Seconds that a person who pressed Tab waits for a master at most.
PATIENCE_S = 1.0

#: What the shells run: $1 is the program as it was typed, $2 the word that is replaced.
SCRIPTS = {
    "bash": """\
_godwit() {
    mapfile -t COMPREPLY < <(
        "${1/#\\~/$HOME}" completion -- bash "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null
    )
}
complete -o nospace -o bashdefault -o default -F _godwit godwit
""",
    "zsh": """\
_godwit() {
    local -a offers
    local line="${(j: :)words[1,CURRENT-1]} $IPREFIX$QIPREFIX$PREFIX"
    offers=("${(@f)$("${words[1]/#\\~/$HOME}" completion -- zsh "$line" "$PREFIX" 2>/dev/null)}")
    if [[ -n "$offers" ]]; then
        compadd -U -Q -S '' -- "${offers[@]}"
    else
        _files
    fi
}
compdef _godwit godwit
""",
}


def completion(context: Context, given: Given) -> int:
    """Print what makes Tab work after godwit in bash or zsh

    Usage: completion [options] SHELL [LINE] [WORD]

    SHELL is bash or zsh.  Tab then offers commands, options, and nodes and tasks as they are at
    that moment.  With LINE, as far as the cursor, it prints what may stand there in place of WORD:
    this is what the shells ask for.

    Options:
      -h, --help  Show this.

    Examples:
      eval "$(godwit completion bash)"
      eval "$(godwit completion zsh)"
    """
    if given["SHELL"] not in SCRIPTS:
        raise asking.misuse(f"no completion for {given['SHELL']!r}", " or ".join(SCRIPTS))
    if given["LINE"] is None:
        context.out.write(SCRIPTS[given["SHELL"]])
        return 0
    line = outer.asked(given["LINE"])
    for offer in outer.offers(line, given["WORD"] or "", lambda: _scene(context, line)):
        context.line(outer.without_close(line, offer) if given["SHELL"] == "bash" else offer)
    return 0


def _scene(context: Context, line: outer.Asked) -> Scene:
    return Scene(_nodes(context, line), local_files)


def _nodes(context: Context, line: outer.Asked) -> Sequence[op.NodeView]:
    """As the master of ``line`` has them; none if it does not say so in time."""
    state = context.state
    if line.state is not None:
        state = master_state(os.path.expanduser(line.state))
    found: list[op.NodeView] = []

    def ask() -> None:
        # At a prompt there is nobody to tell of errors.
        with suppress(GodwitError), closing(context.connect(state)) as client:
            found.extend(client.ask(op.ListNodes(0), op.Nodes).nodes)

    thread = threading.Thread(target=ask, name="completion", daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return found
