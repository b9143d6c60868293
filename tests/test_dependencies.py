"""docs/dependencies.md names every dependency of setup.cfg, with its lower bound and a reason."""

import configparser
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent


def required() -> dict[str, str]:
    """Lower bound of each requirement in setup.cfg, extras included."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(TOP / "setup.cfg")
    lines = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    found = re.findall(r"^([\w.-]+) *>= *([\w.]+)$", "\n".join(lines), re.MULTILINE)
    assert len(found) == len("\n".join(lines).split("\n")) - len(lines), "a line without a bound"
    return dict(found)


def explained() -> dict[str, tuple[str, str]]:
    """Lower bound and reason of each row in the page."""
    page = (TOP / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| `([\w.-]+)` \| ([\w.]+) \| (.+) \|$", page, re.MULTILINE)
    return {name: (bound, why) for name, bound, why in rows}


@pytest.mark.parametrize(("name", "bound"), sorted(required().items()))
def test_each_dependency_is_explained_with_the_bound_it_has(name: str, bound: str) -> None:
    assert explained()[name][0] == bound
    assert explained()[name][1].strip()


def test_nothing_is_explained_that_is_not_required() -> None:
    assert explained().keys() <= required().keys()
