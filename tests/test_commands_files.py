"""copy and remove, with the master's relay played by a socket pair."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit import bulk
from godwit.errors import TransferError
from godwit.wire import operations as op
from godwit.wire.preface import Show
from masterd.commands import files
from tests.scripted import Desk, Scripted, exited, view


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Scripted]:
    (tmp_path / "state").mkdir()
    with Scripted(tmp_path / "state") as master:
        yield master


@pytest.fixture
def desk(master: Scripted) -> Iterator[Desk]:
    with Desk(master) as desk:
        yield desk


@pytest.mark.parametrize(("text", "node", "path"), [
    ("node1:/tmp/x", "node1", b"/tmp/x"), ("node1:x", "node1", b"x"), ("node1:", "node1", b""),
    ("node1:a:b", "node1", b"a:b"), ("./a:b", "", b"./a:b"), ("/a:b", "", b"/a:b"),
    ("plain", "", b"plain"), (":x", "", b":x"), ("d/e:f", "", b"d/e:f"),
    ("node1:\udcff", "node1", b"\xff"),
])
def test_a_colon_before_any_slash_names_a_node(text: str, node: str, path: bytes) -> None:
    assert files.place(text) == op.Place(path, node)


class Node:
    """Plays the node at the far end of a bulk connection."""

    def __init__(self, master: Scripted, far: Path, cuts: int = 0):
        self.shown: list[Show] = []
        self._master, self._far, self._cuts = master, far, cuts
        master.bulk = self._serve

    def _serve(self, link: socket.socket, show: Show) -> None:
        self.shown.append(show)
        if len(self.shown) <= self._cuts:
            return
        path = bytes(self._far)
        if show.role == "send":
            bulk.receive(link, path)
        else:
            bulk.send(link, path)


def test_a_file_goes_up(master: Scripted, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"x" * 100_000)
    far = Node(master, tmp_path / "there")
    done = op.CopyDone(0, 100_000, 1, b"/srv/there", ("left out a socket",))
    master.says(op.Copy, op.Ticket(0, "T", "send"), done)
    assert desk.run("copy", str(tmp_path / "here"), "node1:/srv/there") == 0
    assert (tmp_path / "there").read_bytes() == b"x" * 100_000
    assert far.shown == [Show("T", "send")]
    assert desk.noted == ["left out a socket", "node1:/srv/there: 1 file, 100000 bytes"]


def test_a_folder_comes_down(master: Scripted, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/a").write_text("a")
    Node(master, tmp_path / "far")
    master.says(op.Copy, op.Ticket(0, "T", "receive"), op.CopyDone(0, 1, 1, b"far"))
    assert desk.run("copy", "--json", "node1:far", str(tmp_path / "new")) == 0
    assert (tmp_path / "new/a").read_text() == "a"
    assert json.loads(desk.said[0])["copied"] == {
        "size": 1, "files": 1, "path": str(tmp_path / "new"), "warnings": [],
    }


def test_between_nodes_nothing_passes_here(master: Scripted, desk: Desk) -> None:
    master.says(op.Copy, op.Progress(0, done=1, total=2), op.CopyDone(0, 2, 1, b"/b/a"))
    assert desk.run("copy", "node1:/a", "node2:/b") == 0
    (asked,) = master.got(op.Copy)
    assert (asked.source, asked.target) == (op.Place(b"/a", "node1"), op.Place(b"/b", "node2"))


def test_a_cut_copy_is_taken_up_again(
    master: Scripted, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PAUSES_S", (0.0, 0.0))
    (tmp_path / "here").write_text("text")
    far = Node(master, tmp_path / "there", cuts=1)
    tries: list[int] = []

    def copy(asked: op.Copy) -> list[op.Reply]:
        tries.append(asked.id)
        end = op.CopyDone(asked.id, 4, 1) if len(tries) > 1 else op.Problem(asked.id, "cut", "cut")
        return [op.Ticket(asked.id, "T", "send"), end]

    master.answers[op.Copy] = copy
    assert desk.run("copy", str(tmp_path / "here"), "node1:there") == 0
    assert len(far.shown) == 2 and (tmp_path / "there").read_text() == "text"
    assert desk.noted[0] == "the connection was cut: the copy goes on from there"


def test_a_copy_that_is_cut_every_time_gives_up(
    master: Scripted, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PAUSES_S", (0.0,))
    master.says(op.Copy, op.Problem(0, "cut", "node1 went away"))
    assert desk.run("copy", "node1:a", "node2:b") == 1
    assert desk.noted[-1] == "copy: node1 went away"
    assert len(master.got(op.Copy)) == 2


def test_a_file_that_is_not_there_is_named(master: Scripted, desk: Desk, tmp_path: Path) -> None:
    def refused(link: socket.socket, show: Show) -> None:
        with pytest.raises(TransferError):
            bulk.receive(link, bytes(tmp_path / "there"))

    master.bulk = refused
    master.says(op.Copy, op.Ticket(0, "T", "send"))
    assert desk.run("copy", str(tmp_path / "missing"), "node1:x") == 1
    assert desk.noted == [f"copy: {tmp_path}/missing: no such file or folder"]
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(("path", "whole"), [
    (b"/a/b/", b"/a/b/"), (b"/a/../b", b"/b"), (b"/", b"/"), (b"", b""),
])
def test_a_local_path_keeps_its_last_slash(path: bytes, whole: bytes) -> None:
    assert files.absolute(op.Place(path)) == op.Place(whole)
    assert files.absolute(op.Place(path, "node1")) == op.Place(path, "node1")


def test_two_local_sides_are_for_cp(master: Scripted, desk: Desk) -> None:
    assert desk.run("copy", "a", "b") == 2
    assert desk.noted == [
        "copy: both sides are on this machine (write NODE:PATH for one of them, or use cp)"
    ]
    assert master.asked == []


# ---- remove --------------------------------------------------------------------------------


def test_remove_tells_paths_from_pids(master: Scripted, desk: Desk) -> None:
    master.says(op.ListTasks, op.Tasks(0, (view("t1"),)))
    master.says(op.ForgetTasks, op.Tasks(0, (exited("t1"),)))
    master.says(op.EraseFile, op.Ok(0))
    assert desk.run("remove", "-r", "node1:/tmp/x", "node1:123", "node1:./123", "t1") == 0
    assert [asked.tasks for asked in master.got(op.ListTasks)] == [("node1:123", "t1")]
    assert [asked.tasks for asked in master.got(op.ForgetTasks)] == [("t1",)]
    erased = master.got(op.EraseFile)
    assert [each.place.path for each in erased] == [b"/tmp/x", b"./123"]
    assert all(each.recursive for each in erased)
    assert desk.said == [
        "t1 on node1: removed", "node1:/tmp/x: removed", "node1:./123: removed",
    ]


def test_what_cannot_be_removed_is_told_and_the_rest_goes(master: Scripted, desk: Desk) -> None:
    answers = iter([op.Problem(0, "is-folder", "/a is a folder"), op.Ok(0)])
    master.answers[op.EraseFile] = lambda asked: [
        type(reply)(asked.id, *[getattr(reply, f) for f in reply.__struct_fields__[1:]])
        for reply in [next(answers)]
    ]
    assert desk.run("remove", "node1:/a", "node1:/b", "--json") == 1
    document = json.loads(desk.said[0])
    assert document["files"] == ["node1:/b"] and document["error"]["code"] == "is-folder"
    assert desk.noted == ["/a is a folder (remove -r)"]


@pytest.mark.parametrize(("answers", "removed"), [
    (["y\n"], True), (["YES"], True), (["n"], False), ([""], False), ([], False), (["yep"], False),
])
def test_a_person_is_asked_first(master: Scripted, answers: list[str], removed: bool) -> None:
    master.says(op.ListTasks, op.Tasks(0, (view("t1"), exited("t2"), exited("t3"))))
    master.says(op.ForgetTasks, op.Tasks(0, ()))
    master.says(op.EraseFile, op.Ok(0))
    with Desk(master, *answers, interactive=True) as desk:
        assert desk.run("remove", "t1", "t2", "t3", "node1:/x") == (0 if removed else 1)
        assert desk.asked == ["Remove 1 running task, 2 ended tasks, node1:/x? [y/N] "]
    assert bool(master.got(op.ForgetTasks)) is bool(master.got(op.EraseFile)) is removed


def test_yes_is_not_asked_again_and_a_dry_run_does_nothing(master: Scripted) -> None:
    master.says(op.ListTasks, op.Tasks(0, (view("t1"),)))
    master.says(op.ForgetTasks, op.Tasks(0, (view("t1"),)))
    with Desk(master, interactive=True) as desk:
        assert desk.run("remove", "--dry-run", "t1", "node1:/x") == 0
        assert desk.said == ["t1 on node1: would remove", "node1:/x: would remove"]
        assert master.got(op.ForgetTasks) == []
        assert desk.run("remove", "-y", "t1") == 0
        assert desk.asked == []
    assert len(master.got(op.ForgetTasks)) == 1


def test_tasks_that_are_not_there_end_in_nothing(master: Scripted, desk: Desk) -> None:
    master.says(op.ListTasks, op.Tasks(0, (), (op.Fault("x", "no-such-task", "no task 'x'"),)))
    assert desk.run("remove", "x") == 1
    assert desk.noted == ["no task 'x'"]
    assert master.got(op.ForgetTasks) == []
