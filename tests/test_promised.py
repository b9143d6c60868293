"""Each promise in docs/security.md names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
PAGE = TOP / "docs" / "security.md"
HEADING = "## Promises, each with the test that shows it"


def promises() -> dict[str, list[str]]:
    """Promise -> the tests named beside it."""
    _, found, rest = PAGE.read_text().partition(HEADING)
    assert found, f"{PAGE.name} has no such heading: {HEADING}"
    rows = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| ")][2:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {promise: re.findall(r"`(tests/[^`]+)`", shown) for promise, shown in cells}


@cache
def defined_in(path: str) -> frozenset[str]:
    tree = ast.parse((TOP / path).read_text())
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return frozenset(name for name in found if name.startswith("test_"))


def test_there_are_promises_and_each_names_a_test() -> None:
    assert len(promises()) >= 15
    assert all(promises().values()), [p for p, named in promises().items() if not named]


@pytest.mark.parametrize("named", sorted({name for names in promises().values() for name in names}))
def test_a_named_test_exists(named: str) -> None:
    path, _, name = named.partition("::")
    assert (TOP / path).is_file(), named
    assert name in defined_in(path), named
