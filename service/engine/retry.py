"""When to retry: delays and backoff."""

from datetime import timedelta

_MOST_DOUBLINGS = 64  # beyond every ``most``; a thousand would be too large for a float
_DELAYS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=60))


def delay(attempt: int, spread: float) -> timedelta:
    """The pause after the ``attempt``-th failure (from 1): 1, 5, 15, then 60 minutes.

    ``spread`` in [0, 1) adds up to a fifth, so that a failed batch is not retried at one instant.
    """
    base = _DELAYS[min(max(attempt, 1), len(_DELAYS)) - 1]
    return base * (1 + 0.2 * spread)


def pause_after_refusal(age: timedelta) -> timedelta:
    """The pause after a refusal that is about us and costs no attempt: a quarter of the message's age.

    At least a minute, at most a quarter of an hour.
    """
    return min(max(age / 4, _DELAYS[0]), timedelta(minutes=15))


def domain_pauses(spread: float) -> list[timedelta]:
    """The pauses after each time that a domain throttles us: 30 s, doubling to 16 minutes.

    Each is shorter than a message's own pause after so many failures, so that it does not delay its retry.
    ``spread`` in [0, 1) adds up to a fifth.
    """
    return [timedelta(seconds=30) * 2**times * (1 + 0.2 * spread) for times in range(6)]


def relay_pauses() -> list[timedelta]:
    """The pauses before each single mail to a server that refuses us: 5 s, doubling to a minute."""
    return [timedelta(seconds=seconds) for seconds in (5, 10, 20, 40, 60)]


def backoff(failures: int, *, first: float = 1.0, most: float = 60.0) -> float:
    """Seconds before a loop that failed ``failures`` times in a row is restarted: doubling up to ``most``."""
    return min(first * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS), most)
