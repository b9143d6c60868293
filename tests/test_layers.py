"""The shape of the code, read from its imports: pure cores, one direction, quick starts.

To add a pure module: one line in PURE.  A rule of who may not import whom: one line in APART.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
PACKAGES = ("godwit", "clientd", "masterd")

#: Modules that do no I/O, know no clock and no chance: events in, actions out.
PURE = [
    "godwit.errors",
    "godwit.names",
    "godwit.programs",
    "godwit.seldom",
    "godwit.task.control",
    "godwit.task.lifecycle",
    "godwit.task.pickled",
    "godwit.task.record",
    "godwit.task.reasons",
    "godwit.task.verdict",
    "godwit.wire.frames",
    "godwit.wire.messages",
    "godwit.wire.operations",
    "godwit.wire.preface",
    "godwit.wire.session",
    "godwit.wire.tokens",
    "clientd.core",
    "clientd.events",
    "clientd.actions",
    "clientd.moves",
    "clientd.parcels",
    "clientd.keeper.backoff",
    "clientd.keeper.complaints",
    "clientd.keeper.executable",
    "clientd.keeper.init",
    "clientd.keeper.moves.actions",
    "clientd.keeper.moves.copies",
    "clientd.keeper.moves.core",
    "clientd.keeper.moves.draining",
    "clientd.keeper.moves.freezing",
    "clientd.keeper.moves.frozen",
    "clientd.keeper.moves.here",
    "clientd.keeper.moves.mishaps",
    "clientd.keeper.moves.prepared",
    "clientd.keeper.moves.refusals",
    "clientd.keeper.moves.reserved",
    "clientd.keeper.moves.table",
    "clientd.keeper.moves.verdicts",
    "clientd.keeper.news",
    "clientd.keeper.orders",
    "clientd.keeper.policy",
    "clientd.keeper.records",
    "clientd.keeper.shadows.actions",
    "clientd.keeper.shadows.core",
    "clientd.keeper.shadows.table",
    "clientd.keeper.templates",
    "clientd.keeper.zygote_words",
    "masterd.events",
    "masterd.actions",
    "masterd.backlog",
    "masterd.admission",
    "masterd.audit",
    "masterd.references",
    "masterd.registry",
    "masterd.history",
    "masterd.orders",
    "masterd.waits",
    "masterd.judging",
    "masterd.launches",
    "masterd.snapshots",
    "masterd.sources",
    "masterd.lodging",
    "masterd.restarts",
    "masterd.schedules",
    "masterd.heirs",
    "masterd.follows",
    "masterd.copies",
    "masterd.dismissing",
    "masterd.each",
    "masterd.meant",
    "masterd.measuring",
    "masterd.registering",
    "masterd.routes",
    "masterd.tidings",
    "masterd.moves.asking",
    "masterd.moves.budget",
    "masterd.moves.core",
    "masterd.moves.decisions",
    "masterd.moves.ending",
    "masterd.moves.ends",
    "masterd.moves.flight",
    "masterd.moves.found",
    "masterd.moves.here",
    "masterd.moves.mishaps",
    "masterd.moves.objections",
    "masterd.moves.owners",
    "masterd.moves.places",
    "masterd.moves.resolving",
    "masterd.moves.silence",
    "masterd.moves.strays",
    "masterd.moves.table",
    "masterd.moves.verdicts",
    "masterd.nodes",
    "masterd.homelogs",
    "masterd.shadows",
    "masterd.confirms",
    "masterd.pruning",
    "masterd.upgrades",
    "masterd.core",
    "masterd.commands.asjson",
    "masterd.commands.grammar",
    "masterd.commands.signals",
    "masterd.shell.completion",
    "masterd.shell.meaning",
    "masterd.shell.notices",
    "masterd.shell.older",
    "masterd.shell.outer",
    "masterd.shell.words",
]

#: What a pure module may import of the standard library and of others; ``signal`` for its names.
HARMLESS = {
    "bisect", "collections", "contextlib", "dataclasses", "difflib", "docopt", "enum", "functools",
    "hashlib", "heapq", "hmac", "itertools", "json", "math", "msgspec", "operator", "re", "shlex",
    "signal", "statistics", "string", "struct", "textwrap", "typing", "unicodedata",
}
#: Single harmless names of modules that are not pure.
HARMLESS_NAMES = {("godwit.log", "Level"), ("godwit.log", "printable")}
#: Packages whose own module is pure, apart from what is imported from them by name.
HARMLESS_PACKAGES = {"godwit", "godwit.task", "godwit.wire", "clientd", "masterd.commands"}

#: Who may not import whom, whatever the path below the name.
APART = [
    ("godwit", "clientd"),
    ("godwit", "masterd"),
    ("clientd", "masterd"),
    ("masterd", "clientd"),
    # The keeper stays small: it knows nothing of the agent, and no network.
    ("clientd.keeper", "clientd.agent"),
    ("clientd.keeper", "clientd.core"),
    ("clientd.keeper", "godwit.wire.link"),
    # Certificates are made in a process that ends; it costs 45 ms and 10 MB.
    ("clientd.agent", "godwit.wire.authority"),
    ("clientd.membership", "godwit.wire.authority"),
    # Shell and CLI are clients: what they know came over the socket.
    ("masterd.client", "masterd.registry"),
    ("masterd.commands", "masterd.registry"),
    ("masterd.commands", "masterd.core"),
    ("masterd.shell", "masterd.registry"),
    ("masterd.shell", "masterd.core"),
]

#: Each may import those before it and none after it.
CHAIN = [f"godwit.{name}" for name in (
    "errors", "wire.frames", "wire.messages", "wire.session", "wire.link",
)]

#: What costs start-up time, and who is started too often to pay it.
SLOW = ("asyncio", "ssl", "tqdm", "psutil", "sqlite3", "http", "email", "multiprocessing")
QUICK = ("masterd.client", "masterd.commands.dispatching", "masterd.shell", "clientd.keeper.orders")


@cache
def modules() -> dict[str, Path]:
    """All modules of the three packages by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((TOP / package).rglob("*.py")):
            words = path.relative_to(TOP).with_suffix("").parts
            found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return found


@cache
def imports(module: str) -> frozenset[tuple[str, str]]:
    """(module, name) for each import in the source, wherever it stands; an empty name for all."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_bytes())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {split(str(node.module), alias.name) for alias in node.names}
    return frozenset(found)


def split(module: str, name: str) -> tuple[str, str]:
    """``from a import b`` where a.b is a module imports that."""
    inner = f"{module}.{name}"
    return (inner, "") if inner in modules() else (module, name)


def below(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


def is_harmless(module: str, name: str) -> bool:
    return (
        module in PURE
        or module in HARMLESS_PACKAGES
        or module.partition(".")[0] in HARMLESS
        or (module, name) in HARMLESS_NAMES
    )


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_nothing_that_does_io(module: str) -> None:
    impure = {one for one in imports(module) if not is_harmless(*one)}
    assert not impure, f"{module} imports {sorted(impure)}"


@pytest.mark.parametrize(("one", "other"), APART)
def test_dependencies_point_one_way(one: str, other: str) -> None:
    wrong = [
        (module, target)
        for module in modules()
        if below(module, one)
        for target, _ in imports(module)
        if below(target, other)
    ]
    assert not wrong


@pytest.mark.parametrize("module", CHAIN)
def test_the_wire_builds_on_what_is_below_it(module: str) -> None:
    above = CHAIN[CHAIN.index(module) + 1:]
    assert not [target for target, _ in imports(module) if target in above]


@pytest.mark.parametrize("module", QUICK)
def test_what_is_started_often_imports_nothing_slow(module: str) -> None:
    told = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys, {module}; print(*sys.modules)"],
        check=True, capture_output=True, text=True,
    ).stdout.split()
    assert not set(SLOW) & set(told)


@pytest.mark.parametrize("module", sorted(modules()))
def test_nothing_is_started_by_an_import(module: str) -> None:
    """Work starts in main(): at the top of a module there are definitions, and no bare calls."""
    body = ast.parse(modules()[module].read_bytes()).body
    calls = [
        node.lineno for node in body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert not calls, f"{module}: call at line {calls}"
