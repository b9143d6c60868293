"""Writes the parts of these pages that are read from the code, each between two markers.

    .venv/bin/python docs/make.py            rewrites them, and commands.md as a whole
    .venv/bin/python docs/make.py --check    only names the pages that are out of date; exits 1

To add a part: a function that gives its text, its row in PARTS, and in a page
``<!-- made: NAME -->`` and ``<!-- end of NAME -->`` on lines of their own.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
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
    ("time a node has to be deregistered", "masterd.core", "DISMISS_S", "s"),
    ("time an upgraded node has to come back", "masterd.upgrades", "BACK_S", "s"),
    ("between two looks at logs with `--log-max`", "clientd.keeper.trim", "LOOK_S", "s"),
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


PACKAGES = (
    "godwit", "godwit/task", "godwit/wire", "godwit/bulk", "godwit/ship", "clientd",
    "clientd/keeper", "masterd", "masterd/commands", "masterd/shell",
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
    return {page: new for page, new in wanted.items() if page.read_text() != new}


def main() -> int:
    found = stale()
    for page, new in found.items():
        print(page.relative_to(TOP))
        if "--check" not in sys.argv[1:]:
            page.write_text(new)
    return 1 if found and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
