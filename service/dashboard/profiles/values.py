"""Parses single values of a dashboard: text, ids, numbers, times, flags. Pure.

A value that cannot be parsed is None; nothing is raised.
"""

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_LONGEST_ID = 200
_HHMM = re.compile(r"(\d{1,2}):(\d{2})(?::\d{2})?")


def text(value: Any, limit: int = 1000) -> str | None:
    """Text without NUL and lone surrogates (PostgreSQL rejects both), stripped; None if it is empty."""
    if not isinstance(value, str):
        return None
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    if "\0" in value:
        value = value.replace("\0", "")
    return value.strip()[:limit] or None


def identity(value: Any) -> str | None:
    """An id as text: ObjectId, UUID, number or string."""
    if type(value) is str and value.isalnum() and value.isascii() and len(value) <= _LONGEST_ID:
        return value  # nearly all of millions: the rest would change nothing
    if value is None or isinstance(value, (bool, float, dict, list, bytes, datetime)):
        return None
    return text(value if isinstance(value, str) else str(value), _LONGEST_ID)


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e300 else None  # False for NaN too
    if hasattr(value, "to_decimal"):  # bson's Decimal128, which only the MongoDB source may import
        value = value.to_decimal()
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    result = float(value)
    return result if math.isfinite(result) else None


def seconds(value: Any, unit: float) -> float | None:
    """A duration in seconds, from a number of units of ``unit`` seconds, or an interval; None for others."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    parsed = number(value)
    return None if parsed is None else parsed * unit


def instant(value: Any) -> datetime | None:
    """An instant: a date and time, ISO text, or milliseconds since 1970; None when it cannot be one."""
    if isinstance(value, datetime):
        at = value if value.tzinfo else value.replace(tzinfo=UTC)
        return at if _EARLIEST <= at < _LATEST else None
    try:
        if isinstance(value, str):
            return instant(datetime.fromisoformat(value.strip()))
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) > 1e10:
            return instant(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value))
    except (ValueError, OverflowError):
        return None
    if isinstance(value, date):
        return instant(datetime(value.year, value.month, value.day, tzinfo=UTC))
    return None


def flag(value: Any) -> bool | None:
    """A stored boolean; None for anything else."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def clock_time(value: Any) -> time | None:
    """A local time of day: ``HH:MM`` or a whole hour."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24:
        return time(value)
    if isinstance(value, str) and (match := _HHMM.fullmatch(value.strip())):
        hour, minute = int(match[1]), int(match[2])
        return time(hour % 24, minute) if hour <= 24 and minute < 60 else None
    return None


def due(value: Any, *, date_only: bool) -> tuple[date | None, datetime | None]:
    """A floating date or an instant: exactly midnight UTC came from a date picker and is a date."""
    if isinstance(value, str) and len(value.strip()) == 10:
        at = instant(value)
        return (at.date(), None) if at else (None, None)
    if isinstance(value, date) and not isinstance(value, datetime):
        at = instant(value)
        return (value, None) if at else (None, None)
    at = instant(value)
    if at is None:
        return None, None
    utc = at.astimezone(UTC)
    if date_only and utc.time() == time(0):
        return utc.date(), None
    return None, utc
