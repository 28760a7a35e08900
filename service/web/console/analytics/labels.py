"""How the pages with figures format dates and instants; pure."""

from datetime import date, datetime

from service.web.console.chart_svg import number
from service.web.console.formatting import megabytes


def day(at: date) -> str:
    """``2 Mar 2026``."""
    return f"{at.day} {at:%b %Y}"


def month(at: date) -> str:
    """``March 2026``."""
    return f"{at:%B %Y}"


def moment(at: date | None) -> str:
    """An instant in UTC, or a date; ``never`` where there is none."""
    if at is None:
        return "never"
    return f"{day(at)}, {at:%H:%M} UTC" if isinstance(at, datetime) else day(at)


WORDS = {"day": day, "month": month, "moment": moment, "megabytes": megabytes, "number": number}
"""Functions for templates, by name."""
