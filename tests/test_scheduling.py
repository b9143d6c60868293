"""What runs side by side, and what does not."""

import ast
from pathlib import Path

import pytest

from tests import scheduling

TOP = Path(__file__).parent.parent


@pytest.mark.parametrize("file", sorted({*scheduling.FIRST, *scheduling.SPREAD}))
def test_a_file_that_is_named_is_there(file: str) -> None:
    assert (TOP / file).is_file()


@pytest.mark.parametrize("file", sorted(scheduling.SPREAD))
def test_tests_that_are_spread_share_no_fixture(file: str) -> None:
    """One that is made once for a module would be made once for each worker."""
    tree = ast.parse((TOP / file).read_text())
    scopes = [
        word.arg for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        for made in node.decorator_list if isinstance(made, ast.Call)
        for word in made.keywords if word.arg == "scope"
    ]
    assert not scopes


def test_a_file_stays_on_one_worker_unless_it_is_spread() -> None:
    one, other = "tests/test_frames.py::test_a", "tests/test_frames.py::test_b[x::y]"
    assert scheduling.unit_of(one) == scheduling.unit_of(other) == "tests/test_frames.py"
    spread = "tests/sim/test_sim.py::test_a[0-99]"
    assert scheduling.unit_of(spread) == spread
