"""Wrong tokens are counted by address and minute, within bounds."""

from service.web.wrong_tokens import MOST, WINDOW, WrongToken, WrongTokens


def test_one_more_than_the_most_different_ones_must_wait_until_the_minute_is_over() -> None:
    counted = WrongTokens()
    noted = [counted.note("a", f"t{n}", float(n)) for n in range(MOST + 2)]

    assert [one.notable for one in noted] == [True, *[False] * (MOST - 1), True, False]
    assert [one.wait for one in noted] == [0.0] * MOST + [WINDOW - MOST, WINDOW - MOST - 1]
    assert counted.note("b", "t1", 5.0) == WrongToken(True, 0.0)
    assert counted.note("a", "t1", WINDOW) == WrongToken(True, 0.0)


def test_one_that_is_repeated_counts_once() -> None:
    counted = WrongTokens()
    assert [counted.note("a", "old", float(n)).wait for n in range(100 // 2)] == [0.0] * 50


def test_addresses_beyond_the_bound_are_forgotten() -> None:
    counted = WrongTokens()
    for n in range(10_050):
        counted.note(str(n), "x", 0.0)
    assert not counted.note("10049", "x", 1.0).notable
    assert counted.note("0", "x", 1.0).notable
