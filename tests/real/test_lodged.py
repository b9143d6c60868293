"""Snapshots that a real keeper keeps for other nodes: they are whole or not there, and nothing that
the agent does decides where they lie."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import orders
from godwit.task.record import Snapshot, Spec
from tests.real.cluster import eventually, policy
from tests.real.keeping import Keeping

TASK = "t7654321"
BYTES = os.urandom(5000)


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    with Keeping(tmp_path) as keeping:
        yield keeping


def snapshot(name: str, at: float = 1.0, size: int = len(BYTES), task: str = TASK) -> Snapshot:
    spec = Spec(task, (b"CountProcess", b"5"), kind="python", home="node9")
    return Snapshot(name, spec, at, 9000, size)


def berth(keeping: Keeping, one: Snapshot, keep: int = 3) -> orders.Berth:
    keeping.agent.send(orders.Lodge(7, one, keep))
    return keeping.agent.word(orders.Berth)


def refused(keeping: Keeping, order: orders.Order) -> str:
    keeping.agent.send(order)
    return keeping.agent.word(orders.Acted).code


def lodge(keeping: Keeping, one: Snapshot, keep: int = 3, data: bytes = BYTES) -> None:
    parcel = berth(keeping, one, keep)
    Path(parcel.path).write_bytes(data)
    keeping.agent.send(orders.Stow(7, parcel.parcel))
    assert keeping.agent.word(orders.Snapshots).found == (one,)


def listed(keeping: Keeping, task: str = TASK) -> list[str]:
    keeping.agent.send(orders.ListSnapshots(8, task))
    return [one.id for one in keeping.agent.word(orders.Snapshots).found]


def lying(keeping: Keeping) -> list[str]:
    """Files of lodged snapshots, and of parcels."""
    folders = (keeping.state / "lodged", keeping.state / "agent" / "parcels")
    return sorted(p.name for folder in folders if folder.exists() for p in folder.iterdir())


def test_the_last_few_of_each_task_are_kept_for_nobodys_eyes(keeping: Keeping) -> None:
    lodge(keeping, snapshot("s0000009", task="t1111111"))
    for number in range(1, 5):
        lodge(keeping, snapshot(f"s000000{number}", float(number)), keep=2)
    assert listed(keeping) == ["s0000003", "s0000004"]
    assert lying(keeping) == sorted(
        f"s000000{n}.{end}" for n in (3, 4, 9) for end in ("json", "zst")
    )
    for path in (keeping.state / "lodged").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.suffix == ".json" or path.read_bytes() == BYTES
    # Without a task all are listed, with no more of their tasks than a list needs.
    assert listed(keeping, "") == ["s0000009", "s0000003", "s0000004"]


def test_the_master_hears_of_whom_there_are_some_whenever_that_changes(keeping: Keeping) -> None:
    assert keeping.agent.word(orders.Lodging).tasks == ()
    lodge(keeping, snapshot("s0000001"))
    (told,) = [w for w in keeping.agent.words if isinstance(w, orders.Lodging)][1:]
    assert told.tasks == (TASK,)
    keeping.kill()
    keeping.run()
    assert keeping.agent.word(orders.Lodging).tasks == (TASK,)
    keeping.agent.send(orders.Unlodge(9, (TASK,)))
    assert keeping.agent.word(orders.Lodging).tasks == ()
    assert keeping.agent.word(orders.Acted).order == 9
    assert lying(keeping) == []


def test_single_snapshots_are_dropped_too(keeping: Keeping) -> None:
    for number in (1, 2):
        lodge(keeping, snapshot(f"s000000{number}", float(number)))
    keeping.agent.send(orders.Unlodge(9, (), ("s0000001", "s9999999", "../../x")))
    keeping.agent.word(orders.Acted)
    assert listed(keeping) == ["s0000002"]


def test_one_that_is_there_is_not_asked_for_again(keeping: Keeping) -> None:
    lodge(keeping, snapshot("s0000001"))
    keeping.agent.send(orders.Lodge(7, snapshot("s0000001"), 3))
    assert keeping.agent.word(orders.Snapshots).found[0].id == "s0000001"


@pytest.mark.parametrize(("one", "keep"), [
    (snapshot("../../x"), 3), (snapshot("s0000001", task="../../../x"), 3),
    (snapshot("s0000001", size=0), 3), (snapshot("s0000001"), 0), (snapshot("s0000001"), 101),
])
def test_an_order_that_means_nothing_makes_no_file(
    keeping: Keeping, one: Snapshot, keep: int
) -> None:
    assert refused(keeping, orders.Lodge(7, one, keep)) == "bad-order"
    assert lying(keeping) == []


def test_more_than_the_disk_has_is_refused_before_a_byte_comes(keeping: Keeping) -> None:
    assert refused(keeping, orders.Lodge(7, snapshot("s0000001", size=2**60), 3)) == "no-space"


def test_what_this_node_would_not_run_it_does_not_keep(tmp_path: Path) -> None:
    users = policy(tmp_path, 'users = ["nobody"]\n')
    with Keeping(tmp_path, "--config", users) as keeping:
        assert refused(keeping, orders.Lodge(7, snapshot("s0000001"), 3)) == "policy"


@pytest.mark.parametrize("data", [b"", BYTES[:-1], BYTES + b"x"])
def test_what_is_not_as_long_as_was_announced_is_not_kept(keeping: Keeping, data: bytes) -> None:
    parcel = berth(keeping, snapshot("s0000001"))
    Path(parcel.path).write_bytes(data)
    assert refused(keeping, orders.Stow(7, parcel.parcel)) == "size"
    assert listed(keeping) == [] and lying(keeping) == []


def test_a_parcel_that_nobody_waits_for_is_nothing(keeping: Keeping) -> None:
    for name in ("x", "../../../etc/passwd", ""):
        assert refused(keeping, orders.Stow(7, name)) == "lost"
    keeping.agent.send(orders.DropParcel("../../../etc/passwd"))
    parcel = berth(keeping, snapshot("s0000001"))
    keeping.agent.send(orders.DropParcel(parcel.parcel))
    assert refused(keeping, orders.Stow(7, parcel.parcel)) == "lost"
    assert lying(keeping) == []


def test_a_parcels_are_gone_with_the_agent_that_carried_them(keeping: Keeping) -> None:
    berth(keeping, snapshot("s0000001"))
    keeping.agent.leave()
    keeping.next_agent()
    eventually(lambda: lying(keeping) == [], "they are dropped")
    lodge(keeping, snapshot("s0000001"))


def test_one_is_handed_out_whole_and_only_as_its_own_tasks(keeping: Keeping) -> None:
    lodge(keeping, snapshot("s0000001"))
    for task, name in ((TASK, "s0000002"), ("t1111111", "s0000001"), (TASK, "../s0000001")):
        assert refused(keeping, orders.Give(9, task, name)) == "no-snapshot"
    keeping.agent.send(orders.Give(9, TASK, "s0000001"))
    packed = keeping.agent.word(orders.Packed)
    assert (packed.snapshot, packed.size) == ("s0000001", len(BYTES))
    assert Path(packed.path).read_bytes() == BYTES
    keeping.agent.send(orders.DropParcel(packed.parcel))
    assert listed(keeping) == ["s0000001"]
    assert not Path(packed.path).exists()


@pytest.mark.parametrize("point", ["parcel.made", "lodge.before", "lodge.after"])
def test_a_keeper_that_dies_leaves_a_whole_snapshot_or_none(tmp_path: Path, point: str) -> None:
    with Keeping(tmp_path, environment={"GODWIT_FAILPOINT": f"{point}:kill"}) as keeping:
        keeping.agent.send(orders.Lodge(7, snapshot("s0000001"), 3))
        if point != "parcel.made":
            parcel = keeping.agent.word(orders.Berth)
            Path(parcel.path).write_bytes(BYTES)
            keeping.agent.send(orders.Stow(7, parcel.parcel))
        with pytest.raises((EOFError, OSError)):
            while True:
                keeping.agent.next()
        eventually(lambda: keeping.daemon.ended, f"it dies at {point}")
        keeping.environment = {}
        keeping.run()
        there = ["s0000001"] if point == "lodge.after" else []
        assert listed(keeping) == there
        assert lying(keeping) == [f"{name}.{end}" for name in there for end in ("json", "zst")]
        lodge(keeping, snapshot("s0000002", 2.0))
        assert listed(keeping) == [*there, "s0000002"]


def test_a_keeper_that_dies_as_it_hands_one_out_has_it_still(tmp_path: Path) -> None:
    with Keeping(tmp_path, environment={"GODWIT_FAILPOINT": "parcel.lent:kill"}) as keeping:
        lodge(keeping, snapshot("s0000001"))
        keeping.agent.send(orders.Give(9, TASK, "s0000001"))
        eventually(lambda: keeping.daemon.ended, "it dies")
        keeping.environment = {}
        keeping.run()
        assert listed(keeping) == ["s0000001"]
        assert lying(keeping) == ["s0000001.json", "s0000001.zst"]


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    with Keeping(tmp_path, environment={
        "GODWIT_FAILPOINT": "parcel.made@1:errno:ENOSPC,lodge.before@1:errno:ENOSPC"
    }) as keeping:
        assert refused(keeping, orders.Lodge(7, snapshot("s0000001"), 3)) == "files"
        parcel = berth(keeping, snapshot("s0000001"))
        Path(parcel.path).write_bytes(BYTES)
        assert refused(keeping, orders.Stow(7, parcel.parcel)) == "files"
        assert lying(keeping) == []
        lodge(keeping, snapshot("s0000001"))
