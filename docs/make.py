"""Writes the parts of these pages that are read from the code, each between two markers.

    .venv/bin/python docs/make.py            rewrites them; commands.md and flights.svg as a whole
    .venv/bin/python docs/make.py --check    only names the pages that are out of date; exits 1

To add a part: a function that gives its text, its row in PARTS, and in a page
``<!-- made: NAME -->`` and ``<!-- end of NAME -->`` on lines of their own.
"""

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from msgspec.structs import fields

from clientd import __main__ as clientd
from clientd import core as agent
from clientd.keeper import orders
from clientd.keeper.moves import table as parts
from clientd.keeper.shadows import table as shadows
from godwit.bulk import words as bulk
from godwit.ship import words as ship
from godwit.task import lifecycle
from godwit.wire import joining, messages
from godwit.wire import operations as op
from masterd import __main__ as masterd
from masterd import cli, demo, registry
from masterd.commands import manual
from masterd.moves import table as flights

State = TypeVar("State", bound=Enum)
Cause = TypeVar("Cause", bound=Enum)

DOCS = Path(__file__).resolve().parent
TOP = DOCS.parent
PAGES = sorted([TOP / "README.md", *DOCS.glob("*.md")])
COMMANDS = DOCS / "commands.md"
#: Flight reports, as benchmarks/flights.py prints them, and their picture.
FLIGHTS, PICTURE = DOCS / "flights.json", DOCS / "flights.svg"

MADE = re.compile(
    r"(?P<begin><!-- made: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end of (?P=name) -->)", re.S
)

#: What is bounded: the words of the page, the module, its constant, the unit.
LIMITS = (
    ("one frame before the peer is welcomed", "godwit.wire.frames", "OPENING_LIMIT", "B"),
    ("one frame between node and master", "godwit.wire.frames", "CONTROL_LIMIT", "B"),
    ("one frame on a Unix socket of this machine", "godwit.wire.frames", "LOCAL_LIMIT", "B"),
    ("bytes queued to one peer; then its connection is closed", "godwit.wire.link", "QUEUE_LIMIT",
     "B"),
    ("bytes under way on one followed log", "godwit.wire.messages", "WINDOW", "B"),
    ("connections that have not said what they are", "godwit.wire.link", "OPENING_MOST", ""),
    ("... from one address", "godwit.wire.link", "OPENING_MOST_EACH", ""),
    ("time for a connection to say what it is", "godwit.wire.link", "OPENING_S", "s"),
    ("a command with its environment", "masterd.launches", "MOST_BYTES", "B"),
    ("`--count` of one `execute`, on each node", "masterd.launches", "MOST", ""),
    ("time until a launch is answered, whatever nodes do", "masterd.launches", "ANSWER_S", "s"),
    ("... and for each further copy", "masterd.launches", "EACH_S", "s"),
    ("node names that one reference may stand for", "masterd.references", "MOST", ""),
    ("shortest prefix of a task id, characters", "masterd.references", "PREFIX", ""),
    ("events kept in the master's database", "masterd.store", "EVENTS_KEPT", ""),
    ("events that `events` and `inspect` can show", "masterd.history", "KEPT", ""),
    ("ended tasks a node remembers", "clientd.keeper.records", "ENDED_KEPT", False),
    ("ended lines typed at the prompt a node remembers", "clientd.keeper.records", "ENDED_KEPT",
     True),
    ("nodes that left and their tasks, remembered by the master", "masterd.pruning", "LEFT_KEPT",
     ""),
    ("snapshots kept of one task", "masterd.snapshots", "MOST_KEPT", ""),
    ("nodes that are asked to take a copy of one", "masterd.lodging", "TRIES", ""),
    ("snapshots of one node that `snapshots` lists when no task is named",
     "clientd.keeper.lodged", "MOST_LISTED", ""),
    ("tasks that were given up for lost, remembered", "masterd.heirs", "MOST", ""),
    ("launches that no node has a record of, of each node", "masterd.pruning", "LOST_KEPT", ""),
    ("notes for `logs --since` about one log; then every second one goes", "clientd.logtimes",
     "MOST", "B"),
    ("records that wait for room on the master's disk, besides one of each thing",
     "masterd.backlog", "EVENTS", ""),
    ("size of a daemon's log before it is set aside as `.1`", "godwit.log", "ROTATE_AT", "B"),
    ("copies a node works on at once; more wait", "clientd.transfers", "THREADS", ""),
    ("moves from and to a node at once", "clientd.shipping", "SHIPS", ""),
    ("open files that travel with one task", "godwit.ship.words", "CARRIED", ""),
    ("depth of folders in one copy", "godwit.bulk.words", "DEPTH", ""),
)

#: Times that decide what a node's state is, and when somebody gives up.
TIMES = (
    ("silence after which a node is `suspect`", "masterd.registry", "SUSPECT_S", "s"),
    ("silence after which it is `unreachable`", "masterd.registry", "UNREACHABLE_S", "s"),
    ("silence of the master after which a node calls it anew", "clientd.core", "SILENCE_S", "s"),
    ("first pause between two calls to the master", "clientd.core", "BACKOFF_FIRST_S", "s"),
    ("longest pause between two calls to the master", "clientd.core", "BACKOFF_MOST_S", "s"),
    ("between SIGTERM and SIGKILL when a node ends all its tasks", "clientd.keeper.keeper",
     "GRACE_S", "s"),
    ("time for killed processes to be gone, before that is an error", "clientd.keeper.endings",
     "GIVE_UP_S", "s"),
    ("time a node has to be deregistered", "masterd.dismissing", "DISMISS_S", "s"),
    ("time an upgraded node has to come back", "masterd.upgrades", "BACK_S", "s"),
    ("between two looks at logs with `--log-max`", "clientd.keeper.trim", "LOOK_S", "s"),
    ("between two snapshots of a schedule, at least", "masterd.schedules", "LEAST_S", "s"),
    ("time a node has to make room for a snapshot", "masterd.lodging", "ROOM_S", "s"),
    ("between two tries to write what the master's full disk did not take", "masterd.store",
     "RETRY_S", "s"),
)


# ---- state diagrams --------------------------------------------------------------------------


def diagram(table: Mapping[State, Mapping[Cause, State]], *first: State) -> str:
    """A table of states and causes as a mermaid diagram."""
    lines = ["```mermaid", "stateDiagram-v2", *(f"    [*] --> {each.value}" for each in first)]
    for state, steps in table.items():
        causes: dict[State, list[str]] = {}
        for cause, target in steps.items():
            causes.setdefault(target, []).append(cause.value)
        lines += [
            f"    {state.value} --> {target.value}: {', '.join(found)}"
            for target, found in causes.items()
        ]
        if not steps:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join([*lines, "```"])


# ---- messages --------------------------------------------------------------------------------


def table_of(*structs: type) -> str:
    """Messages with their fields; those with a default have a question mark."""
    rows = [f"| `{each.__name__}` | {_fields(each)} | {_summary(each)} |" for each in structs]
    return "\n".join(["| message | fields | what it says |", "| --- | --- | --- |", *rows])


def table_of_union(union: object) -> str:
    return table_of(*(get_args(union) or (union,)))


def _fields(struct: type) -> str:
    named = [
        f"{field.encode_name}{'' if field.required else '?'}"
        for field in fields(struct) if not (field.name == "id" and struct.__module__ == op.__name__)
    ]
    return f"`{', '.join(named)}`" if named else ""


def _summary(struct: type) -> str:
    """The first paragraph of its own docstring."""
    doc = inspect.cleandoc(struct.__dict__.get("__doc__") or "")
    return _cell(" ".join(doc.split("\n\n")[0].split()))


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", r"\|")


# ---- numbers, options, modules -----------------------------------------------------------------


def table_of_constants(rows: Iterable[tuple[str, str, str, Any]]) -> str:
    lines = ["| what | | |", "| --- | --: | --- |"]
    for what, module, name, unit in rows:
        value = getattr(importlib.import_module(module), name)
        if isinstance(value, dict):
            value, unit = value[unit], ""
        lines.append(f"| {what} | {_amount(value, unit)} | `{module}.{name}` |")
    return "\n".join(lines)


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:g} s"
    if unit == "B":
        for size, name in ((2**20, "MiB"), (2**10, "KiB")):
            if value % size == 0:
                return f"{value // size:,} {name}"
    return f"{value:,}"


def text(words: str) -> str:
    return f"```text\n{words.strip()}\n```"


def modules(package: str) -> str:
    """Each module of a package with the first sentence of its docstring."""
    lines = ["| module | what it is |", "| --- | --- |"]
    for path in sorted((TOP / package).glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        sentence = re.split(r"(?<=\.)\s", " ".join(doc.split("\n\n")[0].split()))[0]
        name = package if path.stem == "__init__" else path.stem
        if sentence:
            lines.append(f"| `{name}` | {_cell(sentence)} |")
    return "\n".join(lines)


# ---- a picture of moves ------------------------------------------------------------------------

#: Phases in the order in which they happen, with their colours; first output is within commit.
BARS = {
    "reserve": "#c9d3dc", "freeze": "#7fb2d9", "snapshot": "#3b82b8", "wire": "#1c4e7a",
    "restore": "#4f9d7c", "commit": "#d9a441",
}
LEFT, WIDE, ROW = 20, 720, 118


def picture(moves: Sequence[Mapping[str, Any]]) -> str:
    """Moves as an SVG, one below the other, each with a scale of its own."""
    height = ROW * len(moves) + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img"'
        ' font-family="sans-serif" font-size="12" fill="#222">',
        "<title>Two moves, phase by phase</title>",
        f'<rect width="760" height="{height}" rx="6" fill="#fff"/>',
    ]
    for row, move in enumerate(moves):
        lines += _flight(move, 24 + row * ROW)
    note = (
        "white: connections, the log before the freeze, words on their way;"
        " first output is within commit"
    )
    return "\n".join([*lines, _text(LEFT, height - 10, note, "#777"), "</svg>", ""])


def _flight(move: Mapping[str, Any], top: int) -> list[str]:
    took = (move["ended_at"] - move["begun_at"]) * 1e3
    still, phases, scale = move["blackout_ms"], move["phases_ms"], WIDE / took
    kind = "a Python task" if move["kind"] == "python" else "a shell loop, by CRIU"
    bound = "at most " if move["blackout_is_bound"] else ""
    lines = [
        _text(LEFT, top, f"{kind}, {move['bytes'] / 1e6:.1f} MB: {took:.0f} ms, "
              f"{bound}{still:.0f} ms of it standing still"),
        f'<rect x="{LEFT}" y="{top + 12}" width="{WIDE}" height="22" fill="none" stroke="#bbb"/>',
    ]
    # A move ends with its commit, and the task stands still from its freeze till then.
    known = {name: phases[name] or 0.0 for name in BARS}
    since = max(sum(known.values()) - known["reserve"], known["freeze"] + still)
    starts = {"freeze": took - since, "commit": took - known["commit"]}
    at = frozen = 0.0
    for name, ms in known.items():
        at = max(at, starts.get(name, 0.0))
        lines.append(_bar(LEFT + at * scale, top + 12, min(ms, took - at) * scale, BARS[name]))
        at += ms
        frozen = at if name == "freeze" else frozen
    begin, end = LEFT + frozen * scale, LEFT + min(frozen + still, took) * scale
    lines += [
        f'<path d="M{begin:.1f} {top + 40}v5H{end:.1f}v-5" fill="none" stroke="#b33"/>',
        _text(begin, top + 58, "stands still", "#b33"),
    ]
    return lines + _key(phases, top + 80)


def _key(phases: Mapping[str, float | None], top: int) -> list[str]:
    lines = []
    for place, name in enumerate([*BARS, "first_output"]):
        x, ms = LEFT + place * 104, phases[name]
        shown = "-" if ms is None else f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"
        if name in BARS:
            lines.append(_bar(x, top - 9, 10, BARS[name], 10))
        lines.append(_text(x + 14, top, name.replace("_", " ")))
        lines.append(_text(x + 14, top + 14, shown, "#777"))
    return lines


def _bar(x: float, y: float, width: float, colour: str, height: int = 22) -> str:
    """Seen, however short it is."""
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{max(width, 1):.1f}" height="{height}"'
        f' fill="{colour}"/>'
    )


def _text(x: float, y: float, words: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{colour}">{words}</text>'


PACKAGES = (
    "godwit", "godwit/task", "godwit/programs", "godwit/wire", "godwit/bulk", "godwit/ship",
    "clientd", "clientd/keeper", "clientd/keeper/moves", "masterd", "masterd/moves",
    "masterd/commands", "masterd/shell",
)

PARTS: dict[str, Callable[[], str]] = {
    "task-states": lambda: diagram(lifecycle.TABLE, lifecycle.Status.STARTING),
    "relation-states": lambda: diagram(agent.TABLE, agent.Relation.APART),
    "move-states": lambda: diagram(flights.TABLE, flights.State.INTENT),
    "move-parts": lambda: diagram(parts.TABLE, parts.Part.FREEZING, parts.Part.RESERVED),
    "shadow-states": lambda: diagram(shadows.TABLE, shadows.Phase.WANTED),
    "node-states": lambda: diagram(registry.TABLE, registry.State.UNREACHABLE),
    "joining": lambda: table_of(
        joining.Cluster, joining.Join, joining.Claim, joining.Request, joining.Joined,
        joining.Taken, joining.Refuse,
    ),
    "opening": lambda: table_of_union(messages.Opening),
    "from-node": lambda: table_of_union(messages.FromNode),
    "from-master": lambda: table_of_union(messages.FromMaster),
    "stream": lambda: table_of(
        *get_args(messages.StreamFromNode), *get_args(messages.StreamFromMaster)
    ),
    "bulk": lambda: table_of(
        bulk.Offer, bulk.Listing, bulk.Start, bulk.Block, bulk.Hole, bulk.End, bulk.Finish,
        bulk.Answer, bulk.Finished, bulk.Failed,
    ),
    "ship": lambda: table_of(
        ship.Board, ship.At, bulk.Block, bulk.Hole, ship.Mark, ship.Carry, ship.Carried,
        ship.Rest, ship.End,
        ship.Have, ship.Marked, ship.Whole, bulk.Failed,
    ),
    "requests": lambda: table_of_union(op.Requests),
    "replies": lambda: table_of_union(op.Replies),
    "orders": lambda: table_of_union(orders.Orders),
    "keeper-words": lambda: table_of_union(orders.Words),
    "limits": lambda: table_of_constants(LIMITS),
    "times": lambda: table_of_constants(TIMES),
    "options-masterd": lambda: text(masterd.__doc__ or ""),
    "options-clientd": lambda: text(clientd.USAGE),
    "options-godwit": lambda: text(cli.__doc__ or ""),
    "options-demo": lambda: text(demo.USAGE),
    **{f"modules-{name.replace('/', '-')}": partial(modules, name) for name in PACKAGES},
}


def made(page: str) -> str:
    """The page with every part as the code has it now.  Raises KeyError for an unknown part."""
    return MADE.sub(
        lambda found: f"{found['begin']}{PARTS[found['name']]()}\n{found['end']}", page
    )


def stale() -> dict[Path, str]:
    """What each page that is out of date should be."""
    wanted = {page: made(page.read_text()) for page in PAGES if page != COMMANDS}
    wanted[COMMANDS] = manual.manual()
    wanted[PICTURE] = picture(json.loads(FLIGHTS.read_text())["moves"])
    return {
        page: new for page, new in wanted.items() if not page.exists() or page.read_text() != new
    }


def main() -> int:
    found = stale()
    for page, new in found.items():
        print(page.relative_to(TOP))
        if "--check" not in sys.argv[1:]:
            page.write_text(new)
    return 1 if found and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
