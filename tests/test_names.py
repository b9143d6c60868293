"""Names and addresses: what is taken and what is refused."""

import hashlib
from collections.abc import Callable

import pytest

from godwit import names
from godwit.errors import UsageError


def bytes_of(seed: int) -> Callable[[int], bytes]:
    """A source of bytes that are always the same for one seed."""
    state = hashlib.sha256(str(seed).encode())

    def source(count: int) -> bytes:
        state.update(b".")
        return state.digest()[:count]

    return source


@pytest.mark.parametrize("name", ["a", "Node-1", "web.example_2", "0", "x" * 63])
def test_a_node_may_be_called_this(name: str) -> None:
    assert names.check_node_name(name) == name and names.is_node_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "-a", ".a", "_a", "a b", "a/b", "..", "x" * 64, "é", "١", "a\n", "a\0",
        "all", "Auto", "LOCAL",
    ],
)
def test_no_node_may_be_called_this(name: str) -> None:
    assert not names.is_node_name(name)
    with pytest.raises(UsageError) as caught:
        names.check_node_name(name)
    assert caught.value.exit_status == 2 and caught.value.hint and "\n" not in str(caught.value)


def test_a_new_task_id_is_a_task_id() -> None:
    made = [names.new_task_id(bytes_of(seed)) for seed in range(500)]
    assert all(map(names.is_task_id, made)) and len(set(made)) == len(made)


def test_a_task_id_uses_every_letter_and_digit() -> None:
    made = [names.new_task_id(bytes_of(seed)) for seed in range(500)]
    assert len({one[0] for one in made}) == 26 and len(set("".join(made))) == 36


def test_bytes_that_would_favour_some_ids_are_thrown_away() -> None:
    unfair = iter([255, 0, 252, *range(1, 8)])
    assert names.new_task_id(lambda _: bytes([next(unfair)])) == "abcdefgh"


@pytest.mark.parametrize(
    "text",
    ["", "abcdefg", "abcdefghi", "1bcdefgh", "Abcdefgh", "abcdefg١", "abcdefgh\n", "abc/efgh"],
)
def test_this_is_no_task_id(text: str) -> None:
    assert not names.is_task_id(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:15440", "127.0.0.1", 15440),
        ("web_1.example-2.org:0", "web_1.example-2.org", 0),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_an_address_is_taken_apart_and_put_together(text: str, host: str, port: int) -> None:
    assert names.split_address(text) == (host, port)
    assert names.join_address(host, port) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "host", "host:", ":1", "host:65536", "host:-1", "host:+1", "host: 1", "host:1 ",
        "host:١", "::1:80", "[::1]", "[]:1", "[host]:1", "a/b:1", "a b:1", "host:1\n",
        "host:000001",
    ],
)
def test_this_is_no_address(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        names.split_address(text)
    assert caught.value.exit_status == 2 and caught.value.hint
