"""The bytes of a task's init; what it does is seen in tests/real/test_apart.py."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clientd.keeper import init

#: Machine -> what begins the names of its binutils, here and from a package for others.
TOOLS = {"x86_64": "x86_64-linux-gnu-", "aarch64": "aarch64-linux-gnu-"}


def tool(machine: str, name: str) -> str:
    """Skips where it is not installed."""
    own = name if machine == os.uname().machine else ""
    found = shutil.which(TOOLS[machine] + name) or (shutil.which(own) if own else None)
    if found is None:
        pytest.skip(f"no {name}(1) for {machine}")
    return found


@pytest.mark.parametrize("machine", init.CODE)
def test_the_code_is_what_the_listing_says(machine: str, tmp_path: Path) -> None:
    listing = Path(init.__file__).parent / f"{machine}.S"
    made, code = tmp_path / "init.o", tmp_path / "init.bin"
    subprocess.run([tool(machine, "as"), "-o", made, listing], check=True)
    copy = (tool(machine, "objcopy"), "-O", "binary", "-j", ".text", made, code)
    subprocess.run(copy, check=True)
    assert init.CODE[machine] == code.read_bytes()


def test_it_has_no_file_for_a_machine_that_it_does_not_know() -> None:
    with pytest.raises(KeyError):
        init.image("vax")
