"""Backoff."""

from service.engine.retry import backoff


def test_a_pause_doubles_up_to_the_longest_however_often_it_failed() -> None:
    assert [backoff(failures) for failures in (0, 1, 2, 3, 7, 2000)] == [1, 1, 2, 4, 60, 60]
    assert [backoff(failures, first=5.0) for failures in (1, 2, 2000)] == [5, 10, 60]
