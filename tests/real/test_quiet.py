"""What clientd says on stderr, keeper and agent alike."""

from pathlib import Path

import pytest

from tests.real.cluster import Cluster, eventually


@pytest.mark.parametrize(("option", "shown"), [("-q", False), ("-v", True)])
def test_q_and_v_reach_the_agents_lines_too(tmp_path: Path, option: str, shown: bool) -> None:
    with Cluster(tmp_path, nodes=["node1"], options=[option]) as one:
        assert "joined the master" in one.log("node1").read_text()
        line = "agent node1 info: joined the master"
        if shown:  # it is in the log first
            eventually(lambda: line in one.nodes["node1"].text(), "the line on stderr")
        told = one.nodes["node1"].text()
        assert (line in told) is shown
        assert (" info: " in told) is shown
