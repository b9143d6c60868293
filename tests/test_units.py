"""packaging/: units that systemd takes, and that start the daemons as they want to be started."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import docopt
import pytest

import masterd.__main__ as master
from clientd import __main__ as node

PACKAGING = Path(__file__).parent.parent / "packaging"
MASTER, NODE = "godwit-masterd.service", "godwit-clientd@.service"
BIN = "/opt/godwit/bin/"


def unit(name: str) -> configparser.ConfigParser:
    config = configparser.ConfigParser(strict=False, interpolation=None)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(PACKAGING / name)
    return config


def options_in(name: str) -> str:
    """The options that a comment of the unit shows for its EnvironmentFile."""
    text = (PACKAGING / name).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("# ") and "_OPTIONS=" in line]
    return line.partition("=")[2]


def started(name: str) -> list[str]:
    """The words after the program, with what the instance and its file put in."""
    words = shlex.split(unit(name)["Service"]["ExecStart"])
    assert words[0].startswith(BIN)
    line = " ".join(words[1:]).replace("%i", "web1")
    return line.replace("$MASTERD_OPTIONS", options_in(name)).replace(
        "$CLIENTD_OPTIONS", options_in(name)
    ).split()


def test_the_master_is_started_as_its_usage_has_it() -> None:
    given = docopt.docopt(master.__doc__ or "", started(MASTER), False)
    assert given["--headless"] and given["--listen"] == "10.0.0.1:15440"


def test_a_node_is_started_as_its_usage_has_it() -> None:
    settings, _ = node.asked(started(NODE))
    assert (settings.name, settings.master) == ("web1", "10.0.0.1:15440")
    assert settings.token_file == "/etc/godwit/token"


def test_a_node_is_supervised_so_that_its_tasks_outlive_it() -> None:
    service = unit(NODE)["Service"]
    wanted = {
        "Type": "notify", "KillMode": "process", "Delegate": "yes", "OOMPolicy": "continue",
        "Restart": "on-failure",
    }
    assert {name: service[name] for name in wanted} == wanted
    # What a task would inherit, and what would make its cgroups or its user impossible.
    assert not {name for name in service if name.startswith((
        "Protect", "Private", "Restrict", "SystemCall", "Capability", "NoNew", "User", "Limit",
        "Memory", "CPU", "Nice", "OOMScore",
    ))}


def test_the_master_is_ready_when_it_says_so_and_may_do_little() -> None:
    service = unit(MASTER)["Service"]
    assert service["Type"] == "notify" and service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict" and service["StateDirectory"] == "godwit"


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("masterd", "clientd"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    for name in (MASTER, NODE):
        text = (PACKAGING / name).read_text().replace(BIN, f"{programs}/")
        (tmp_path / name).write_text(text)
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / MASTER,
         tmp_path / NODE.replace("@", "@web1")],
        capture_output=True, text=True, check=False,
    )
    ours = [line for line in found.stderr.splitlines() if "godwit" in line]
    assert not ours and found.returncode == 0, found.stderr
