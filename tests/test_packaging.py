"""What `pip install .` takes along: every package, and entry points that exist."""

import configparser
import importlib
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
PACKAGES = ("godwit", "clientd", "masterd")


def entry_points() -> list[str]:
    """NAME = MODULE:FUNCTION lines of setup.cfg."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(TOP / "setup.cfg")
    return config["options.entry_points"]["console_scripts"].split("\n")[1:]


def test_every_folder_with_code_is_a_package() -> None:
    """setuptools' ``find:`` passes over a folder without __init__.py, without a word."""
    folders = {path.parent for top in PACKAGES for path in (TOP / top).rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]


@pytest.mark.parametrize("line", entry_points())
def test_each_entry_point_is_there_and_has_its_script_in_bin(line: str) -> None:
    name, _, place = line.replace(" ", "").partition("=")
    module, _, function = place.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert (TOP / "bin" / name).exists()
