"""The service's measured figures per hour, and the alerts about them."""

from collections.abc import Mapping, Sequence
from typing import Any

MAX_ERROR_RATE = 0.03
"""The highest acceptable share of responses with errors (5xx)."""
MAX_RESPONSE_MS = 250.0
"""The highest acceptable mean response time, in ms."""
MIN_REQUESTS = 50
"""An hour with fewer requests is not judged."""


def rounded(value: Any) -> float | None:
    """A measured number (or Decimal) to three digits; None if it was not measured."""
    return None if value is None else round(float(value), 3)


def responses(processes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The responses of the admin API of all processes together.

    averageResponseTime in ms, errorRate 0–1, throughput in requests per second; null without requests.
    """
    requests = sum(process["requests"] for process in processes)
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
        "averageResponseTime": round(sum(process["responseMs"] for process in processes) / requests, 3),
        "errorRate": round(sum(process["errors"] for process in processes) / requests, 4),
        "throughput": round(requests / 3600, 4),
    }


def performance_alerts(source: str, hours: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What is wrong in every one of these hours (oldest first): alert name → sentence.

    Any hour with fewer than ``MIN_REQUESTS`` means no alert.
    """
    if not hours or any(hour.get("requests", 0) < MIN_REQUESTS for hour in hours):
        return {}
    alerts: dict[str, str] = {}
    last = hours[-1]
    if all((hour["errorRate"] or 0) > MAX_ERROR_RATE for hour in hours):
        alerts[f"{source}.errorRate"] = (
            f"{last['errorRate']:.1%} of {last['requests']} requests failed, for {len(hours)} hours"
        )
    if all((hour["averageResponseTime"] or 0) > MAX_RESPONSE_MS for hour in hours):
        alerts[f"{source}.averageResponseTime"] = (
            f"{last['averageResponseTime']:.0f} ms on average, for {len(hours)} hours"
        )
    return alerts
