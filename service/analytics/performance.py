"""What is measured of the service per hour, and when it is wrong long enough to tell somebody."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_ERRORS = 0.03
"""Share of answers that may be errors (5xx)."""
SLOWEST = 250.0
"""Mean response time that may be, in ms."""
FEWEST = 50
"""Requests in an hour below which nothing is judged."""


def rounded(value: Any) -> float | None:
    """A measured number (a Decimal too) to three digits; None where it was not measured."""
    return None if value is None else round(float(value), 3)


def responses(processes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The admin API of all processes together, in the original's names.

    averageResponseTime in ms, errorRate 0–1, throughput in requests per second; null where nobody asked.
    """
    requests = sum(one["requests"] for one in processes)
    if not requests:
        reason = "no request in this hour" if processes else "no process has told its vitals"
        return {
            "requests": 0,
            "averageResponseTime": None,
            "errorRate": None,
            "throughput": 0.0,
            "reason": reason,
        }
    return {
        "requests": requests,
        "averageResponseTime": round(sum(one["responseMs"] for one in processes) / requests, 3),
        "errorRate": round(sum(one["errors"] for one in processes) / requests, 4),
        "throughput": round(requests / 3600, 4),
    }


def complaints(source: str, hours: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What is wrong in each of these hours (oldest first): alert name to a sentence.

    An hour with fewer than 50 requests says nothing, so it neither raises nor keeps an alert.
    """
    if not hours or any(hour.get("requests", 0) < FEWEST for hour in hours):
        return {}
    found: dict[str, str] = {}
    last = hours[-1]
    if all((hour["errorRate"] or 0) > MOST_ERRORS for hour in hours):
        found[f"{source}.errorRate"] = (
            f"{last['errorRate']:.1%} of {last['requests']} requests failed, for {len(hours)} hours"
        )
    if all((hour["averageResponseTime"] or 0) > SLOWEST for hour in hours):
        found[f"{source}.averageResponseTime"] = (
            f"{last['averageResponseTime']:.0f} ms on average, for {len(hours)} hours"
        )
    return found
