"""The metrics of the dashboard's server: how many requests it answered, their duration, and errors."""

from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_NAMES = ("http_request_duration_seconds", "http_server_request_duration_seconds", "http_request_duration_ms")
_STATUS = ("status", "status_code", "code", "http_status_code", "http_response_status_code")
_MAX_BYTES = 5_000_000


async def dashboard_counters(url: str) -> dict[str, Any]:
    """Counters since the server started: requests, seconds, errors (5xx); or the ``reason`` for none."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(url) as response,
        ):
            if response.status != 200:
                return {"reason": f"DASHBOARD_METRICS_URL answered {response.status}"}
            body = await response.content.read(_MAX_BYTES)
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        return {"reason": f"DASHBOARD_METRICS_URL cannot be read: {type(error).__name__}"}
    return counters(body.decode("utf-8", "replace"))


def counters(text: str) -> dict[str, Any]:
    """The counters in Prometheus text; requests are counted by the histogram of their duration."""
    totals = {"requests": 0.0, "seconds": 0.0, "errors": 0.0}
    try:
        families = [family for family in text_string_to_metric_families(text) if family.name in _NAMES]
    except ValueError:
        return {"reason": "DASHBOARD_METRICS_URL is not Prometheus text"}
    if not families:
        return {"reason": f"DASHBOARD_METRICS_URL has none of {', '.join(_NAMES)}"}
    family = families[0]
    unit = 0.001 if family.name.endswith("_ms") else 1.0
    for sample in family.samples:
        if sample.name.endswith("_sum"):
            totals["seconds"] += unit * sample.value
        elif sample.name.endswith("_count"):
            totals["requests"] += sample.value
            status = next((sample.labels[name] for name in _STATUS if name in sample.labels), "")
            totals["errors"] += sample.value if status.startswith("5") else 0
    return totals
