"""What clientd says on stderr, keeper and agent alike."""

from pathlib import Path

import pytest

from tests.real.cluster import Cluster


@pytest.mark.parametrize(("option", "shown"), [("-q", False), ("-v", True)])
def test_q_and_v_reach_the_agents_lines_too(tmp_path: Path, option: str, shown: bool) -> None:
    with Cluster(tmp_path, nodes=["node1"], options=[option]) as one:
        assert "joined the master" in one.log("node1").read_text()
        told = one.nodes["node1"].text()
        assert ("agent node1 info: joined the master" in told) is shown
        assert (" info: " in told) is shown
