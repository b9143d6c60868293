"""The pages say what the code says: generated parts, links, commands, options, code blocks."""

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from clientd import __main__ as clientd
from masterd import __main__ as masterd
from masterd import commands, demo

TOP = Path(__file__).parent.parent
PAGES = sorted([
    TOP / "README.md", TOP / "CHANGELOG.md", *(TOP / "docs").glob("*.md"),
    *(TOP / "examples").glob("*.md"),
])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_make", TOP / "docs" / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_the_pages_take_from_the_code_is_up_to_date(make: ModuleType) -> None:
    stale = [page.name for page in make.stale()]
    assert not stale, f"{stale}: run .venv/bin/python docs/make.py"


def test_every_part_that_can_be_made_is_in_a_page(make: ModuleType) -> None:
    text = "".join(page.read_text() for page in make.PAGES)
    shown = {found["name"] for found in make.MADE.finditer(text)}
    assert shown == make.PARTS.keys()


def test_every_marker_of_a_part_has_its_end(make: ModuleType) -> None:
    for page in make.PAGES:
        text = page.read_text()
        assert text.count("<!-- made: ") == len(make.MADE.findall(text)), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        path = (page.parent / target) if target else page
        assert path.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {link}"


def test_every_command_is_in_the_manual_and_in_the_changes() -> None:
    listed = anchors(TOP / "docs" / "commands.md")
    changes = (TOP / "CHANGELOG.md").read_text()
    for name in commands.table():
        assert name.lower() in listed
        assert f"`{name}`" in changes, name


@pytest.mark.parametrize("usage", [masterd.__doc__, clientd.USAGE, demo.USAGE])
def test_every_option_of_a_daemon_is_documented(usage: str) -> None:
    page = (TOP / "docs" / "operations.md").read_text()
    options = set(re.findall(r"--[a-z-]+", usage))
    assert options and all(option in page for option in options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_a_page_compiles(page: Path) -> None:
    for language, code in FENCE.findall(page.read_text()):
        if language == "python":
            ast.parse(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_code_block_ends(page: Path) -> None:
    assert page.read_text().count("\n```") % 2 == 0


def test_every_example_is_listed() -> None:
    listed = (TOP / "examples" / "README.md").read_text()
    for example in (TOP / "examples").iterdir():
        assert example.name == "README.md" or f"({example.name})" in listed
