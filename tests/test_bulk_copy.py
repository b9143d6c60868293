"""Copies that nobody disturbs: what arrives, where, and what is refused."""

import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from godwit import bulk
from godwit.bulk import staging
from godwit.bulk.names import partial as partial_name
from godwit.bulk.words import BLOCK, DEPTH, LISTED, Entry
from godwit.errors import TransferError
from tests.copying import (
    Tree,
    between,
    copied,
    needs_openssl,
    ordinary_user,
    partials,
    plant,
    refused,
    seen,
    times,
    tls_contexts,
)
from tests.test_bulk_names import good

contents = st.tuples(st.binary(max_size=3000), st.sampled_from([0o644, 0o600, 0o755, 0o400]))
links = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
names = st.binary(min_size=1, max_size=40).flatmap(lambda _: good).map(lambda name: name[:60])
trees: st.SearchStrategy[Tree] = st.recursive(
    contents | links, lambda inside: st.dictionaries(names, inside, max_size=6), max_leaves=25
)
folders = st.dictionaries(names, trees, max_size=6)


@pytest.fixture
def here(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path)


def write(path: bytes, data: bytes = b"data") -> bytes:
    with open(path, "wb") as file:
        file.write(data)
    return path


@settings(deadline=None, max_examples=60)
@given(folders)
def test_a_tree_arrives_as_it_was(tree: dict[bytes, Tree]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, target = (os.path.join(os.fsencode(scratch), name) for name in (b"a", b"b"))
        plant(source, tree)
        summary = copied(source, target)
        assert seen(target) == seen(source)
        assert times(target) == times(source)
        assert summary.path == target
        assert not partials(os.fsencode(scratch))


@settings(deadline=None, max_examples=30)
@given(good, st.binary(max_size=3000))
def test_a_file_of_any_name_arrives_as_it_was(name: bytes, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        above = os.fsencode(scratch)
        os.mkdir(os.path.join(above, b"from"))
        os.mkdir(os.path.join(above, b"to"))
        source = write(os.path.join(above, b"from", name), data)
        summary = copied(source, os.path.join(above, b"to"))
        assert summary == bulk.Summary(len(data), 1, os.path.join(above, b"to", name))
        assert seen(summary.path) == seen(source)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_a_file_of_any_size_arrives_whole(here: bytes, size: int) -> None:
    source = write(here + b"/a", os.urandom(size))
    assert copied(source, here + b"/b").size == size
    assert seen(here + b"/b") == seen(source)


def test_a_folder_of_more_files_than_one_listing_arrives_whole(here: bytes) -> None:
    tree: Tree = {b"f%04d" % at: (b"%d" % at, 0o644) for at in range(3 * LISTED + 5)}
    plant(here + b"/a", {b"in": tree, b"out": {}})
    assert copied(here + b"/a", here + b"/b").files == 3 * LISTED + 5
    assert seen(here + b"/b") == seen(here + b"/a")


def test_something_goes_into_a_folder_that_is_there_under_its_own_name(here: bytes) -> None:
    write(here + b"/a")
    os.mkdir(here + b"/to")
    assert copied(here + b"/a", here + b"/to").path == here + b"/to/a"
    assert copied(here + b"/a", here + b"/to/").path == here + b"/to/a"
    os.symlink("to", here + b"/link")
    assert copied(here + b"/a", here + b"/link").path == here + b"/link/a"
    assert copied(here + b"/to", here + b"/to2").path == here + b"/to2"
    assert copied(here + b"/to", here + b"/to2").path == here + b"/to2/to"


@pytest.mark.parametrize("target", [b"/no/b", b"/no/", b"/a/b", b"/a/"])
def test_a_target_in_no_folder_is_refused_by_the_folders_name(here: bytes, target: bytes) -> None:
    write(here + b"/a")
    err = refused(here + b"/a", here + target)
    assert err.code == "not-found"
    assert os.fsdecode(here + target[: target.rindex(b"/")]) in err.text


@pytest.mark.parametrize("target", [b"", b"."])
def test_the_working_folder_is_a_target(
    here: bytes, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here + b"/a")
    os.mkdir(here + b"/to")
    monkeypatch.chdir(os.fsdecode(here + b"/to"))
    copied(here + b"/a", target)
    assert os.listdir(here + b"/to") == [b"a"]


def test_a_folder_named_by_a_dot_has_its_own_name(
    here: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.makedirs(here + b"/from/x")
    os.mkdir(here + b"/to")
    monkeypatch.chdir(os.fsdecode(here + b"/from"))
    assert copied(b".", here + b"/to").path == here + b"/to/from"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (b"/no", "not-found"), (b"/a/b", "not-folder"), (b"/\0", "bad-name"),
        (b"/fifo", "not-a-file"),
    ],
)
def test_a_source_that_cannot_be_copied_is_named_to_both_ends(
    here: bytes, source: bytes, code: str
) -> None:
    write(here + b"/a")
    os.mkfifo(here + b"/fifo")
    assert refused(here + source, here + b"/b").code == code
    assert refused(b"", here + b"/b").code == "bad-name"
    assert not os.path.exists(here + b"/b")


def test_a_file_replaces_a_file_or_a_link_and_nothing_else(here: bytes) -> None:
    write(here + b"/a", b"new")
    write(here + b"/victim", b"old")
    os.symlink("victim", here + b"/link")
    copied(here + b"/a", here + b"/link")
    assert seen(here + b"/link") == seen(here + b"/a")
    assert seen(here + b"/victim") != seen(here + b"/a")
    os.makedirs(here + b"/to/a")
    assert refused(here + b"/a", here + b"/to").code == "exists"


def test_a_folder_is_merged_into_one_of_its_name_and_replaces_nothing_else(here: bytes) -> None:
    plant(here + b"/a", {b"x": (b"new", 0o644), b"in": {b"y": "link"}})
    plant(here + b"/to", {b"a": {b"x": (b"older", 0o600), b"z": (b"stays", 0o644)}})
    copied(here + b"/a", here + b"/to")
    merged = seen(here + b"/to/a")
    assert merged == {
        b"x": (b"new", 0o644), b"z": (b"stays", 0o644), b"in": {b"y": "link"},
    }
    write(here + b"/file")
    assert refused(here + b"/a", here + b"/file").code == "exists"
    os.unlink(here + b"/to/a/in/y")
    os.mkdir(here + b"/to/a/in/y")
    assert refused(here + b"/a", here + b"/to").code == "exists"


def test_permission_bits_are_kept_and_special_ones_are_not(here: bytes) -> None:
    os.chmod(write(here + b"/a"), 0o6751)
    os.utime(here + b"/a", ns=(1, 1234567890123456789))
    copied(here + b"/a", here + b"/b")
    found = os.stat(here + b"/b")
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o751, 1234567890123456789)


def test_what_is_no_file_is_left_out_with_a_warning(here: bytes) -> None:
    plant(here + b"/a", {b"x": (b"1", 0o644)})
    os.mkfifo(here + b"/a/fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(here + b"/a/socket")
    first, second = copied(here + b"/a", here + b"/b").warnings
    assert "a/fifo: a fifo, not copied" in first
    assert "a/socket: a socket, not copied" in second
    assert os.listdir(here + b"/b") == [b"x"]


def test_hard_links_become_files_of_their_own(here: bytes) -> None:
    plant(here + b"/a", {b"x": (b"1", 0o644)})
    os.link(here + b"/a/x", here + b"/a/y")
    copied(here + b"/a", here + b"/b")
    assert os.stat(here + b"/b/x").st_nlink == 1
    assert seen(here + b"/b") == seen(here + b"/a")


def test_a_link_in_the_given_path_is_followed_and_one_in_the_tree_is_copied(here: bytes) -> None:
    plant(here + b"/a", {b"out": "/etc", b"loop": "loop", b"x": (b"1", 0o644)})
    os.symlink("a", here + b"/link")
    assert copied(here + b"/link", here + b"/b").files == 3
    assert seen(here + b"/b") == seen(here + b"/a")


def test_holes_take_no_room_at_the_target(here: bytes) -> None:
    with open(here + b"/a", "wb") as file:
        file.truncate(90 * BLOCK)
        file.seek(80 * BLOCK)
        file.write(b"x")
    if os.stat(here + b"/a").st_blocks * 512 > BLOCK:
        pytest.skip("this file system keeps no holes")
    assert copied(here + b"/a", here + b"/b").size == 90 * BLOCK
    assert os.stat(here + b"/b").st_blocks * 512 <= BLOCK
    assert seen(here + b"/b") == seen(here + b"/a")


def grow(path: bytes) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def overwrite(path: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(b"other")


def shrink(path: bytes) -> None:
    os.truncate(path, 2 * BLOCK)


@pytest.mark.parametrize("change", [grow, overwrite, shrink])
def test_a_source_that_changes_while_it_is_read_leaves_nothing(
    here: bytes, change: Callable[[bytes], None]
) -> None:
    source = write(here + b"/a", bytes(4 * BLOCK))
    os.utime(source, ns=(1, 1))

    def progress(done: int, total: int) -> None:
        if done == BLOCK:
            change(source)

    sent, received = between(
        lambda link: bulk.send(link, source, progress),
        lambda link: bulk.receive(link, here + b"/b"),
    )
    assert isinstance(sent, TransferError)
    assert isinstance(received, TransferError)
    assert sent.code == received.code == "changed"
    assert os.listdir(here) == [b"a"]


def test_a_file_that_hides_its_size_is_refused_with_the_reason(here: bytes) -> None:
    err = refused(b"/proc/self/status", here + b"/b")
    assert err.code == "changed"
    assert "as files in /proc do" in err.text
    assert not os.listdir(here)


def test_a_tree_at_the_bound_of_depth_arrives_and_a_deeper_one_is_refused(here: bytes) -> None:
    def deep(levels: int) -> bytes:
        path = here + b"/%d" % levels
        os.makedirs(path + b"/d" * levels)
        return path

    assert copied(deep(DEPTH), here + b"/b").files == 0
    assert seen(here + b"/b") == seen(here + b"/%d" % DEPTH)
    assert refused(deep(DEPTH + 1), here + b"/c").code == "too-deep"


def test_a_folder_is_not_copied_into_itself(here: bytes) -> None:
    os.makedirs(here + b"/a/in")
    assert refused(here + b"/a", here + b"/a/in").code == "itself"
    assert refused(here + b"/a", here + b"/a").code == "itself"
    assert seen(here + b"/a") == {b"in": {}}


def test_a_file_copied_onto_itself_stays_as_it_is(here: bytes) -> None:
    source = write(here + b"/a")
    inode = os.stat(source).st_ino
    assert copied(source, source).kept == 4
    assert os.stat(source).st_ino == inode


def test_an_unreadable_file_is_named_and_the_files_before_it_stay(here: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="godwit") as scratch:
        os.chmod(scratch, 0o777)
        above = os.fsencode(scratch)
        with ordinary_user():
            plant(above + b"/a", {b"1": (b"1", 0o644), b"2": (b"2", 0), b"3": (b"3", 0o644)})
            err = refused(above + b"/a", above + b"/b")
            assert (err.code, err.text) == ("denied", f"{scratch}/a/2: permission denied")
            assert os.listdir(above + b"/b") == [b"1"]


def test_a_target_folder_that_may_not_be_written_to_is_named(here: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="godwit") as scratch:
        above = os.fsencode(scratch)
        write(above + b"/a")
        os.chmod(scratch, 0o555)
        with ordinary_user():
            err = refused(above + b"/a", above + b"/b")
        assert (err.code, err.text) == ("denied", f"{scratch}/b: permission denied")


def test_a_partial_that_another_copy_holds_is_left_alone(here: bytes) -> None:
    source = write(here + b"/a", os.urandom(2 * BLOCK))

    def progress(done: int, total: int) -> None:
        if done == BLOCK:
            copied(source, here + b"/b")

    sent, _ = between(
        lambda link: bulk.send(link, source),
        lambda link: bulk.receive(link, here + b"/b", progress),
    )
    assert isinstance(sent, bulk.Summary)
    assert seen(here + b"/b") == seen(source)
    assert sorted(os.listdir(here)) == [b"a", b"b"]


def test_a_link_planted_in_a_partials_place_is_not_written_through(here: bytes) -> None:
    source = write(here + b"/a", b"secret")
    victim = write(here + b"/victim", b"kept")
    found = os.stat(source)
    entry = Entry(
        b"", "file", size=6, mtime_ns=found.st_mtime_ns,
        source=b"%x:%x" % (found.st_dev, found.st_ino),
    )
    partial = here + b"/" + partial_name(b"b", entry)
    for put in (os.link, os.symlink):
        put(victim, partial)
        copied(source, here + b"/b")
        assert seen(here + b"/b") == (b"secret", 0o644)
        assert seen(victim) == (b"kept", 0o644)
        os.unlink(partial)
        os.unlink(here + b"/b")


def test_partials_of_the_same_file_that_nobody_came_back_for_are_removed(
    here: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here + b"/a")
    old = write(here + b"/.b.godwit-0123456789abcdef")
    other = write(here + b"/.c.godwit-0123456789abcdef")
    copied(here + b"/a", here + b"/b")
    assert os.path.exists(old)
    monkeypatch.setattr(staging, "STALE_S", -1.0)
    os.unlink(here + b"/b")
    copied(here + b"/a", here + b"/b")
    assert not os.path.exists(old)
    assert os.path.exists(other)


def test_progress_grows_to_the_total_at_both_ends(here: bytes) -> None:
    plant(here + b"/a", {b"%d" % at: (bytes(at * 1000), 0o644) for at in range(40)})
    total = sum(at * 1000 for at in range(40))
    sent: list[tuple[int, int]] = []
    received: list[tuple[int, int]] = []
    between(
        lambda link: bulk.send(link, here + b"/a", lambda *at: sent.append(at)),
        lambda link: bulk.receive(link, here + b"/b", lambda *at: received.append(at)),
    )
    for calls in (sent, received):
        assert calls == sorted(calls)
        assert calls[-1] == (total, total)


@pytest.mark.parametrize("at_sender", [True, False])
def test_what_progress_raises_ends_the_copy_at_both_ends(here: bytes, at_sender: bool) -> None:
    write(here + b"/a", bytes(8 * BLOCK))

    def stop(done: int, total: int) -> None:
        raise TransferError("abandoned", "no longer wanted")

    def go_on(done: int, total: int) -> None:
        pass

    ends = between(
        lambda link: bulk.send(link, here + b"/a", stop if at_sender else go_on),
        lambda link: bulk.receive(link, here + b"/b", go_on if at_sender else stop),
    )
    for end in ends:
        assert isinstance(end, TransferError)
        assert (end.code, end.text) == ("abandoned", "no longer wanted")
    assert not os.path.exists(here + b"/b")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_said_and_what_came_is_kept_to_go_on_from(here: bytes) -> None:
    write(here + b"/a", os.urandom(3 * BLOCK))
    disk = here + b"/disk"
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True)
    try:
        filler = write(disk + b"/filler", bytes(3 * BLOCK))
        assert refused(here + b"/a", disk + b"/b").code == "no-space"
        assert os.listdir(disk) == [b"filler"]
        os.truncate(filler, BLOCK // 2)

        def fill(done: int, total: int) -> None:
            if done == BLOCK:
                write(filler, bytes(2 * BLOCK))

        sent, received = between(
            lambda link: bulk.send(link, here + b"/a"),
            lambda link: bulk.receive(link, disk + b"/b", fill),
        )
        assert isinstance(sent, TransferError)
        assert isinstance(received, TransferError)
        assert sent.code == received.code == "no-space"
        assert not os.path.exists(disk + b"/b")
        os.unlink(filler)
        assert copied(here + b"/a", disk + b"/b").kept >= BLOCK
        assert seen(disk + b"/b") == seen(here + b"/a")
    finally:
        subprocess.run(["umount", disk], check=True)


@needs_openssl
def test_tls_links_carry_copies_and_refusals(here: bytes, tmp_path: Path) -> None:
    serving, calling = tls_contexts(tmp_path)
    plant(here + b"/a", {b"big": (os.urandom(3 * BLOCK), 0o644), b"x": (b"1", 0o644)})

    def over_tls(source: bytes, target: bytes) -> tuple[object, object]:
        def send(link: socket.socket) -> bulk.Summary:
            with serving.wrap_socket(link, server_side=True) as wrapped:
                return bulk.send(wrapped, source)

        def receive(link: socket.socket) -> bulk.Summary:
            with calling.wrap_socket(link) as wrapped:
                return bulk.receive(wrapped, target)

        return between(send, receive)

    sent, received = over_tls(here + b"/a", here + b"/b")
    assert isinstance(sent, bulk.Summary)
    assert sent == received
    assert seen(here + b"/b") == seen(here + b"/a")
    for source, target in ((b"/no", b"/c"), (b"/a", b"/no/c")):
        for end in over_tls(here + source, here + target):
            assert isinstance(end, TransferError)
            assert end.code == "not-found"
