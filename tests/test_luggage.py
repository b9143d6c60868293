"""Files that travel with a task, over a real ship: what lands, what stays, what is refused."""

import asyncio
import os
import pwd
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from clientd import actions as do
from clientd import events as on
from clientd.fsuser import acting_as
from clientd.luggage import MARK, Luggage
from godwit.errors import TransferError
from tests.certificates import Issuer
from tests.test_shipping import MIB, TICKET, Node

OWNER = do.Owner("aaaaaaaa", "", b"work")
NOBODY = "nobody"

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="acting as another user is root's")


@dataclass
class Pair:
    """Two nodes; each has its working directory."""

    nodes: tuple[Node, Node]
    owner: do.Owner = OWNER
    number: int = 0
    #: The process that is the task.
    pid: int | None = None

    def work(self, node: int) -> Path:
        return self.nodes[node].top / "work"

    async def begin(self, files: tuple[bytes, ...], source: int = 0) -> str:
        """A ship that waits for the freeze; its move."""
        self.number += 1
        move = f"m{self.number}"
        here, there = self.nodes[source], self.nodes[1 - source]
        here.write(b"log", b"image", move)
        log, image = there.files(move)
        log.write_bytes(b"")
        image.write_bytes(b"")
        there.shipping.receive(do.AwaitShip(
            move, TICKET, (here.leaf,), str(log), str(image), self.owner
        ), "127.0.0.1")
        port = (await there.next(on.ShipAwaited, move)).port
        here.shipping.send(do.StartShip(
            move, f"127.0.0.1:{port}", TICKET, (there.leaf,), str(here.files(move)[0]),
            self.owner, self.pid, files,
        ))
        await here.next(on.CaughtUp, move)
        return move

    def freeze(self, move: str, files: tuple[bytes, ...], source: int = 0) -> None:
        image = self.nodes[source].files(move)[1]
        self.nodes[source].shipping.image(do.ShipImage(move, str(image), 3, 5, files))

    async def lands(self, *files: bytes, source: int = 0) -> None:
        """A whole ship that works."""
        move = await self.begin(files, source)
        self.freeze(move, files, source)
        await self.nodes[1 - source].next(on.Landed, move)
        await self.over(source)

    async def over(self, source: int = 0) -> None:
        """Both threads have ended: what they do last is done."""
        for node in (self.nodes[source], self.nodes[1 - source]):
            async with asyncio.timeout(10):
                while node.shipping._works:
                    await asyncio.sleep(0)

    async def refused(self, *files: bytes, source: int = 0) -> on.ShipFailed:
        """A ship that ends both ends with the same reason."""
        move = await self.begin((), source)
        self.freeze(move, files, source)
        near = await self.nodes[source].next(on.ShipFailed, move)
        assert near == await self.nodes[1 - source].next(on.ShipFailed, move)
        return near


def run(scene: Callable[[Pair], Awaitable[None]], top: Path, owner: do.Owner = OWNER) -> None:
    async def play() -> None:
        issuer = Issuer()
        nodes = []
        for name in ("source", "destination"):
            (top / name / "work").mkdir(parents=True)
            folder = issuer.folder(top / name / "trust", f"godwit:node:{name}")
            nodes.append(Node(folder, top / name))
        try:
            await scene(Pair((nodes[0], nodes[1]), owner))
        finally:
            for node in nodes:
                await node.close()

    asyncio.run(play())


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_lands_with_its_mode_and_time_in_folders_that_are_made(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        here = pair.work(0) / "a" / "b" / "in"
        here.parent.mkdir(parents=True)
        here.write_bytes(os.urandom(MIB + 7))
        here.chmod(0o640)
        os.utime(here, ns=(1, 10**18 + 3))
        await pair.lands(b"a/b/in")
        there = pair.work(1) / "a" / "b" / "in"
        assert there.read_bytes() == here.read_bytes()
        assert stat.S_IMODE(there.stat().st_mode) == 0o640
        assert there.stat().st_mtime_ns == 10**18 + 3
        assert listing(there.parent) == ["in"]

    run(scene, tmp_path)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" and more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"otherwise")


def replace(path: Path) -> None:
    path.with_suffix(".new").write_bytes(b"another file altogether")
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [
    grow, rewrite, replace, lambda path: os.truncate(path, 3), lambda path: os.truncate(path, 0),
    lambda _: None,
])
@pytest.mark.parametrize("old", [True, False])
def test_what_changed_after_it_was_sent_lands_as_it_is_at_the_freeze(
    change: Callable[[Path], None], old: bool, tmp_path: Path
) -> None:
    async def scene(pair: Pair) -> None:
        here = pair.work(0) / "out"
        here.write_bytes(b"some output, as of before the freeze")
        if old:
            os.utime(here, (1, 1))
        move = await pair.begin((b"out",))
        change(here)
        pair.freeze(move, (b"out",))
        await pair.nodes[1].next(on.Landed, move)
        assert (pair.work(1) / "out").read_bytes() == here.read_bytes()

    run(scene, tmp_path)


def test_files_opened_late_come_and_those_closed_meanwhile_do_not(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        for name in ("closed", "kept", "late"):
            (pair.work(0) / name).write_text(name)
        move = await pair.begin((b"closed", b"kept"))
        pair.freeze(move, (b"kept", b"late"))
        await pair.nodes[1].next(on.Landed, move)
        await pair.over()
        assert listing(pair.work(1)) == ["kept", "late"]

    run(scene, tmp_path)


def test_what_a_process_has_open_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "work" / "a").mkdir(parents=True)
    luggage = Luggage(os.fsencode(tmp_path), OWNER)
    with (
        (tmp_path / "work" / "a" / "in").open("w"), (tmp_path / "work" / "out").open("w"),
        (tmp_path / "outside").open("w"),
    ):
        assert luggage.opened_by(os.getpid()) == [b"a/in", b"out"]
    assert luggage.opened_by(os.getpid()) == luggage.opened_by(None) == []


def test_what_the_task_has_open_is_there_before_the_freeze(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        with (pair.work(0) / "in").open("w") as file:
            file.write("some input")
            file.flush()
            pair.pid = os.getpid()
            move = await pair.begin(())
            (staged,) = pair.work(1).iterdir()
            assert staged.read_text() == "some input"
            pair.freeze(move, (b"in",))
            await pair.nodes[1].next(on.Landed, move)
        assert (pair.work(1) / "in").read_text() == "some input"

    run(scene, tmp_path)


def test_a_dropped_ship_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        (pair.work(0) / "in").write_text("x")
        move = await pair.begin((b"in",))
        assert len(listing(pair.work(1))) == 1, "it is staged"
        thread = pair.nodes[1].shipping._works[move].thread
        pair.nodes[1].shipping.drop(move)
        assert thread is not None
        await asyncio.to_thread(thread.join, 10)
        assert listing(pair.work(1)) == []

    run(scene, tmp_path)


# ---- what is there already -----------------------------------------------------------------


def test_the_same_file_is_left_alone(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        for node in (0, 1):
            (pair.work(node) / "in").write_text("the same")
        before = (pair.work(1) / "in").stat()
        await pair.lands(b"in")
        after = (pair.work(1) / "in").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        assert listing(pair.work(1)) == ["in"]

    run(scene, tmp_path)


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_another_file_is_not_replaced(there: str, tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        (pair.work(0) / "in").write_text("the task's")
        other = pair.work(1) / "in"
        if there == "file":
            other.write_text("somebody's")
        elif there == "folder":
            other.mkdir()
        else:
            (tmp_path / "victim").write_text("precious")
            other.symlink_to(tmp_path / "victim")
        failed = await pair.refused(b"in")
        assert failed.code == ("denied" if there == "link" else "exists")
        assert failed.text.startswith("in: ")
        if there == "file":
            assert other.read_text() == "somebody's"
        elif there == "link":
            assert (tmp_path / "victim").read_text() == "precious"

    run(scene, tmp_path)


def test_a_task_takes_its_file_there_and_back_again(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        (pair.work(0) / "out").write_text("one ")
        for trip in range(4):
            source = trip % 2
            await pair.lands(b"out", source=source)
            with (pair.work(1 - source) / "out").open("a") as file:
                file.write(f"{trip} ")
        assert (pair.work(0) / "out").read_text() == "one 0 1 2 3 "

    run(scene, tmp_path)


def test_what_a_move_left_is_not_replaced_once_somebody_wrote_to_it(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        left, moved = (pair.work(node) / "out" for node in (0, 1))
        left.write_text("of the task")
        await pair.lands(b"out")
        left.write_text("of somebody")
        moved.write_text("of the task, newer")
        assert (await pair.refused(b"out", source=1)).code == "exists"
        assert left.read_text() == "of somebody"

    run(scene, tmp_path)


def test_what_a_move_of_another_task_left_is_not_replaced(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        (pair.work(0) / "out").write_text("one")
        await pair.lands(b"out")
        assert os.getxattr(pair.work(1) / "out", MARK).startswith(b"aaaaaaaa:")
        (pair.work(0) / "out").write_text("two")
        pair.owner = do.Owner("bbbbbbbb", "", b"work")
        assert (await pair.refused(b"out")).code == "exists"

    run(scene, tmp_path)


# ---- what does not travel ------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    b"../secret", b"/etc/hostname", b"link", b"folder/../../secret", b"folder", b"fifo", b"none",
    b"", b".", b"in//in", b"linked/in",
])
def test_what_lies_outside_or_is_no_file_does_not_travel(name: bytes, tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        work = pair.work(0)
        (work.parent / "secret").write_text("secret")
        (work / "link").symlink_to("in")
        (work / "in").write_text("x")
        (work / "folder").mkdir()
        (work / "linked").symlink_to(".")
        os.mkfifo(work / "fifo")
        await pair.lands(name)
        assert listing(pair.work(1)) == []

    run(scene, tmp_path)


def test_a_task_without_a_folder_of_its_own_takes_no_files_along(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        (pair.work(0) / "in").write_text("x")
        pair.owner = None  # type: ignore[assignment]
        await pair.lands(b"in")
        assert listing(pair.work(1)) == []

    run(scene, tmp_path)


# ---- the rights of the task's user ---------------------------------------------------------


def opened_up(*folders: Path) -> None:
    """Lets everybody pass down to these."""
    for folder in folders:
        for above in (folder, *folder.parents):
            if above.stat().st_uid == os.geteuid() and above.is_relative_to("/tmp/"):
                above.chmod(above.stat().st_mode | 0o055)


@is_root
def test_a_users_files_are_read_and_written_with_the_users_rights(tmp_path: Path) -> None:
    async def scene(pair: Pair) -> None:
        user = pwd.getpwnam(NOBODY)
        for node in (0, 1):
            opened_up(pair.work(node))
            os.chown(pair.work(node), user.pw_uid, user.pw_gid)
        own, foreign = pair.work(0) / "own", pair.work(0) / "foreign"
        own.write_text("own")
        os.chown(own, user.pw_uid, user.pw_gid)
        foreign.write_text("root's")
        foreign.chmod(0o600)
        await pair.lands(b"own", b"foreign")
        assert listing(pair.work(1)) == ["own"], "it could not read the other itself"
        found = (pair.work(1) / "own").stat()
        assert (found.st_uid, found.st_gid) == (user.pw_uid, user.pw_gid)
        os.chown(pair.work(1), 0, 0)
        own.write_text("newer")
        failed = await pair.refused(b"own")
        assert failed.code == "denied", "it could not write there itself"

    run(scene, tmp_path, do.Owner("aaaaaaaa", NOBODY, b"work"))


@is_root
def test_acting_as_another_is_this_threads_and_ends(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("x")
    (tmp_path / "private").chmod(0o600)
    opened_up(tmp_path)
    with acting_as(NOBODY), pytest.raises(PermissionError):
        (tmp_path / "private").read_text()
    assert (tmp_path / "private").read_text() == "x"
    with pytest.raises(TransferError, match="no user"), acting_as("no such user"):
        pass
