"""Keepers that fail at each durable write of a snapshot, or of a start from one."""

import itertools
import os
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from clientd.keeper import orders
from godwit import failpoint
from godwit.task.lifecycle import Status
from godwit.task.record import Spec
from tests.real.cluster import eventually
from tests.real.keeping import Keeping
from tests.real.specimens import PROGRAMS
from tests.real.test_process_snapshots import WRITER

#: What a checkpoint comes to, one after the other; then a snapshot too many is dropped.
OF_CHECKPOINT = [
    *(f"move.{part}.{when}" for part in ("freezing", "unfrozen") for when in ("before", "after")),
    *(name for name in failpoint.NAMES if name.startswith("kept.")),
]
#: From here on the snapshot is there.
WHOLE = ("kept.name.after", "kept.surplus")
OF_START = [name for name in failpoint.NAMES if name.startswith(("putback.", "revived."))]
SPECS = {
    "python": Spec("pppppppp", (b"CountProcess", b"1000000000", b"0.002"), kind="python"),
    "shell": Spec("ssssssss", tuple(map(os.fsencode, PROGRAMS["perl"])), contained=True),
}
needs_criu = pytest.mark.skipif(os.geteuid() != 0, reason="CRIU needs root")


class Failing(Keeping):
    """A keeper that has looked for CRIU, and takes snapshots."""

    def __init__(self, top: Path):
        super().__init__(top)
        self._orders = itertools.count(1)

    def begin(self, failpoints: str = "") -> None:
        """Anew, to fail there."""
        self.environment["GODWIT_FAILPOINT"] = failpoints
        self.run()

    def need_criu(self) -> None:
        """Skips where there is none."""
        able = self.agent.word(orders.Able)
        if why := able.lacks.get("criu"):
            pytest.skip(f"no CRIU that works here: {why}")

    def launch(self, spec: Spec) -> None:
        self.agent.send(orders.Start((spec,)))

    def runs(self, task: str) -> bool:
        known = self.agent.tasks.get(task)
        return known is not None and known.status is Status.RUNNING

    def numbers(self, task: str) -> list[int]:
        try:
            text = self.log(task).decode()
        except FileNotFoundError:
            return []
        return [int(line) for line in text[:text.rfind("\n") + 1].split()]

    def counts_on(self, task: str) -> list[int]:
        """Each number once, and more of them than before."""
        before = len(self.numbers(task))
        eventually(lambda: len(self.numbers(task)) > before + 5, f"{task} counts on")
        counted = self.numbers(task)
        assert counted == list(range(counted[0], counted[0] + len(counted)))
        return counted

    def order_checkpoint(self, task: str, keep: int = 1) -> str:
        number = next(self._orders)
        snapshot = f"kept{number:04}"
        self.agent.send(orders.Checkpoint(number, task, snapshot, keep))
        return snapshot

    def answer(self) -> orders.Snapshots | orders.Acted:
        while not isinstance(word := self.agent.next(), orders.Snapshots | orders.Acted):
            pass
        return word

    def listed(self, task: str) -> list[str]:
        self.agent.send(orders.ListSnapshots(next(self._orders), task))
        answer = self.answer()
        assert isinstance(answer, orders.Snapshots)
        return [one.id for one in answer.found]

    def dies(self) -> None:
        with pytest.raises((EOFError, ConnectionError)):
            while True:
                self.agent.next()
        eventually(lambda: self.daemon.ended, "it dies")

    def left(self) -> set[str]:
        """What is on its disk of snapshots and starts."""
        return {
            str(path.relative_to(self.state))
            for name in ("kept", "snapshots", "starts", "agent/moves")
            for path in (self.state / name).glob("*")
        }

    def only(self, *snapshots: str) -> None:
        """Nothing is left of what came to nothing."""
        kept = {f"kept/{name}.{end}" for name in snapshots for end in ("zst", "json")}
        eventually(lambda: self.left() == kept, f"nothing else is left: {self.left() ^ kept}")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["python", pytest.param("shell", marks=needs_criu)])
def test_a_keeper_that_dies_at_a_checkpoint_leaves_the_task_running_and_no_half_snapshot(
    tmp_path: Path, kind: str
) -> None:
    spec = SPECS[kind]
    task = spec.task
    with Failing(tmp_path) as keeping:
        if kind == "shell":
            keeping.need_criu()
        keeping.launch(spec)
        keeping.agent.till(lambda: keeping.runs(task))
        keeping.counts_on(task)
        pid = keeping.agent.tasks[task].pid
        whole = [keeping.order_checkpoint(task)]
        assert isinstance(keeping.answer(), orders.Snapshots)
        for point in OF_CHECKPOINT:
            keeping.kill()
            keeping.begin(f"{point}:kill")
            if kind == "shell":
                keeping.need_criu()
            begun = keeping.order_checkpoint(task)
            keeping.dies()
            keeping.begin()
            assert (keeping.runs(task), keeping.agent.tasks[task].pid) == (True, pid), point
            whole += [begun] if point in WHOLE else []
            assert keeping.listed(task) == whole, point
            assert keeping.counts_on(task)[0] == 0
            keeping.only(*whole)
            if point == "kept.name.after":  # one too many, till the next
                keeping.kill()
                keeping.begin()
                if kind == "shell":
                    keeping.need_criu()
                whole = [keeping.order_checkpoint(task)]
                assert isinstance(keeping.answer(), orders.Snapshots)
                assert keeping.listed(task) == whole


@pytest.mark.parametrize("kind", ["python", pytest.param("shell", marks=needs_criu)])
def test_a_snapshot_that_cannot_be_written_is_told_and_the_task_goes_on(
    tmp_path: Path, kind: str
) -> None:
    spec = SPECS[kind]
    with Failing(tmp_path) as keeping:
        keeping.kill()
        # The first comes to nothing at the first of them, the second at the other.
        keeping.begin(
            "move.freezing.before@1:errno:EIO,kept.about.before@1:errno:ENOSPC,"
            "kept.name.before@1:errno:ENOSPC"
        )
        if kind == "shell":
            keeping.need_criu()
        keeping.launch(spec)
        keeping.agent.till(lambda: keeping.runs(spec.task))
        for code in ("EIO", "ENOSPC", "ENOSPC"):
            keeping.order_checkpoint(spec.task)
            answer = keeping.answer()
            assert isinstance(answer, orders.Acted) and answer.code == code
            keeping.counts_on(spec.task)
            keeping.only()
        kept = keeping.order_checkpoint(spec.task)
        assert isinstance(keeping.answer(), orders.Snapshots)
        assert keeping.listed(spec.task) == [kept]


@needs_criu
@pytest.mark.timeout(120)
def test_a_keeper_that_dies_at_a_start_from_a_snapshot_starts_it_once(tmp_path: Path) -> None:
    """Its files are as they were, whatever had been put back already."""
    with Failing(tmp_path) as keeping:
        keeping.need_criu()
        folder = keeping.state / "files" / "w"
        folder.mkdir()
        first = Spec("aaaaaaaa", tuple(map(os.fsencode, WRITER)), cwd=b"w", contained=True)
        keeping.launch(first)
        keeping.agent.till(lambda: keeping.runs(first.task))
        keeping.counts_on(first.task)
        snapshot = keeping.order_checkpoint(first.task)
        assert isinstance(keeping.answer(), orders.Snapshots)
        keeping.counts_on(first.task)
        keeping.signal(first.task, signal.SIGKILL, whole=True)
        begins = None
        for number, point in enumerate(OF_START):
            spec = replace(first, task=f"again{number:03}", snapshot=snapshot)
            before = (folder / "out").read_text()
            keeping.kill()
            keeping.begin(f"{point}:kill")
            keeping.launch(spec)
            keeping.dies()
            keeping.begin()
            keeping.agent.till(lambda task=spec.task: keeping.runs(task))  # type: ignore[misc]
            counted = keeping.counts_on(spec.task)
            begins = begins or counted[0]
            assert counted[0] == begins, point
            assert (folder / f"out.before-{spec.task}").read_text() == before, point
            keeping.signal(spec.task, signal.SIGKILL, whole=True)
            written = [int(line) for line in (folder / "out").read_text().split()]
            assert written == list(range(len(written))) and written[-1] >= counted[-1], point
            keeping.only(snapshot)
        assert {path.name for path in folder.iterdir()} == {
            "out", *(f"out.before-again{number:03}" for number in range(len(OF_START)))
        }
