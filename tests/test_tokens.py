"""Secrets that people carry: what is one, and what is not."""

import pytest

from godwit.errors import UsageError
from godwit.wire import tokens
from godwit.wire.tokens import Code, Token

TOKEN = Token("ca" * 32, "1d" * 8, "5e" * 16)
CODE = Code("1e" * 32, "c0" * 16)


def test_a_token_is_read_as_it_was_written() -> None:
    assert tokens.read_token(str(TOKEN)) == TOKEN
    assert tokens.read_token(f"  {TOKEN}\n") == TOKEN


def test_a_code_is_read_as_it_was_written() -> None:
    assert tokens.read_code(str(CODE)) == CODE
    assert tokens.read_code(f"{CODE}\n") == CODE


@pytest.mark.parametrize("text", [
    "", "gw1", str(CODE), str(TOKEN)[:-1], f"{TOKEN}0", str(TOKEN).upper(), f"x{TOKEN}",
    f"{TOKEN}\n{TOKEN}", str(TOKEN).replace(".", "-"), "gw2" + str(TOKEN)[3:], "é" * 120,
    "\0" * 120, str(TOKEN).replace("5", "\N{ARABIC-INDIC DIGIT FIVE}"),
])
def test_what_is_no_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        tokens.read_token(text)
    assert refused.value.code == "bad-token" and refused.value.exit_status == 2
    assert len(text) < 10 or text not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("text", ["", "gwo1", str(TOKEN), str(CODE)[:-1], f"{CODE}0", f"{CODE}."])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        tokens.read_code(text)
    assert refused.value.code == "bad-code"


def test_only_the_secret_itself_matches_what_is_kept_of_it() -> None:
    kept = tokens.digest(TOKEN.secret)
    assert TOKEN.secret not in kept
    assert tokens.matches(TOKEN.secret, kept)
    assert not tokens.matches(TOKEN.secret[:-1] + "0", kept)
    assert not tokens.matches("", kept)
    assert not tokens.matches(kept, kept)
