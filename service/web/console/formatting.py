"""How the console formats instants, durations, numbers and states. Pure."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from service.engine.run import last_line

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TONES = {
    "good": {"succeeded", "sent", "passed"},
    "busy": {"pending", "running", "planned", "claimed", "sending"},
    "warn": {"partial", "missed", "unconfirmed", "expired", "minor"},
    "bad": {"failed", "dead", "bounced", "complained", "stopped", "major", "critical"},
}


def when(at: datetime | None, zone: ZoneInfo) -> str:
    """An instant in a zone: ``Tue 10 Mar 09:00``; a dash for None."""
    if at is None:
        return "–"
    local = at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b} {local:%H:%M}"


def utc(at: datetime | None) -> str:
    """An instant in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else ""


def iso(at: datetime) -> str:
    """ISO 8601 in UTC, to the second, for ``<time datetime>``."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(span: timedelta | float | None) -> str:
    """A duration (seconds): ``40 ms``, ``3.2 s``, ``4 min 5 s``, ``2 h 10 min``, ``3 days``."""
    if span is None:
        return "–"
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    if seconds < 1:
        text = f"{1000 * seconds:.0f} ms"
    elif seconds < 10:
        text = f"{seconds:.1f} s"
    elif seconds < _MINUTE:
        text = f"{seconds:.0f} s"
    elif seconds < _HOUR:
        text = _two(int(seconds), _MINUTE, "min", 1, "s")
    elif seconds < 2 * _DAY:
        text = _two(int(seconds), _HOUR, "h", _MINUTE, "min")
    else:
        text = f"{seconds / _DAY:.0f} days"
    return sign + text


def _two(seconds: int, large: int, name: str, small: int, name_small: str) -> str:
    large_part, remainder = divmod(seconds, large)
    return (
        f"{large_part} {name} {remainder // small} {name_small}"
        if remainder // small
        else f"{large_part} {name}"
    )


def ago(at: datetime | None, now: datetime) -> str:
    """An instant relative to now: ``3 min ago``, ``in 2 h``."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    text = _coarse(abs(seconds))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _coarse(seconds: float) -> str:
    for size, name in ((_DAY, "days"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= (2 * size if size == _DAY else size):
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s"


def number(n: float | None) -> str:
    """With thousands separators: ``12,345``; a dash for None."""
    return "–" if n is None else f"{n:,.0f}"


def megabytes(n: float | None) -> str:
    """Bytes as MB."""
    return "–" if n is None else f"{n / 1e6:,.0f} MB"


def spaced(word: object) -> str:
    """A stored name without underscores: ``pref_email_off`` becomes "pref email off"."""
    return str(word).replace("_", " ")


def tone(word: object) -> str:
    """The colour class of a state: good, busy, warn, bad or idle."""
    return next((tone for tone, words in _TONES.items() if str(word) in words), "idle")


def segment(text: object) -> str:
    """Any text as one segment of a path."""
    return quote(str(text), safe="")


def plural(n: int, singular: str, plural_: str = "") -> str:
    """``1 job``, ``2 jobs``."""
    return f"{n:,} {singular if n == 1 else plural_ or singular + 's'}"


FILTERS: Mapping[str, Callable[..., Any]] = {
    filter_.__name__: filter_
    for filter_ in (
        when,
        utc,
        iso,
        duration,
        ago,
        number,
        megabytes,
        spaced,
        tone,
        segment,
        plural,
        last_line,
    )
}
"""Jinja filters by name."""
