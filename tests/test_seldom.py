"""Lines that a stranger can cause."""

from godwit.seldom import KINDS, PAUSE_S, Seldom


def test_a_kind_is_said_once_in_a_while() -> None:
    seldom = Seldom()
    assert [seldom.may("a", now) for now in (0.0, 1.0, PAUSE_S - 1)] == [True, False, False]
    assert seldom.may("b", 1.0)
    assert seldom.may("a", PAUSE_S)


def test_however_many_kinds_there_are_the_lines_are_bounded() -> None:
    seldom = Seldom()
    assert sum(seldom.may(str(kind), kind / 1000) for kind in range(10_000)) == KINDS
    assert seldom.may("one more", 10 + PAUSE_S)
