"""docs/commands.md, made from the same table as the help.

    python -m masterd.commands.manual > docs/commands.md
"""

from masterd import commands
from masterd.commands.helping import CLOSING, TITLES

OPENING = """\
# Commands

Made from the commands' own help by `python -m masterd.commands.manual`; a test keeps it so.

The same commands work at the shell's prompt and as `godwit COMMAND ...` from any other shell.
At the prompt, a line whose first word is no command runs by `/bin/sh -c` on the chosen nodes.

Exit status: 0 done; 1 refused or failed, with the reason on stderr; 2 wrong usage; `wait` and
`execute --wait` exit with the task's own code, or 128 + n for signal n; 124 the time is over;
125 the outcome cannot be known; 130 left by Ctrl-C.
"""

JSON = """\
## JSON for scripts

Data is on stdout, everything else on stderr; numbers are exact, and what is not known is null.

```text
list        {"nodes": [{"name", "address", "state", "load": {...}, "can": [...], "lacks": {...},
                        "system", "silent_s", "tasks": [TASK]}]}
pid, execute, run, kill, sKill, signal, pause, resume, wait, restart, fork
            {"tasks": [TASK]}
getrusage   {"nodes": [{"name", "children": {"utime_s", "stime_s", "maxrss_bytes", ...}}],
             "tasks": [{"task", "utime_s", "stime_s", "maxrss_bytes", "minflt", "majflt",
                        "nvcsw", "nivcsw", "maxrss_is_bound", "node", "status"}]}
inspect     {"tasks": [TASK with "argv", "cwd", "env", "usage", "events", "moves", ...]}
move, transfer, resolve
            {"move": MOVE}; {"moves": [MOVE]} when several tasks were to move
moves       {"moves": [MOVE]}
why         {"task", "from", "nodes": [{"node", "verdict", "kind", "blackout_ms",
                                        "reasons": [{"code", "text", "fix", "verdict"}]}]}
checkpoint, snapshots
            {"snapshots": [{"id", "task", "at", "kind", "bytes", "kept_bytes", "nodes": [...]}],
             "every_s", "keep", "remarks": [...]}; checkpoint --stop {"task"}
programs    {"programs": [{"name", "takes", "does", "nodes": [...]}]}
events      {"events": [{"at", "level", "text", "node", "task"}]}
logs, on    {"task", "node", "line"}; where bytes were dropped also "dropped"     a line each;
            on ends with {"tasks": [TASK]}
health      {"healthy", "master", "nodes": {STATE: count}}
upgrade     {"nodes": [{"name", "release"}]}
copy        {"copied": {"size", "files", "path", "warnings"}}
remove      {"tasks": [TASK], "files": [...]}
token       {"token"}
register, revoke, dereg, stop
            {"node"}, {"node"}, {"nodes"}, {"stopped"}
```

TASK is `{"task", "node", "home", "kind", "command", "pid", "status", "exit_code", "signal",
"reason", "epoch", "log", "name", "user", "started_at", "ended_at", "snapshot_every_s"}`.
`state` of a node is up, suspect, unreachable or left; `status` of a task is starting, running,
paused, frozen, held, exited, failed or unknown; times are seconds since 1970.

MOVE is `{"id", "task", "from", "to", "kind", "result", "state", "code", "reason", "hint",
"blackout_ms", "blackout_is_bound", "bytes", "way", "budget_ms", "predicted_ms", "snapshot",
"phases_ms": {"reserve", "freeze", "snapshot", "wire", "commit", "restore", "first_output"},
"begun_at", "ended_at"}`. `result` is done, aborted (it went on where it was), reverted (the new
node gave it back), held (a node has to be heard, or `resolve`
has to say where it is) or, while it is under way, null. `blackout_ms` is for how long the task
stood still, as it saw it itself; no more than that where `blackout_is_bound`.

A command that failed prints `{"error": {"code", "message", "hint"}}`. One that was done in part
has its usual document, with the first fault as `"error"` and all of them as `"faults"`.
"""


def manual() -> str:
    """The whole text."""
    parts = [OPENING, "## All of them\n", *_index(), CLOSING.replace("\n", "  \n") + "\n", JSON]
    parts += [_chapter(command) for command in commands.table().values()]
    return "\n".join(parts)


def _index() -> list[str]:
    lines = []
    for group in commands.GROUPS:
        rows = [each for each in commands.table().values() if each.group == group]
        lines += [f"{TITLES[group]}\n", "| command | |", "| --- | --- |"]
        lines += [f"| [`{each.name}`](#{each.name.lower()}) | {each.summary} |" for each in rows]
        lines.append("")
    return lines


def _chapter(command: commands.Command) -> str:
    also = f"Also: {', '.join(command.aliases)}.\n\n" if command.aliases else ""
    return f"## {command.name}\n\n{also}```text\n{command.doc}\n```\n"


if __name__ == "__main__":
    print(manual(), end="")
